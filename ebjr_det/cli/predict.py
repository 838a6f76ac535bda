"""`ebjr-det predict`."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, print_json
from ebjr_det.cli.live import answered, live_options, live_settings

OUT = "Folder to write to. Earlier predictions there are replaced; one that holds other files is refused."


@click.command()
@click.argument("config", type=PATH)
@click.argument("pictures", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--out", type=PATH, default=Path("runs/predict"), show_default=True, help=OUT)
@live_options
@AS_JSON
def predict(
    config: Path,
    pictures: tuple[str, ...],
    out: Path,
    rate: float | None,
    min_score: float,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Answer pictures with the live pair: annotated copies and COCO-format JSON.

    CONFIG is a configuration, or the folder of a finished run, whose threshold then holds. IMAGE is a file, a
    folder or a pattern.
    """
    from ebjr_det import api

    settings, threshold = live_settings(config, rate=rate, **chosen)
    answer = api.predict(
        settings,
        pictures,
        out,
        threshold=threshold,
        rate=rate,
        least_score=min_score,
    )
    if as_json:
        print_json(answer)
    else:
        click.echo(answered(answer, "images"))
        click.echo(f"{out}/predictions.json, images.json and pictures/")
