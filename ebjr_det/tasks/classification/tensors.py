"""Classifiers' answers as tensors."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import softmax

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.popular import OTHER
from ebjr_det.tasks.tensors import TensorForm, Values

REQUIRED: tuple[str, ...] = ("logits",)


def check_tensors(values: Mapping[str, Array], named: ImageSet) -> None:
    """Raises InvalidInput unless there is one finite logit for every class."""
    logits = values["logits"]
    if logits.ndim != 2 or logits.shape[1] != named.num_classes or not np.isfinite(logits).all():
        raise InvalidInput(
            f"Expected finite logits [n, {named.num_classes}], got {list(logits.shape)} or others."
        )


def forms(named: ImageSet) -> list[TensorForm]:
    """Logits and probabilities of every class, and the likeliest class by index and name.

    A specialised student's "other" has one more logit behind the classes, and the label -1.
    """
    return [
        TensorForm("logits", "FP32", (-1, -1), "of every class, before softmax"),
        TensorForm("probabilities", "FP64", (-1, -1), "softmax of the logits"),
        TensorForm("label", "INT64", (-1,), "index of the likeliest class, from 0; -1 for a student's other"),
        TensorForm("name", "BYTES", (-1,), "name of the likeliest class"),
    ]


def to_tensors(answers: Sequence[Array], named: ImageSet) -> dict[str, Values]:
    """Answers to n pictures, logits in their own precision; narrower rows are padded with -infinity."""
    logits = np.full((len(answers), max(map(len, answers))), -np.inf, dtype=np.result_type(*answers))
    for row, answer in zip(logits, answers, strict=True):
        row[: len(answer)] = answer
    best = logits.argmax(axis=1)
    labels = np.where(best < named.num_classes, best, -1).astype(np.int64)
    names = [OTHER if label < 0 else named.class_names[label] for label in labels.tolist()]
    probabilities = softmax(logits.astype(np.float64), axis=1)
    return {"logits": logits, "probabilities": probabilities, "label": labels, "name": names}


def from_tensors(values: Mapping[str, Array]) -> list[Array]:
    """The logits of each picture, without the padding."""
    return [row[row > -np.inf] for row in values["logits"]]


def agreement(first: Array, second: Array) -> float:
    """1 where two answers' likeliest classes are the same, else 0."""
    return float(first.argmax() == second.argmax())
