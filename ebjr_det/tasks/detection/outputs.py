"""What a detector of one's own returns for a batch, of its detections and the logits of their boxes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Output
from ebjr_det.tasks.detection.coco.annotations import Results
from ebjr_det.tasks.detection.coco.validate import NOISE
from ebjr_det.tasks.detection.detections import Detections, to_sides
from ebjr_det.tasks.detection.networks.classes import padded
from ebjr_det.tasks.detection.replay import logits_of


def build_output(
    answers: Sequence[Detections],
    logits: Sequence[NDArray[np.floating]] | None = None,
    background: Sequence[NDArray[np.floating]] | None = None,
) -> Output:
    """A detector's answers to a batch, as a model returns them; each picture's boxes are put best first.

    Args:
        answers: one a picture, in the order of the batch.
        logits: [n, classes] of each picture's boxes, before the sigmoid. Without them a box's only logit is
            that of its score, as of a result file, and scores that look at all classes are not to be had.
        background: [n] of each picture's boxes, the logit of "none of the classes" where the head is one
            softmax over classes and that; `logits` are then before the softmax.

    Raises:
        InvalidInput: no picture, other numbers of pictures or boxes, logits that are not finite, or, without
            any, scores outside [0, 1].

    >>> two = Detections(np.array([[0.0, 0, 9, 9], [5, 5, 8, 8]]), np.array([0.2, 0.9]), np.array([0, 1]))
    >>> output = build_output([two])
    >>> output.predictions[0].scores.tolist(), output.logits.values.round(1).tolist()
    ([0.9, 0.2], [[[2.2], [-1.4]]])
    """
    if not answers or any(len(rows) != len(answers) for rows in (logits, background) if rows is not None):
        raise InvalidInput(
            f"Expected one set of logits a picture, got {len(answers)} pictures and "
            f"{len(answers if logits is None else logits)} sets."
        )
    orders = [np.argsort(-np.asarray(answer.scores), kind="stable") for answer in answers]
    predictions = [_sorted(answer, order) for answer, order in zip(answers, orders, strict=True)]
    if logits is None:
        return Output(predictions, logits_of([_as_results(answer) for answer in predictions]))
    rows = [_rows(part, order, "logits") for part, order in zip(logits, orders, strict=True)]
    widths = {part.shape[1] for part in rows if len(part)}
    if len(widths) > 1:
        raise InvalidInput(f"Expected logits of the same classes in every picture, got {sorted(widths)}.")
    width = widths.pop() if widths else max(1, *(part.shape[1] for part in rows))
    values = padded([part if len(part) else np.zeros((0, width)) for part in rows], width, np.float64)
    if background is not None:
        columns = [
            _rows(np.asarray(part)[:, None], order, "background")
            for part, order in zip(background, orders, strict=True)
        ]
        none_of_them = padded(columns, 1, np.float64).values[..., 0]
        values = replace(values, head="softmax", background=none_of_them)
    return Output(predictions, values)


def _as_results(answer: Detections) -> Results:
    """Detections as a result file has them. Raises InvalidInput for scores outside [0, 1]."""
    if len(answer) and not (answer.scores.min() >= -NOISE and answer.scores.max() <= 1 + NOISE):
        raise InvalidInput(
            f"Expected scores in [0, 1] where no logits are given, got {answer.scores.min():g} to "
            f"{answer.scores.max():g}."
        )
    return Results(to_sides(answer.boxes), answer.scores, answer.labels)


def _rows(part: NDArray[np.floating], order: NDArray[np.intp], name: str) -> NDArray[np.floating]:
    array = np.asarray(part, dtype=np.float64)
    if array.ndim != 2 or len(array) != len(order):
        raise InvalidInput(
            f"Expected {name} of the {len(order)} boxes of a picture, got shape {list(array.shape)}."
        )
    return array[order]


def _sorted(answer: Detections, order: NDArray[np.intp]) -> Detections:
    support = None if answer.support is None else np.asarray(answer.support, np.float64)[order]
    boxes, scores = (np.asarray(column, np.float64)[order] for column in (answer.boxes, answer.scores))
    return Detections(boxes, scores, np.asarray(answer.labels, np.intp)[order], support)
