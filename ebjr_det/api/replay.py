"""`replay`: the whole analysis from saved outputs of any two models, no model needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import yaml

from ebjr_det.api.auto_router import RoutedRun, automatic_router
from ebjr_det.api.fit_router import FitSource
from ebjr_det.api.references import check_costs
from ebjr_det.api.report import Result, report_pair
from ebjr_det.api.saved_outputs import SavedOutputs
from ebjr_det.api.tiers import TieredOutputs, TieredResult, TierSettings, replay_tiers
from ebjr_det.config import RouterSection
from ebjr_det.config.sections import TargetSection
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import RouterDecision, check_rate, decide
from ebjr_det.core.tradeoff import OperatingPoint, score_of
from ebjr_det.evaluation.analysis import Analysis, Profile, titled
from ebjr_det.evaluation.run_folder import (
    CONFIG,
    RUN,
    check_replay_folder,
    clear_replay_folder,
    save_analysis,
)
from ebjr_det.inference.calibration_part import FRACTION
from ebjr_det.inference.rates import at_rate, default_rate
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import write_text
from ebjr_det.io.memory import described, name_of
from ebjr_det.io.records import save_run
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Remarks
from ebjr_det.tasks.popular import Popular


@dataclass(frozen=True)
class ReplaySettings:
    """How saved outputs are looked at.

    The chosen point is that of the threshold, else of the first of `rates`, else that of
    `scoring.default_rate`: no label of these images chooses it, and the report says how it came about. Where
    the score is left open, a third of the images chooses score, router and that point, and the others are
    reported.

    Attributes:
        router: which score decides, or `auto`. Pictures that its fitted router saw are left out, and its
            rescaling is applied.
        images: a folder with the pictures, of which the report then shows some.
        names: what student and teacher are called, by default as their files.
        popular: classes that a specialised student tells apart, by name or index; its files are then of these
            and "other".
        threshold: instead of `router.threshold`; infinite ones defer all images or none.
        rates: deferral rates to print.
        cost: MACs of both models or of neither, and ms likewise; references need MACs.
        seed, replicates: of the bootstrap; by default as many as the task's `bootstrap`.

    Raises:
        ConfigError: a threshold beside rates, a rate outside [0, 1], no folder at `images`, or a name that
            cannot be printed.
    """

    router: RouterSection = field(default_factory=RouterSection)
    popular: Sequence[str | int] | None = None
    threshold: float | None = None
    rates: Sequence[float] | None = None
    cost: CostModel = field(default_factory=CostModel)
    seed: int = 0
    replicates: int | None = None
    names: tuple[str | None, str | None] = (None, None)
    images: str | Path | None = None

    def __post_init__(self) -> None:
        if self.images is not None and not Path(self.images).is_dir():
            raise ConfigError(f"Expected a folder of pictures as `images`, got none at `{self.images}`.")
        for name in self.names:
            if name is not None and not (name.strip() and name.isprintable()):
                raise ConfigError(f"Expected the name of a model as one line of text, got {name!r}.")
        if self.fixed_threshold is not None and self.rates:
            raise ConfigError("Expected either a threshold or rates, got both.")
        for rate in self.rates or ():
            check_rate(rate)

    @property
    def fixed_threshold(self) -> float | None:
        """The threshold that is given, where one is."""
        return self.router.threshold if self.threshold is None else self.threshold

    @property
    def asked(self) -> RouterSection:
        """The router's settings with the threshold, or the first of the rates as their target."""
        if not self.rates:
            return self.router.model_copy(update={"threshold": self.fixed_threshold})
        target = TargetSection("deferral_rate", self.rates[0], fraction=FRACTION)
        return self.router.model_copy(update={"target": target})


DEFAULTS, TIER_DEFAULTS = ReplaySettings(), TierSettings()


@overload
def replay(outputs: SavedOutputs, out: str | Path, settings: ReplaySettings = DEFAULTS) -> Result: ...
@overload
def replay(
    outputs: TieredOutputs, out: str | Path, settings: TierSettings = TIER_DEFAULTS
) -> TieredResult: ...
def replay(
    outputs: SavedOutputs | TieredOutputs,
    out: str | Path,
    settings: ReplaySettings | TierSettings | None = None,
) -> Result | TieredResult:
    """Analyse saved outputs of any models as `evaluate` analyses a pair, without running a model.

    Args:
        outputs: of a pair, or `TieredOutputs` of several models, with settings of their kind.

    Raises:
        EbjrError: see the task's `replay`; nothing is written then.

    Example:
        >>> import numpy as np
        >>> from ebjr_det import SavedOutputs, replay
        >>> files = {"student": "student.npy", "teacher": "teacher.npy", "labels": "labels.npy"}
        >>> result = replay(SavedOutputs("classification", files), "runs/replay")
        >>> result.summary["images"], result.summary["selection"]["images"], result.summary["score"]
        (133, 67, 'energy_curvature')

        What a file would hold does as well:

        >>> arrays = {name: np.load(file) for name, file in files.items()}
        >>> again = replay(SavedOutputs("classification", arrays), "runs/again")
        >>> again.summary["points"] == result.summary["points"]
        True
    """
    if isinstance(outputs, TieredOutputs):
        assert not isinstance(settings, ReplaySettings), "settings of a pair"
        return replay_tiers(outputs, Path(out), settings or TIER_DEFAULTS)
    assert not isinstance(settings, TierSettings), "settings of tiers"
    return _replay_pair(outputs, Path(out), settings or DEFAULTS)


