"""`score: auto`: on the calibration part of a run alone, the router that an expert would choose."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ebjr_det.api.fit_router import FitSource, FittedChoice, choose_router, file_of
from ebjr_det.api.fit_settings import FitSettings
from ebjr_det.config import RouterSection
from ebjr_det.config.sections import TargetSection
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import RouterDecision, decide
from ebjr_det.core.scores import CURVATURE, ENERGY
from ebjr_det.core.split import calibration_size
from ebjr_det.core.tradeoff import OperatingPoint, score_of, select, sweep
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.analysis import Calibration, Selection
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.certify import choose
from ebjr_det.evaluation.report import area_of
from ebjr_det.evaluation.run_folder import ROUTER
from ebjr_det.inference.calibration_part import FOLDS, FRACTION, LEAST
from ebjr_det.inference.rates import DEFAULT_RATE, at_rate, default_rate
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.notes import say
from ebjr_det.routing.drift import FittedUse
from ebjr_det.tasks import load_task


@dataclass(frozen=True)
class RoutedRun:
    """A run as its router sees it, in the parts that choose and that are reported.

    Attributes:
        scoring: the router.
        target: what the threshold is chosen for, and how much of the run calibrates; or None.
        chosen_on: the images that choose the threshold, no score of which has seen its own image; or None.
        reported: the others.
        use: of a fitted router on the reported images; `selection`: how it was chosen, where it was.
    """

    scoring: Scoring
    target: TargetSection | None
    chosen_on: PairedRun | None
    reported: PairedRun
    use: FittedUse | None
    selection: Selection | None = None

    @classmethod
    def as_configured(
        cls, scoring: Scoring, run: PairedRun, target: TargetSection | None, seed: int
    ) -> "RoutedRun":
        """A run whose scores are those of the router that its settings name."""
        task = load_task(run.task).judge()
        unseen, use = scoring.unseen(run, task)
        if target is None:
            return cls(scoring, None, None, unseen, use)
        chosen_on, reported = (select(unseen, task, part) for part in split(unseen, target.fraction, seed))
        return cls(scoring, target, chosen_on, reported, use)

    def decision(self, cost: CostModel) -> tuple[RouterDecision, OperatingPoint | None]:
        """The decision on the reported images; and the point that met the target on the others.

        Raises:
            Infeasible: no point meets it.
        """
        name, threshold = self.scoring.name, self.scoring.section.threshold
        if self.target is None or self.chosen_on is None:
            if threshold is None:
                return at_rate(self.reported, name, default_rate(self.reported)), None
            return decide(score_of(self.reported, name), threshold), None
        task = load_task(self.reported.task).judge()
        point = choose(self.chosen_on, task, sweep(self.chosen_on, task, name, cost), self.target)
        return decide(score_of(self.reported, name), point.threshold), point

    def calibration(self, point: OperatingPoint | None, seed: int) -> Calibration | None:
        """How the threshold came about, for the report."""
        if self.target is None or self.chosen_on is None or point is None:
            return None
        return Calibration(self.target, self.target.fraction, seed, len(self.chosen_on), point)


def automatic_router(
    source: FitSource, scoring: Scoring, section: RouterSection, out: Path, seed: int
) -> RoutedRun | None:
    """A run under the router that is chosen on its calibration part, where the settings leave it open.

    None where they name a score, or where nothing can be chosen, which is said.

    Args:
        source: of all images, as the models answered.
        scoring: with neither router nor threshold, of the pair's classes.
        section: the settings as they were given.
        seed: of the split and the fit.
    """
    target = automatic_target(section, len(source.run))
    if target is None:
        return None
    try:
        return auto_router(source, scoring, target, out, seed)
    except InvalidInput as error:
        say(f"Note: no router can be chosen, `{CURVATURE}` decides. {error}")
        return None


def automatic_target(section: RouterSection, images: int) -> TargetSection | None:
    """What the calibration part of a run is for where the settings leave the router open.

    None where they name one, or where too few pictures are left to choose one on, which is said.
    """
    if not section.automatic:
        return None
    target = section.target or TargetSection("deferral_rate", DEFAULT_RATE, fraction=FRACTION)
    count = _choosing(images, target)
    if count >= LEAST:
        return target
    say(
        f"Note: a router is chosen on at least {LEAST} calibration pictures, here are {count}: "
        f"`{CURVATURE}` decides."
    )
    return None


def certifying_fraction(section: RouterSection, target: TargetSection, images: int) -> float:
    """What share of a run chooses the threshold: half of the calibration part where the other half has to
    choose the router, see `auto_router`.
    """
    halved = section.automatic and target.confidence is not None and _choosing(images, target) >= LEAST
    return target.fraction / 2 if halved else target.fraction


def _choosing(images: int, target: TargetSection) -> int:
    """How many images choose the router."""
    count = calibration_size(images, target.fraction)
    return count if target.confidence is None else count // 2


def auto_router(
    source: FitSource, scoring: Scoring, target: TargetSection, out: Path, seed: int
) -> RoutedRun:
    """Choose a router on the calibration part of a run, and save it in the run's folder.

    With a confidence, one half of the part chooses the router and the other the threshold, since a
    certificate holds for a score that was fixed before.

    Args:
        source: of all images, as the models answered.
        scoring: with neither router nor threshold, of the pair's classes.
        seed: of the split and the fit.
    """
    run, task = source.run, load_task(source.run.task).judge()
    calibration, reported = split(run, target.fraction, seed)
    fitted_on = calibration
    if target.confidence is not None:
        halves = split(select(run, task, calibration), 0.5, seed)
        fitted_on, certified_on = (calibration[half] for half in halves)
    source = replace(source, run=select(run, task, fitted_on))
    choice = choose_router(source, FitSettings(folds=FOLDS, seed=seed), reported=False)
    selection = _selection(choice)
    file_of(source, choice, {"selection": selection.__dict__}).save(out / ROUTER)
    section = scoring.section.model_copy(update={"file": str(out / ROUTER), "score": None, "target": None})
    scoring = Scoring.load(run.task, section).bind(source.class_names, source.popular)
    unseen, use = scoring.unseen(scoring.routed(select(run, task, reported)), task)
    assert use is not None
    use = replace(use, left_out=tuple(np.array(run.image_ids, dtype=object)[calibration].tolist()))
    chosen_on = choice.crossed
    if target.confidence is not None:
        chosen_on = scoring.routed(select(run, task, certified_on))
    return RoutedRun(scoring, target, chosen_on, unseen, use, selection)


def _selection(choice: FittedChoice) -> Selection:
    comparison, run = choice.comparison, choice.crossed
    curve = sweep(run, load_task(run.task).judge(), comparison.score)
    chosen = next(
        c for c in comparison.contenders if (c.score, c.rescaling) == (comparison.score, comparison.rescaling)
    )
    best = comparison.contenders[0]
    return Selection(
        images=len(run),
        candidates=comparison.candidates,
        score=comparison.score,
        rescaling=comparison.rescaling,
        area=chosen.area,
        behind=chosen.behind,
        error=chosen.error,
        best=best.score,
        best_rescaling=best.rescaling,
        published=comparison.areas["none"].get(ENERGY),
        random=area_of(curve.random),
        oracle=area_of(curve.oracle),
        student_quality=comparison.ends[0],
        teacher_quality=comparison.ends[1],
    )
