"""Ratios of measured times, with intervals from resampled calls."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebjr_det.evaluation.benchmark.scenarios import Calls

Statistic = Literal["median", "mean"]
REPLICATES = 1000
LEAST = 4
"""Calls from which an interval is told; resamples of fewer say nothing."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of times with the ends of its interval; None where it has none."""

    value: float
    low: float | None
    high: float | None

    def verdict(self) -> str:
        """A speedup in words."""
        if self.low is None or self.high is None or self.low <= 1 <= self.high:
            return "not told apart"
        return "faster" if self.low > 1 else "slower"


def blocks(count: int, replicates: int, seed: int) -> Iterator[NDArray[np.intp]]:
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
    old: ArrayLike, new: ArrayLike, statistic: Statistic, *, replicates: int = REPLICATES, seed: int = 0
) -> Ratio:
    """The old median (or mean) over the new one, with its 95 % bootstrap interval: above 1 is faster now."""
    typical = np.median if statistic == "median" else np.mean
    old, new = np.asarray(old), np.asarray(new)
    draws = zip(blocks(len(old), replicates, seed), blocks(len(new), replicates, seed + 1), strict=True)
    ratios = [typical(old[first]) / max(typical(new[second]), 1e-12) for first, second in draws]
    return _interval(typical(old) / max(typical(new), 1e-12), ratios, min(len(old), len(new)))


def joint_ratio(student: Calls, teacher: Calls, joint: Calls, *, seed: int = 0) -> Ratio:
    """Mean time of joint over student + p x teacher, p being the share that these calls deferred.

    A round of a closed loop stays together when rounds are resampled: all three had the same images then.
    """
    times = [np.asarray(calls.ms) for calls in (student, teacher, joint)]
    deferred = np.asarray(joint.deferred)

    def ratio(rounds: NDArray[np.intp]) -> float:
        student_ms, teacher_ms, joint_ms = (ms[rounds].mean() for ms in times)
        share = deferred[rounds].mean() / joint.images
        return float(joint_ms / max(student_ms + share * teacher_ms, 1e-12))

    count = len(joint.ms)
    ratios = [ratio(rounds) for rounds in blocks(count, REPLICATES, seed)]
    return _interval(ratio(np.arange(count)), ratios, count)


def _interval(value: float, resampled: Sequence[float], count: int) -> Ratio:
    if count < LEAST:
        return Ratio(float(value), None, None)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Ratio(float(value), float(low), float(high))
