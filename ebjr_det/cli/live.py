"""`ebjr-det predict`, `demo` and `export`: the live pair."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.options import PATH
from ebjr_det.cli.printing import file_size, print_json

if TYPE_CHECKING:
    from ebjr_det.inference.live import Settings

LIVE = options.together(
    options.DECISION,
    click.option("--min-score", default=0.3, show_default=True, help="Least score of a drawn box."),
    options.SET,
    options.RUNTIMES,
    options.device("run"),
    options.AS_JSON,
    options.settings_from("run"),
)
PICTURES = (
    "Folder to write to. Earlier predictions there are replaced; one that holds other files is refused."
)


@click.command()
@options.config("evaluate")
@click.argument("pictures", metavar="IMAGE...", nargs=-1, required=True)
@click.option("--out", type=PATH, default=Path("runs/predict"), show_default=True, help=PICTURES)
@LIVE
def predict(
    config: Path,
    pictures: tuple[str, ...],
    out: Path,
    threshold: float | None,
    rate: float | None,
    min_score: float,
    changes: list[str],
    as_json: bool,
) -> None:
    """Answer pictures with the live pair: annotated copies and COCO-format JSON.

    CONFIG is a configuration, the folder of a finished run, whose threshold then holds, or the address of a
    server (http://...), which then answers. IMAGE is a file, a folder or a pattern.
    """
    import ebjr_det

    decision = {"threshold": threshold, "rate": rate}
    if url := address_of(config):
        from ebjr_det.api.predict_at import predict_at

        check_asked_of_server(changes, threshold, rate)
        result = predict_at(url, pictures, out, **decision, least_score=min_score)
    else:
        settings, decision["threshold"] = load_live(config, changes, threshold, rate)
        result = ebjr_det.predict(settings, pictures, out, **decision, least_score=min_score)
    answer = result.to_dict()
    if as_json:
        print_json(answer)
    else:
        click.echo(answered(answer, "images"))
        click.echo(f"{out}/predictions.json, images.json and pictures/")


@click.command()
@options.config("evaluate")
@click.argument("source", metavar="VIDEO|FOLDER|CAMERA")
@click.option("--out", type=PATH, required=True, help="The film, an mp4 file.")
@click.option("--side-by-side", is_flag=True, help="The teacher's answer to every frame beside the pair's.")
@click.option("--fps", type=float, help="Frames a second; by default the source's own times, 10 of pictures.")
@click.option("--seconds", type=float, help="End after so many seconds of the source.")
@click.option("--limit", type=int, help="End after so many frames.")
@LIVE
def demo(
    config: Path,
    source: str,
    out: Path,
    threshold: float | None,
    rate: float | None,
    min_score: float,
    changes: list[str],
    as_json: bool,
    **film: Any,
) -> None:
    """Film the live pair: each frame with its answer, who gave it, the deferral score and the cost so far.

    CONFIG is a configuration, or the folder of a finished run, whose threshold then holds. The source is a
    video file, a folder or pattern of pictures, or a camera: camera:0, camera:NAME or /dev/video0.
    Ctrl-C ends a camera's film.
    """
    import ebjr_det

    settings, threshold = load_live(config, changes, threshold, rate)
    look = ebjr_det.FilmSettings(min_score, **film)
    result = ebjr_det.demo(settings, source, out, look, threshold=threshold, rate=rate)
    if as_json:
        print_json(result.to_dict())
        return
    click.echo(answered(result.to_dict(), "frames"))
    load = result.load
    if load.noisy:
        click.echo(
            f"The film's times were measured beside a load of {load.others:.2f} of {load.cpus} CPUs: noisy."
        )
    click.echo(out)


@click.command()
@options.config("evaluate")
@click.option("--out", type=PATH, required=True, help="Folder to write to; an earlier export is replaced.")
@click.option("--int8", is_flag=True, help="Also write what keeps its quality in eight bits.")
@options.DECISION
@options.SET
@options.AS_JSON
@options.settings_from("run")
def export(
    config: Path, out: Path, int8: bool, threshold: float | None, rate: float | None, changes: list[str],
    as_json: bool,
) -> None:  # fmt: skip
    """Write the pair as a folder that `predict` serves without torch: two ONNX graphs and one JSON.

    CONFIG is a configuration, or the folder of a finished run, whose threshold then holds.
    """
    import ebjr_det
    from ebjr_det.api.settings import reference_scores, to_config

    check_one_way(threshold, rate)
    settings, chosen = load_live(config, changes)
    result = ebjr_det.export(
        to_config(settings), out, rate=rate, reference=reference_scores(config, chosen),
        threshold=chosen if threshold is None else threshold, int8=int8,
    )  # fmt: skip
    if as_json:
        print_json(result.to_dict())
        return
    click.echo(f"Exported: defers where {result.score} > {result.threshold:.8g}.")
    for name, size in result.files.items():
        click.echo(f"{out}/{name}  {file_size(size)}")
    click.echo(f"Serve it: ebjr-det predict {out} IMAGE...")


def load_live(
    config: Path, changes: list[str], threshold: float | None = None, rate: float | None = None
) -> tuple["Settings", float | None]:
    """The settings, and the threshold where the options or a finished run give one.

    Raises:
        EbjrError: both a threshold and a rate, or settings that are wrong.
    """
    from ebjr_det.api.settings import load_settings
    from ebjr_det.io.environment import keep_freed_memory

    check_one_way(threshold, rate)
    settings, chosen = load_settings(config, changes)
    keep_freed_memory()
    return settings, chosen if threshold is None else threshold


def check_one_way(threshold: float | None, rate: float | None) -> None:
    """Raises ConfigError for two ways to decide."""
    from ebjr_det.core.errors import ConfigError

    if threshold is not None and rate is not None:
        raise ConfigError("Expected either a threshold or a rate, got both.")


def address_of(config: Path) -> str | None:
    """The address of a server, where the argument is one; a path has lost one of its slashes."""
    scheme, _, address = str(config).partition(":/")
    return f"{scheme}://{address.lstrip('/')}" if scheme in ("http", "https") and address else None


def check_asked_of_server(changes: list[str], threshold: float | None, rate: float | None) -> None:
    """Raises ConfigError for settings that a server has already chosen, and for two ways to decide."""
    from ebjr_det.core.errors import ConfigError

    check_one_way(threshold, rate)
    if changes:
        setting = changes[0].partition("=")[0]
        raise ConfigError(f"Expected the server's own settings, got one of `{setting}`. Set it at `serve`.")


def answered(answer: Mapping[str, Any], key: str) -> str:
    """How many pictures, `images` or `frames`, were answered, and by whom."""
    from ebjr_det.reporting.notation import plural, share

    sent = f"{answer['deferred']:,} ({share(answer['deferral_rate'])} %) answered by the teacher"
    count = plural(answer[key], {"images": "picture", "frames": "frame"}[key])
    return f"{count}, {sent}, {answer['unreadable']:,} unreadable."
