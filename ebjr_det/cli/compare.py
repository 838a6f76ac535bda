"""`ebjr-det compare`."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, print_json


@click.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, default=Path("runs/compare"), show_default=True, help="Where to write.")
@AS_JSON
def compare(runs: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Several finished runs of one task in one table and one figure."""
    from ebjr_det import api

    comparison, folder = api.compare(runs, out)
    if as_json:
        print_json(comparison.to_dict() | {"out": str(folder)})
        return
    from ebjr_det.reporting.screen import print_table

    for table in comparison.tables():
        print_table(table)
    click.echo(f"\nThe figure and the table are in {folder}/.")
