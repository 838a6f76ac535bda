"""The trade-off curve: quality against cost at every operating point of a pair, exactly.

`sweep` turns a PairedRun into a TradeoffCurve without running a model again. The decision comes from
`router`, the same one that live inference uses, so the curve and the live pair cannot differ. With `Weights`
the images stand for a mix of classes; every rate is then a share of their weight.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from ebjr_det.core.cost import Budget, CostModel
from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.core.ranking import Line, Ranking, distinct, random_line, share_of_first
from ebjr_det.core.router import RouterDecision, abstaining_last, finite, index_for_rate
from ebjr_det.core.types import Flags, FloatArray, Indices, Matches, PairedRun, Task, concatenate


@dataclass(frozen=True)
class Weights:
    """How much images and classes count.

    Attributes:
        images: [N], with a mean of 1.
        classes: [C] of each in a mean over classes; where the quality is a mean over images they say nothing.
    """

    images: FloatArray
    classes: FloatArray


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold and what the pair does there. Unknown costs and an undefined gap are None."""

    deferral_rate: float
    threshold: float
    quality: float
    macs: float | None
    latency_ms: float | None
    gap_recovered: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Plain values; JSON has no infinity, so the two end thresholds are None."""
        return {**self.__dict__, "threshold": finite(self.threshold)}


@dataclass(frozen=True)
class TradeoffCurve:
    """Every operating point of one deferral score on one set of images.

    Attributes:
        score: the score's name.
        deferred: [P] how many images are deferred, ascending from 0 to N; P = N + 1 when no two images tie.
        deferral_rate: [P] their share of all images, or of the weight of all.
        threshold: [P] descending from +inf to -inf; point i defers score > threshold[i].
        quality: [P]; the first is the student alone, the last the teacher's answers on all images.
        random, oracle: quality when a coin defers (its expectation) and by descending true reward (for
            accuracy the best that any router can do), at `random_rate` and `oracle_rate`: [N + 1] when 0..N
            images are deferred; of weighted images random has its two ends, or 101 rates where it bends.
        cost: what the models cost.
    """

    score: str
    deferred: Indices
    deferral_rate: FloatArray
    threshold: FloatArray
    quality: FloatArray
    random: FloatArray
    oracle: FloatArray
    random_rate: FloatArray
    oracle_rate: FloatArray
    cost: CostModel

    @property
    def images(self) -> int:
        """N, the number of images behind the curve."""
        return len(self.oracle) - 1

    @property
    def student_quality(self) -> float:
        """Quality of the student alone."""
        return float(self.quality[0])

    @property
    def teacher_quality(self) -> float:
        """Quality of the teacher alone."""
        return float(self.quality[-1])

    def point(self, index: int) -> OperatingPoint:
        """The operating point at an index of the arrays."""
        rate, quality = float(self.deferral_rate[index]), float(self.quality[index])
        costs = self.cost.macs(rate), self.cost.latency_ms(rate)
        return OperatingPoint(
            rate, float(self.threshold[index]), quality, *costs, self.gap_recovered(quality)
        )

    def points(self) -> list[OperatingPoint]:
        """All operating points, from the student alone upwards."""
        return [self.point(index) for index in range(len(self.quality))]

    def at_rate(self, rate: float) -> OperatingPoint:
        """The point with the largest deferral rate not above `rate`."""
        return self.point(index_for_rate(self.deferral_rate, rate))

    def of_decision(self, decision: RouterDecision) -> OperatingPoint:
        """The point of a decision on this curve's scores; it carries the decision's own threshold."""
        index = int(np.searchsorted(self.deferred, decision.defer.sum()))
        return replace(self.point(index), threshold=decision.threshold)

    def gap_recovered(self, quality: float) -> float | None:
        """G = (quality - student) / (teacher - student); None where the teacher is not better."""
        gap = self.teacher_quality - self.student_quality
        return (quality - self.student_quality) / gap if gap > 0 else None

    def area(self) -> float:
        """Area under quality against deferral rate: the mean quality over all deferral rates.

        Points are joined by straight lines, so images that tie count as deferred in random order.
        """
        return _area(self.deferral_rate, self.quality)

    def costs(self, kind: Budget) -> FloatArray:
        """[P] cost of every point in one currency. Raises ConfigError where it is unknown."""
        check_known(kind, get_args(Budget), "a known cost")
        rates = self.deferral_rate
        if kind == "deferral_rate":
            return rates
        costs = self.cost.macs(rates) if kind == "macs" else self.cost.latency_ms(rates)
        if costs is None:
            raise ConfigError(
                f"Expected known `{kind}` of student and teacher, got none in this run. Give or measure them."
            )
        return costs


def sweep(
    run: PairedRun, task: Task, score: str, cost: CostModel | None = None, *, weights: Weights | None = None
) -> TradeoffCurve:
    """The exact curve of one deferral score over all its operating points.

    Raises:
        ConfigError: the run holds no score of that name.
    """
    return sweep_all(run, task, [score], cost, weights=weights)[score]


def sweep_all(
    run: PairedRun,
    task: Task,
    scores: Sequence[str],
    cost: CostModel | None = None,
    *,
    weights: Weights | None = None,
    threads: int = 1,
) -> dict[str, TradeoffCurve]:
    """The curves of several scores by name; what they share is computed once."""
    mixtures, copies = task.mixtures(run.student, run.teacher), None
    if weights is not None:
        mixtures, copies = mixtures.weighing(weights.classes), weights.images
    rankings = [Ranking(mixtures, score_of(run, score)) for score in scores]
    lines = _lines(rankings, copies, threads)
    best = np.argsort(-mixtures.reward(), kind="stable")
    oracle_rate, oracle = share_of_first(best, copies), mixtures.path(best, copies=copies)
    random_rate, random = random_line(mixtures, len(run), copies, lines[0][1] if task.mean else None)
    return {
        score: TradeoffCurve(
            score, ranking.deferred, rates, ranking.thresholds, quality,
            random, oracle, random_rate, oracle_rate, cost or CostModel(),
        )
        for score, ranking, (rates, quality) in zip(scores, rankings, lines, strict=True)
    }  # fmt: skip


def areas(run: PairedRun, task: Task, scores: Sequence[str], threads: int = 1) -> dict[str, float]:
    """`TradeoffCurve.area` of several scores by name, without what else belongs to a curve."""
    mixtures = task.mixtures(run.student, run.teacher)
    lines = _lines([Ranking(mixtures, score_of(run, score)) for score in scores], None, threads)
    return {score: _area(*line) for score, line in zip(scores, lines, strict=True)}


def _lines(rankings: Sequence[Ranking], copies: FloatArray | None, threads: int) -> list[Line]:
    """The line of every ranking; equal ones are computed once."""
    unique, rows = distinct(rankings)
    with ThreadPoolExecutor(threads) as pool:  # pays where a task's own code lets go of Python's lock
        lines = list(pool.map(lambda ranking: ranking.line(copies), unique))
    return [lines[row] for row in rows]


def _area(rates: FloatArray, quality: FloatArray) -> float:
    return float(np.trapezoid(quality, rates))


def select(run: PairedRun, task: Task, images: Indices) -> PairedRun:
    """The run on some of its images, by index."""
    return replace(
        run,
        image_ids=tuple(run.image_ids[i] for i in images),
        scores={name: values[images] for name, values in run.scores.items()},
        student=task.take(run.student, images),
        teacher=task.take(run.teacher, images),
        others={name: task.take(records, images) for name, records in run.others.items()},
        features=None if run.features is None else run.features[images],
        abstains=None if run.abstains is None else run.abstains[images],
    )


def mixture(run: PairedRun, task: Task, defer: Flags) -> Matches:
    """Match records of the pair: the teacher's where deferred, the student's elsewhere."""
    records = concatenate([run.student, run.teacher])
    return task.take(records, np.arange(len(run)) + np.where(defer, len(run), 0))


def score_of(run: PairedRun, name: str) -> FloatArray:
    """A score as it decides, with what the student hands on above all else. ConfigError: no such score."""
    check_known(name, run.scores, "a score of this run")
    return abstaining_last(run.scores[name], run.abstains)
