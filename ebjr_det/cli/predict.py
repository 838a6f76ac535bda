"""`ebjr-det predict`."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, fitted_router, print_json


@click.command()
@click.argument("config", type=PATH)
@click.argument("pictures", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--out", type=PATH, default=Path("runs/predict"), show_default=True, help="Folder to write to.")
@click.option("--threshold", type=float, help="Defer where score > threshold; by default the configured one.")
@click.option("--router", type=PATH, help="A router that fit-router made. [router.file]")
@click.option("--rate", type=float, help="Its threshold for this deferral rate, instead of a threshold.")
@click.option("--min-score", type=float, default=0.3, show_default=True, help="Least score of a drawn box.")
@click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 ... [run.device]")
@AS_JSON
def predict(
    config: Path,
    pictures: tuple[str, ...],
    out: Path,
    threshold: float | None,
    router: Path | None,
    rate: float | None,
    min_score: float,
    changes: tuple[str, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Answer pictures with the live pair: annotated copies and COCO-format JSON.

    CONFIG is a configuration, or the folder of a finished run, whose threshold then holds. IMAGE is a file, a
    folder or a pattern.
    """
    from ebjr_det import api
    from ebjr_det.environment import keep_freed_memory
    from ebjr_det.errors import ConfigError

    if threshold is not None and rate is not None:
        raise ConfigError("Expected either a threshold or a rate, got both.")
    fitted = [] if router is None else fitted_router(router)
    here = [] if device is None else [f"run.device={device}"]
    settings, known = api.load_settings(config, [*fitted, *changes, *here])
    keep_freed_memory()
    answer = api.predict(
        settings,
        pictures,
        out,
        threshold=known if threshold is None else threshold,
        rate=rate,
        least_score=min_score,
    )
    if as_json:
        print_json(answer)
    else:
        share = f"{answer['deferred']} ({100 * answer['deferral_rate']:.1f} %) answered by the teacher"
        click.echo(f"{answer['images']} pictures, {share}, {answer['unreadable']} unreadable.")
        click.echo(f"{out}/predictions.json, images.json and pictures/")