def _replay_pair(outputs: SavedOutputs, out: Path, settings: ReplaySettings) -> Result:
    check_costs(settings.cost, outputs.references)
    scoring = Scoring.load(outputs.task, settings.router.model_copy(update={"threshold": None}))
    check_replay_folder(out)
    names = outputs.class_names
    popular = () if settings.popular is None else Popular.of(settings.popular, names).names
    scoring, remarks = scoring.bind(names, popular), Remarks()
    run = outputs.load(scoring.scores_of_raw, remarks, settings.popular)
    plugin, folder = load_task(outputs.task), settings.images
    pictures = folder and plugin.replay_pictures(outputs.sources, Path(folder), run.image_ids)
    teacher = name_of(outputs.sources["teacher"])
    source = FitSource(run, names, len(names), "", teacher, "", scoring.section, popular=popular)
    routed, section = None, settings.asked
    if section.automatic:
        clear_replay_folder(out)
        routed = automatic_router(source, scoring, section, out, settings.seed)
    if routed is None:
        run, use = scoring.of_records(run, plugin.judge())
        clear_replay_folder(out)
        routed = RoutedRun(scoring, None, None, run, use)
    decision, point = _decision(routed, settings)
    analysis = replace(
        _analysis(outputs, settings, routed, decision),
        class_names=names,
        popular=popular,
        remarks=remarks,
        calibration=routed.calibration(point, settings.seed),
    )
    section = scoring.section if routed.selection is None else settings.router
    text = yaml.safe_dump(_resolved(outputs, settings, section), sort_keys=False)
    write_text(out / CONFIG, text)
    save_run(run, out / RUN)
    save_analysis(out, analysis, text, describe_environment("cpu", settings.seed))
    if pictures is not None:
        plugin.write_gallery(out, pictures, routed.reported, decision)
    return report_pair(out, out)


def _decision(routed: RoutedRun, settings: ReplaySettings) -> tuple[RouterDecision, OperatingPoint | None]:
    """What the threshold decides, or the first of the rates, or the default one."""
    run, score = routed.reported, routed.scoring.name
    if routed.target is not None:
        return routed.decision(settings.cost)
    if settings.fixed_threshold is not None:
        return decide(score_of(run, score), settings.fixed_threshold), None
    return at_rate(run, score, settings.rates[0] if settings.rates else default_rate(run)), None


def _analysis(
    outputs: SavedOutputs, settings: ReplaySettings, routed: RoutedRun, decision: RouterDecision
) -> Analysis:
    """How the run is looked at, without what its files tell."""
    paths, replicates, scoring = outputs.sources, settings.replicates, routed.scoring
    chosen_from = "given" if settings.fixed_threshold is not None else "target" if routed.target else "rate"
    student, teacher = (
        Profile(name_of(paths[side]), of_file=True) if name is None else Profile(name)
        for side, name in zip(("student", "teacher"), settings.names, strict=True)
    )
    return Analysis(
        title=titled(f"Replay: {student.name} + {teacher.name}", routed.reported),
        score=scoring.name,
        formula=scoring.formula,
        threshold=decision.threshold,
        student=student,
        teacher=teacher,
        cost=settings.cost,
        rates=tuple(settings.rates) if settings.rates else None,
        replicates=load_task(outputs.task).bootstrap if replicates is None else replicates,
        seed=settings.seed,
        references=tuple(outputs.references),
        router=routed.use,
        selection=routed.selection,
        threshold_from=chosen_from,  # type: ignore[arg-type]
    )


def _resolved(
    outputs: SavedOutputs, settings: ReplaySettings, section: RouterSection
) -> Mapping[str, object]:
    """The settings as a run folder keeps them."""
    models_first = sorted(outputs.files, key=lambda name: name not in ("student", "teacher"))
    content: dict[str, object] = {
        "replay": outputs.task,
        **{name: described(outputs.sources[name]) for name in models_first},
        **section.model_dump(),
        "threshold": settings.fixed_threshold,
        "rates": list(settings.rates) if settings.rates else None,
        "seed": settings.seed,
    }
    for side, name in zip(("student", "teacher"), settings.names, strict=True):
        content |= {} if name is None else {f"{side}_name": name}
    content |= {} if settings.images is None else {"images": str(settings.images)}
    if settings.popular is not None:
        content["popular"] = settings.popular
    content |= outputs.options
    if outputs.references:
        content["references"] = [reference.to_dict() for reference in outputs.references]
    return content
