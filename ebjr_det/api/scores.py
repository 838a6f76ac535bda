"""`scores`: every deferral score there is, what it computes, and what it needs."""

from collections.abc import Iterator
from typing import NamedTuple

from ebjr_det.core.scores import SCORES
from ebjr_det.tasks import TASKS, room


class ListedScore(NamedTuple):
    """One score as it is listed.

    Attributes:
        task: the one that it serves, or `any`.
        options: names of its keyword arguments.
        needs: what it needs beyond the student's answer to one picture.
    """

    name: str
    task: str
    formula: str
    source: str
    options: tuple[str, ...]
    needs: tuple[str, ...]


def list_scores() -> list[ListedScore]:
    """The scores of logits, which serve every task, then those of each task's own router."""
    of_logits = [
        ListedScore(
            score.name,
            "any",
            score.formula,
            score.source,
            score.options,
            ("all class logits",) * score.all_classes,
        )
        for score in SCORES.values()
    ]
    return of_logits + [listed for task in TASKS for listed in _of_task(task)]


def _of_task(task: str) -> Iterator[ListedScore]:
    router = room(task, "router")
    for name, (formula, source) in router.FORMULAS.items():
        needs = [router.NEEDS_ROUTER[name]] if name in router.NEEDS_ROUTER else []
        needs += ["whole set"] * (name in router.WHOLE_SET) + ["candidates"] * (name in router.CANDIDATES)
        yield ListedScore(name, task, formula, source, (), tuple(needs))
