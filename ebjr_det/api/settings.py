"""Where the live verbs get their settings: a configuration, the folder of a finished run, or an export."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from ebjr_det.config import EvaluateConfig, identity
from ebjr_det.config.sections import BaseSection
from ebjr_det.config.tiers import Tier, tiers_of, with_tiers
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.run_folder import (
    ANALYSIS,
    CONFIG,
    REPLAY,
    ROUTER,
    TIERED_RUN,
    TIERS,
    load_analysis,
    load_folder,
)
from ebjr_det.evaluation.tiers.analysis import load_tiered_analysis
from ebjr_det.inference.absent import SIDES
from ebjr_det.inference.calibration_part import calibrating_ids, check_apart
from ebjr_det.inference.export_file import PAIR, is_exported
from ebjr_det.inference.exported import Exported, load_exported
from ebjr_det.inference.in_memory import check_not_in_memory
from ebjr_det.inference.live import Settings
from ebjr_det.io.checkpoints.finding import manifest
from ebjr_det.io.notes import say
from ebjr_det.io.records import load_tiers
from ebjr_det.runtimes.registry import EIGHT_BITS
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
    path = run / CONFIG
    if not path.is_file():
        raise InvalidInput(
            f"Expected a configuration, the folder of a finished run or an export, got `{run}` without "
            f"{CONFIG} or {PAIR}."
        )
    return path


def check_split(run: Path, image_ids: Sequence[str], reported: Iterable[str], fraction: float = 0) -> None:
    """Raises InvalidInput where a run is split anew so that what calibrates eight bits is reported on.

    Args:
        image_ids: of the whole run; `fraction`: of these, that choose for several tiers.
    """
    config = _in_eight_bits(run)
    if config is not None:
        check_apart(config, image_ids, reported, fraction)


def calibrating_in(run: Path, image_ids: Sequence[str]) -> set[str]:
    """The pictures of a pair's run that have calibrated its networks in eight bits."""
    config = _in_eight_bits(run)
    return set() if config is None else calibrating_ids(config, image_ids)


def _in_eight_bits(run: Path) -> EvaluateConfig | None:
    """The configuration of a run that may have networks in eight bits; None of all others and of replays."""
    path = run / CONFIG
    if not path.is_file() or is_replay(run):
        return None
    named = any(name.encode() in path.read_bytes() for name in EIGHT_BITS)
    return from_run(load_config(path), run) if named else None


def is_replay(run: Path) -> bool:
    """Whether a finished run is a replay of saved outputs, without models."""
    return (run / CONFIG).read_bytes().startswith(REPLAY)


