"""The exact front of a chain of tiers over all its thresholds: all points, or a grid that is refined."""

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement, product
from typing import TypeAlias

import numpy as np

from ebjr_det.core.cost import Cost
from ebjr_det.core.router import operating_points
from ebjr_det.core.tiers import Chain, TieredRun, answering
from ebjr_det.core.types import Flags, FloatArray, Indices, Matches, Task, concatenate

Counts: TypeAlias = tuple[int, ...]
"""How many images go past each tier, falling."""
MOST_POINTS = {True: 20_000_000, False: 6_000}
"""Points that are all judged, by whether the quality is a mean over images; of more, a grid is refined."""
GRID_POINTS, FINEST = 600, 150
"""Points of the first grid, and into how many steps of the images a threshold's range is cut at most."""


@dataclass(frozen=True)
class TierPoints:
    """Points of a chain on one set of images, as columns.

    Attributes:
        thresholds: [P, tiers - 1] an image goes past a tier where its score is above, strictly.
        passed: [P, tiers - 1] the share of the images that goes past each tier.
        quality: [P].
    """

    chain: Chain
    thresholds: FloatArray
    passed: FloatArray
    quality: FloatArray

    def __len__(self) -> int:
        return len(self.quality)

    def __getitem__(self, index: Indices) -> "TierPoints":
        return replace(
            self, thresholds=self.thresholds[index], passed=self.passed[index], quality=self.quality[index]
        )

    def cost(self, alone: Sequence[float]) -> FloatArray:
        """[P] cost of each point."""
        return self.chain.cost(self.passed, alone)

    def answered(self) -> FloatArray:
        """[P, tiers] the share of the images that each tier answers."""
        return np.asarray(-np.diff(self.passed, axis=1, prepend=1.0, append=0.0))


class Sweep:
    """All mixtures that thresholds along a chain make, judged exactly."""

    def __init__(self, run: TieredRun, task: Task, chain: Chain) -> None:
        self.task, self.chain, self.values = task, chain, chain.values(run)
        self.images = len(run)
        self.records = concatenate([run.records[tier] for tier in chain.tiers])

    def mixture(self, tier: Indices) -> Matches:
        """Match records of the chain where `tier` [N] answers each image."""
        return self.task.take(self.records, np.arange(self.images) + self.images * tier)

    def judge(self, thresholds: Sequence[float]) -> TierPoints:
        """The one point at given thresholds."""
        tier = answering(self.values, thresholds)
        quality = self.task.metrics(self.mixture(tier))[self.task.quality_name]
        passed = (tier > np.arange(len(thresholds))[:, None]).mean(axis=1)
        return TierPoints(self.chain, np.array([thresholds]), passed[None], np.array([quality]))

    def line(self, earlier: Counts, last: Sequence[int] | None = None) -> TierPoints:
        """The points that differ in the last threshold alone.

        Args:
            earlier: how many images go past each tier but the last two, at most: ties stay together.
            last: how many go past the last but one; by default every number that a threshold can make.
        """
        tier, reaching = np.zeros(self.images, dtype=np.intp), np.ones(self.images, dtype=bool)
        fixed = np.empty((2, len(earlier)))  # thresholds and shares
        for column, (score, count) in enumerate(zip(self.values, earlier, strict=False)):
            thresholds, deferred = _points(score, reaching)
            index = int(np.searchsorted(deferred, count, side="right")) - 1
            reaching = reaching & (score > thresholds[index])
            tier = tier + reaching
            fixed[:, column] = thresholds[index], deferred[index] / self.images
        score = self.values[-1]
        thresholds, deferred = _points(score, reaching)
        if last is not None:
            reached = np.unique(np.searchsorted(deferred, last, side="right") - 1)
            thresholds, deferred = thresholds[reached], deferred[reached]
        order = np.argsort(np.where(reaching, -score, np.inf), kind="stable")
        lower, upper = self.mixture(tier), self.mixture(tier + reaching)
        quality = self.task.mixtures(lower, upper).path(order, deferred)
        limits, share = np.repeat(fixed[:, None], len(quality), axis=1)
        columns = np.column_stack([limits, thresholds]), np.column_stack([share, deferred / self.images])
        return TierPoints(self.chain, *columns, quality)


