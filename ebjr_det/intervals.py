"""Confidence bands and intervals of trade-off curves, by resampling images with a seed."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ebjr_det.errors import ConfigError, check_seed
from ebjr_det.router import operating_points
from ebjr_det.tradeoff import score_of
from ebjr_det.types import Copies, FloatArray, Mixtures, PairedRun, Task

MOST_REPLICATES = 100_000
ROUGH_GRID = 21
"""Deferral rates at which a resample is judged where the quality is no mean over images, and so is dear."""


@dataclass(frozen=True)
class Intervals:
    """Percentile bootstrap over images, the same resamples for every score.

    Attributes:
        confidence: coverage of the intervals, for example 0.95.
        rate: [R] grid of deferral rates.
        low, high: by score, [R] band of the quality at a fixed deferral rate.
        area: by score, (low, high) of the area under the curve.
        area_difference: by score, (low, high) of its area minus the reference score's, paired.
        reference: the score that the differences are taken to.
    """

    confidence: float
    rate: FloatArray
    low: dict[str, FloatArray]
    high: dict[str, FloatArray]
    area: dict[str, tuple[float, float]]
    area_difference: dict[str, tuple[float, float]]
    reference: str


def bootstrap(
    run: PairedRun,
    task: Task,
    scores: Sequence[str],
    *,
    reference: str,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    grid: int = 101,
) -> Intervals:
    """Confidence bands of curves, areas and differences of areas, by resampling images with a seed.

    In a resample thresholds move with the images, so a band says what a quality at a *given deferral rate*
    is worth, which is what a curve shows. Where the quality is a mean over images, every operating point of
    each resample counts; elsewhere 21 points that are joined by straight lines.

    Raises:
        ConfigError: unknown score, replicates outside 2..100,000, confidence outside (0, 1), seed below 0.
    """
    check_replicates(replicates)
    if not 0 < confidence < 1:
        raise ConfigError(f"Expected replicates with a confidence in (0, 1), got {confidence}.")
    check_seed(seed)
    names = list(dict.fromkeys([*scores, reference]))
    mixtures = task.mixtures(run.student, run.teacher)
    mean = task.right(run.student) is not None
    curves = [Resampled(mixtures, score_of(run, name), None if mean else ROUGH_GRID) for name in names]
    rate = np.linspace(0.0, 1.0, grid)
    paths, areas = _resample(curves, rate, replicates, seed, side_by_side=not mean)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    bands = np.percentile(paths, tails, axis=1)
    ends = np.percentile(areas, tails, axis=1)
    differences = np.percentile(areas - areas[names.index(reference)], tails, axis=1)
    return Intervals(
        confidence,
        rate,
        {name: bands[0, row] for row, name in enumerate(names)},
        {name: bands[1, row] for row, name in enumerate(names)},
        {name: (float(ends[0, row]), float(ends[1, row])) for row, name in enumerate(names)},
        {name: (float(differences[0, r]), float(differences[1, r])) for r, name in enumerate(names)},
        reference,
    )  # fmt: skip


def check_replicates(replicates: int) -> None:
    """Raises ConfigError for a number of resamples that says nothing or takes for ever."""
    if not 2 <= replicates <= MOST_REPLICATES:
        raise ConfigError(f"Expected 2 to {MOST_REPLICATES:,} replicates, got {replicates}.")


def resamples(images: int, replicates: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Draws of as many images, with replacement: how often each image counts, [images]."""
    generator = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(generator.integers(images, size=images), minlength=images)


def _resample(
    curves: Sequence["Resampled"], rate: FloatArray, replicates: int, seed: int, *, side_by_side: bool
) -> tuple[FloatArray, FloatArray]:
    """Qualities at every rate [curves, replicates, R] and areas [curves, replicates].

    Curves that defer the same images are computed once; `side_by_side` in threads, which pays where a task's
    own code takes long and lets go of Python's lock.
    """
    twins = [next(row for row, other in enumerate(curves) if other.same_as(curve)) for curve in curves]
    distinct, images = sorted(set(twins)), len(curves[0].order)
    paths = np.empty((len(curves), replicates, len(rate)))
    areas = np.empty((len(curves), replicates))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = pool.map if side_by_side else map
        for replicate, copies in enumerate(resamples(images, replicates, seed)):
            found = each(partial(_on, curves, copies), distinct)
            for row, (where, quality) in zip(distinct, found, strict=True):
                paths[row, replicate] = np.interp(rate, where, quality)
                areas[row, replicate] = np.trapezoid(quality, where)
    return paths[twins], areas[twins]


def _on(curves: Sequence["Resampled"], copies: NDArray[np.intp], row: int) -> tuple[FloatArray, FloatArray]:
    return curves[row](copies)


class Resampled:
    """The curve of one score on resamples: at every operating point, or where that is dear on a grid.

    Args:
        values: [N] the score.
        grid: None, or the number of deferral rates to have the next operating point for.
    """

    def __init__(self, mixtures: Mixtures, values: FloatArray, grid: int | None = None) -> None:
        self.mixtures = mixtures
        self.order = np.argsort(-values, kind="stable")
        _, self.deferred = operating_points(values)
        self.rates = None if grid is None else np.linspace(0.0, 1.0, grid)

    def __call__(self, copies: Copies) -> tuple[FloatArray, FloatArray]:
        """Deferral rates and qualities when image i is there `copies[i]` times, or weighs that much."""
        where = self._rates_of(copies)
        chosen = np.arange(len(where))
        if self.rates is not None:
            chosen = np.unique(np.searchsorted(where, self.rates))
        return where[chosen], self.mixtures.path(self.order, self.deferred[chosen], copies)

    def at(self, rates: FloatArray, copies: Copies) -> FloatArray:
        """Quality at some deferral rates, linear between the operating points on both sides of each."""
        where = self._rates_of(copies)
        above = np.searchsorted(where, rates)
        chosen = np.unique([np.maximum(above - 1, 0), above])
        return np.interp(rates, where[chosen], self.mixtures.path(self.order, self.deferred[chosen], copies))

    def _rates_of(self, copies: Copies) -> FloatArray:
        """Deferral rates of all operating points when image i is there `copies[i]` times."""
        total = np.concatenate([[0], np.cumsum(copies[self.order])])[self.deferred]
        return np.asarray(total / total[-1])

    def same_as(self, other: "Resampled") -> bool:
        """Both defer the same images at every operating point."""
        return np.array_equal(self.order, other.order) and np.array_equal(self.deferred, other.deferred)
