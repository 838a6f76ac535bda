"""`ebjr-det demo`."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, print_json
from ebjr_det.cli.live import answered, live_options, live_settings


@click.command()
@click.argument("config", type=PATH)
@click.argument("source", metavar="VIDEO|FOLDER|CAMERA")
@click.option("--out", type=PATH, required=True, help="The film, an mp4 file.")
@click.option("--side-by-side", is_flag=True, help="The teacher's answer to every frame beside the pair's.")
@click.option("--fps", type=float, help="Frames a second; by default the source's own times, 10 of pictures.")
@click.option("--seconds", type=float, help="End after so many seconds of the source.")
@click.option("--limit", type=int, help="End after so many frames.")
@live_options
@AS_JSON
def demo(
    config: Path,
    source: str,
    out: Path,
    side_by_side: bool,
    fps: float | None,
    seconds: float | None,
    limit: int | None,
    rate: float | None,
    min_score: float,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Film the live pair: each frame with its answer, who gave it, the deferral score and the cost so far.

    CONFIG is a configuration, or the folder of a finished run, whose threshold then holds. The source is a
    video file, a folder or pattern of pictures, or a camera: camera:0, camera:NAME or /dev/video0.
    Ctrl-C ends a camera's film.
    """
    from ebjr_det import api

    settings, threshold = live_settings(config, rate=rate, **chosen)
    answer = api.demo(
        settings,
        source,
        out,
        threshold=threshold,
        rate=rate,
        least_score=min_score,
        side_by_side=side_by_side,
        fps=fps,
        seconds=seconds,
        limit=limit,
    )
    if as_json:
        print_json(answer)
    else:
        click.echo(answered(answer, "frames"))
        if answer["load"]["noisy"]:
            click.echo(
                "The film's times were measured beside a load of {others:.2f} of {cpus} CPUs: noisy.".format(
                    **answer["load"]
                )
            )
        click.echo(out)
