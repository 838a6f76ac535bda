"""Detectors' answers as tensors."""

from collections.abc import Mapping, Sequence

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array
from ebjr_det.tasks.detection.data import Named
from ebjr_det.tasks.detection.detections import Detections, iou
from ebjr_det.tasks.tensors import TensorForm, Values

REQUIRED: tuple[str, ...] = ("boxes", "scores", "labels", "counts")
CONFIDENT, SAME_BOX = 0.5, 0.5


def check_tensors(values: Mapping[str, Array], named: Named) -> None:
    """Raises InvalidInput for labels beyond the classes, or counts that are not those of the boxes."""
    labels, counts, classes = values["labels"], values["counts"], len(named.class_names)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise InvalidInput(f"Expected labels from 0 to {classes - 1}, got others.")
    if (len(counts) and counts.min() < 0) or counts.sum() != len(labels):
        raise InvalidInput(f"Expected counts of {len(labels)} boxes in all, got others.")


def forms(named: Named) -> list[TensorForm]:
    """Boxes of all pictures one after the other, and how many are whose."""
    corners = "corners x1, y1, x2, y2 of each box in pixels of the picture, turned as its camera says"
    return [
        TensorForm("boxes", "FP32", (-1, 4), corners),
        TensorForm("scores", "FP32", (-1,), "confidence of each box, from 0 to 1"),
        TensorForm("labels", "INT64", (-1,), "index of each box's class, from 0"),
        TensorForm("category_ids", "INT64", (-1,), "the data's own number of each box's class"),
        TensorForm("counts", "INT64", (-1,), "boxes a picture"),
    ]


def to_tensors(answers: Sequence[Detections], named: Named) -> dict[str, Values]:
    """Answers to n pictures, boxes and scores in their own precision."""
    labels = np.concatenate([answer.labels for answer in answers]).astype(np.int64)
    ids = np.array(list(named.categories), dtype=np.int64)
    return {
        "boxes": np.concatenate([answer.boxes for answer in answers]),
        "scores": np.concatenate([answer.scores for answer in answers]),
        "labels": labels,
        "category_ids": ids[labels] if len(labels) else labels,
        "counts": np.array([len(answer) for answer in answers], dtype=np.int64),
    }


def from_tensors(values: Mapping[str, Array]) -> list[Detections]:
    """The boxes of each picture."""
    ends = np.cumsum(values["counts"])[:-1]
    columns = (np.split(values[name], ends) for name in ("boxes", "scores", "labels"))
    return [Detections(*column) for column in zip(*columns, strict=True)]


def agreement(first: Detections, second: Detections) -> float:
    """F1 of two answers' confident boxes, of which two of one label with an IoU from 0.5 are a pair.

    Confident are scores from 0.5; two answers without any such box agree.
    """
    from scipy.optimize import linear_sum_assignment

    confident = [answer.scores >= CONFIDENT for answer in (first, second)]
    boxes = first.boxes[confident[0]], second.boxes[confident[1]]
    partners = first.labels[confident[0]][:, None] == second.labels[confident[1]][None]
    if not sum(partners.shape):
        return 1.0
    areas = [np.prod(corners[:, 2:] - corners[:, :2], axis=1) for corners in boxes]
    for row, column in np.argwhere(partners):
        shared = iou(boxes[0][row], boxes[1][column], areas[0][row] + areas[1][column])
        partners[row, column] = shared >= SAME_BOX
    rows, columns = linear_sum_assignment(partners, maximize=True)
    pairs = int(partners[rows, columns].sum())
    return float(2 * pairs / sum(partners.shape))
