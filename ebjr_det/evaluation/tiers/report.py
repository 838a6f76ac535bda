"""Several models on one set of images: by budget the best chain of them, and what it adds to the best pair.

Scores, chains and thresholds are chosen on one part of the images; every quality, cost and interval is of the
rest, which no choice has seen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from ebjr_det.core.cost import Cost
from ebjr_det.core.tiers import TieredRun
from ebjr_det.core.types import FloatArray, Task
from ebjr_det.evaluation.bootstrap import (
    CONFIDENCE,
    METHOD,
    interval,
    paired_bootstrap,
    simultaneous_interval,
)
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.hull import Hull, judge_of
from ebjr_det.evaluation.tiers.analysis import TieredAnalysis
from ebjr_det.evaluation.tiers.choice import (
    ANY_SIZE,
    LONGER,
    PAIRS,
    Choice,
    Chooser,
    Costs,
    Scores,
    alone,
    chains,
    choose_scores,
)
from ebjr_det.evaluation.tiers.front import TierPoints, front

BUDGETS, STEPS = 9, 4
"""Budgets of a table, from the cheapest model's cost to the dearest's, and steps between two in a figure."""


class Difference(NamedTuple):
    """A difference of qualities on the reported images, and the ends of its interval.

    The intervals of one kind of difference hold at all budgets of a table at once, so that the largest may be
    picked among them.
    """

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the interval."""
        return self.low, self.high


class Winners(NamedTuple):
    """What is best at most so dear: of all chains, of those of at most two tiers, and of the longer ones."""

    budget: float
    best: Choice
    pair: Choice
    longer: Choice | None


