"""`ebjr-det compare`."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, VERBOSE, print_json, print_places


@click.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, default=Path("runs/compare"), show_default=True, help="Where to write.")
@VERBOSE
@AS_JSON
def compare(runs: tuple[Path, ...], out: Path, verbose: bool, as_json: bool) -> None:
    """Several finished runs of one task in one table and one figure."""
    from ebjr_det import api

    comparison, folder = api.compare(runs, out)
    if as_json:
        print_json(comparison.to_dict() | {"out": str(folder)})
        return
    from ebjr_det.reporting.screen import print_screen

    tables = comparison.tables() if verbose else [comparison.summary_table()]
    print_screen(comparison.verdict(), tables, comparison.sentences())
    print_places("The figure and all tables", [folder], verbose=verbose)
