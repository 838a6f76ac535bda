"""What is chosen among all chains of several models: scores, a chain and its thresholds, for a limit.

The choice sees one part of the images; what it does is judged on the others.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from typing import Any, TypeAlias

import numpy as np

from ebjr_det.config.target import Target
from ebjr_det.core.cost import Cost
from ebjr_det.core.errors import ConfigError, Infeasible, check_known
from ebjr_det.core.ranking import Ranking
from ebjr_det.core.router import finite, threshold_for_rate
from ebjr_det.core.tiers import Chain, TieredRun, Topology, answering
from ebjr_det.core.types import FloatArray, Matches, Task
from ebjr_det.evaluation.bootstrap import ROUGH_GRID
from ebjr_det.evaluation.tiers.analysis import AUTO, Chosen
from ebjr_det.evaluation.tiers.front import Sweep, TierPoints
from ebjr_det.evaluation.units import Unit, cost_text

Costs: TypeAlias = Mapping[str, float]
"""By a tier's name, what it costs alone."""
ANY_SIZE, PAIRS, LONGER = range(1, 99), range(1, 3), range(3, 99)
"""Numbers of tiers: of any chain, of at most a pair, of more than a pair."""
Scores: TypeAlias = Mapping[tuple[str, str], str]
"""By the names of two tiers, the score that passes images from one on to the other."""

Order: TypeAlias = Callable[[TierPoints, FloatArray], tuple[FloatArray, FloatArray]]
"""Points and the cost of each -> what they are ordered by, and then by; infinite for none of a choice."""