class Margins(NamedTuple):
    """How far the best chain of a budget is above the best pair, and above single models mixed at random.

    The hull of single models is taken at what the chain costs on the reported images. `added` is how far the
    best chain of more than two tiers is above the best pair.
    """

    winners: Winners
    over_hull: Difference
    added: Difference | None

    @property
    def over_pair(self) -> Difference:
        """How far the best chain is above the best pair; where it is that pair itself, 0."""
        longer = len(self.winners.best.chain.tiers) > 2
        return self.added if longer and self.added is not None else Difference(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class TieredReport:
    """Several models on one set of images.

    Attributes:
        calibrating, images: how many images chose, and how many are reported.
        singles: by tier, the quality of it alone on the reported images.
        scores: what passes images from one tier on to another.
        lines: by kind of cost, many budgets; `table`: few of them, with margins.
        chosen: for the target, where there is one.
        fronts: of every chain, on the calibration images.
    """

    analysis: TieredAnalysis
    task: Task
    calibrating: int
    images: int
    singles: Mapping[str, float]
    scores: Scores
    lines: Mapping[Cost, Sequence[Winners]]
    table: Mapping[Cost, Sequence[Margins]]
    chosen: Choice | None
    fronts: Sequence[TierPoints]

    def hull(self, kind: Cost) -> Hull:
        """What mixing single models at random reaches on the reported images."""
        return Hull.of(list(zip(self.analysis.costs[kind].values(), self.singles.values(), strict=True)))

    def to_dict(self) -> dict[str, Any]:
        """The one JSON object of the command line."""
        costs, target = self.analysis.costs, self.analysis.target
        return {
            "title": self.analysis.title,
            "task": self.task.name,
            "quality_name": self.task.quality_name,
            "calibration_images": self.calibrating,
            "images": self.images,
            "tiers": [asdict(tier) | {"quality": self.singles[tier.name]} for tier in self.analysis.tiers],
            "scores": [{"tier": s, "next": t, "score": score} for (s, t), score in self.scores.items()],
            "target": None if target is None else target.to_dict(),
            "chosen": None if self.chosen is None else self.chosen.to_dict(costs),
            "budgets": {kind: [_row(row, costs) for row in rows] for kind, rows in self.table.items()},
            "confidence": CONFIDENCE,
            "interval_method": f"{METHOD}, at all budgets at once",
            "replicates": self.analysis.replicates,
            "seed": self.analysis.seed,
            "input_remarks": {file: dict(counts) for file, counts in self.analysis.remarks.items()},
        }


def _row(row: Margins, costs: Mapping[Cost, Costs]) -> dict[str, object]:
    return {
        "budget": row.winners.budget,
        "best": row.winners.best.to_dict(costs),
        "pair": row.winners.pair.to_dict(costs),
        "over_pair": row.over_pair._asdict(),
        "over_hull": row.over_hull._asdict(),
        "longer": None if (longer := row.winners.longer) is None else longer.to_dict(costs),
        "longer_over_pair": None if row.added is None else row.added._asdict(),
    }


class Calibrated(NamedTuple):
    """A run in two parts, and what was chosen on the first: scores, and the fronts of all chains."""

    calibration: TieredRun
    reported: TieredRun
    scores: Scores
    fronts: list[TierPoints]


def calibrated(run: TieredRun, task: Task, analysis: TieredAnalysis) -> Calibrated:
    """The first step: split, choose scores and compute fronts. Raises ConfigError as the report does."""
    parts = split(run, analysis.fraction, analysis.seed)
    calibration, reported = (run.select(task, part) for part in parts)
    scores, costs = choose_scores(calibration, task, analysis.score_of), analysis.costs
    fronts = []
    for chain in chains(run.names, scores):
        costs_alone = {kind: alone(chain, column) for kind, column in costs.items()}
        fronts.append(front(calibration, task, chain, costs_alone))
    return Calibrated(calibration, reported, scores, fronts)


def build_tiered_report(
    run: TieredRun, task: Task, analysis: TieredAnalysis, fronts_of: Calibrated | None = None
) -> TieredReport:
    """Choose on one part of the images, judge on the rest.

    Args:
        fronts_of: what `calibrated` gives, where it is at hand.

    Raises:
        ConfigError: a tier lacks the score, or a part of the images would be empty.
        Infeasible: nothing meets the target on the images that choose.
    """
    calibration, reported, scores, fronts = fronts_of or calibrated(run, task, analysis)
    chooser, costs = Chooser(reported, task, fronts), analysis.costs
    chosen: Choice | None = None
    if analysis.chosen is not None:
        chosen = chooser.choice(calibration, task, analysis.chosen)
    elif analysis.target is not None:
        chosen = chooser.for_target(analysis.target, costs)
    lines = {kind: list(_line(chooser, column)) for kind, column in costs.items()}
    singles = {name: task.metrics(records)[task.quality_name] for name, records in reported.records.items()}
    return TieredReport(
        analysis,
        task,
        len(calibration),
        len(reported),
        singles,
        scores,
        lines,
        _margins(reported, task, analysis, chooser, lines),
        chosen,
        fronts,
    )


def _line(chooser: Chooser, costs: Costs) -> Iterator[Winners]:
    """The winners at every budget of a figure."""
    for budget in np.linspace(min(costs.values()), max(costs.values()), (BUDGETS - 1) * STEPS + 1).tolist():
        best, pair, longer = (chooser.within(costs, budget, sizes) for sizes in (ANY_SIZE, PAIRS, LONGER))
        assert best is not None, "the cheapest model alone"
        assert pair is not None
        yield Winners(budget, best, pair, longer)


def _margins(
    run: TieredRun,
    task: Task,
    analysis: TieredAnalysis,
    chooser: Chooser,
    lines: Mapping[Cost, Sequence[Winners]],
) -> dict[Cost, list[Margins]]:
    """Margins at the budgets of the table, by one paired bootstrap of all chains that it shows."""
    table = {kind: line[::STEPS] for kind, line in lines.items()}
    choices = [choice for rows in table.values() for row in rows for choice in row[1:] if choice is not None]
    distinct = {(choice.chain, choice.thresholds): choice for choice in choices}
    records = [*run.records.values(), *map(chooser.records, distinct.values())]
    judges = [judge_of(task, matches, len(run)) for matches in records]
    estimate, drawn = paired_bootstrap(
        judges, len(run), analysis.replicates, analysis.seed, side_by_side=not task.mean
    )
    rows, singles = np.vstack([estimate, drawn]), len(run.records)  # all images first, then every resample
    column_of = {key: singles + index for index, key in enumerate(distinct)}

    def column(choice: Choice) -> FloatArray:
        return rows[:, column_of[choice.chain, choice.thresholds]]

    results: dict[Cost, list[Margins]] = {}
    for kind, winners in table.items():
        costs = analysis.costs[kind]
        hulls = [Hull.of(list(zip(costs.values(), row, strict=True))) for row in rows[:, :singles].tolist()]
        over_hull = differences(
            [column(row.best) - [hull.at(row.best.cost(costs)) for hull in hulls] for row in winners]
        )
        added = iter(differences([column(row.longer) - column(row.pair) for row in winners if row.longer]))
        results[kind] = [
            Margins(row, hull, next(added) if row.longer else None)
            for row, hull in zip(winners, over_hull, strict=True)
        ]
    return results


def difference_of(values: FloatArray) -> Difference:
    """A difference with its interval, from its values on all images and, after it, on every resample."""
    return Difference(float(values[0]), *interval(values[0], values[1:], CONFIDENCE).tolist())


def differences(columns: Sequence[FloatArray]) -> list[Difference]:
    """Differences with their intervals, from the values of each on all images and, after it, on resamples."""
    if not columns:
        return []
    values = np.column_stack(columns)
    ends = simultaneous_interval(values[0], values[1:], CONFIDENCE)
    return list(map(Difference, values[0].tolist(), *ends.tolist()))
