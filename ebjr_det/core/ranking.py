"""A deferral score's order of a pair's images, and the quality of every mixture that a threshold on it makes.

Convention: `copies` [N] is how often each image counts, as in a resample, or how much it weighs, as under a
mix of classes; by default each counts once. A deferral rate is a share of that.
"""

from collections.abc import Sequence
from copy import copy
from typing import TypeAlias

import numpy as np

from ebjr_det.core.router import operating_points
from ebjr_det.core.types import Copies, FloatArray, Indices, Mixtures

Line: TypeAlias = tuple[FloatArray, FloatArray]
"""Deferral rates and the qualities at them."""
RANDOM_ORDERS, RANDOM_POINTS = 20, 101


class Ranking:
    """A pair's images by descending deferral score, and all mixtures that a threshold on it makes.

    Args:
        values: [N] the score.
    """

    def __init__(self, mixtures: Mixtures, values: FloatArray) -> None:
        self.mixtures = mixtures
        self.order = np.argsort(-values, kind="stable")
        self.thresholds, self.deferred = operating_points(values)

    def weighing(self, classes: FloatArray) -> "Ranking":
        """The ranking judged with classes of these weights; see `types.Mixtures.weighing`."""
        weighed = copy(self)
        weighed.mixtures = self.mixtures.weighing(classes)
        return weighed

    def line(self, copies: Copies | None = None, grid: int | None = None) -> Line:
        """Every operating point, or with a `grid` those next to so many equal steps of the deferral rate."""
        rates = self._rates(copies)
        points = np.arange(len(rates))
        if grid is not None:
            points = np.unique(np.searchsorted(rates, np.linspace(0.0, 1.0, grid)))
        return rates[points], self.mixtures.path(self.order, self.deferred[points], copies)

    def at(self, rates: FloatArray, copies: Copies | None = None) -> FloatArray:
        """Quality at some deferral rates, linear between the operating points on both sides of each."""
        reached = self._rates(copies)
        above = np.searchsorted(reached, rates)
        points = np.unique([np.maximum(above - 1, 0), above])
        return np.interp(
            rates, reached[points], self.mixtures.path(self.order, self.deferred[points], copies)
        )

    def _rates(self, copies: Copies | None) -> FloatArray:
        return share_of_first(self.order, copies)[self.deferred]


def distinct(rankings: Sequence[Ranking]) -> tuple[list[Ranking], list[int]]:
    """The rankings that differ in what they defer, and of every ranking its place among them."""
    keys = [ranking.order.tobytes() + ranking.deferred.tobytes() for ranking in rankings]
    unique = list(dict.fromkeys(keys))
    return [rankings[keys.index(key)] for key in unique], [unique.index(key) for key in keys]


def share_of_first(order: Indices, copies: Copies | None) -> FloatArray:
    """[N + 1] what part of all images, or of their weight, the first 0..N of an order are."""
    if copies is None:
        return np.arange(len(order) + 1) / len(order)
    weight = np.concatenate([[0], np.cumsum(copies[order])])
    return np.asarray(weight / weight[-1])


def random_line(mixtures: Mixtures, images: int, copies: Copies | None, mean: FloatArray | None) -> Line:
    """Random deferral in expectation: a straight line between the ends of any curve where the quality is a
    `mean` over images, else the mean of 20 seeded orders at up to 101 deferral rates.
    """
    grid = np.linspace(0.0, 1.0, RANDOM_POINTS)
    every = np.arange(images + 1)
    if mean is not None:
        rates = every / images if copies is None else grid[[0, -1]]
        return rates, np.linspace(mean[0], mean[-1], len(rates))
    generator = np.random.default_rng(0)
    steps = np.linspace(0, images, RANDOM_POINTS) if copies is None else grid * images
    deferred = np.unique(steps.round().astype(np.intp))
    paths = []
    for _ in range(RANDOM_ORDERS):
        order = generator.permutation(images)
        path = mixtures.path(order, deferred, copies)
        if copies is not None:  # a number of images is another share of the weight in every order
            path = np.interp(grid, share_of_first(order, copies)[deferred], path)
        paths.append(path)
    quality = np.mean(paths, axis=0)
    return (every / images, np.interp(every, deferred, quality)) if copies is None else (grid, quality)


def correlation(values: FloatArray, rewards: FloatArray) -> float:
    """Pearson's correlation of a score with rewards; 0 where either is the same everywhere.

    >>> round(correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])), 3)
    0.5
    """
    if not np.ptp(values) or not np.ptp(rewards):
        return 0.0
    return float(np.corrcoef(values, rewards)[0, 1])
