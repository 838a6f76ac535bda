"""`ebjr-det report` and `compare`: finished runs, drawn anew and side by side."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.options import AS_JSON, PATH, VERBOSE
from ebjr_det.cli.printing import print_json, print_places, show, show_tiers


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="Another folder to write to; by default RUN itself.")
@VERBOSE
@AS_JSON
def report(run: Path, out: Path | None, verbose: bool, as_json: bool) -> None:
    """Draw a finished run's report anew from its own files: page, tables, figures, JSON."""
    import ebjr_det
    from ebjr_det.api.tiers import TieredResult

    result = ebjr_det.report(run, out)
    if isinstance(result, TieredResult):
        show_tiers(result, as_json=as_json, verbose=verbose)
    else:
        show(result, as_json=as_json, verbose=verbose)


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
