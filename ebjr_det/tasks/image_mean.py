"""A quality that is a mean over images: each answer has its own number, and any mixture is an average.

A task whose metric is of this kind says which columns `match` makes, and has everything else from here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Copies, FloatArray, Matches
from ebjr_det.tasks.contract import Prediction

LABEL = "label"
"""Column with each image's one class, where a task has one."""


class ImageMean:
    """A task whose numbers are means of columns of its match records; see `core.types.Task`.

    Attributes:
        columns: metric -> column of `match`, bool or float [images]; the first metric is the quality.
        mean: whether each answer is right or wrong: the quality's column is bool, or how likely it is right.
    """

    name: str
    mean: bool = True
    quality_name: str
    table_metrics: tuple[str, ...]
    columns: ClassVar[Mapping[str, str]]

    def __init_subclass__(cls) -> None:
        cls.table_metrics = tuple(cls.columns)
        cls.quality_name = cls.table_metrics[0]

    def match(self, predictions: Sequence[Prediction], targets: Sequence[object]) -> Matches:
        """The columns, and `label` where every image has one class."""
        raise NotImplementedError

    def metrics(self, matches: Matches) -> dict[str, float]:
        """Means over the images of the records."""
        return {metric: float(matches[column].mean()) for metric, column in self.columns.items()}

    def by_class(self, matches: Matches) -> FloatArray | None:
        """No numbers: those by class are no part of the report."""
        return None

    def composition(self, matches: Matches, classes: int | None = None) -> NDArray[np.uint16]:
        """[images, classes] one object an image, of its label's class; see `core.types.Task`."""
        if LABEL not in matches:
            raise InvalidInput("Expected records that know labels, got a run saved before. Evaluate again.")
        labels = matches[LABEL]
        count = int(labels.max()) + 1 if classes is None else classes
        if labels.max() >= count:
            raise InvalidInput(f"Expected labels of {count} classes, got {labels.max()}.")
        return np.asarray(labels[:, None] == np.arange(count), dtype=np.uint16)

    def mixtures(self, student: Matches, teacher: Matches) -> "MeanMixtures":
        """Numbers of both models, which simply add up."""
        return MeanMixtures(student, teacher, self.columns)

    def right(self, matches: Matches) -> NDArray[np.bool_] | None:
        """[images] right or wrong, where the quality is a share of answers that are known to be right."""
        column = matches[self.columns[self.quality_name]]
        return column if self.mean and column.dtype == bool else None

    def take(self, matches: Matches, images: NDArray[np.intp]) -> Matches:
        """The records of some images."""
        return {name: column[images] for name, column in matches.items()}


@dataclass(frozen=True)
class MeanMixtures:
    """`core.types.Mixtures` of numbers of images, exact in whole numbers where answers are right or wrong."""

    student: Matches
    teacher: Matches
    columns: Mapping[str, str]

    def path(
        self,
        order: NDArray[np.intp],
        deferred: NDArray[np.intp] | None = None,
        copies: Copies | None = None,
    ) -> FloatArray:
        """Quality of the mixtures; see `core.types.Mixtures`."""
        return self._means(self._quality, order, deferred, copies)

    def metrics(self, order: NDArray[np.intp], deferred: NDArray[np.intp]) -> dict[str, FloatArray]:
        """Every metric of the mixtures."""
        return {metric: self._means(column, order, deferred) for metric, column in self.columns.items()}

    def by_class(
        self, order: NDArray[np.intp], deferred: NDArray[np.intp], copies: Copies | None = None
    ) -> FloatArray:
        """Quality on the images of each class; see `core.types.Mixtures`."""
        labels, weights = self.student[LABEL], np.ones(len(order)) if copies is None else copies
        student, teacher = self.student[self._quality], self.teacher[self._quality]
        rank = np.argsort(order)
        sums = [np.bincount(labels, weights * np.where(rank < count, teacher, student)) for count in deferred]
        totals = np.bincount(labels, weights)[:, None]
        means = np.stack(sums, axis=1) / np.where(totals > 0, totals, 1.0)
        return np.asarray(np.where(totals > 0, means, -1.0))

    def weighing(self, worth: FloatArray) -> "MeanMixtures":
        """The answers as they are: images weigh, not classes."""
        return self

    def reward(self) -> FloatArray:
        """[images] the teacher's number minus the student's."""
        return self._gain(self._quality).astype(np.float64)

    @property
    def _quality(self) -> str:
        return next(iter(self.columns.values()))

    def _gain(self, column: str) -> NDArray[np.int64] | FloatArray:
        student, teacher = self.student[column], self.teacher[column]
        if student.dtype == bool:
            return teacher.astype(np.int64) - student.astype(np.int64)
        return np.asarray(teacher - student, dtype=np.float64)

    def _means(
        self,
        column: str,
        order: NDArray[np.intp],
        deferred: NDArray[np.intp] | None,
        copies: Copies | None = None,
    ) -> FloatArray:
        """The student's sum, plus what each deferred image changes, as a share of all."""
        gain = self._gain(column)
        weights = np.ones_like(gain) if copies is None else copies
        changes = np.cumsum((weights * gain)[order])
        sums = (weights * self.student[column]).sum() + np.concatenate([[0], changes])
        return np.asarray((sums if deferred is None else sums[deferred]) / weights.sum())
