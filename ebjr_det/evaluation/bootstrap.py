"""Confidence bands and intervals by resampling images with a seed: one paired bootstrap for all of them.

Each is a *basic* bootstrap interval (Davison and Hinkley 1997, Bootstrap Methods and their
Application, 5.2): the estimate minus the quantiles of (resample - estimate). AP of a resample is biased,
because a picture that comes twice has its matches twice; percentiles of resamples count that bias twice, the
basic interval takes it off. `eval/intervals` has how often each kind holds what it promises.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, check_seed
from ebjr_det.core.ranking import Ranking, distinct
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import FloatArray, PairedRun, Task
from ebjr_det.io.threads import thread_count

MOST_REPLICATES = 100_000
CONFIDENCE = 0.95
RATES = np.linspace(0.0, 1.0, 101)
"""Deferral rates of a band."""
ROUGH_GRID = 21
"""Deferral rates at which a resample is judged where the quality is no mean over images, and so is dear."""
AT_ONCE = 64
"""Resamples that are drawn before they are judged, so that no thread waits for another at each of them."""
METHOD = "basic bootstrap over images"
Judge: TypeAlias = Callable[[NDArray[np.intp]], FloatArray]
"""A function: how often each image counts, [images] -> numbers, the qualities of which are below 0 where the
images show nothing to be judged by.
"""


def paired_bootstrap(
    judges: Sequence[Judge],
    images: int,
    replicates: int,
    seed: int,
    *,
    groups: NDArray[np.intp] | None = None,
    side_by_side: bool = False,
) -> tuple[FloatArray, FloatArray]:
    """Numbers of judges on all images, [numbers], and on each of the same resamples, [replicates, numbers].

    What the judges share cancels in their differences. A resample that shows nothing to be judged by, so that
    a quality is undefined, gives way to the next one.

    Args:
        groups: [images] index of each image's group, within which images are drawn; by default one group.
        side_by_side: resamples are judged in threads, which pays where a task's own code takes long and lets
            go of Python's lock.

    Raises:
        ConfigError: replicates outside 2..100,000, a seed below 0.
    """
    check_replicates(replicates)
    check_seed(seed)

    def numbers(copies: NDArray[np.intp]) -> FloatArray:
        return np.concatenate([judge(copies) for judge in judges])

    estimate = numbers(np.ones(images, dtype=np.intp))
    draws, rows = resamples(images, seed, groups), list[FloatArray]()
    with ThreadPoolExecutor(thread_count()) as pool:
        apply = pool.map if side_by_side else map
        while len(rows) < replicates:
            drawn = islice(draws, min(replicates - len(rows), AT_ONCE))
            rows += [row for row in apply(numbers, drawn) if estimate.min() < 0 or row.min() >= 0]
    return estimate, np.stack(rows)


def resamples(images: int, seed: int, groups: NDArray[np.intp] | None = None) -> Iterator[NDArray[np.intp]]:
    """Endless draws with replacement, of as many images (of each group): how often each counts, [images]."""
    generator = np.random.default_rng(seed)
    if groups is None:
        while True:
            yield np.bincount(generator.integers(images, size=images), minlength=images)
    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    # Of each image in the order by group: where its group begins, and how many to draw from.
    first, size = np.repeat(np.cumsum(sizes) - sizes, sizes), np.repeat(sizes, sizes)
    while True:
        yield np.bincount(order[first + generator.integers(size)], minlength=images)


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
    upper = np.quantile(errors.max(axis=1), (1 + confidence) / 2)
    lower = np.quantile(errors.min(axis=1), (1 - confidence) / 2)
    return np.stack([estimate - upper * spread, estimate - lower * spread])


@dataclass(frozen=True)
class Intervals:
    """Basic bootstrap over images, the same resamples for every score.

    Attributes:
        confidence: coverage of the intervals, for example 0.95.
        rate: [R] deferral rates.
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


def bootstrap(
    run: PairedRun,
    task: Task,
    scores: Sequence[str],
    *,
    reference: str,
    replicates: int = 1000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Intervals:
    """Confidence bands of curves, areas and differences of areas, by resampling images with a seed.

    In a resample thresholds move with the images, so a band is that of a *given deferral rate*. Where the
    quality is a mean over images, every operating point of each resample counts; elsewhere 21 points that are
    joined by straight lines. No quality is outside [0, 1].

    Raises:
        ConfigError: unknown score, replicates outside 2..100,000, confidence outside (0, 1), seed below 0.
    """
    check_replicates(replicates)
    if not 0 < confidence < 1:
        raise ConfigError(f"Expected replicates with a confidence in (0, 1), got {confidence}.")
    names = list(dict.fromkeys([*scores, reference]))
    mixtures = task.mixtures(run.student, run.teacher)
    rankings, rows = distinct([Ranking(mixtures, score_of(run, name)) for name in names])
    judges = [partial(_on_resample, ranking, None if task.mean else ROUGH_GRID) for ranking in rankings]
    numbers = paired_bootstrap(judges, len(run), replicates, seed, side_by_side=not task.mean)
    estimate, drawn = (n.reshape(*n.shape[:-1], len(rankings), len(RATES) + 1)[..., rows, :] for n in numbers)
    ends = np.clip(interval(estimate, drawn, confidence), 0.0, 1.0)
    base = names.index(reference)
    gain, gains = (areas - areas[..., base, None] for areas in (estimate[:, -1], drawn[:, :, -1]))
    low, high = (dict(zip(names, end[:, :-1], strict=True)) for end in ends)
    alone, at_once = (method(gain, gains, confidence) for method in (interval, simultaneous_interval))
    area, difference, picked = (_by_name(names, pair) for pair in (ends[:, :, -1], alone, at_once))
    return Intervals(confidence, RATES, low, high, area, difference, picked, reference)


def resampled_areas(
    curves: Sequence[tuple[PairedRun, str]], task: Task, replicates: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Areas under curves on all images, [curves], and on each of the same resamples, [replicates, curves].

    Args:
        curves: records of the same images, which may differ in their scores' scale, and a score of each.
    """
    grid, images = None if task.mean else ROUGH_GRID, len(curves[0][0])
    mixtures = {id(run): task.mixtures(run.student, run.teacher) for run, _ in curves}
    rankings = (Ranking(mixtures[id(run)], score_of(run, name)) for run, name in curves)
    judges: list[Judge] = [partial(_area_on_resample, ranking, grid) for ranking in rankings]
    return paired_bootstrap(judges, images, replicates, seed, side_by_side=not task.mean)


def _area_on_resample(ranking: Ranking, grid: int | None, copies: NDArray[np.intp]) -> FloatArray:
    return _on_resample(ranking, grid, copies)[-1:]


def _by_name(names: Sequence[str], ends: FloatArray) -> dict[str, tuple[float, float]]:
    return {name: (low, high) for name, low, high in zip(names, *ends.tolist(), strict=True)}


def _on_resample(ranking: Ranking, grid: int | None, copies: NDArray[np.intp]) -> FloatArray:
    """[R + 1] the qualities at `RATES` and, last, the area under the curve."""
    rates, quality = ranking.line(copies, grid)
    return np.append(np.interp(RATES, rates, quality), np.trapezoid(quality, rates))


def check_replicates(replicates: int) -> None:
    """Raises ConfigError for a number of resamples that says nothing or takes for ever."""
    if not 2 <= replicates <= MOST_REPLICATES:
        raise ConfigError(f"Expected 2 to {MOST_REPLICATES:,} replicates, got {replicates}.")
