"""Is the student the one that a router was fitted for? Looked at before a run, and during a live one."""

from collections.abc import Callable, Sequence

import numpy as np

from ebjr_det.api.routing import Scoring, say
from ebjr_det.joint import ScoreFunction
from ebjr_det.routing.drift import ShareWatch, check_student
from ebjr_det.tasks import room
from ebjr_det.types import FloatArray, Output

SAMPLE = 64
"""Pictures on which a student is looked at before a run where a router does not tell its weights."""


def check_answers(scoring: Scoring, answers: Callable[[int], Sequence[Output]], weights: str) -> None:
    """Raises InvalidInput where a few answers of the student tell that the router is another student's.

    Asks for none where the weights have told already.

    Args:
        answers: how many pictures at most -> the student's answers to a random sample of so many.
        weights: a digest of the student's, or empty.
    """
    file = scoring.file
    if file is None or (weights and file.header.student_weights):
        return
    some, numbers_of = answers(SAMPLE), room(scoring.task, "router").answer_numbers
    numbers = np.concatenate([np.zeros(0), *map(numbers_of, some)])
    if len(numbers):
        sizes = len(file.header.image_ids), sum(len(output.logits) for output in some)
        check_student(file.student_scores, numbers, str(scoring.section.file), sizes)


def watched(scoring: Scoring, threshold: float) -> ScoreFunction:
    """The deciding score; where a router's file tells what share lay above the threshold at its fit, with an
    eye on the share here.
    """
    file = scoring.file
    if file is None or scoring.name != file.header.score:
        return scoring.score
    watch = ShareWatch(len(file.reference), int((file.reference > threshold).sum()))

    def score(output: Output) -> FloatArray:
        values = scoring.score(output)
        if said := watch.add(len(values), int((values > threshold).sum())):
            say(f"Warning: {said} Router: `{scoring.section.file}`.")
        return values

    return score
