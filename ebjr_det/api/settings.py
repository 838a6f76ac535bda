"""Where the live verbs get their settings: a configuration, the folder of a finished run, or an export."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ebjr_det.config import EvaluateConfig, identity
from ebjr_det.config.sections import AUTO
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.run_folder import ANALYSIS, CONFIG, ROUTER, load_analysis, load_folder
from ebjr_det.inference.absent import SIDES
from ebjr_det.inference.exported import PAIR, Exported, is_exported, load_exported
from ebjr_det.inference.in_memory import check_not_in_memory
from ebjr_det.inference.live import Settings
from ebjr_det.io.checkpoints.finding import manifest
from ebjr_det.io.notes import say
from ebjr_det.tasks.settings import load_config


def to_config(settings: Settings) -> EvaluateConfig:
    """The settings where they are a configuration. Raises ConfigError for an exported pair."""
    if isinstance(settings, Exported):
        raise ConfigError(
            f"Expected a configuration or the folder of a run, got the exported pair `{settings.folder}`, "
            "which only `predict` and `demo` take."
        )
    return settings


PATHS = (
    ("student", "checkpoint"), ("teacher", "checkpoint"), ("router", "file"), ("router", "front"),
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
        path = getattr(getattr(config, section), key, None)
        if not isinstance(path, str) or path in manifest() or os.path.exists(path) or os.path.isabs(path):
            continue
        above = next((folder for folder in run.resolve().parents if os.path.exists(folder / path)), None)
        if above is not None:
            file = str(above / path)
            say(f"`{section}.{key}` of the run, `{path}`, is not here; taking {file}.")
            changed = getattr(config, section).model_copy(update={key: file})
            config = config.model_copy(update={section: changed})
    return config


def load_settings(
    source: str | Path, changes: Sequence[str] = (), sides: tuple[str, ...] = SIDES
) -> tuple[Settings, float | None]:
    """A configuration; from the folder of a finished run also the threshold that the run chose.

    The folder of an exported pair is read too; its threshold is among its settings.

    Args:
        sides: the models of an export that are wanted.

    Raises:
        EbjrError: no configuration, or no finished run there.
    """
    path = Path(source)
    if not path.is_dir():
        return load_config(path, changes), None
    if is_exported(path):
        return load_exported(path, changes, sides), None
    changed = load_config(_config_of(path), changes)
    check_not_in_memory(changed, path)
    config = from_run(changed, path)
    if not (path / ANALYSIS).is_file():
        raise InvalidInput(
            f"Expected a finished run in `{path}`, got one that is not. Go on with it: ebjr-det evaluate "
            f"{path / CONFIG} --out {path} --resume."
        )
    analysis = load_analysis(path)
    original = load_config(path / CONFIG)
    if analysis.selection is not None and analysis.router is not None and config.router.automatic:
        chosen = {"file": str(path / ROUTER), "sha256": analysis.router.sha256}
        router = config.router.model_copy(update=chosen)
        config = config.model_copy(update={"router": router})
    score = analysis.score if config.router.score in (None, AUTO) else config.router.score
    if config.student.runtime != original.student.runtime:
        say(
            f"Note: the run's threshold was chosen with runtime `{original.student.runtime}` of the student. "
            f"With `{config.student.runtime}` scores may differ, in bfloat16 visibly; to choose anew, "
            "evaluate."
        )
    fitted = None if analysis.router is None else analysis.router.sha256
    if score != analysis.score or identity(config)["router.file"] != fitted:
        return config, None
    if _scored_by(changed) != _scored_by(original):
        say(
            "Note: the run's threshold belongs to its own student and settings of the score; it is not taken."
        )
        return config, None
    return config, analysis.threshold


def reference_scores(run: str | Path, threshold: float | None) -> FloatArray | None:
    """The deciding scores of a finished run's pictures; None where `run` is none or has chosen no threshold.

    Args:
        threshold: what `load_settings` says of the run, which is None where its scores are not those of its
            settings any more.
    """
    path = Path(run)
    if threshold is None or not (path / ANALYSIS).is_file():
        return None
    records, analysis = load_folder(path)
    return score_of(records, analysis.score)


def _scored_by(config: EvaluateConfig) -> tuple[Any, ...]:
    """The settings that deferral scores depend on; a runtime changes their last bits."""
    student = config.student.model_dump(exclude={"runtime", "macs", "name", "sha256"})
    router = {key: value for key, value in identity(config).items() if key.startswith("router.")}
    return student, router
