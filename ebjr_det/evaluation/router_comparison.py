"""Routers compared out of fold: which rescaling of the student's scores, and which score, is best."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ebjr_det.core.scores import SCORES
from ebjr_det.core.tradeoff import sweep_all
from ebjr_det.core.types import PairedRun, Task
from ebjr_det.io.threads import thread_count
from ebjr_det.tasks import load_task
from ebjr_det.tasks.routing import Routing

AUTO = "auto"


class RouterComparison(NamedTuple):
    """What was compared out of fold, and what is best.

    Attributes:
        crossed: the run under each rescaling, with every score out of fold; `areas`: of its scores.
        by_rescaling: area of one fixed score under each rescaling.
        ends: quality of student and teacher as they are.
        rescaling, score: those to be saved; `candidates`: among how many scores this one could be picked.
    """

    crossed: Mapping[str, PairedRun]
    areas: Mapping[str, Mapping[str, float]]
    by_rescaling: Mapping[str, float]
    ends: tuple[float, float]
    rescaling: str
    score: str
    candidates: int


def compare_routers(
    run: PairedRun,
    task: Task,
    cross: Callable[[str, bool], PairedRun],
    rescalings: Sequence[str],
    name: str = AUTO,
    *,
    live: bool = True,
) -> RouterComparison:
    """Rescalings by one fixed score, nothing learned; then every score on the best of them and on none.

    Args:
        cross: rescaling, and whether to learn -> the run with out-of-fold scores.
        name: of the score to save; `auto` takes the best that works on one picture.
        live: the student itself is there, and not a file of its answers.
    """
    routing = load_task(run.task).routing
    fixed = routing.SELECTS_BY
    by_rescaling = {
        rescaling: _areas(cross(rescaling, False), task, [fixed])[fixed] for rescaling in rescalings
    }
    ends = _ends(run, task)
    best = _simplest(by_rescaling, ends[1] - ends[0])
    crossed = {rescaling: cross(rescaling, True) for rescaling in dict.fromkeys(["none", best])}
    areas = {rescaling: _areas(fitted, task, list(fitted.scores)) for rescaling, fitted in crossed.items()}
    candidates = candidates_of(areas[best], routing, live)
    score = max(candidates, key=lambda score: areas[best][score]) if name == AUTO else name
    return RouterComparison(crossed, areas, by_rescaling, ends, best, score, len(candidates))


def _simplest(areas: Mapping[str, float], gap: float) -> str:
    """The first, so the simplest, of the rescalings that come within a thousandth of the gap of the best."""
    best = max(areas.values())
    return next(name for name, area in areas.items() if area >= best - 1e-3 * abs(gap))


def _ends(run: PairedRun, task: Task) -> tuple[float, float]:
    """Quality of student and teacher as they are."""
    ends = task.mixtures(run.student, run.teacher).path(np.arange(len(run)), np.array([0, len(run)]))
    return float(ends[0]), float(ends[1])


def _areas(run: PairedRun, task: Task, names: Sequence[str]) -> dict[str, float]:
    """Area under the curve of each score."""
    return {name: curve.area() for name, curve in sweep_all(run, task, names, threads=thread_count()).items()}


def candidates_of(areas: Mapping[str, float], routing: Routing, live: bool) -> list[str]:
    """The scores that may be picked: those that work on one picture.

    Result files tell other features than the student itself, so a router that needs them would serve no live
    pair; it is taken unasked only where the student was there (`live`).
    """
    offline = {n for n, s in routing.SCORES.items() if s.whole_set or (s.features and not live)}
    known = {*SCORES, *routing.SCORES, *routing.VARIANTS}  # a run of an earlier version has other scores too
    return [name for name in areas if name in known - {"random", *offline}]
