"""Routers compared out of fold: the simplest score and rescaling that are about as good as the best.

*One standard error rule* (Breiman, Friedman, Olshen and Stone 1984, Classification and Regression Trees,
3.4.3): of all that lie within one standard error of the best, the simplest is taken. The error is that of the
difference to the best, by a paired bootstrap over images.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ebjr_det.config.sections import AUTO
from ebjr_det.core.scores import CURVATURE, SCORES
from ebjr_det.core.tradeoff import areas
from ebjr_det.core.types import PairedRun, Task
from ebjr_det.evaluation.bootstrap import resampled_areas
from ebjr_det.io.threads import thread_count
from ebjr_det.tasks import load_task
from ebjr_det.tasks.routing import A_FITTED_ROUTER, CLASS_COUNTS, Routing

CONTENDERS = 6
"""How many of the best routers are compared by resampling, beside the best of each level of simplicity."""

EQUAL = 1e-12
"""Areas that differ by less are equal."""


class Contender(NamedTuple):
    """A score under a rescaling, out of fold: its area under the curve, and what it has less than the best,
    with the standard error of that.
    """

    score: str
    rescaling: str
    area: float
    behind: float
    error: float


class RouterComparison(NamedTuple):
    """What was compared out of fold, and what is best.

    Attributes:
        crossed: the run under each rescaling, with every score out of fold; `areas`: of its scores.
        by_rescaling: area of one fixed score under each rescaling.
        ends: quality of student and teacher as they are.
        rescaling, score: those to be saved; `candidates`: among how many scores this one could be picked.
        contenders: those that were compared by resampling, the best first; none where the score was named.
    """

    crossed: Mapping[str, PairedRun]
    areas: Mapping[str, Mapping[str, float]]
    by_rescaling: Mapping[str, float]
    ends: tuple[float, float]
    rescaling: str
    score: str
    candidates: int
    contenders: Sequence[Contender] = ()


def compare_routers(
    run: PairedRun,
    task: Task,
    cross: Callable[[str, bool], PairedRun],
    rescalings: Sequence[str],
    name: str = AUTO,
    *,
    live: bool = True,
    replicates: int = 100,
    seed: int = 0,
) -> RouterComparison:
    """Rescalings by one fixed score, nothing learned; then every score on the best of them and on none.

    Args:
        cross: rescaling, and whether to learn -> the run with out-of-fold scores.
        name: of the score to save; `auto` takes the simplest within one standard error of the best of those
            that work on one picture.
        live: the student itself is there, and not a file of its answers.
        replicates, seed: of the resamples by which routers are told apart.
    """
    routing = load_task(run.task).routing
    fixed = routing.SELECTS_BY
    by_rescaling = {
        rescaling: _areas(cross(rescaling, False), task, [fixed])[fixed] for rescaling in rescalings
    }
    ends = _ends(run, task)
    best = _simplest(by_rescaling, ends[1] - ends[0])
    tried = ["none", best] if "none" in rescalings else [best]
    crossed = {rescaling: cross(rescaling, True) for rescaling in dict.fromkeys(["none", best])}
    areas = {rescaling: _areas(fitted, task, list(fitted.scores)) for rescaling, fitted in crossed.items()}
    candidates = candidates_of(areas[best], routing, live)
    if name != AUTO:
        return RouterComparison(crossed, areas, by_rescaling, ends, best, name, len(candidates))
    pairs = {(rescaling, score): areas[rescaling][score] for rescaling in tried for score in candidates}
    contenders = _contenders(crossed, task, pairs, replicates, seed)
    eligible = [contender for contender in contenders if contender.behind <= contender.error + EQUAL]
    chosen = min(eligible, key=lambda c: (simplicity(c.score, c.rescaling, routing), -c.area))
    return RouterComparison(
        crossed, areas, by_rescaling, ends, chosen.rescaling, chosen.score, len(candidates), contenders
    )


def simplicity(score: str, rescaling: str, routing: Routing) -> int:
    """How much has to be fitted: 0 the curvature of the energy, 1 another score that needs no fit, 2 class
    counts, 3 a learned router, 4 one that looks at the student's features; 1 more with a rescaling.
    """
    of_task = routing.SCORES.get(score)
    levels = {CLASS_COUNTS: 2, A_FITTED_ROUTER: 3}
    level = int(score != CURVATURE) if of_task is None else levels.get(of_task.needs, 1) + of_task.features
    return level + (rescaling != "none")


def _contenders(
    crossed: Mapping[str, PairedRun],
    task: Task,
    areas: Mapping[tuple[str, str], float],
    replicates: int,
    seed: int,
) -> list[Contender]:
    """The best routers and the best of each level of simplicity, with what they have less than the best."""
    routing, ranked = load_task(task.name).routing, sorted(areas, key=lambda pair: -areas[pair])
    best_of_level: dict[int, tuple[str, str]] = {}
    for rescaling, score in ranked:
        best_of_level.setdefault(simplicity(score, rescaling, routing), (rescaling, score))
    chosen = [pair for pair in ranked if pair in ranked[:CONTENDERS] or pair in best_of_level.values()]
    curves = [(crossed[rescaling], score) for rescaling, score in chosen]
    _, resampled = resampled_areas(curves, task, replicates, seed)
    errors = (resampled[:, :1] - resampled).std(axis=0, ddof=1)
    return [
        Contender(
            score, rescaling, areas[rescaling, score], areas[ranked[0]] - areas[rescaling, score], error
        )
        for (rescaling, score), error in zip(chosen, errors.tolist(), strict=True)
    ]


def _simplest(areas: Mapping[str, float], gap: float) -> str:
    """The first, so the simplest, of the rescalings that come within a thousandth of the gap of the best."""
    best = max(areas.values())
    return next(name for name, area in areas.items() if area >= best - 1e-3 * abs(gap))


def _ends(run: PairedRun, task: Task) -> tuple[float, float]:
    """Quality of student and teacher as they are."""
    ends = task.mixtures(run.student, run.teacher).path(np.arange(len(run)), np.array([0, len(run)]))
    return float(ends[0]), float(ends[1])


def _areas(run: PairedRun, task: Task, names: Sequence[str]) -> dict[str, float]:
    return areas(run, task, names, thread_count())


def candidates_of(areas: Mapping[str, float], routing: Routing, live: bool) -> list[str]:
    """The scores that may be picked: those that work on one picture.

    Result files tell other features than the student itself, so a router that needs them would serve no live
    pair; it is taken unasked only where the student was there (`live`).
    """
    offline = {n for n, s in routing.SCORES.items() if s.whole_set or (s.features and not live)}
    # a run of an earlier version has other scores too
    registered = {*SCORES, *routing.SCORES, *routing.VARIANTS}
    return [name for name in areas if name in registered - {"random", *offline}]
