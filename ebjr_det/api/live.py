"""What the live verbs share: where their settings come from, the threshold, and the pair itself."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from ebjr_det.api.scoring import Scoring, say
from ebjr_det.api.student import answers_to_data, check_at_work, watched
from ebjr_det.config import EvaluateConfig, identity, load_config
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.types import FloatArray, Output
from ebjr_det.evaluation.run_folder import ANALYSIS, CONFIG, load_analysis
from ebjr_det.inference.exported import PAIR, Exported, is_exported, load_exported
from ebjr_det.inference.weights import weights_of
from ebjr_det.io.checkpoints import manifest
from ebjr_det.tasks import room
from ebjr_det.tasks.popular import Popular

Settings: TypeAlias = EvaluateConfig | Exported
"""What a live pair is built from."""
TIED = 0.02
"""By how much a deferral rate may fall short of the one that was asked for without a word."""


@dataclass(frozen=True)
class Live:
    """The pair at a threshold, ready to answer.

    Attributes:
        named: the task's class names, for `answers`.
        scoring: the deciding score.
    """

    named: Any
    scoring: Scoring
    joint: JointModel


def choose_threshold(config: Settings, threshold: float | None, rate: float | None) -> tuple[Scoring, float]:
    """The score that decides and its threshold, before any model is built.

    Args:
        threshold: instead of `router.threshold`.
        rate: instead of both, the deferral rate that a fitted router's threshold had at its fit.

    Raises:
        ConfigError: no threshold, or a score that one picture does not have on its own.
    """
    scoring = Scoring.of(config.task, config.router).live()
    chosen = scoring.threshold_for(rate) if rate is not None else threshold
    if rate is not None and scoring.file is not None:
        _say_ties(scoring.file.reference, scoring.name, rate, float(chosen or 0.0))
    chosen = scoring.section.threshold if chosen is None else chosen
    if chosen is None:
        raise ConfigError(
            "Expected a threshold, got none. Give --threshold, set `router.threshold`, name the folder of "
            "a finished run instead of a configuration, or give a fitted --router and a --rate."
        )
    if math.isnan(chosen):
        raise ConfigError("Expected a threshold, finite or infinite, got NaN.")
    return scoring, chosen


def _say_ties(reference: FloatArray, score: str, rate: float, threshold: float) -> None:
    """Where pictures of the fit have equal scores, a threshold may defer far less than was asked for."""
    share = float((reference > threshold).mean())
    if rate - share > max(TIED, 1 / len(reference)):
        say(
            f"Note: many pictures of the router's fit have the same `{score}`, so the threshold for at most "
            f"{100 * rate:.1f} % deferred {100 * share:.1f} % of them."
        )


def build_live(
    config: Settings,
    scoring: Scoring,
    threshold: float,
    samples: Callable[[], Sequence[Any]],
    traffic: Callable[[int], Iterable[Any]] = lambda count: (),
) -> Live:
    """Both models, on their runtimes, and their classes.

    Args:
        samples: pictures on which runtimes are tried, where the configuration names any.
        traffic: so many, at most, of the pictures to be answered, on which a router that does not tell its
            student's weights is tried.

    Raises:
        EbjrError: for whatever is wrong in the configuration.
    """
    if isinstance(config, Exported):
        named, student, teacher = config.build()
        weights = ""  # an export has compared them, and its files are as it wrote them
    else:
        named, student, teacher = _built(config, samples)
        weights = weights_of(student)
    popular = (
        None if config.student.popular is None else Popular.of(config.student.popular, named.class_names)
    )
    told = () if popular is None else popular.names
    scoring = scoring.of_classes(getattr(named, "class_names", ()), told)
    scoring = scoring.of_student(student.name, weights)
    if not isinstance(config, Exported):
        here = partial(_answers_to, student, config.run.batch_size, traffic)
        check_at_work(scoring, here, partial(answers_to_data, config, student), weights)
    student = scoring.student(student)
    return Live(named, scoring, JointModel(student, teacher, watched(scoring, threshold), threshold))


def _answers_to(student: Any, size: int, traffic: Callable[[int], Iterable[Any]], count: int) -> list[Output]:
    """A student's answers to some pictures; none where it cannot take them, which is told in their turn."""
    pictures, found = iter(traffic(count)), list[Output]()
    with suppress(InvalidInput):
        while lot := [student.preprocess(picture) for picture in islice(pictures, size)]:
            found.append(student(lot))
    return found


