"""Who is ahead at equal cost under a mix of classes, and how sure that is.

Convention: one pair stays at its own threshold; another one is read at the MACs that the first has under the
mix, linear between its operating points, which is what mixing two of them at random gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.cost import CostModel
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.bootstrap import Judge, Resampled, check_replicates, interval, judged, resamples
from ebjr_det.evaluation.traffic.mix import Composition
from ebjr_det.evaluation.traffic.weighted import Pair, Traffic


@dataclass(frozen=True)
class EqualCost:
    """A pair at its own threshold beside another one at the same MACs, under a mix.

    Attributes:
        macs: of the pair; `other_macs`: those at which the other one is read, the nearest that it can cost.
        quality, other_quality: overall, of both.
        low, high: interval of the `margin`, see `bootstrap`; None where none was asked for.
    """

    macs: float
    other_macs: float
    quality: float
    other_quality: float
    low: float | None = None
    high: float | None = None

    @property
    def margin(self) -> float:
        """How far the pair is ahead."""
        return self.quality - self.other_quality


def rate_at(cost: CostModel, macs: float) -> float:
    """The deferral rate at which a pair of known cost takes so many MACs, or the nearest in [0, 1].

    >>> rate_at(CostModel(2.0, 8.0), 4.0)
    0.25
    """
    student, teacher = cost.alone("macs") or (np.nan, np.nan)
    return float(np.clip((macs - student) / teacher, 0.0, 1.0)) if teacher else float(macs >= student)


def at_equal_cost(first: Pair, others: Sequence[Pair], traffic: Traffic) -> list[EqualCost]:
    """The first pair beside each other one; none where some pair's MACs are unknown."""
    if not _known(first, others):
        return []
    own = first.at_threshold(traffic)
    found = []
    for other in others:
        rate = rate_at(other.cost, own.macs or 0.0)
        quality = other.resampled(traffic.mix).at(np.array([rate]), traffic.weights)
        found.append(EqualCost(own.macs or 0.0, other.cost.macs(rate) or 0.0, own.joint, float(quality[0])))
    return found


def margins_at_equal_cost(
    first: Pair,
    others: Sequence[Pair],
    traffics: Sequence[Traffic],
    composition: Composition,
    *,
    replicates: int,
    seed: int,
    confidence: float,
) -> list[list[EqualCost]]:
    """`at_equal_cost` under each mix with intervals, by a paired bootstrap over images.

    In a resample all pairs are judged on the same images, at the deferral rates that they have on all of
    them: as in `bootstrap`, thresholds move with the images and cost stays.

    Raises:
        ConfigError: replicates outside 2..100,000, a seed below 0.
    """
    check_replicates(replicates)
    found = [at_equal_cost(first, others, traffic) for traffic in traffics]
    if not (others and all(found)):
        return found
    judges: list[Judge] = []
    for traffic in traffics:
        own = first.at_threshold(traffic)
        rates = [own.deferral_rate, *(rate_at(other.cost, own.macs or 0.0) for other in others)]
        for pair, rate in zip((first, *others), rates, strict=True):
            judges.append(partial(_judged, pair.resampled(traffic.mix), np.array([rate]), traffic.weights))
    images = len(composition.counts)
    drawn = judged(judges, images, draws(composition, seed), replicates, side_by_side=not first.mean)
    estimate, quality = (rows.reshape(*rows.shape[:-1], len(traffics), 1 + len(others)) for rows in drawn)
    margin, margins = (rows[..., :1] - rows[..., 1:] for rows in (estimate, quality))
    low, high = interval(margin, margins, confidence).tolist()
    return [
        [replace(one, low=a, high=b) for one, a, b in zip(*row, strict=True)]
        for row in zip(found, low, high, strict=True)
    ]


def _judged(curve: Resampled, rate: FloatArray, weights: FloatArray, copies: NDArray[np.intp]) -> FloatArray:
    return curve.at(rate, weights * copies)


def _known(first: Pair, others: Sequence[Pair]) -> bool:
    return all(pair.cost.alone("macs") is not None for pair in (first, *others))


def draws(composition: Composition, seed: int) -> Iterator[NDArray[np.intp]]:
    """Endless resamples of images, [images] how often each counts: within each class where an image shows one
    object, so that every resample shows the mix exactly, else of all images.
    """
    if not composition.single:
        yield from resamples(len(composition.counts), seed)
        return
    labels = composition.counts.argmax(axis=1)
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
    first, many = np.repeat(np.cumsum(sizes) - sizes, sizes), np.repeat(sizes, sizes)
    generator = np.random.default_rng(seed)
    for _ in count():
        yield np.bincount(order[first + generator.integers(many)], minlength=len(order))


def ahead_from(shares: Sequence[float], margins: Sequence[float]) -> float | None:
    """The share from which on a margin stays above 0, linear between two shares; None where it ends below.

    >>> ahead_from([0.25, 0.5, 0.75], [-1.0, 1.0, 2.0])
    0.375
    """
    behind = [index for index, margin in enumerate(margins) if margin <= 0]
    if not behind:
        return shares[0]
    last = behind[-1]
    if last == len(shares) - 1:
        return None
    (low, high), (left, right) = margins[last : last + 2], shares[last : last + 2]
    return left + (right - left) * -low / (high - low)
