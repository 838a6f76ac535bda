"""Classification judged: an image is right or wrong, the quality is top-1 accuracy in [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Copies, FloatArray, Matches

TOP_K = 5


class Accuracy:
    """The classification task. A prediction is a vector of class logits, a target a class index."""

    name = "classification"
    quality_name = "accuracy"
    table_metrics: tuple[str, ...] = ("accuracy", "top5_accuracy")
    mean = True

    def match(self, predictions: Sequence[Any], targets: Sequence[Any]) -> Matches:
        """Columns `correct` and `top5_correct`, bool [images], and the classes: `label`, `predicted`.

        A specialised student's vector is longer by a last entry, "other", which is right for no label, and is
        -inf for every class that it does not tell apart. The predicted class is the first of the largest
        logits; an image is right in the top 5 when its class has a logit above -inf and fewer than five
        classes have a larger one, or an equal one at a smaller index.

        Raises:
            InvalidInput: a label that is no class of the logits.
        """
        logits = np.asarray(predictions)
        labels = np.asarray(targets, dtype=np.intp)
        if labels.size and (labels.min() < 0 or labels.max() >= logits.shape[1]):
            raise InvalidInput(
                f"Expected labels in 0..{logits.shape[1] - 1}, got {labels.min()}..{labels.max()}."
            )
        own = np.take_along_axis(logits, labels[:, None], axis=1)
        earlier = np.arange(logits.shape[1]) < labels[:, None]
        ahead = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
        return {
            "correct": ahead == 0,
            "top5_correct": (ahead < TOP_K) & (own[:, 0] > -np.inf),
            "label": labels.astype(np.int32),
            "predicted": logits.argmax(axis=1).astype(np.int32),
        }

    def metrics(self, matches: Matches) -> dict[str, float]:
        """Top-1 accuracy (the quality) and top-5 accuracy."""
        return {
            "accuracy": float(matches["correct"].mean()),
            "top5_accuracy": float(matches["top5_correct"].mean()),
        }

    def by_class(self, matches: Matches) -> None:
        """An accuracy by class is no part of the report."""

    def composition(self, matches: Matches, classes: int | None = None) -> NDArray[np.uint16]:
        """One object an image, of its label's class; see `types.Task`."""
        if "label" not in matches:
            raise InvalidInput("Expected records that know labels, got a run saved before. Evaluate again.")
        labels = matches["label"]
        count = int(labels.max()) + 1 if classes is None else classes
        if labels.max() >= count:
            raise InvalidInput(f"Expected labels of {count} classes, got {labels.max()}.")
        return np.asarray(labels[:, None] == np.arange(count), dtype=np.uint16)

    def mixtures(self, student: Matches, teacher: Matches) -> "Counts":
        """Right answers, which simply add up."""
        return Counts(student, teacher)

    def right(self, matches: Matches) -> NDArray[np.bool_]:
        """Top-1 right or wrong."""
        return matches["correct"]

    def take(self, matches: Matches, images: NDArray[np.intp]) -> Matches:
        """The records of some images."""
        return {name: column[images] for name, column in matches.items()}


@dataclass(frozen=True)
class Counts:
    """`types.Mixtures` of right and wrong answers, exact in whole numbers."""

    student: Matches
    teacher: Matches

    def path(
        self,
        order: NDArray[np.intp],
        deferred: NDArray[np.intp] | None = None,
        copies: Copies | None = None,
    ) -> FloatArray:
        """Accuracy of the mixtures; see `types.Mixtures`."""
        return self._share("correct", order, deferred, copies)

    def metrics(self, order: NDArray[np.intp], deferred: NDArray[np.intp]) -> dict[str, FloatArray]:
        """Top-1 and top-5 accuracy of the mixtures."""
        return {
            "accuracy": self._share("correct", order, deferred),
            "top5_accuracy": self._share("top5_correct", order, deferred),
        }

    def by_class(
        self, order: NDArray[np.intp], deferred: NDArray[np.intp], copies: Copies | None = None
    ) -> FloatArray:
        """Accuracy on the images of each class; see `types.Mixtures`."""
        labels, times = self.student["label"], np.ones(len(order)) if copies is None else copies
        student, teacher = self.student["correct"], self.teacher["correct"]
        turn = np.argsort(order)
        right = [np.bincount(labels, times * np.where(turn < count, teacher, student)) for count in deferred]
        totals = np.bincount(labels, times)[:, None]
        shares = np.stack(right, axis=1) / np.where(totals > 0, totals, 1.0)
        return np.asarray(np.where(totals > 0, shares, -1.0))

    def weighing(self, worth: FloatArray) -> "Counts":
        """Itself: the quality is a mean over images."""
        return self

    def reward(self) -> FloatArray:
        """+1 where only the teacher is right, -1 where only the student is, else 0."""
        return self._gain("correct").astype(np.float64)

    def _gain(self, column: str) -> NDArray[np.int64]:
        return self.teacher[column].astype(np.int64) - self.student[column].astype(np.int64)

    def _share(
        self,
        column: str,
        order: NDArray[np.intp],
        deferred: NDArray[np.intp] | None,
        copies: Copies | None = None,
    ) -> FloatArray:
        """Right answers of the student, plus what each deferred image changes, as a share of all."""
        gain = self._gain(column)
        times = np.ones_like(gain) if copies is None else copies
        changes = np.cumsum((times * gain)[order])
        right = (times * self.student[column]).sum() + np.concatenate([[0], changes])
        return np.asarray((right if deferred is None else right[deferred]) / times.sum())
