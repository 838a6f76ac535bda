"""A router behind the student, in front of it, and both: by budget the better placement, with intervals.

Placement and thresholds are chosen on one part of the images; every quality, cost and interval is of the
rest, which no choice has seen, and neither part was in the fit of the router in front.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ebjr_det.core.cost import Cost
from ebjr_det.core.tradeoff import score_of, select, sweep_all
from ebjr_det.core.types import FloatArray, PairedRun, Task
from ebjr_det.evaluation.bootstrap import CONFIDENCE, METHOD, paired_bootstrap
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.hull import judge_of
from ebjr_det.evaluation.placement.choice import FrontCosts, Placed, Placement, Placer, placed_run
from ebjr_det.evaluation.placement.worth import ScoreWorth, ceiling_of, score_worths
from ebjr_det.evaluation.tiers.report import BUDGETS, STEPS, Difference, difference_of, differences
from ebjr_det.inference.latency import Latency
from ebjr_det.io.threads import thread_count
from ebjr_det.routing.file import FRONT

Key: TypeAlias = tuple[Placement, tuple[float, ...]]
"""A placement with its thresholds."""


@dataclass(frozen=True)
class PlacementAnalysis:
    """How placements of a router are looked at.

    Attributes:
        score: of the student.
        costs: by kind of cost that is known, what front, student and teacher cost.
        times: what was measured of `front`, `student` and `teacher` side by side, where it was.
        fraction: of the images, that choose; `seed`: of that part and of the bootstrap.
        fitted_on: how many pictures the front was fitted on; `left_out`: how many of these are in the run.
    """

    title: str
    score: str
    costs: Mapping[Cost, FrontCosts]
    times: Mapping[str, Latency]
    fraction: float
    seed: int
    replicates: int
    fitted_on: int
    left_out: int


class Row(NamedTuple):
    """The placements within a budget.

    Attributes:
        best: of each placement that the budget allows; `chosen`: the one that was better where it was chosen.
        gains: of each other placement, quality above the router behind the student at the same cost on the
            reported images, with its own interval.
        gain: that of the chosen one, with an interval that holds for all budgets of the table at once.
    """

    budget: float
    best: Mapping[Placement, Placed]
    chosen: Placement
    gains: Mapping[Placement, Difference]
    gain: Difference

    @property
    def pays(self) -> bool:
        """Whether another placement than behind was chosen, and is better by more than chance."""
        return self.chosen != "behind" and self.gain.low > 0


class Peak(NamedTuple):
    """A placement's best quality at any cost, and how far that is above the teacher alone."""

    placed: Placed
    over_teacher: Difference


@dataclass(frozen=True)
class PlacementReport:
    """Placements of a router on one set of images.

    Attributes:
        calibrating, images: how many images chose, and how many are reported.
        student_quality, teacher_quality: of each alone on the reported images.
        scores: of the front, the student's, a coin and the best order in hindsight.
        lines: by kind of cost, the best of each placement at many budgets; `table`: few, with intervals.
        peaks: of each placement; their intervals hold all at once.
        ceilings: by kind of cost, what a front that scored as well as the student does would add at the best
            budget: all that a better network could win.
    """

    analysis: PlacementAnalysis
    task: Task
    calibrating: int
    images: int
    student_quality: float
    teacher_quality: float
    scores: Mapping[str, ScoreWorth]
    lines: Mapping[Cost, Sequence[tuple[float, Mapping[Placement, Placed]]]]
    table: Mapping[Cost, Sequence[Row]]
    peaks: Mapping[Placement, Peak]
    ceilings: Mapping[Cost, float]

    def to_dict(self) -> dict[str, Any]:
        """The one JSON object of the command line."""
        analysis, costs = self.analysis, self.analysis.costs
        return {
            "title": analysis.title,
            "task": self.task.name,
            "quality_name": self.task.quality_name,
            "score": analysis.score,
            "fitted_on": analysis.fitted_on,
            "left_out": analysis.left_out,
            "calibration_images": self.calibrating,
            "images": self.images,
            "costs": {kind: column._asdict() for kind, column in costs.items()},
            "times": {name: latency.to_dict() for name, latency in analysis.times.items()},
            "student_quality": self.student_quality,
            "teacher_quality": self.teacher_quality,
            "scores": {name: worth._asdict() for name, worth in self.scores.items()},
            "budgets": {kind: [_row(row, costs) for row in rows] for kind, rows in self.table.items()},
            "pays": {kind: [row.budget for row in rows if row.pays] for kind, rows in self.table.items()},
            "peaks": [
                peak.placed.to_dict(costs) | {"over_teacher": peak.over_teacher._asdict()}
                for peak in self.peaks.values()
            ],
            "ceilings": dict(self.ceilings),
            "confidence": CONFIDENCE,
            "interval_method": METHOD,
            "replicates": analysis.replicates,
            "seed": analysis.seed,
        }


def _row(row: Row, costs: Mapping[Cost, FrontCosts]) -> dict[str, object]:
    return {
        "budget": row.budget,
        "chosen": row.chosen,
        "gain": row.gain._asdict(),
        "pays": row.pays,
        "placements": [placed.to_dict(costs) for placed in row.best.values()],
        "over_behind": {placement: gain._asdict() for placement, gain in row.gains.items()},
    }


