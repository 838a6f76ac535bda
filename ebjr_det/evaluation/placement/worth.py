"""What a front's score is worth, and what the best one that could stand there would win."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ebjr_det.core.ranking import correlation
from ebjr_det.core.tradeoff import TradeoffCurve
from ebjr_det.core.types import FloatArray, PairedRun, Task
from ebjr_det.evaluation.placement.choice import FrontCosts, with_coin
from ebjr_det.routing.file import FRONT


class ScoreWorth(NamedTuple):
    """What a score is worth on the reported images: area under its curve, correlation with the reward."""

    area: float
    correlation: float | None


def score_worths(
    run: PairedRun, task: Task, curves: Mapping[str, TradeoffCurve], scores: Mapping[str, FloatArray]
) -> dict[str, ScoreWorth]:
    """What the front's score and the student's are worth, beside a coin and the best order."""
    reward = task.mixtures(run.student, run.teacher).reward()
    worths = {
        name: ScoreWorth(curve.area(), correlation(scores[name], reward)) for name, curve in curves.items()
    }
    curve = curves[FRONT]
    for name, rate, quality in (
        ("random", curve.random_rate, curve.random),
        ("oracle", curve.oracle_rate, curve.oracle),
    ):
        worths[name] = ScoreWorth(float(np.trapezoid(quality, rate)), None)
    return worths


def ceiling_of(behind: TradeoffCurve, costs: FrontCosts) -> float:
    """What the student's score would add if it stood in front, at the budget where it adds most.

    At a budget B it would defer (B - front - student) / (teacher - student) in place of
    (B - student) / teacher.
    """
    front, student, teacher = costs
    budgets = np.linspace(front + student, max(front + student, teacher), 101)
    rates, best = behind.deferral_rate, np.maximum.accumulate(behind.quality)
    in_front = np.interp((budgets - front - student) / (teacher - student), rates, best)
    alone = teacher, behind.teacher_quality
    mixed = [with_coin(student + rates * teacher, best, alone, budget)[0].max() for budget in budgets]
    return float((in_front - np.array(mixed)).max())