@dataclass(frozen=True)
class Choice:
    """A chain with its thresholds: one point on the images that chose it, one on those that are reported."""

    calibrated: TierPoints
    reported: TierPoints

    @property
    def chain(self) -> Chain:
        """The models, and how images go along them."""
        return self.reported.chain

    @property
    def chosen(self) -> Chosen:
        """The choice as an analysis keeps it."""
        return Chosen(self.chain.tiers, self.chain.scores, self.thresholds, topology=self.chain.topology)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The threshold of each tier but the last."""
        return tuple(self.reported.thresholds[0].tolist())

    @property
    def quality(self) -> float:
        """On the images that the choice did not see."""
        return float(self.reported.quality[0])

    @property
    def answered(self) -> dict[str, float]:
        """By tier, what share of those images it answers."""
        return dict(zip(self.chain.tiers, self.reported.answered()[0].tolist(), strict=True))

    def cost(self, costs: Costs) -> float:
        """What one of those images costs."""
        return float(self.reported.cost(alone(self.chain, costs))[0])

    def to_dict(self, costs: Mapping[Cost, Costs]) -> dict[str, Any]:
        """Plain values; an infinite threshold, which passes all or none on, is None."""
        chain = self.chain
        return {
            "tiers": list(chain.tiers),
            "topology": chain.topology if len(chain.tiers) > 2 else None,
            "scores": list(chain.scores),
            "thresholds": list(map(finite, self.thresholds)),
            "passed": self.reported.passed[0].tolist(),
            "answered": self.answered,
            "quality": self.quality,
            **{kind: self.cost(column) for kind, column in costs.items()},
            "calibration_quality": float(self.calibrated.quality[0]),
        }


def alone(chain: Chain, costs: Costs) -> list[float]:
    """What each tier of a chain costs alone."""
    return [costs[tier] for tier in chain.tiers]


def choose_scores(run: TieredRun, task: Task, score_of: Callable[[str], str]) -> Scores:
    """For every two tiers, in order, the score that passes images on; `auto` takes that of the largest area.

    Args:
        score_of: a tier's name -> its score or `auto`.

    Raises ConfigError where a tier has no such score.
    """

    def best(lower: str, upper: str) -> str:
        score = score_of(lower)
        scores = {name: values for name, values in run.scores[lower].items() if name != "random"}
        if score != AUTO:
            check_known(score, run.scores[lower], f"a score of `{lower}`")
            return score
        mixtures = task.mixtures(run.records[lower], run.records[upper])
        rankings = {name: Ranking(mixtures, values) for name, values in scores.items()}
        areas = {
            name: _area(ranking, None if task.mean else ROUGH_GRID) for name, ranking in rankings.items()
        }
        return max(areas, key=areas.__getitem__)

    return {(lower, upper): best(lower, upper) for lower, upper in combinations(run.names, 2)}


def _area(ranking: Ranking, grid: int | None) -> float:
    rates, quality = ranking.line(grid=grid)
    return float(np.trapezoid(quality, rates))


def chain_of(tiers: tuple[str, ...], scores: Scores, topology: Topology) -> Chain:
    """A chain of these tiers, with what passes images on between them."""
    if topology == "leap":
        return Chain(tiers, (scores[tiers[0], tiers[-1]],) * (len(tiers) - 1), topology)
    return Chain(tiers, tuple(scores[pair] for pair in pairwise(tiers)))


def chains(names: Sequence[str], scores: Scores) -> Iterator[Chain]:
    """Every chain of some of the models in order: each alone, each pair, and of more both topologies."""
    topologies: tuple[Topology, ...] = ("cascade", "leap")
    for size in range(1, len(names) + 1):
        for tiers in combinations(names, size):
            yield from (chain_of(tiers, scores, topology) for topology in topologies[: max(1, size - 1)])


def at_rate(run: TieredRun, chain: Chain, thresholds: Sequence[float | None], rate: float) -> Chosen:
    """A chain with its thresholds; where one is open, so large a share of what reaches a tier goes on.

    Raises ConfigError where a part of the images is too small for that.
    """
    reaching, finite_thresholds = np.ones(len(run), dtype=bool), []
    for tier, values, stated in zip(chain.tiers, chain.values(run), thresholds, strict=False):
        reached = values[reaching]
        threshold = stated if stated is not None else threshold_for_rate(reached, rate) if len(reached) else 0
        if not np.isfinite(threshold):
            raise ConfigError(
                f"Expected images of which a threshold of `{tier}` passes on {rate:g}, got {len(reached)}. "
                "State its threshold."
            )
        reaching = reaching & (values > threshold)
        finite_thresholds.append(float(threshold))
    rate_used = rate if None in thresholds else None
    return Chosen(chain.tiers, chain.scores, tuple(finite_thresholds), rate_used, chain.topology)


def at_work(fronts: Sequence[TierPoints], topology: Topology | None = None) -> list[TierPoints]:
    """The points of all fronts that a live chain can take: of two models at least, at finite thresholds.

    Args:
        topology: of more than two models; None for any.
    """
    allowed = (topology, None) if topology else ("cascade", "leap", None)
    chosen = [points for points in fronts if len(points.chain.tiers) > 1]
    chosen = [p for p in chosen if (p.chain.topology if len(p.chain.tiers) > 2 else None) in allowed]
    finite_points = [points[np.flatnonzero(np.isfinite(points.thresholds).all(axis=1))] for points in chosen]
    return [points for points in finite_points if len(points)]


class Chooser:
    """What is best for a limit, by fronts of calibration images, and what it does on the reported ones."""

    def __init__(self, reported: TieredRun, task: Task, fronts: Sequence[TierPoints]) -> None:
        self.fronts, self.reported = fronts, reported
        self.sweeps = {points.chain: Sweep(reported, task, points.chain) for points in fronts}
        self.judged = cache(lambda chain, thresholds: self.sweeps[chain].judge(thresholds))

    def records(self, choice: Choice) -> Matches:
        """Match records of a choice on the reported images."""
        sweep = self.sweeps[choice.chain]
        return sweep.mixture(answering(sweep.values, choice.thresholds))

    def within(self, costs: Costs, budget: float, sizes: Container[int] = ANY_SIZE) -> Choice | None:
        """The best quality at most so dear, of so many tiers; None where all of them are dearer."""

        def order(points: TierPoints, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
            return np.where(cost <= budget * (1 + 1e-12), -points.quality, np.inf), cost

        return self._first(costs, order, sizes)

    def cheapest(self, costs: Costs, floor: float) -> Choice | None:
        """The cheapest of at least such a quality; None where there is none."""

        def order(points: TierPoints, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
            return np.where(points.quality >= floor - 1e-12, cost, np.inf), -points.quality

        return self._first(costs, order, ANY_SIZE)

    def for_target(self, target: Target, costs: Mapping[Cost, Costs]) -> Choice:
        """What meets a target on the calibration images. Raises Infeasible where nothing does."""
        unit = Unit.of(max(costs["macs"].values()))
        if target.kind == "min_quality":
            choice, best = (
                self.cheapest(costs["macs"], target.value),
                max(p.quality.max() for p in self.fronts),
            )
            problem = f"a quality of at least {target.value:.6g}, got {best:.6g} at best"
        else:
            kind: Cost = "macs" if target.kind == "macs" else "latency_ms"
            choice, least = self.within(costs[kind], target.value), min(costs[kind].values())
            limit, cheapest = (cost_text(kind, cost, unit) for cost in (target.value, least))
            problem = (
                f"a chain that costs at most {limit} an image, got {cheapest} for the cheapest model alone"
            )
        if choice is None:
            raise Infeasible(f"Expected {problem}.")
        return choice

    def choice(self, calibration: TieredRun, task: Task, chosen: Chosen) -> Choice:
        """A chain that is chosen already, on both parts of the images."""
        chain = Chain(chosen.tiers, chosen.scores, chosen.topology)
        parts = (Sweep(run, task, chain).judge(chosen.thresholds) for run in (calibration, self.reported))
        return Choice(*parts)

    def _first(self, costs: Costs, order: Order, sizes: Container[int]) -> Choice | None:
        """The first point of all fronts in an order, of equals that of the fewest tiers."""
        firsts: list[tuple[float, int, float, TierPoints]] = []
        for points in self.fronts:
            main, second = order(points, points.cost(alone(points.chain, costs)))
            index, tiers = int(np.lexsort((second, main))[0]), len(points.chain.tiers)
            if tiers in sizes and np.isfinite(main[index]):
                firsts.append((main[index], tiers, second[index], points[np.array([index])]))
        if not firsts:
            return None
        point = min(firsts, key=lambda first: first[:3])[-1]
        return Choice(point, self.judged(point.chain, tuple(point.thresholds[0].tolist())))
