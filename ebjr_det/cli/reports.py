"""`ebjr-det report`, `compare` and `placement` of finished runs."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.options import AS_JSON, PATH, VERBOSE, name_option, seed
from ebjr_det.cli.printing import print_json, print_places, show


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="Another folder to write to; by default RUN itself.")
@VERBOSE
@AS_JSON
def report(run: Path, out: Path | None, verbose: bool, as_json: bool) -> None:
    """Draw a finished run's report anew from its own files: page, tables, figures, JSON."""
    import ebjr_det

    show(ebjr_det.report(run, out), as_json=as_json, verbose=verbose)


@click.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, default=Path("runs/compare"), show_default=True, help="Where to write.")
@VERBOSE
@AS_JSON
def compare(runs: tuple[Path, ...], out: Path, verbose: bool, as_json: bool) -> None:
    """Several finished runs of one task in one table and one figure."""
    import ebjr_det

    result = ebjr_det.compare(runs, out)
    if as_json:
        print_json(result.to_dict())
        return
    from ebjr_det.reporting.screen import print_screen

    comparison = result.comparison
    tables = comparison.tables() if verbose else [comparison.summary_table()]
    print_screen(comparison.verdict(), tables, comparison.sentences())
    print_places("The figure and all tables", [result.folder], verbose=verbose)


@click.command()
@click.argument("run", type=PATH)
@click.option("--front", type=PATH, required=True, help="A router that `fit-router front` made.")
@name_option("--score", of="scores", help="Of the student, by default the one that decides in RUN.")
@click.option("--fraction", type=float, default=0.5, show_default=True, help="Of the pictures, that choose.")
@click.option(
    "--measure/--no-measure", default=True, show_default=True, help="Time front, student and teacher."
)
@click.option("--bootstrap", "replicates", type=int, help="Resamples, by default as many as of a replay.")
@seed("Of the part that chooses and of the resamples.")
@click.option("--out", type=PATH, required=True, help="An empty folder to write to.")
@VERBOSE
@AS_JSON
def placement(run: Path, front: Path, out: Path, verbose: bool, as_json: bool, **settings: Any) -> None:
    """A router in front of the student, behind it, or both: the best at every budget of a finished run."""
    import ebjr_det

    result = ebjr_det.placement(run, front, out, ebjr_det.PlacementSettings(**settings))
    if as_json:
        print_json(result.to_dict())
        return
    from ebjr_det.reporting.placement.tables import tables
    from ebjr_det.reporting.placement.words import sentences
    from ebjr_det.reporting.screen import print_screen

    overview = result.overview()
    drawn = tables(result.report) if verbose else [overview.table]
    print_screen(overview.sentence, drawn, grounds=list(sentences(result.report)))
    print_places("Everything on one page", filter(None, [overview.place]), verbose=verbose)
