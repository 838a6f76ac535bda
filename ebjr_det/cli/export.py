"""`ebjr-det export`."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, file_size, print_json
from ebjr_det.cli.live import DEFER, live_settings


@click.command()
@click.argument("config", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder to write to; an earlier export is replaced.")
@click.option("--threshold", type=float, help=DEFER)
@click.option("--router", type=PATH, help="A router that fit-router made. [router.file]")
@click.option("--rate", type=float, help="Its threshold for this deferral rate, instead of a threshold.")
@click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@AS_JSON
def export(
    config: Path,
    out: Path,
    threshold: float | None,
    router: Path | None,
    rate: float | None,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write the pair as a folder that `predict` serves without torch: two ONNX graphs and one JSON.

    CONFIG is a configuration, or the folder of a finished run, whose threshold then holds.
    """
    from ebjr_det import api

    settings, known = live_settings(config, threshold, router, rate, changes, None)
    answer = api.export(api.to_config(settings), out, threshold=known, rate=rate)
    if as_json:
        print_json(answer)
        return
    click.echo(f"Exported: defers where {answer['score']} > {answer['threshold']:.8g}.")
    for name, size in answer["files"].items():
        click.echo(f"{out}/{name}  {file_size(size)}")
    click.echo(f"Serve it: ebjr-det predict {out} IMAGE...")
