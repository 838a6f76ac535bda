"""The deciding number: how far a pair is above the hull of single models at equal cost, and how sure.

The hull is what mixing single models at random reaches. The interval is a paired bootstrap over images: on
each resample the pair and all measured models are judged on the same images, so what they share cancels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.tradeoff import Cost, OperatingPoint, TradeoffCurve, score_of
from ebjr_det.core.types import FloatArray, Matches, Mixtures, PairedRun, Task
from ebjr_det.evaluation.bootstrap import Judge, Resampled, check_replicates, interval, judged, resamples

CONFIDENCE = 0.95


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
        kept: list[tuple[float, float]] = []
        for cost, quality in sorted(models, key=lambda model: (model[0], -model[1])):
            if kept and quality <= kept[-1][1]:
                continue
            while len(kept) > 1:
                (first, low), (middle, between) = kept[-2:]
                if (between - low) * (cost - first) > (quality - low) * (middle - first):
                    break
                kept.pop()
            kept.append((cost, quality))
        return cls(*np.array(kept).T)

    def at(self, cost: float) -> float:
        """Quality at a cost not below the cheapest model's; the best model's beyond its cost."""
        return float(np.interp(cost, self.cost, self.quality))


def margin_over_hull(
    curve: TradeoffCurve,
    point: OperatingPoint,
    others: Sequence[tuple[float, float]] = (),
    kind: Cost = "macs",
) -> float | None:
    """Quality of a point minus the hull of single models at equal cost; None where that is unknown.

    Args:
        others: cost and quality of further models beside student and teacher.
        kind: MACs or ms per image.
    """
    alone, cost = curve.cost.alone(kind), getattr(point, kind)
    if alone is None or cost is None:
        return None
    pair = zip(alone, (curve.student_quality, curve.teacher_quality), strict=True)
    return point.quality - Hull.of([*pair, *others]).at(cost)


@dataclass(frozen=True)
class SingleModel:
    """A model beside student and teacher that a pair is compared with.

    Attributes:
        quality: on the run's images, or as it was published.
        macs, latency_ms: cost of an image, None if unknown.
        source: where a published figure comes from.
        records: match records on the run's images; None where the quality is published, and so is the same
            number on every resample.
    """

    name: str
    quality: float
    macs: float | None = None
    latency_ms: float | None = None
    source: str = ""
    records: Matches | None = field(default=None, repr=False)

    @property
    def published(self) -> bool:
        """Whether its quality is a figure from elsewhere, and not measured on the run's images."""
        return self.records is None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the records."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "records"}
        return own | {"published": self.published}


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
        """Both ends."""
        return self.low, self.high


def margins(
    run: PairedRun,
    task: Task,
    curve: TradeoffCurve,
    points: Sequence[OperatingPoint],
    others: Sequence[SingleModel] = (),
    *,
    replicates: int = 1000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[Cost, list[Margin]]:
    """Margins of operating points of a curve over the hull of student, teacher and others, by kind of cost.

    A kind is there where its cost is known of the points and of *every* single model: a hull without one of
    them would flatter the pair. In a resample thresholds move with the images, so an interval belongs to a
    deferral rate, and the cost at it stays; the resamples are those of `bootstrap.bootstrap`.

    Args:
        curve: of one of the run's scores.
        points: of this curve, at least one. A point's own cost counts, so that a measured latency may take
            the place of the expected one.

    Raises:
        ConfigError: replicates outside 2..100,000.
    """
    check_replicates(replicates)
    kinds = [kind for kind in get_args(Cost) if _known(kind, curve, points, others)]
    if not kinds:
        return {}
    rates = np.array([point.deferral_rate for point in points])
    pair, singles = _qualities(run, task, curve.score, rates, others, replicates, seed)
    found: dict[Cost, list[Margin]] = {}
    for kind in kinds:
        own = [(getattr(other, kind), other.quality) for other in others]
        costs = [*(curve.cost.alone(kind) or ()), *(cost for cost, _ in own)]
        at = [getattr(point, kind) for point in points]
        values = [margin_over_hull(curve, point, own, kind) for point in points]
        ends = interval(np.array(values), pair - _hulls(costs, singles, at), confidence)
        rows = zip(rates.tolist(), at, [p.quality for p in points], values, *ends.tolist(), strict=True)
        found[kind] = [Margin(*row) for row in rows]
    return found


def _hulls(costs: Sequence[float], qualities: FloatArray, at: Sequence[float]) -> FloatArray:
    """Quality of the hull of models [resamples, models] at each of some costs, [resamples, costs]."""
    hulls = (Hull.of(list(zip(costs, row, strict=True))) for row in qualities.tolist())
    return np.array([[hull.at(cost) for cost in at] for hull in hulls])


def _known(
    kind: Cost, curve: TradeoffCurve, points: Sequence[OperatingPoint], others: Sequence[SingleModel]
) -> bool:
    costs = [getattr(one, kind) for one in (*points, *others)]
    return curve.cost.alone(kind) is not None and None not in costs


def _qualities(
    run: PairedRun,
    task: Task,
    score: str,
    rates: FloatArray,
    others: Iterable[SingleModel],
    replicates: int,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """On each resample the quality of the pair [replicates, rates] and of all single models, student and
    teacher first, [replicates, 2 + others].
    """
    pair = Resampled(task.mixtures(run.student, run.teacher), score_of(run, score))
    judges: list[Judge] = [partial(pair.at, np.array([*rates, 0.0, 1.0]))]
    judges += [_judge(task, other) for other in others]
    dear = task.right(run.student) is None
    _, rows = judged(judges, len(run), resamples(len(run), seed), replicates, side_by_side=dear)
    return rows[:, : len(rates)], rows[:, len(rates) :]


def _judge(task: Task, model: SingleModel) -> Judge:
    """The judge of one model alone: [1] its quality."""
    if model.records is None:
        return partial(_published, model.quality)
    return partial(_alone, task.mixtures(model.records, model.records))


def _alone(itself: Mixtures, copies: NDArray[np.intp]) -> FloatArray:
    """[1] quality of one model, whose mixture with itself none of the images is deferred in."""
    return itself.path(np.arange(len(copies)), np.zeros(1, dtype=np.intp), copies)


def _published(quality: float, copies: NDArray[np.intp]) -> FloatArray:
    """[1] the same on every resample."""
    return np.array([quality])
