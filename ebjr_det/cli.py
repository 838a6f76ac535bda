"""The command line: parse, call a verb of `api`, print. Nothing is decided here.

Progress and messages go to stderr, results to stdout; exit codes are in `exits`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.errors import Infeasible, InvalidInput, did_you_mean

PATH = click.Path(path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


class _Group(click.RichGroup):
    """A group that offers the nearest command for an unknown one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            hint = did_you_mean(args[0], self.commands)
            raise click.UsageError(f"Expected a known command, got `{args[0]}`. {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ebjr-det", prog_name="ebjr-det")
def cli() -> None:
    """Joint inference of two models: a student sees all images, a teacher the doubtful ones."""


@cli.command()
@click.argument("config", type=PATH)
@click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 ... [run.device]")
@click.option("--batch-size", type=int, help="Images a batch. [run.batch_size]")
@click.option("--workers", type=int, help="Loader processes. [run.workers]")
@click.option("--out", type=PATH, help="Run folder; by default runs/<name of the config>.")
@click.option("--resume", is_flag=True, help="Go on with the run that --out holds.")
@click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop.")
@AS_JSON
def evaluate(
    config: Path,
    changes: tuple[str, ...],
    device: str | None,
    batch_size: int | None,
    workers: int | None,
    out: Path | None,
    resume: bool,
    print_config: bool,
    as_json: bool,
) -> None:
    """Run a pair on labelled images: quality, cost, latency and the whole trade-off curve."""
    from ebjr_det.config import dump_config, load_config

    short = {"device": device, "batch_size": batch_size, "workers": workers}
    overrides = [f"run.{key}={value}" for key, value in short.items() if value is not None]
    settings = load_config(config, [*changes, *overrides])
    if print_config:
        click.echo(dump_config(settings), nl=False)
        return
    from ebjr_det import api
    from ebjr_det.environment import keep_freed_memory

    folder = out or Path("runs") / config.stem
    keep_freed_memory()
    with _infeasible_as_json(as_json):
        result = api.evaluate(settings, folder, resume=resume)
    _show(result, as_json)


@cli.group(cls=_Group)
def replay() -> None:
    """The whole analysis from saved outputs of any two models; no model is run."""


def _analysis(replicates: int) -> Callable[[Any], Any]:
    """The options that every replay has, whatever its files."""
    options = [
        click.option("--score", default="free_energy", show_default=True, help="Deferral score."),
        click.option("--top-k", type=int, default=10, show_default=True, help="Boxes that are scored."),
        click.option("--aggregate", default="mean", show_default=True, help="Of their scores: mean, sum ..."),
        click.option("--threshold", type=float, help="Defer where score > threshold."),
        click.option("--rates", metavar="R,R,...", help="Deferral rates to print; the first is chosen."),
        click.option("--student-macs", type=float, help="Multiply-adds an image."),
        click.option("--teacher-macs", type=float, help="Multiply-adds an image."),
        click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap."),
        click.option("--bootstrap", type=int, default=replicates, show_default=True, help="Resamples."),
        click.option("--out", type=PATH, required=True, help="Run folder."),
        AS_JSON,
    ]

    def add(command: Any) -> Any:
        return reduce(lambda wrapped, option: option(wrapped), reversed(options), command)

    return add


@replay.command("classification")
@click.option("--student-logits", type=PATH, required=True, help=".npy, or .npz with key `logits`.")
@click.option("--teacher-logits", type=PATH, required=True, help=".npy, or .npz with key `logits`.")
@click.option("--labels", type=PATH, required=True, help=".npy, or .npz with key `labels`.")
@_analysis(replicates=1000)
def replay_classification(student_logits: Path, teacher_logits: Path, labels: Path, **analysis: Any) -> None:
    """Two classifiers' logits and the labels."""
    files = {"student": student_logits, "teacher": teacher_logits, "labels": labels}
    _replay("classification", files, **analysis)


@replay.command("detection")
@click.option("--annotations", type=PATH, required=True, help="COCO ground truth, .json or .json.gz.")
@click.option("--student", type=PATH, required=True, help="COCO results, .json or .json.gz.")
@click.option("--teacher", type=PATH, required=True, help="COCO results, .json or .json.gz.")
@_analysis(replicates=200)
def replay_detection(annotations: Path, student: Path, teacher: Path, **analysis: Any) -> None:
    """Two detectors' result files and the ground truth."""
    files = {"student": student, "teacher": teacher, "annotations": annotations}
    _replay("detection", files, **analysis)


def _replay(
    task: str,
    files: dict[str, Path],
    *,
    rates: str | None,
    student_macs: float | None,
    teacher_macs: float | None,
    bootstrap: int,
    out: Path,
    as_json: bool,
    **how: Any,
) -> None:
    from ebjr_det import api
    from ebjr_det.cost import CostModel

    result = api.replay(
        task,
        files,
        out,
        rates=None if rates is None else _numbers(rates),
        cost=CostModel(student_macs, teacher_macs),
        replicates=bootstrap,
        **how,
    )
    _show(result, as_json)


