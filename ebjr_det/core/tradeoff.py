"""The trade-off curve: quality against cost at every operating point of a pair, exactly.

`sweep` turns a PairedRun into a TradeoffCurve without running a model again. The decision comes from
`router`, the same one that live inference uses, so the curve and the live pair cannot differ.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.cost import CostModel, Unit, cost_text
from ebjr_det.core.errors import ConfigError, Infeasible, did_you_mean
from ebjr_det.core.router import abstaining_last, index_for_rate, operating_points
from ebjr_det.core.types import FloatArray, Matches, Mixtures, PairedRun, RouterDecision, Task, concatenate

Cost = Literal["macs", "latency_ms"]
Budget = Literal["deferral_rate", "macs", "latency_ms"]
RANDOM_ORDERS, RANDOM_POINTS = 20, 101


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
        finite = self.threshold if np.isfinite(self.threshold) else None
        return {**self.__dict__, "threshold": finite}


@dataclass(frozen=True)
class TradeoffCurve:
    """Every operating point of one deferral score on one set of images.

    Attributes:
        score: the score's name.
        deferral_rate: [P] ascending from 0 to 1; P = N + 1 when no two images tie.
        threshold: [P] descending from +inf to -inf; point i defers score > threshold[i].
        quality: [P]; the first is the student alone, the last the teacher's answers on all images.
        random, oracle: [N + 1] quality when 0..N images are deferred by a coin (its expectation) and by
            descending true reward (for accuracy the best that any router can do).
        cost: what the models cost.
    """

    score: str
    deferral_rate: FloatArray
    threshold: FloatArray
    quality: FloatArray
    random: FloatArray
    oracle: FloatArray
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
        deferred = np.rint(self.deferral_rate * self.images).astype(np.intp)
        return self.point(index_for_rate(deferred, rate))

    def of_decision(self, decision: RouterDecision) -> OperatingPoint:
        """The point of a decision on this curve's scores; it carries the decision's own threshold."""
        index = int(np.searchsorted(self.deferral_rate, decision.deferral_rate - 0.5 / self.images))
        return replace(self.point(index), threshold=decision.threshold)

    def gap_recovered(self, quality: float) -> float | None:
        """G = (quality - student) / (teacher - student); None where the teacher is not better."""
        gap = self.teacher_quality - self.student_quality
        return (quality - self.student_quality) / gap if gap > 0 else None

    def gap_recovered_at(self, rate: float) -> float | None:
        """G at a deferral rate, linear between the two neighbouring operating points."""
        return self.gap_recovered(float(np.interp(rate, self.deferral_rate, self.quality)))

    def rate_for_gap(self, fraction: float) -> float | None:
        """Smallest deferral rate at which G reaches `fraction`; None where the gap is undefined."""
        if self.gap_recovered(0.0) is None:
            return None
        gap = self.teacher_quality - self.student_quality
        reached = self.quality >= self.student_quality + fraction * gap - 1e-12
        return float(self.deferral_rate[np.argmax(reached)]) if reached.any() else None

    def area(self) -> float:
        """Area under quality against deferral rate: the mean quality over all deferral rates.

        Points are joined by straight lines, so images that tie count as deferred in random order.
        """
        return float(np.trapezoid(self.quality, self.deferral_rate))

    def best_under(self, kind: Budget, budget: float) -> OperatingPoint:
        """Highest quality at a cost of at most `budget`; among equals the cheapest.

        Args:
            kind: what is limited: the deferral rate, MACs per image or ms per image.

        Raises:
            ConfigError: an unknown kind, or one whose cost is not known.
            Infeasible: even the student alone costs more; carries the cheapest point.
        """
        allowed = self.costs(kind) <= budget * (1 + 1e-12)
        if not allowed.any():
            unit = Unit.of(self.cost.teacher_macs)
            asked, least = (cost_text(kind, cost, unit) for cost in (budget, float(self.costs(kind)[0])))
            limit, each = ("defers", "of the images") if kind == "deferral_rate" else ("costs", "an image")
            raise Infeasible(
                f"Expected a point that {limit} at most {asked} {each}, got {least} for the student alone, "
                "the cheapest there is.",
                dict(self.point(0).to_dict()),
            )
        return self.point(int(np.argmax(np.where(allowed, self.quality, -np.inf))))

    def cheapest_above(self, floor: float) -> OperatingPoint:
        """Smallest deferral rate, so the least cost, with a quality of at least `floor`.

        Raises:
            Infeasible: no point reaches it; carries the best point.
        """
        reached = self.quality >= floor - 1e-12
        if not reached.any():
            nearest = self.point(int(np.argmax(self.quality)))
            raise Infeasible(
                f"Expected a quality of at least {floor:.6g}, got {nearest.quality:.6g} at best, "
                f"at a deferral rate of {100 * nearest.deferral_rate:.2f} %.",
                dict(nearest.to_dict()),
            )
        return self.point(int(np.argmax(reached)))

    def costs(self, kind: Budget) -> FloatArray:
        """[P] cost of every point in one currency. Raises ConfigError where it is unknown."""
        known: dict[str, Any] = {
            "deferral_rate": self.deferral_rate,
            "macs": self.cost.macs(self.deferral_rate),
            "latency_ms": self.cost.latency_ms(self.deferral_rate),
        }
        if kind not in known:
            raise ConfigError(f"Expected a known cost, got `{kind}`. {did_you_mean(kind, known)}")
        if known[kind] is None:
            raise ConfigError(
                f"Expected known `{kind}` of student and teacher, got none in this run. Give or measure them."
            )
        return np.asarray(known[kind])


def sweep(run: PairedRun, task: Task, score: str, cost: CostModel | None = None) -> TradeoffCurve:
    """The exact curve of one deferral score over all its operating points.

    Raises:
        ConfigError: the run holds no score of that name.
    """
    return sweep_all(run, task, [score], cost)[score]


def sweep_all(
    run: PairedRun, task: Task, scores: Sequence[str], cost: CostModel | None = None, *, threads: int = 1
) -> dict[str, TradeoffCurve]:
    """The curves of several scores by name; what they share is computed once."""
    mixtures = task.mixtures(run.student, run.teacher)
    lines = reference_lines(mixtures, len(run), task.right(run.student) is not None)
    values = {score: score_of(run, score) for score in scores}
    points = {score: operating_points(own) for score, own in values.items()}
    orders = {score: np.argsort(-own, kind="stable") for score, own in values.items()}
    twins = {score: orders[score].tobytes() + points[score][1].tobytes() for score in scores}
    distinct = {twin: score for score, twin in twins.items()}
    with ThreadPoolExecutor(threads) as pool:  # pays where a task's own code lets go of Python's lock
        paths = pool.map(lambda s: mixtures.path(orders[s], points[s][1]), distinct.values())
        quality = dict(zip(distinct, paths, strict=True))
    return {
        score: TradeoffCurve(
            score, deferred / len(run), thresholds, quality[twins[score]], *lines, cost or CostModel()
        )
        for score, (thresholds, deferred) in points.items()
    }


def reference_lines(mixtures: Mixtures, images: int, mean: bool) -> tuple[FloatArray, FloatArray]:
    """Quality of random and of oracle deferral when 0..N images are deferred, each [N+1].

    Random is the expectation: a straight line where the quality is a `mean` over images, else the mean of
    20 seeded orders at up to 101 deferral rates. The oracle defers by descending true reward.
    """
    oracle = mixtures.path(np.argsort(-mixtures.reward(), kind="stable"))
    if mean:
        return np.linspace(oracle[0], oracle[-1], images + 1), oracle
    generator = np.random.default_rng(0)
    deferred = np.unique(np.linspace(0, images, RANDOM_POINTS).round().astype(np.intp))
    paths = [mixtures.path(generator.permutation(images), deferred) for _ in range(RANDOM_ORDERS)]
    return np.interp(np.arange(images + 1), deferred, np.mean(paths, axis=0)), oracle


def select(run: PairedRun, task: Task, images: NDArray[np.intp]) -> PairedRun:
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


def mixture(run: PairedRun, task: Task, defer: NDArray[np.bool_]) -> Matches:
    """Match records of the pair: the teacher's where deferred, the student's elsewhere."""
    both = concatenate([run.student, run.teacher])
    return task.take(both, np.arange(len(run)) + np.where(defer, len(run), 0))


def score_of(run: PairedRun, name: str) -> FloatArray:
    """A score as it decides, with what the student hands on above all else. ConfigError: no such score."""
    if name not in run.scores:
        raise ConfigError(f"Expected a score of this run, got `{name}`. {did_you_mean(name, run.scores)}")
    return abstaining_last(run.scores[name], run.abstains)
