"""Is the student the one that a router was fitted for? By its name, its weights and its answers."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeAlias

import numpy as np

from ebjr_det.config import EvaluateConfig
from ebjr_det.core.errors import EbjrError
from ebjr_det.core.joint import ScoreFunction
from ebjr_det.core.types import FloatArray, Model, Output
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.checkpoints.fitting import UNUSED, is_dense
from ebjr_det.io.notes import say
from ebjr_det.routing.drift import ShareWatch, check_student, far_apart
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import plain

SAMPLE = 64
"""Pictures on which a student is looked at before a run where a router does not tell its weights."""


Answers: TypeAlias = Callable[[int], Sequence[Output]]
"""How many pictures at most -> the student's answers to a sample of so many; none where there are none."""


def check_answers(scoring: Scoring, answers: Answers, weights: str) -> None:
    """Raises InvalidInput where a few answers of the student tell that the router is another student's.

    Asks for none where the weights have told already.

    Args:
        weights: a digest of the student's, or empty.
    """
    file = scoring.file
    if file is not None and (numbers := _numbers(scoring, answers, weights)):
        check_student(file.student_scores, numbers.values, str(scoring.section.file), numbers.images)


def check_at_work(scoring: Scoring, traffic: Answers, configured: Answers, weights: str) -> None:
    """Warn where answers to pictures of any kind are unlike those of the fit; these alone refuse none.

    Measured on scenes of digits: dark or blurred pictures move one student's numbers by 0.5 to 0.9, as far as
    another student's lie, and all dark ones may be deferred, or none. So it needs the pictures of the
    configured data to refuse a router, where these are at hand, by the rule of `evaluate`.

    Args:
        traffic: answers to some of the pictures; `configured`: to some of the configured data.
    """
    file = scoring.file
    numbers = None if file is None else _numbers(scoring, traffic, weights)
    if file is None or numbers is None:
        return
    if far := far_apart(file.student_scores, numbers.values, numbers.images):
        check_answers(scoring, configured, weights)
        say(
            f"Warning: the student's scores here are distributed otherwise than at the router's fit: {far}. "
            "These pictures are of another kind, or the router was made for another student. Router: "
            f"`{scoring.section.file}`."
        )


def answers_to_data(config: EvaluateConfig, student: Model, count: int) -> list[Output]:
    """A student's answers to a sample of the configured data; none where these are not here."""
    from ebjr_det.inference.answers import sample_answers

    try:
        data = load_task(config.task).data.build_data(**dict(config.data))
    except EbjrError:
        return []
    return sample_answers(student, data, count, config.run)


class _Numbers(NamedTuple):
    """A sample of a student's numbers, and how many pictures are behind those of the fit and these."""

    values: FloatArray
    images: tuple[int, int]


def _numbers(scoring: Scoring, answers: Answers, weights: str) -> _Numbers | None:
    """Numbers of a few answers; None where the weights have told already, or there is no answer."""
    file = scoring.file
    if file is None or (weights and file.header.student_weights):
        return None
    outputs, numbers_of = answers(SAMPLE), load_task(scoring.task).routing.answer_numbers
    values = np.concatenate([np.zeros(0), *map(numbers_of, outputs)])
    sizes = len(file.header.image_ids), sum(len(output.logits) for output in outputs)
    return _Numbers(values, sizes) if len(values) else None


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
        if warning := watch.add(len(values), int((values > threshold).sum())):
            say(f"Warning: {warning} Router: `{scoring.section.file}`.")
        return values

    return score


WEIGHTS = "weights_sha256"
"""What a profile calls `weights_of` its model."""


def weights_of(model: object) -> str:
    """A digest of a model's weights, the same on every device and runtime, whatever its tensors are called.

    Empty where the model shows none: one that is no torch module, an exported one, or one whose weights are
    packed, as those of quantised layers are.
    """
    from torch import nn

    inner = plain(model)
    parts = (getattr(inner, name, None) for name in ("graph", "network"))
    module = next((part for part in (*parts, inner) if isinstance(part, nn.Module)), None)
    if module is None:
        return ""
    digest = sha256()
    for key, value in module.state_dict().items():
        if not is_dense(value):
            return ""
        if not key.endswith(UNUSED):  # no weight, and some ways to save a network drop it
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
