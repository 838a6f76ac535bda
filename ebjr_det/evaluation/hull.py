"""The deciding number: how far a pair is above the hull of single models at equal cost, and how sure.

The hull is what mixing single models at random reaches. The interval is a paired bootstrap over images: on
each resample the pair and all measured models are judged on the same images, so what they share cancels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

import numpy as np

from ebjr_det.core.cost import Cost
from ebjr_det.core.ranking import Ranking
from ebjr_det.core.tradeoff import OperatingPoint, TradeoffCurve, score_of
from ebjr_det.core.types import FloatArray, Matches, PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.bootstrap import CONFIDENCE, Judge, check_replicates, interval, paired_bootstrap
from ebjr_det.evaluation.single_models import SingleModel


@dataclass(frozen=True)
class Hull:
    """What mixing single models at random reaches: the upper-left convex hull of quality against cost.

    Attributes:
        cost, quality: [H] both ascending, from the cheapest model to the best one.
    """

    cost: FloatArray
    quality: FloatArray

    @classmethod
    def of(cls, models: Sequence[tuple[float, float]]) -> "Hull":
        """The hull of models, each with its cost and its quality.

        >>> Hull.of([(1, 0.2), (2, 0.3), (3, 0.6), (4, 0.5)]).cost.tolist()
        [1.0, 3.0]
        """
        corners: list[tuple[float, float]] = []
        for cost, quality in sorted(models, key=lambda model: (model[0], -model[1])):
            if corners and quality <= corners[-1][1]:
                continue  # dearer and no better
            while len(corners) > 1:  # the last corner goes where it lies on or below the line past it
                (first, low), (middle, between) = corners[-2:]
                if (between - low) * (cost - first) > (quality - low) * (middle - first):
                    break
                corners.pop()
            corners.append((cost, quality))
        return cls(*np.array(corners).T)

    def at(self, cost: float) -> float:
        """Quality at a cost not below the cheapest model's; the best model's beyond its cost."""
        return float(np.interp(cost, self.cost, self.quality))


@dataclass(frozen=True)
class Margin:
    """Quality of the pair minus that of the hull of single models, at one deferral rate.

    Attributes:
        cost: of the pair, and so of the hull, in MACs or ms per image.
        quality: of the pair.
        value: the margin on all images.
        low, high: interval of the margin; see `bootstrap`.
    """

    deferral_rate: float
    cost: float
    quality: float
    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """Low and high end of the margin's interval."""
        return self.low, self.high


def margins(
    run: PairedRun,
    task: Task,
    curve: TradeoffCurve,
    points: Sequence[OperatingPoint],
    models: Sequence[SingleModel] = (),
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[Cost, list[Margin]]:
    """Margins of operating points of a curve over the hull of student, teacher and further `models`.

    Only kinds of cost that are known of the points and of *every* single model: a hull without one of them
    would flatter the pair. In a resample thresholds move with the images, so an interval belongs to a
    deferral rate, and the cost at it stays. A point's own cost counts, which may be a measured latency.

    Raises:
        ConfigError: replicates outside 2..100,000.
    """
    check_replicates(replicates)
    costs = _costs(curve, points, models)
    if not costs:
        return {}
    rates = [point.deferral_rate for point in points]
    ranking = Ranking(task.mixtures(run.student, run.teacher), score_of(run, curve.score))
    judges: list[Judge] = [partial(ranking.at, np.array([*rates, 0.0, 1.0]))]
    judges += [_judge(run, task, model) for model in models]
    _, drawn = paired_bootstrap(judges, len(run), replicates, seed, side_by_side=not task.mean)
    qualities = [point.quality for point in points]
    single = [curve.student_quality, curve.teacher_quality, *(model.quality for model in models)]
    rows = np.vstack([[*qualities, *single], drawn])  # all images first, then every resample
    results: dict[Cost, list[Margin]] = {}
    for kind, (at, alone) in costs.items():
        hulls = [Hull.of(list(zip(alone, row, strict=True))) for row in rows[:, len(points) :].tolist()]
        above = rows[:, : len(points)] - np.array([[hull.at(cost) for cost in at] for hull in hulls])
        ends = interval(above[0], above[1:], CONFIDENCE)
        columns = zip(rates, at, qualities, above[0].tolist(), *ends.tolist(), strict=True)
        results[kind] = [Margin(*row) for row in columns]
    return results


def _costs(
    curve: TradeoffCurve, points: Sequence[OperatingPoint], models: Sequence[SingleModel]
) -> dict[Cost, tuple[list[float], list[float]]]:
    """Known costs, by kind, of the points and of all single models, student and teacher first."""
    costs = {}
    for kind in get_args(Cost):
        at = [getattr(point, kind) for point in points]
        alone = [*(curve.cost.alone(kind) or [None]), *(getattr(model, kind) for model in models)]
        if None not in at + alone:
            costs[kind] = at, alone
    return costs


def _judge(run: PairedRun, task: Task, model: SingleModel) -> Judge:
    """The judge of one model alone, [1] its quality; a published one is the same on every resample."""
    if model.published:
        return lambda copies: np.array([model.quality])
    return judge_of(task, run.others[model.name], len(run))


def judge_of(task: Task, records: Matches, images: int) -> Judge:
    """The judge of answers that nothing is deferred of, [1] their quality."""
    # Answers beside themselves as a student's: whatever is deferred, the quality is their own.
    return partial(Ranking(task.mixtures(records, records), np.zeros(images)).at, np.zeros(1))


def margins_of(
    run: PairedRun,
    task: Task,
    analysis: Analysis,
    curve: TradeoffCurve,
    models: Sequence[SingleModel],
    points: Sequence[OperatingPoint],
) -> dict[Cost, list[Margin]]:
    """`margins` with the analysis's bootstrap; the first point costs what was timed live, if it was."""
    if analysis.live is not None:
        points = [replace(points[0], latency_ms=analysis.live.mean), *points[1:]]
    return margins(run, task, curve, points, models, replicates=analysis.replicates, seed=analysis.seed)


def margin_numbers(margins: Mapping[Cost, Margin]) -> dict[str, float | list[float] | None]:
    """The JSON values of the margins at one point, at equal MACs and at equal ms, None where unknown."""
    numbers: dict[str, float | list[float] | None] = {}
    names: dict[Cost, str] = {"macs": "margin_over_hull", "latency_ms": "margin_over_hull_ms"}
    for kind, name in names.items():
        margin = margins.get(kind)
        numbers[name] = None if margin is None else margin.value
        numbers[f"{name}_interval"] = None if margin is None else list(margin.interval)
    return numbers
