"""`scores`: every deferral score there is, what it computes, and what it needs."""

from collections.abc import Iterator
from typing import NamedTuple

from ebjr_det.core.scores import SCORES
from ebjr_det.tasks import TASKS, load_task


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
    for name, score in load_task(task).routing.SCORES.items():
        needs = [score.needs] * bool(score.needs) + ["whole set"] * score.whole_set
        needs += ["candidates"] * score.candidates
        yield ListedScore(name, task, score.formula, score.source, (), tuple(needs))
