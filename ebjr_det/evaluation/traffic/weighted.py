"""A pair at its chosen threshold on weighted images.

Convention: every number is that of weighted images (`Composition.weights`): a deferral rate is the
weighted share that is deferred, and a pair costs student + that share * teacher. Where the quality is a mean
over classes (AP), classes weigh in it what they have of the mix.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.cost import CostModel
from ebjr_det.core.ranking import Ranking
from ebjr_det.core.router import decide
from ebjr_det.core.tradeoff import Weights, score_of
from ebjr_det.core.types import FloatArray, PairedRun, Task

SIDES = ("student", "joint", "teacher")


@dataclass(frozen=True)
class AtThreshold:
    """A pair at its chosen threshold under a mix; the overall quality of each of `SIDES`."""

    deferral_rate: float
    macs: float | None
    latency_ms: float | None
    student: float
    joint: float
    teacher: float


class Qualities(NamedTuple):
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
class RoutedPair:
    """A pair's answers on N images, and how many of them its chosen threshold defers.

    Attributes:
        ranking: by its deferral score; pictures that the student hands on come before all others.
        mean: whether the quality is a mean over images.
    """

    ranking: Ranking
    deferred: int
    cost: CostModel
    mean: bool

    @classmethod
    def of(cls, run: PairedRun, task: Task, score: str, threshold: float, cost: CostModel) -> "RoutedPair":
        """A run with the decision of a threshold on one of its scores."""
        values = score_of(run, score)
        ranking = Ranking(task.mixtures(run.student, run.teacher), values)
        return cls(ranking, int(decide(values, threshold).defer.sum()), cost, task.mean)

    @property
    def ends(self) -> NDArray[np.intp]:
        """How many images are deferred at each of `SIDES`."""
        return np.array([0, self.deferred, len(self.ranking.order)])

    def at_threshold(self, weights: Weights) -> AtThreshold:
        """The pair at its chosen threshold."""
        images = weights.images[self.ranking.order]
        rate = float(images[: self.deferred].sum() / images.sum())
        ranking = self.ranking.weighing(weights.classes)
        quality = ranking.mixtures.path(ranking.order, self.ends, weights.images)
        return AtThreshold(rate, self.cost.macs(rate), self.cost.latency_ms(rate), *quality.tolist())

    def qualities(self, weights: Weights, popular: NDArray[np.bool_]) -> dict[str, Qualities]:
        """Quality of each of `SIDES`; `popular` are some of the classes, [classes]."""
        order, mixtures = self.ranking.order, self.ranking.mixtures
        judged = mixtures.by_class(order, self.ends, weights.images)
        by_class = np.full((len(popular), len(SIDES)), -1.0)  # records may not tell the last classes apart
        by_class[: len(judged)] = judged
        ones = np.ones(len(popular))
        worth = weights.classes if self.mean else ones
        at = self.at_threshold(weights)
        rows = [
            [at.student, at.joint, at.teacher],
            *(_mean_of(by_class, classes) for classes in (worth * popular, worth * ~popular, ones)),
            mixtures.path(order, self.ends).tolist(),
        ]
        return dict(zip(SIDES, (Qualities(*column) for column in zip(*rows, strict=True)), strict=True))


def _mean_of(by_class: FloatArray, worth: FloatArray) -> list[float]:
    """[classes, P] -> [P] the mean by worth over classes that weigh anything, -1 where none does."""
    weight = np.where(by_class >= 0, worth[:, None], 0.0)
    total = weight.sum(axis=0)
    mean = (weight * by_class).sum(axis=0) / np.where(total > 0, total, 1.0)
    return [float(value) for value in np.where(total > 0, mean, -1.0)]


@dataclass(frozen=True)
class HandedOn:
    """How well a student knows pictures that are not its own, by weight; None of nothing at all.

    Attributes:
        recall: of the pictures that show a class that is not popular, the share handed on.
        precision: of the pictures handed on, the share that shows one.
        f1: the harmonic mean of both.
        popular_handed_on: of all other pictures, the share that is wrongly handed on.
    """

    recall: float | None
    precision: float | None
    f1: float | None
    popular_handed_on: float | None

    @classmethod
    def of(cls, abstains: NDArray[np.bool_], shows_rest: NDArray[np.bool_], images: FloatArray) -> "HandedOn":
        """From the pictures handed on, those that show other classes, and the weights, each [images].

        >>> HandedOn.of(np.array([True, True]), np.array([True, False]), np.array([3.0, 1.0])).precision
        0.75
        """

        def share(part: NDArray[np.bool_], group: NDArray[np.bool_]) -> float | None:
            total = float(images[group].sum())
            return float(images[part & group].sum()) / total if total else None

        recall, precision = share(abstains, shows_rest), share(shows_rest, abstains)
        total = (recall or 0.0) + (precision or 0.0)
        f1 = 2 * (recall or 0.0) * (precision or 0.0) / total if total else None
        return cls(recall, precision, f1, share(abstains, ~shows_rest))
