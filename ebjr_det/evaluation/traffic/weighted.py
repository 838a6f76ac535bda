"""A pair under a mix of classes: its chosen point and its curve, on weighted images.

Convention: every number is that of weighted images (`Composition.weights`): a deferral rate is the
weighted share that is deferred, and a pair costs student + that share * teacher. Where the quality is a mean
over classes (AP), classes weigh in it what they have of the mix. Numbers only, as in `tradeoff`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.cost import CostModel
from ebjr_det.core.router import operating_points
from ebjr_det.core.tradeoff import RANDOM_ORDERS, RANDOM_POINTS, score_of
from ebjr_det.core.types import FloatArray, Mixtures, PairedRun, RouterDecision, Task
from ebjr_det.evaluation.bootstrap import Resampled
from ebjr_det.evaluation.traffic.mix import Composition, Mix

SIDES = ("student", "joint", "teacher")


@dataclass(frozen=True)
class Traffic:
    """A mix and the images that are weighted to show it.

    Attributes:
        weights: [images], with a mean of 1.
        shown: [classes] the mix that the weighted images show: `mix` itself where each shows one object.
    """

    mix: Mix
    weights: FloatArray
    shown: FloatArray

    @classmethod
    def of(cls, mix: Mix, composition: Composition) -> "Traffic":
        """Raises InvalidInput for a class of the mix that no image shows."""
        weights = composition.weights(mix)
        return cls(mix, weights, composition.shown(weights))


@dataclass(frozen=True)
class AtThreshold:
    """A pair at its chosen threshold under a mix; the overall quality of each of `SIDES`."""

    deferral_rate: float
    macs: float | None
    latency_ms: float | None
    student: float
    joint: float
    teacher: float


@dataclass(frozen=True)
class Qualities:
    """A quality under a mix; -1 of nothing at all.

    Attributes:
        overall: of the mix.
        popular, rest: of the popular and of the other classes: the share of their pictures that are right
            where the quality is a mean over images, else the mean over these classes.
        mean: over all classes alike, of the weighted images.
        unweighted: of the images as they are.
    """

    overall: float
    popular: float
    rest: float
    mean: float
    unweighted: float


@dataclass(frozen=True)
class TrafficCurve:
    """Quality of weighted images at every operating point of a pair.

    Attributes:
        deferral_rate, threshold, quality: [P], from the student alone to the teacher's answers on all.
        random, oracle: [2, .] deferral rates and qualities when a coin defers (its expectation; the mean of
            20 seeded orders where the quality is no mean over images), and by descending true reward.
    """

    deferral_rate: FloatArray
    threshold: FloatArray
    quality: FloatArray
    random: FloatArray
    oracle: FloatArray


@dataclass(frozen=True)
class Pair:
    """A pair's answers on N images, and how many of them its chosen threshold defers.

    Attributes:
        values: [N] the deferral score; pictures that the student hands on lie above all others.
        deferred: how many of the images lie above the threshold.
        mean: whether the quality is a mean over images.
    """

    mixtures: Mixtures
    values: FloatArray
    deferred: int
    cost: CostModel
    mean: bool

    @classmethod
    def of(cls, run: PairedRun, task: Task, score: str, decision: RouterDecision, cost: CostModel) -> "Pair":
        """A run with the decision of one of its scores."""
        mean = task.right(run.student) is not None
        mixtures = task.mixtures(run.student, run.teacher)
        return cls(mixtures, score_of(run, score), int(decision.defer.sum()), cost, mean)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The images by descending score."""
        return np.argsort(-self.values, kind="stable")

    @property
    def ends(self) -> NDArray[np.intp]:
        """How many images are deferred at each of `SIDES`."""
        return np.array([0, self.deferred, len(self.values)])

    def resampled(self, mix: Mix) -> Resampled:
        """The curve on weighted images, where classes weigh what they have of a mix."""
        return Resampled(self.mixtures.weighing(mix.shares), self.values)

    def at_threshold(self, traffic: Traffic) -> AtThreshold:
        """The pair at its chosen threshold."""
        own = traffic.weights[self.order]
        rate = float(own[: self.deferred].sum() / own.sum())
        mixtures = self.mixtures.weighing(traffic.mix.shares)
        quality = mixtures.path(self.order, self.ends, traffic.weights)
        return AtThreshold(rate, self.cost.macs(rate), self.cost.latency_ms(rate), *quality.tolist())

    def qualities(self, traffic: Traffic, popular: NDArray[np.bool_]) -> dict[str, Qualities]:
        """Of each of `SIDES`; `popular` are some of the classes, [classes]."""
        known = self.mixtures.by_class(self.order, self.ends, traffic.weights)
        found = np.full((len(popular), len(SIDES)), -1.0)  # records may not tell the last classes apart
        found[: len(known)] = known
        alike = np.ones(len(popular))
        worth = traffic.mix.shares if self.mean else alike
        own = self.at_threshold(traffic)
        rows = [
            [own.student, own.joint, own.teacher],
            _mean_of(found, worth * popular),
            _mean_of(found, worth * ~popular),
            _mean_of(found, alike),
            self.mixtures.path(self.order, self.ends).tolist(),
        ]
        return dict(zip(SIDES, (Qualities(*column) for column in zip(*rows, strict=True)), strict=True))

    def curve(self, traffic: Traffic) -> TrafficCurve:
        """Every operating point, with random and oracle deferral."""
        resampled, weights = self.resampled(traffic.mix), traffic.weights
        rates, quality = resampled(weights)
        mixtures = resampled.mixtures
        order = np.argsort(-mixtures.reward(), kind="stable")
        oracle = np.stack([_rates(order, weights), mixtures.path(order, copies=weights)])
        random = np.array([[0.0, 1.0], quality[[0, -1]]])
        if not self.mean:
            random = _random(mixtures, weights)
        return TrafficCurve(rates, operating_points(self.values)[0], quality, random, oracle)


def _mean_of(by_class: FloatArray, worth: FloatArray) -> list[float]:
    """[classes, P] -> [P] the mean by worth over classes that weigh anything, -1 where none does."""
    each = np.where(by_class >= 0, worth[:, None], 0.0)
    total = each.sum(axis=0)
    mean = (each * by_class).sum(axis=0) / np.where(total > 0, total, 1.0)
    return [float(value) for value in np.where(total > 0, mean, -1.0)]


def _rates(order: NDArray[np.intp], weights: FloatArray) -> FloatArray:
    """[N + 1] weighted share of the first 0..N images of an order."""
    total = np.concatenate([[0.0], np.cumsum(weights[order])])
    return np.asarray(total / total[-1])


def _random(mixtures: Mixtures, weights: FloatArray) -> FloatArray:
    """[2, 101] as `tradeoff.reference_lines`, of weighted images."""
    generator, grid = np.random.default_rng(0), np.linspace(0.0, 1.0, RANDOM_POINTS)
    counts = np.unique((grid * len(weights)).round().astype(np.intp))
    paths = []
    for _ in range(RANDOM_ORDERS):
        order = generator.permutation(len(weights))
        path = mixtures.path(order, counts, weights)
        paths.append(np.interp(grid, _rates(order, weights)[counts], path))
    return np.stack([grid, np.mean(paths, axis=0)])
