"""`load`: a finished run, an export or a configuration as a live pair in Python."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ebjr_det.api.settings import load_settings
from ebjr_det.core.errors import EbjrError
from ebjr_det.inference.exported import Exported
from ebjr_det.inference.live import LiveModel, Settings, build_live, choose_threshold
from ebjr_det.io.loader import readable
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Picture

SAMPLES = 4


def load(
    path: str | Path,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    changes: Sequence[str] = (),
) -> LiveModel:
    """A pair that answers pictures: PIL images, arrays or paths.

    Args:
        path: the folder of a finished run, of an export, or a configuration.
        threshold: instead of the run's own; it can be set at any time: `pair.threshold = 2.0`.
        rate: the deferral rate that a fitted router's threshold had at its fit, instead of a threshold.
        changes: `a.b=value` settings, as the command line's `--set`.

    Returns:
        a `JointModel`: `pair(pictures)` gives `predictions`, one a picture in order, `answered_by`, and
        `decision`, with scores and threshold, and of detectors `to_supervision()`; `pair(pictures,
        threshold=t)` is one call at another one. It also knows `class_names`, and every deferral score by its
        name: `pair.deferral_scores(output, name)`.

    Raises:
        EbjrError: no finished run, export or configuration there, no threshold, or damaged weights.

    Example:
        >>> from ebjr_det import load
        >>> pair = load("runs/digits")
        >>> answer = pair(["pictures/0.png", "pictures/1.png"])
        >>> len(answer.predictions), len(answer.decision.defer), len(pair.class_names)
        (2, 2, 10)
        >>> pair(["pictures/0.png"], threshold=float("-inf")).answered_by
        ('teacher',)
    """
    settings, chosen = load_settings(path, changes)
    chosen = chosen if threshold is None and rate is None else threshold
    scoring, chosen = choose_threshold(settings, chosen, rate, fronted=True)
    return LiveModel(build_live(settings, scoring, chosen, samples_of(settings)))


def samples_of(settings: Settings) -> Callable[[], list[Picture]]:
    """Pictures on which runtimes are tried: of the configured data, or where these are not here, noise."""

    def samples() -> list[Picture]:
        from PIL import Image

        assert not isinstance(settings, Exported)
        try:
            data = load_task(settings.task).data.build_data(**dict(settings.data))
            return readable(data, range(min(SAMPLES, len(data))))
        except EbjrError:
            return [Image.effect_noise((640, 480), 64).convert("RGB")]

    return samples
