"""Where the live verbs get their settings: a configuration, the folder of a finished run, or an export."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ebjr_det.config import EvaluateConfig, identity
from ebjr_det.config.sections import AUTO, BaseSection
from ebjr_det.config.tiers import Tier, tiers_of, with_tiers
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.run_folder import (
    ANALYSIS,
    CONFIG,
    ROUTER,
    TIERED_RUN,
    TIERS,
    load_analysis,
    load_folder,
)
from ebjr_det.evaluation.tiers.analysis import load_tiered_analysis
from ebjr_det.inference.absent import SIDES
from ebjr_det.inference.export_file import PAIR, is_exported
from ebjr_det.inference.exported import Exported, load_exported
from ebjr_det.inference.in_memory import check_not_in_memory
from ebjr_det.inference.live import Settings
from ebjr_det.io.checkpoints.finding import manifest
from ebjr_det.io.notes import say
from ebjr_det.io.records import load_tiers
from ebjr_det.tasks.settings import load_config

Section = TypeVar("Section", bound=BaseSection)


def to_config(settings: Settings) -> EvaluateConfig:
    """The settings where they are a configuration. Raises ConfigError for an exported pair."""
    if isinstance(settings, Exported):
        raise ConfigError(
            f"Expected a configuration or the folder of a run, got the exported pair `{settings.folder}`, "
            "which only `predict` and `demo` take."
        )
    return settings


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
    data = _found("data", config.data, ("root", "annotations", "images"), run)
    tiers, names = tiers_of(config), ["student", "teacher"]
    if len(tiers) > 2:
        names = [f"tiers.{index}" for index in range(len(tiers))]
    return with_tiers(
        config.model_copy(update={"data": data}),
        [
            Tier(
                _found(name, section, ("checkpoint",), run),
                _found(f"{name}.router", router, ("file", "front"), run),
            )
            for name, (section, router) in zip(names, tiers, strict=True)
        ],
    )


def _found(name: str, section: Section, keys: Sequence[str], run: Path) -> Section:
    """A section whose paths are looked for."""
    for key in keys:
        path = getattr(section, key, None)
        if not isinstance(path, str) or path in manifest() or os.path.exists(path) or os.path.isabs(path):
            continue
        above = next((folder for folder in run.resolve().parents if os.path.exists(folder / path)), None)
        if above is not None:
            file = str(above / path)
            say(f"`{name}.{key}` of the run, `{path}`, is not here; taking {file}.")
            section = section.model_copy(update={key: file})
    return section


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
    if (path / TIERS).is_file():
        return _of_tiers(config, path), None
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


def _of_tiers(config: EvaluateConfig, run: Path) -> EvaluateConfig:
    """The cascade that a run of several tiers has chosen; what the settings state goes before it.

    Raises InvalidInput for a replay of saved outputs, which has no models.
    """
    analysis = load_tiered_analysis(run)
    if (chosen := analysis.chosen) is None:
        raise InvalidInput(f"Expected a run of `evaluate` in `{run}`, got a replay of tiers without models.")
    tiers = dict(zip((tier.name for tier in analysis.tiers), tiers_of(config), strict=True))
    routers = dict(zip(chosen.tiers, zip(chosen.scores, chosen.thresholds, strict=True), strict=False))
    lower = [_routed(tiers[name], *routers[name]) for name in chosen.tiers[:-1]]
    return with_tiers(config, [*lower, tiers[chosen.tiers[-1]]])


def _routed(tier: Tier, score: str, threshold: float) -> Tier:
    """A tier with its chosen score and threshold, where it has none of its own."""
    if tier.router.threshold is not None:
        return tier
    settings = {"score": score, "threshold": threshold, "target": None}
    return tier._replace(router=tier.router.model_copy(update=settings))


def reference_scores(run: str | Path, threshold: float | None) -> FloatArray | None:
    """The deciding scores of a finished run's pictures; None where `run` is none or has chosen no threshold.

    Args:
        threshold: what `load_settings` says of the run, which is None where its scores are not those of its
            settings any more.
    """
    path = Path(run)
    if (path / TIERED_RUN).is_file() and (chosen := load_tiered_analysis(path).chosen) is not None:
        return np.asarray(load_tiers(path / TIERED_RUN).scores[chosen.tiers[0]][chosen.scores[0]])
    if threshold is None or not (path / ANALYSIS).is_file():
        return None
    records, analysis = load_folder(path)
    return score_of(records, analysis.score)


def _scored_by(config: EvaluateConfig) -> tuple[object, ...]:
    """The settings that deferral scores depend on; a runtime changes their last bits."""
    student = config.student.model_dump(exclude={"runtime", "macs", "name", "sha256"})
    router = {key: value for key, value in identity(config).items() if key.startswith("router.")}
    return student, router