def _points(score: FloatArray, reaching: Flags) -> tuple[FloatArray, Indices]:
    """The thresholds of a tier that tell apart the images that reach it, and how many go past it at each."""
    if not reaching.any():
        return np.array([np.inf]), np.zeros(1, dtype=np.intp)
    return operating_points(score[reaching])


def front(
    run: TieredRun, task: Task, chain: Chain, alone: Mapping[Cost, Sequence[float]], threads: int = 1
) -> TierPoints:
    """The points of a chain than which none is cheaper and no worse, in any of the costs; each one is exact.

    Where there are at most `MOST_POINTS`, all are judged. Else a coarse grid is, and then, at half the step
    again and again, what lies round the front.

    Args:
        alone: by kind of cost, what each tier of the chain costs alone.
    """
    sweep, free, images = Sweep(run, task, chain), len(chain.tiers) - 1, len(run)
    if not free:
        return sweep.judge(())
    lines: Mapping[Counts, Sequence[int] | None]
    with ThreadPoolExecutor(threads) as pool:

        def drawn() -> list[TierPoints]:
            return list(pool.map(lambda line: undominated([sweep.line(*line)], alone), lines.items()))

        if math.comb(images + free, free) <= MOST_POINTS[task.mean]:
            lines = dict.fromkeys(combinations_with_replacement(range(images, -1, -1), free - 1))
            return undominated(drawn(), alone)
        judged, best = set[Counts](), list[TierPoints]()
        for grid in _grids(images, free):
            counts = _around(best[0].passed, grid) if best else {*combinations_with_replacement(grid, free)}
            lines = _by_line(counts - judged)
            judged |= counts
            best = [undominated(drawn() + best, alone)]
        return best[0]


def _grids(images: int, free: int) -> Iterator[Sequence[int]]:
    """Numbers of images, falling: a coarse grid, then ones of twice as many cells each."""
    cells = max(n for n in range(1, GRID_POINTS) if n == 1 or math.comb(n + free, free) <= GRID_POINTS)
    cuts = [cells, *(finer for n in range(1, 8) if (finer := cells * 2**n) <= FINEST)]
    return (np.linspace(images, 0, cut + 1).round().astype(np.intp).tolist() for cut in cuts)


def _around(passed: FloatArray, grid: Sequence[int]) -> set[Counts]:
    """The points of a grid next to some shares that go past each tier."""
    cells, free = len(grid) - 1, passed.shape[1]
    steps = np.array(list(product((-1, 0, 1), repeat=free)))
    near = np.rint((1 - passed) * cells).astype(np.intp)[:, None] + steps
    near = np.maximum.accumulate(np.clip(near, 0, cells), axis=2).reshape(-1, free)
    return set(map(tuple, np.asarray(grid)[near].tolist()))


def _by_line(counts: set[Counts]) -> dict[Counts, list[int]]:
    """Points that differ in the last threshold alone, together."""
    lines: dict[Counts, list[int]] = {}
    for *earlier, last in sorted(counts):
        lines.setdefault(tuple(earlier), []).append(last)
    return lines


def undominated(parts: Sequence[TierPoints], alone: Mapping[Cost, Sequence[float]]) -> TierPoints:
    """Points of one chain that are on its front in any of the costs, each once."""
    points = replace(
        parts[0],
        thresholds=np.concatenate([part.thresholds for part in parts]),
        passed=np.concatenate([part.passed for part in parts]),
        quality=np.concatenate([part.quality for part in parts]),
    )
    fronts = [on_front(points.cost(costs), points.quality) for costs in alone.values()]
    return points[np.unique(np.concatenate(fronts))]


def on_front(cost: FloatArray, quality: FloatArray) -> Indices:
    """Indices of the points than which none that is no dearer is as good, from the cheapest on.

    >>> on_front(np.array([1.0, 2.0, 3.0, 1.0]), np.array([0.5, 0.4, 0.6, 0.3])).tolist()
    [0, 2]
    """
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(quality[order])
    return np.asarray(order[np.concatenate([[True], best[1:] > best[:-1]])])