def to_config(settings: Settings) -> EvaluateConfig:
    """The settings where they are a configuration. Raises ConfigError for an exported pair."""
    if isinstance(settings, Exported):
        raise ConfigError(
            f"Expected a configuration or the folder of a run, got the exported pair `{settings.folder}`, "
            "which only `predict` and `demo` take."
        )
    return settings


def _built(config: EvaluateConfig, samples: Callable[[], Sequence[Any]]) -> tuple[Any, Any, Any]:
    """Classes, student and teacher, these on their runtimes."""
    from ebjr_det.inference.pair import build_models, make_ready, resolve_device

    device = resolve_device(config.run.device)
    named = room(config.task, "data").build_named(**dict(config.data))
    models = build_models(config, named, device)
    make_ready(config, models, samples, device)
    return named, *models


PATHS = (
    ("student", "checkpoint"), ("teacher", "checkpoint"), ("router", "file"),
    ("data", "root"), ("data", "annotations"), ("data", "images"),
)  # fmt: skip
"""Settings that name a file or a folder."""


def _config_of(run: Path) -> Path:
    """The settings in the folder of a run."""
    path = run / CONFIG
    if not path.is_file():
        raise InvalidInput(
            f"Expected a configuration, the folder of a finished run or an export, got `{run}` without "
            f"{CONFIG} or {PAIR}."
        )
    return path


def from_run(config: EvaluateConfig, run: Path) -> EvaluateConfig:
    """A run's configuration at work in another folder than the one where it was made.

    A relative path that is not here is looked for from the folders above the run, the nearest first, and
    taken as it is where none has it.
    """
    for section, key in PATHS:
        named = getattr(getattr(config, section), key, None)
        if named is None or named in manifest() or os.path.exists(named) or os.path.isabs(named):
            continue
        above = next((folder for folder in run.resolve().parents if os.path.exists(folder / named)), None)
        if above is not None:
            found = str(above / named)
            say(f"`{section}.{key}` of the run, `{named}`, is not here; taking {found}.")
            changed = getattr(config, section).model_copy(update={key: found})
            config = config.model_copy(update={section: changed})
    return config


def load_settings(source: str | Path, changes: Sequence[str] = ()) -> tuple[Settings, float | None]:
    """A configuration; from the folder of a finished run also the threshold that the run chose.

    The folder of an exported pair is read too; its threshold is among its settings.

    Raises:
        EbjrError: no configuration, or no finished run there.
    """
    path = Path(source)
    if not path.is_dir():
        return load_config(path, changes), None
    if is_exported(path):
        return load_exported(path, changes), None
    asked = load_config(_config_of(path), changes)
    config = from_run(asked, path)
    if not (path / ANALYSIS).is_file():
        raise InvalidInput(
            f"Expected a finished run in `{path}`, got one that is not. Go on with it: ebjr-det evaluate "
            f"{path / CONFIG} --out {path} --resume."
        )
    analysis = load_analysis(path)
    before = load_config(path / CONFIG)
    if config.student.runtime != before.student.runtime:
        say(
            f"Note: the run's threshold was chosen with runtime `{before.student.runtime}` of the student. "
            f"With `{config.student.runtime}` scores may differ, in bfloat16 visibly; to choose anew, "
            "evaluate."
        )
    fitted = None if analysis.router is None else analysis.router.sha256
    if config.router.score != analysis.score or identity(config)["router.file"] != fitted:
        return config, None
    if _scored_by(asked) != _scored_by(before):
        say(
            "Note: the run's threshold belongs to its own student and settings of the score; it is not taken."
        )
        return config, None
    return config, analysis.threshold


def _scored_by(config: EvaluateConfig) -> tuple[Any, ...]:
    """The settings that deferral scores depend on; a runtime changes their last bits."""
    student = config.student.model_dump(exclude={"runtime", "macs", "name", "sha256"})
    router = {key: value for key, value in identity(config).items() if key.startswith("router.")}
    return student, router