@cli.command()
@click.argument("run", type=PATH)
@click.option("--deferral-rate", type=float, help="At most this share to the teacher.")
@click.option("--max-gmacs", type=float, help="At most this many G multiply-adds an image.")
@click.option("--max-latency-ms", type=float, help="At most this mean latency an image.")
@click.option("--min-quality", type=float, help="At least this quality, cheapest point.")
@click.option("--max-drop", type=float, help="At most this far below the teacher, cheapest point.")
@click.option("--confidence", type=float, help="Make --min-quality or --max-drop hold with this probability.")
@click.option("--score", help="Deferral score; by default the run's.")
@click.option("--report-on", type=PATH, help="Another run folder to report on; else the rest of RUN.")
@click.option("--fraction", type=float, default=0.5, show_default=True, help="Share of RUN that calibrates.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split.")
@AS_JSON
def calibrate(
    run: Path,
    deferral_rate: float | None,
    max_gmacs: float | None,
    max_latency_ms: float | None,
    min_quality: float | None,
    max_drop: float | None,
    confidence: float | None,
    score: str | None,
    report_on: Path | None,
    fraction: float,
    seed: int,
    as_json: bool,
) -> None:
    """A threshold for a target, chosen on one part of the images and reported on another."""
    from ebjr_det import api
    from ebjr_det.calibration import Target
    from ebjr_det.errors import ConfigError

    asked: dict[Any, float | None] = {
        "deferral_rate": deferral_rate,
        "macs": None if max_gmacs is None else max_gmacs * 1e9,
        "latency_ms": max_latency_ms,
        "min_quality": min_quality,
        "max_drop": max_drop,
    }
    given = [(kind, value) for kind, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            "Expected exactly one of --deferral-rate, --max-gmacs, --max-latency-ms, --min-quality and "
            f"--max-drop, got {len(given)}."
        )
    target = Target(*given[0], confidence)
    with _infeasible_as_json(as_json):
        answer = api.calibrate(run, target, report_on=report_on, score=score, fraction=fraction, seed=seed)
    if as_json:
        _print_json(answer)
    else:
        from ebjr_det.reporting.tables import print_calibration

        print_calibration(answer)


@cli.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--data", type=PATH, default=Path("data"), show_default=True, help="Root of data sets.")
@AS_JSON
def download(names: tuple[str, ...], data: Path, as_json: bool) -> None:
    """Fetch published weights (tf_efficientdet_d0 ...) or data (coco-val2017); resumes and checks."""
    from ebjr_det.download import download as fetch

    paths = [str(path) for name in names for path in fetch(name, data)]
    if as_json:
        _print_json({"paths": paths})
    else:
        click.echo("\n".join(paths))


@cli.command()
@AS_JSON
def scores(as_json: bool) -> None:
    """The deferral scores with formula and source."""
    from ebjr_det.scores import SCORES

    if as_json:
        fields = ("name", "formula", "source", "options")
        _print_json([{field: getattr(s, field) for field in fields} for s in SCORES.values()])
    else:
        from ebjr_det.reporting.tables import print_rows

        columns = ["score", "formula (higher = send to the teacher)", "options", "source"]
        rows = [(s.name, s.formula, ", ".join(s.options), s.source) for s in SCORES.values()]
        print_rows("Deferral scores", columns, rows)


@cli.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """What this installation has, and in plain words what is missing or does not fit."""
    from ebjr_det.environment import diagnose

    checks = diagnose()
    faults = [check for check in checks if check.state == "fault"]
    if as_json:
        _print_json({"healthy": not faults, "checks": [check.__dict__ for check in checks]})
    else:
        from ebjr_det.reporting.tables import print_rows

        rows = [(check.state, check.name, check.finding) for check in checks]
        print_rows("ebjr-det doctor", ["", "what", "found"], rows)
    if faults:
        raise InvalidInput(
            f"Expected a sound installation, got {len(faults)} faults: {faults[0].name}: {faults[0].finding}"
        )


def _show(result: Any, as_json: bool) -> None:
    if as_json:
        _print_json(result.summary)
        return
    from ebjr_det.reporting.tables import print_report

    print_report(result.report)
    click.echo(f"\nEverything is in {result.summary['run_dir']}/: table.md, curve.json, routes.csv, figures.")


@contextmanager
def _infeasible_as_json(as_json: bool) -> Iterator[None]:
    """An infeasible target is an answer of its own: an object on stdout, a line on stderr, exit code 3."""
    try:
        yield
    except Infeasible as error:
        if as_json:
            _print_json({"feasible": False, "reason": str(error), "nearest": error.nearest})
        raise


def _print_json(content: Any) -> None:
    from ebjr_det.reporting.folder import to_json

    click.echo(to_json(content))


def _numbers(text: str) -> list[float]:
    from ebjr_det.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"Expected numbers with commas between them, got `{text}`.") from error