def from_run(config: EvaluateConfig, run: Path) -> EvaluateConfig:
    """A run's configuration at work in another folder than the one where it was made.

    A relative path that is not here is looked for from the folders above the run, the nearest first, and
    taken as it is where none has it.
    """
    data = _found("data", config.data, ("root", "annotations", "images"), run)
    tiers, names, routers = tiers_of(config), ["student", "teacher"], ["router", "teacher.router"]
    if len(tiers) > 2:
        names = [f"tiers.{index}" for index in range(len(tiers))]
        routers = [f"{name}.router" for name in names]
    return with_tiers(
        config.model_copy(update={"data": data}),
        [
            Tier(
                _found(name, section, ("checkpoint",), run),
                _found(router_name, router, ("file", "front"), run),
            )
            for name, router_name, (section, router) in zip(names, routers, tiers, strict=True)
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
    original = load_config(path / CONFIG)
    if (path / TIERS).is_file():
        return _of_tiers(config, changed, original, path)
    if not (path / ANALYSIS).is_file():
        raise InvalidInput(
            f"Expected a finished run in `{path}`, got one that is not. Go on with it: ebjr-det evaluate "
            f"{path / CONFIG} --out {path} --resume."
        )
    analysis = load_analysis(path)
    if analysis.selection is not None and analysis.router is not None and config.router.automatic:
        chosen = {"file": str(path / ROUTER), "sha256": analysis.router.sha256}
        router = config.router.model_copy(update=chosen)
        config = config.model_copy(update={"router": router})
    fitted = None if analysis.router is None else analysis.router.sha256
    if analysis.selection is not None and identity(config)["router.file"] != fitted:
        return config, None
    of_run = _Chosen("the run", analysis.score, analysis.threshold)
    aimed = changed.router.target == original.router.target
    threshold, unchanged = of_run.threshold_of(tiers_of(changed)[0], tiers_of(original)[0], aimed)
    if threshold is None:
        config = config.model_copy(update={"router": config.router.model_copy(update={"threshold": None})})
    return config, threshold if unchanged else None


class _Chosen(NamedTuple):
    """The score of a run, or of one of its tiers, and the threshold that was chosen for it."""

    of: str
    score: str
    threshold: float

    def threshold_of(self, tier: Tier, original: Tier, aimed: bool) -> tuple[float | None, bool]:
        """What decides for a tier as it is set now, and whether its scores are those of the run.

        A threshold that is stated anew holds; the run's, where nothing that it depends on has changed.

        Args:
            aimed: whether the target is that of the run.
        """
        runtime, stated = original.section.runtime, tier.router.threshold
        if tier.section.runtime != runtime:
            say(
                f"Note: {self.of}'s threshold was chosen with runtime `{runtime}` of the student. With "
                f"`{tier.section.runtime}` scores may differ, in bfloat16 visibly; to choose anew, evaluate."
            )
        score = self.score if tier.router.score == original.router.score else tier.router.score
        unchanged = score == self.score and _scored_by(tier) == _scored_by(original)
        if stated is not None and (unchanged or stated != original.router.threshold):
            return stated, unchanged
        if unchanged and aimed:
            return self.threshold, True
        say(
            f"Note: {self.of}'s threshold belongs to its own student, settings of the score and target; it "
            "is not taken."
        )
        return None, unchanged


def _of_tiers(
    config: EvaluateConfig, changed: EvaluateConfig, original: EvaluateConfig, run: Path
) -> tuple[EvaluateConfig, float | None]:
    """The chain that a run of several tiers has chosen, and the threshold of its first tier.

    What the settings state goes before it; a threshold whose tier is set otherwise now is left out.

    Args:
        config: `changed` with the paths of here; original: the settings of the run.

    Raises:
        InvalidInput: a replay of saved outputs, which has no models.
        ConfigError: another number of tiers.
    """
    analysis = load_tiered_analysis(run)
    if (chosen := analysis.chosen) is None:
        raise InvalidInput(f"Expected a run of `evaluate` in `{run}`, got a replay of tiers without models.")
    names = [tier.name for tier in analysis.tiers]
    if (count := len(tiers_of(changed))) != len(names):
        raise ConfigError(f"Expected the {len(names)} tiers of the run `{run}`, got {count}. Evaluate them.")
    tiers = {
        name: versions
        for name, *versions in zip(names, *map(tiers_of, (config, changed, original)), strict=True)
    }
    topology = changed.topology or chosen.topology
    senders = replace(chosen, topology=topology).senders
    aimed = changed.router.target == original.router.target
    lower, of_run = list[Tier](), list[bool]()
    columns = zip(chosen.tiers, senders, chosen.senders, chosen.scores, chosen.thresholds, strict=False)
    for name, sender, of_run_sender, score, value in columns:
        now = _at(tiers[sender][1], tiers[name][1].router.threshold)
        then = _at(tiers[of_run_sender][2], tiers[name][2].router.threshold)
        threshold, unchanged = _Chosen(f"`{name}`", score, value).threshold_of(now, then, aimed)
        settings: dict[str, object] = {"threshold": threshold, "target": None}
        settings |= {"score": score} if unchanged and sender == name else {}
        tier = tiers[name][0]
        lower.append(tier._replace(router=tier.router.model_copy(update=settings)))
        of_run.append(unchanged)
    first = lower[0].router.threshold
    config = config.model_copy(update={"topology": topology})
    return with_tiers(config, [*lower, tiers[chosen.tiers[-1]][0]]), first if of_run[0] else None


def _at(tier: Tier, threshold: float | None) -> Tier:
    """A tier whose router has another threshold."""
    return tier._replace(router=tier.router.model_copy(update={"threshold": threshold}))


def reference_scores(run: str | Path, threshold: float | None) -> FloatArray | None:
    """The deciding scores of a finished run's pictures; None where `run` is none or has chosen no threshold.

    Args:
        threshold: what `load_settings` says of the run, which is None where its scores are not those of its
            settings any more.
    """
    path = Path(run)
    if threshold is None:
        return None
    if (path / TIERED_RUN).is_file() and (chosen := load_tiered_analysis(path).chosen) is not None:
        return np.asarray(load_tiers(path / TIERED_RUN).scores[chosen.tiers[0]][chosen.scores[0]])
    if not (path / ANALYSIS).is_file():
        return None
    records, analysis = load_folder(path)
    return score_of(records, analysis.score)


def _scored_by(tier: Tier) -> tuple[dict[str, object], dict[str, object]]:
    """The settings that deferral scores depend on; a runtime changes their last bits."""
    section = tier.section.model_dump(exclude={"runtime", "macs", "name", "sha256"})
    weighed = {"options", "top_k", "aggregate", "other_logit", "sha256"}
    if tier.router.sha256 is None:
        weighed |= {"file"}
    return section, tier.router.model_dump(include=weighed)