def build_placement_report(
    run: PairedRun, task: Task, front_scores: FloatArray, analysis: PlacementAnalysis
) -> PlacementReport:
    """Choose placements on one part of the images, judge them on the rest.

    Args:
        run: images that the router in front has not seen; `front_scores`: its [N] scores of them.

    Raises:
        ConfigError: a part of the images would be empty, or the run has no such score.
    """
    chosen, judged = split(run, analysis.fraction, analysis.seed)
    tiered = placed_run(run, analysis.score, front_scores)
    parts = tiered.select(task, chosen), tiered.select(task, judged)
    placer = Placer(*parts, task, analysis.costs, thread_count())
    lines = {kind: _line(placer, costs) for kind, costs in analysis.costs.items()}
    reported = select(run, task, judged)
    table = {kind: _compared(placer, analysis.costs[kind], line[::STEPS]) for kind, line in lines.items()}
    columns = _Columns(reported, task, placer, analysis, table)
    scores = {FRONT: front_scores[judged], analysis.score: score_of(reported, analysis.score)}
    curves = sweep_all(replace(reported, scores=scores, abstains=None), task, list(scores))
    return PlacementReport(
        analysis,
        task,
        len(chosen),
        len(judged),
        task.metrics(reported.student)[task.quality_name],
        task.metrics(reported.teacher)[task.quality_name],
        score_worths(reported, task, curves, scores),
        lines,
        {kind: _rows(rows, columns) for kind, rows in table.items()},
        _peaks(columns),
        {kind: ceiling_of(curves[analysis.score], costs) for kind, costs in analysis.costs.items()},
    )


def _line(placer: Placer, costs: FrontCosts) -> list[tuple[float, Mapping[Placement, Placed]]]:
    """The best of each placement at every budget of a figure, from the student's cost to the teacher's."""
    budgets = np.linspace(costs.student, costs.teacher, (BUDGETS - 1) * STEPS + 1).tolist()
    return [(budget, placer.within(costs, budget)) for budget in budgets]


class _Compared(NamedTuple):
    """The placements within a budget, and of each its rival of the same cost: of the one behind itself."""

    budget: float
    best: Mapping[Placement, Placed]
    rivals: Mapping[Placement, Placed]


def _compared(
    placer: Placer, costs: FrontCosts, line: Sequence[tuple[float, Mapping[Placement, Placed]]]
) -> list[_Compared]:
    compared = []
    for budget, best in line:
        rivals = {name: placer.rival(costs, placed.cost(costs)) for name, placed in best.items()}
        compared.append(_Compared(budget, best, rivals | {"behind": best["behind"]}))
    return compared


class _Columns:
    """Qualities of every placement that is shown, on the reported images and on the same resamples."""

    def __init__(
        self, reported: PairedRun, task: Task, placer: Placer, analysis: PlacementAnalysis,
        table: Mapping[Cost, Sequence[_Compared]],
    ) -> None:  # fmt: skip
        first = next(iter(analysis.costs.values()))
        self.peaks = placer.within(first, np.inf)
        rows = [row for of_kind in table.values() for row in of_kind]
        placements = [placed for row in rows for placed in (*row.best.values(), *row.rivals.values())]
        distinct = {_key(placed): placed for placed in [*placements, *self.peaks.values()]}
        records = [reported.teacher, *map(placer.records, distinct.values())]
        estimate, drawn = paired_bootstrap(
            [judge_of(task, matches, len(reported)) for matches in records],
            len(reported), analysis.replicates, analysis.seed, side_by_side=not task.mean,
        )  # fmt: skip
        values = np.vstack([estimate, drawn])  # all images first, then every resample
        self.teacher = values[:, 0]
        self.by_key: dict[Key, FloatArray] = dict(zip(distinct, values[:, 1:].T, strict=True))

    def of(self, placed: Placed) -> FloatArray:
        """[1 + replicates] the quality of a placement."""
        return np.asarray(placed.mixed(self.by_key[_key(placed)], self.teacher))


def _key(placed: Placed) -> Key:
    return placed.placement, placed.choice.thresholds


def _rows(table: Sequence[_Compared], columns: _Columns) -> list[Row]:
    """The rows of a table, with intervals of the chosen placements that hold all at once."""
    winners: list[Placement] = []
    gains: list[dict[Placement, FloatArray]] = []
    for _, best, rivals in table:
        winners.append(max(best, key=lambda placement, best=best: best[placement].calibrated))  # type: ignore[misc]
        gains.append({name: columns.of(placed) - columns.of(rivals[name]) for name, placed in best.items()})
    chosen = differences([of_row[winner] for of_row, winner in zip(gains, winners, strict=True)])
    return [
        Row(
            budget,
            best,
            winner,
            {name: difference_of(values) for name, values in of_row.items() if name != "behind"},
            gain,
        )
        for (budget, best, _), winner, of_row, gain in zip(table, winners, gains, chosen, strict=True)
    ]


def _peaks(columns: _Columns) -> dict[Placement, Peak]:
    """The best quality of each placement beside the teacher's."""
    peaks = columns.peaks.values()
    above = differences([columns.of(placed) - columns.teacher for placed in peaks])
    return {placed.placement: Peak(placed, gain) for placed, gain in zip(peaks, above, strict=True)}
