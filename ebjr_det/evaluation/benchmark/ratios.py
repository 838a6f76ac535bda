"""Ratios of measured times, with intervals from resampled calls."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ebjr_det.evaluation.benchmark.scenarios import Calls

Statistic = Literal["median", "mean"]
LEAST = 4
"""Calls from which an interval is told; resamples of fewer say nothing."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with the ends of its interval; None where it has none."""

    value: float
    low: float | None
    high: float | None

    def verdict(self) -> str:
        """Of a speedup, in words."""
        if self.low is None or self.high is None or self.low <= 1 <= self.high:
            return "not told apart"
        return "faster" if self.low > 1 else "slower"


def blocks(count: int, replicates: int, seed: int) -> Iterator[Any]:
    """Indices of resamples of a series in time: blocks of neighbours of its square root's length.

    Neighbouring calls resemble each other; drawn one by one they would promise too narrow an interval.
    Source: Kuensch, The Jackknife and the Bootstrap for General Stationary Observations, 1989 (blocks).
    """
    length = max(1, round(count**0.5))
    generator, inside = np.random.default_rng(seed), np.arange(length)
    for _ in range(replicates):
        starts = generator.integers(count, size=-(-count // length))
        yield ((starts[:, None] + inside) % count).ravel()[:count]


def speedup(
    old: ArrayLike, new: ArrayLike, statistic: Statistic, *, replicates: int = 1000, seed: int = 0
) -> Ratio:
    """The old median (or mean) over the new one, with its 95 % bootstrap interval: above 1 is faster now."""
    typical: Any = {"median": np.median, "mean": np.mean}[statistic]
    before, after = np.asarray(old), np.asarray(new)
    found = [
        typical(before[first]) / max(typical(after[second]), 1e-12)
        for first, second in zip(
            blocks(len(before), replicates, seed), blocks(len(after), replicates, seed + 1), strict=True
        )
    ]
    return _interval(typical(before) / max(typical(after), 1e-12), found, min(len(before), len(after)))


def joint_ratio(
    student: Calls, teacher: Calls, joint: Calls, *, replicates: int = 1000, seed: int = 0
) -> Ratio:
    """Mean time of joint over student + p x teacher, p being the share that these calls deferred.

    The rounds of a closed loop are resampled as wholes, for all three.
    """

    def of(index: Any) -> float:
        alone, better, pair = (np.asarray(calls.ms)[index].mean() for calls in (student, teacher, joint))
        share = np.asarray(joint.deferred)[index].mean() / joint.images
        return float(pair / max(alone + share * better, 1e-12))

    rounds = len(joint.ms)
    return _interval(of(slice(None)), [of(index) for index in blocks(rounds, replicates, seed)], rounds)


def _interval(value: float, resampled: Sequence[float], count: int) -> Ratio:
    if count < LEAST:
        return Ratio(float(value), None, None)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Ratio(float(value), float(low), float(high))
