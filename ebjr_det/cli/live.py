"""What the commands of the live pair share: options, and the settings behind them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.conventions import PATH, RUNTIMES, fitted_router, runtimes, together

DEFER = "Defer where score > threshold; by default the configured one."
live_options = together(
    click.option("--threshold", type=float, help=DEFER),
    click.option("--router", type=PATH, help="A router that fit-router made. [router.file]"),
    click.option("--rate", type=float, help="Its threshold for this deferral rate, instead of a threshold."),
    click.option("--min-score", default=0.3, show_default=True, help="Least score of a drawn box."),
    click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."),
    RUNTIMES,
    click.option("--device", help="auto, cpu, cuda, cuda:1 ... [run.device]"),
)


def live_settings(
    config: Path,
    threshold: float | None,
    router: Path | None,
    rate: float | None,
    changes: Sequence[str],
    device: str | None,
    **chosen: Any,
) -> tuple[Any, float | None]:
    """The settings, and the threshold where the options or a finished run give one.

    Args:
        chosen: the options of `RUNTIMES`.

    Raises:
        EbjrError: both a threshold and a rate, or settings that are wrong.
    """
    from ebjr_det import api
    from ebjr_det.core.errors import ConfigError
    from ebjr_det.io.environment import keep_freed_memory

    if threshold is not None and rate is not None:
        raise ConfigError("Expected either a threshold or a rate, got both.")
    fitted = [] if router is None else fitted_router(router)
    here = [] if device is None else [f"run.device={device}"]
    settings, known = api.load_settings(
        config, [*fitted, *(runtimes(**chosen) if chosen else []), *changes, *here]
    )
    keep_freed_memory()
    return settings, known if threshold is None else threshold


def answered(answer: Mapping[str, Any], what: str) -> str:
    """How many pictures were answered, and by whom.

    Args:
        what: their key in the answer, `images` or `frames`.
    """
    from ebjr_det.reporting.notation import plural, share

    sent = f"{answer['deferred']:,} ({share(answer['deferral_rate'])} %) answered by the teacher"
    count = plural(answer[what], {"images": "picture", "frames": "frame"}[what])
    return f"{count}, {sent}, {answer['unreadable']:,} unreadable."
