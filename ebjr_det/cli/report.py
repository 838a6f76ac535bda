"""`ebjr-det report`."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, VERBOSE, show


@click.command()
@click.argument("run", type=PATH)
@click.option("--out", type=PATH, help="Another folder to write to; by default RUN itself.")
@VERBOSE
@AS_JSON
def report(run: Path, out: Path | None, verbose: bool, as_json: bool) -> None:
    """Draw a finished run's report anew from its own files: page, tables, figures, JSON."""
    from ebjr_det import api

    show(api.report(run, out), as_json=as_json, verbose=verbose)
