"""Confidence bands and intervals of trade-off curves, by resampling images with a seed.

Each is a *basic* bootstrap interval (Davison and Hinkley 1997, Bootstrap Methods and their
Application, 5.2): the estimate minus the quantiles of (resample - estimate). AP of a resample is biased,
because a picture that comes twice has its matches twice; percentiles of resamples count that bias twice, the
basic interval takes it off. `eval/intervals` has how often each kind holds what it promises.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, check_seed
from ebjr_det.core.router import operating_points
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import Copies, FloatArray, Mixtures, PairedRun, Task
from ebjr_det.io.threads import thread_count

MOST_REPLICATES = 100_000
ROUGH_GRID = 21
"""Deferral rates at which a resample is judged where the quality is no mean over images, and so is dear."""
METHOD = "basic bootstrap over images"
Judge: TypeAlias = Callable[[NDArray[np.intp]], FloatArray]
"""A function: how often each image counts, [images] -> numbers, the qualities of which are below 0 where the
images show nothing to be judged by.
"""


@dataclass(frozen=True)
class Intervals:
    """Basic bootstrap over images, the same resamples for every score.

    Attributes:
        confidence: coverage of the intervals, for example 0.95.
        rate: [R] grid of deferral rates.
        low, high: by score, [R] band of the quality at a fixed deferral rate.
        area: by score, (low, high) of the area under the curve.
        area_difference: by score, (low, high) of its area minus the reference score's, paired.
        area_difference_picked: the same, all scores at once: it holds for whichever score is picked after
            looking at all of them, as the best one is.
        reference: the score that the differences are taken to.
    """

    confidence: float
    rate: FloatArray
    low: dict[str, FloatArray]
    high: dict[str, FloatArray]
    area: dict[str, tuple[float, float]]
    area_difference: dict[str, tuple[float, float]]
    area_difference_picked: dict[str, tuple[float, float]]
    reference: str


def interval(estimate: FloatArray, replicates: FloatArray, confidence: float) -> FloatArray:
    """The one definition of an interval: [2, ...] its low and its high end.

    Args:
        estimate: [...] numbers on all images; `replicates`: [resamples, ...] the same on each resample.

    >>> interval(np.array(1.0), np.array([1.0, 1.5, 2.0]), 0.5).tolist()
    [0.25, 0.75]
    """
    tails = [(1 + confidence) / 2, (1 - confidence) / 2]
    return np.asarray(2 * estimate - np.quantile(replicates, tails, axis=0))


def simultaneous_interval(estimate: FloatArray, replicates: FloatArray, confidence: float) -> FloatArray:
    """[2, numbers] intervals that hold all at once, and so the one of a number that was picked among them.

    The quantiles are those of the largest and the smallest of all numbers' errors on a resample, in units of
    each number's own spread: the studentised maximum (Romano and Wolf 2005, Econometrica 73, 1237-1282).
    For one number this is `interval`.

    Args:
        estimate: [numbers]; `replicates`: [resamples, numbers].
    """
    spread = replicates.std(axis=0)
    moves = spread > 1e-12
    if not moves.any():
        return np.stack([estimate, estimate])
    errors = (replicates - estimate)[:, moves] / spread[moves]
    most = np.quantile(errors.max(axis=1), (1 + confidence) / 2)
    least = np.quantile(errors.min(axis=1), (1 - confidence) / 2)
    return np.stack([estimate - most * spread, estimate - least * spread])


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
    each resample counts; elsewhere 21 points that are joined by straight lines. No quality is outside [0, 1].

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
    estimate, drawn = _curves_on_resamples(curves, rate, replicates, seed, mean)
    ends = np.clip(interval(estimate, drawn, confidence), 0.0, 1.0)
    base = names.index(reference)
    gain, gains = (areas - areas[..., base, None] for areas in (estimate[:, -1], drawn[:, :, -1]))
    return Intervals(
        confidence,
        rate,
        dict(zip(names, ends[0, :, :-1], strict=True)),
        dict(zip(names, ends[1, :, :-1], strict=True)),
        _by_name(names, ends[:, :, -1]),
        _by_name(names, interval(gain, gains, confidence)),
        _by_name(names, simultaneous_interval(gain, gains, confidence)),
        reference,
    )


def _by_name(names: Sequence[str], ends: FloatArray) -> dict[str, tuple[float, float]]:
    return {name: (low, high) for name, low, high in zip(names, *ends.tolist(), strict=True)}


def check_replicates(replicates: int) -> None:
    """Raises ConfigError for a number of resamples that says nothing or takes for ever."""
    if not 2 <= replicates <= MOST_REPLICATES:
        raise ConfigError(f"Expected 2 to {MOST_REPLICATES:,} replicates, got {replicates}.")


def resamples(images: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Endless draws of as many images, with replacement: how often each image counts, [images]."""
    generator = np.random.default_rng(seed)
    for _ in count():
        yield np.bincount(generator.integers(images, size=images), minlength=images)


def judged(
    judges: Sequence[Judge],
    images: int,
    draws: Iterator[NDArray[np.intp]],
    replicates: int,
    *,
    side_by_side: bool,
) -> tuple[FloatArray, FloatArray]:
    """What judges say of all images, [numbers], and of each of the same resamples, [replicates, numbers].

    A resample that shows nothing to be judged by, so that a quality is undefined, gives way to the next one.

    Args:
        side_by_side: judges work in threads, which pays where a task's own code takes long and lets go of
            Python's lock.
    """

    def on(copies: NDArray[np.intp]) -> FloatArray:
        return np.concatenate(list(each(lambda judge: judge(copies), judges)))

    with ThreadPoolExecutor(thread_count()) as pool:
        each = pool.map if side_by_side else map
        estimate = on(np.ones(images, dtype=np.intp))
        rows = map(on, draws)
        defined = rows if estimate.min() < 0 else (row for row in rows if row.min() >= 0)
        return estimate, np.stack(list(islice(defined, replicates)))


def _curves_on_resamples(
    curves: Sequence["Resampled"], rate: FloatArray, replicates: int, seed: int, mean: bool
) -> tuple[FloatArray, FloatArray]:
    """Qualities at every rate and, last, the area: on all images [curves, R + 1], and on each resample.

    Curves that defer the same images are computed once.
    """
    twins = [next(row for row, other in enumerate(curves) if other.same_as(curve)) for curve in curves]
    distinct, place = np.unique(twins, return_inverse=True)

    def judge(curve: "Resampled") -> Judge:
        def judged_curve(copies: NDArray[np.intp]) -> FloatArray:
            where, quality = curve(copies)
            return np.append(np.interp(rate, where, quality), np.trapezoid(quality, where))

        return judged_curve

    judges, images = [judge(curves[row]) for row in distinct], len(curves[0].order)
    estimate, drawn = judged(judges, images, resamples(images, seed), replicates, side_by_side=not mean)
    shape = len(distinct), len(rate) + 1
    return estimate.reshape(shape)[place], drawn.reshape(replicates, *shape)[:, place]


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
