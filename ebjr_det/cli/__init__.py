"""The command line: parse, call a verb of `api`, print. Nothing is decided here.

Progress and messages go to stderr, results to stdout; exit codes are in `exits`. A command is a function in a
module here and one entry below.
"""

import rich_click as click

from ebjr_det.cli.benchmark import benchmark
from ebjr_det.cli.bulk import bulk
from ebjr_det.cli.calibrate import calibrate
from ebjr_det.cli.configuration import init, schema
from ebjr_det.cli.convert import convert
from ebjr_det.cli.evaluate import evaluate
from ebjr_det.cli.fit_router import fit_router
from ebjr_det.cli.installation import doctor, download, scores
from ebjr_det.cli.live import demo, export, predict
from ebjr_det.cli.options import Group
from ebjr_det.cli.replay import replay
from ebjr_det.cli.reports import compare, placement, report
from ebjr_det.cli.serve import serve
from ebjr_det.cli.traffic import traffic
from ebjr_det.cli.training import specialize, train


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ebjr-det", prog_name="ebjr-det")
def cli() -> None:
    """Joint inference of two models: a student sees all images, a teacher the doubtful ones."""


for commands in (
    (evaluate, predict, demo, export, serve, bulk, benchmark),
    (replay, fit_router, report, compare, placement, calibrate, traffic),
    (train, specialize),
    (init, convert, schema, download, scores, doctor),
):
    for command in commands:
        cli.add_command(command)
