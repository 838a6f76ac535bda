"""Who is ahead at equal cost under a mix of classes, and how sure that is.

Convention: one pair stays at its own threshold; another one is read at the MACs that the first has under the
mix, linear between its operating points, which is what mixing two of them at random gives.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ebjr_det.core.cost import CostModel
from ebjr_det.core.tradeoff import Weights
from ebjr_det.evaluation.bootstrap import CONFIDENCE, Judge, interval, paired_bootstrap
from ebjr_det.evaluation.traffic.mix import Composition
from ebjr_det.evaluation.traffic.weighted import RoutedPair


@dataclass(frozen=True)
class EqualCost:
    """A pair at its own threshold beside another one at the same MACs, under a mix.

    Attributes:
        macs: of the pair; `other_macs`: those at which the other one is read, the nearest that it can cost.
        quality, other_quality: overall, of both.
        low, high: interval of the `margin`, see `bootstrap`; None where none was computed.
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

    def to_dict(self) -> dict[str, float | None]:
        """Plain values, the margin among them."""
        return asdict(self) | {"margin": self.margin}


def rate_at(cost: CostModel, macs: float) -> float:
    """The deferral rate at which a pair of known cost takes so many MACs, or the nearest in [0, 1].

    >>> rate_at(CostModel(2.0, 8.0), 4.0)
    0.25
    """
    student, teacher = cost.alone("macs") or (np.nan, np.nan)
    return float(np.clip((macs - student) / teacher, 0.0, 1.0)) if teacher else float(macs >= student)


def at_equal_cost(first: RoutedPair, rivals: Sequence[RoutedPair], weights: Weights) -> list[EqualCost]:
    """The first pair beside each other one; none where some pair's MACs are unknown."""
    at = first.at_threshold(weights)
    if at.macs is None or any(pair.cost.alone("macs") is None for pair in rivals):
        return []
    rows = []
    for pair in rivals:
        rate = rate_at(pair.cost, at.macs)
        quality = _judge(pair, rate, weights)(np.ones(len(weights.images), np.intp))
        rows.append(EqualCost(at.macs, pair.cost.macs(rate) or 0.0, at.joint, float(quality[0])))
    return rows


def margins_at_equal_cost(
    first: RoutedPair,
    rivals: Sequence[RoutedPair],
    mixes: Sequence[Weights],
    composition: Composition,
    *,
    replicates: int,
    seed: int,
) -> list[list[EqualCost]]:
    """`at_equal_cost` under each mix with intervals, by a paired bootstrap over images.

    In a resample all pairs are judged on the same images, at the deferral rates that they have on all of
    them: as in `bootstrap`, thresholds move with the images and cost stays.

    Raises:
        ConfigError: replicates outside 2..100,000, a seed below 0.
    """
    table = [at_equal_cost(first, rivals, weights) for weights in mixes]
    if not (rivals and all(table)):
        return table
    judges = []
    for weights, row in zip(mixes, table, strict=True):
        judges.append(_judge(first, first.at_threshold(weights).deferral_rate, weights))
        judges += [_judge(pair, rate_at(pair.cost, row[0].macs), weights) for pair in rivals]
    images, groups = len(composition.counts), composition.groups
    numbers = paired_bootstrap(judges, images, replicates, seed, groups=groups, side_by_side=not first.mean)
    shape = len(mixes), 1 + len(rivals)
    estimate, drawn = (qualities.reshape(*qualities.shape[:-1], *shape) for qualities in numbers)
    margin, resampled = (qualities[..., :1] - qualities[..., 1:] for qualities in (estimate, drawn))
    low, high = interval(margin, resampled, CONFIDENCE).tolist()
    return [
        [replace(pair, low=ends[0], high=ends[1]) for pair, *ends in zip(*columns, strict=True)]
        for columns in zip(table, low, high, strict=True)
    ]


def _judge(pair: RoutedPair, rate: float, weights: Weights) -> Judge:
    """[1] the quality of a pair at a deferral rate of images that count so often and weigh so much."""
    ranking, rates = pair.ranking.weighing(weights.classes), np.array([rate])
    return lambda copies: ranking.at(rates, weights.images * copies)


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
