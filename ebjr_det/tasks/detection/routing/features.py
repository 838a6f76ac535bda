"""What a learned router sees: one row for every class that the student found in a picture.

A class is the unit because AP is a mean over classes: what a picture is worth is the sum of what its classes
are. Rows hold numbers of the student's boxes only; the statistics of classes come from other pictures. What
only the student itself can tell of a picture, `features_of`, makes further columns.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.scores import SCORES, rows_of
from ebjr_det.core.types import FloatArray, Logits, Output
from ebjr_det.tasks.detection.boxes import LEAST, Boxes, logits_of_scores

KNOTS = np.linspace(-8.0, 8.0, 65)  # logits at which the boxes of a class are counted
QUANTILES = np.linspace(0.0, 1.0, 5)
LARGEST = 1e30  # so that float32 holds the energy of any logits
SHRINK = 10.0  # objects of a class at which its own AP counts half

NAMES = (
    "best score", "second", "third", "best logit", "sum s", "sum s(1-s)", "max s(1-s)",
    "boxes over .05", "over .1", "over .3",
    "log area of best", "mean log area", "least log area", "log aspect of best",
    "overlap, own class", "overlap, other classes",
    "picture: sum s", "picture: sum s(1-s)", "picture: classes", "picture: boxes over .1",
    "picture: best score", "share of the picture's sum",
    "log objects", "student's AP", "teacher's AP", "precision there", "recall there",
)  # fmt: skip
"""The columns: of the class in the picture, of the whole picture, of the class in other pictures."""


@dataclass(frozen=True)
class ClassHistory:
    """What other pictures tell about each class.

    Attributes:
        seen: [classes] annotated objects.
        student, teacher: [classes] AP of both models, drawn to the mean where a class has few objects.
        boxes, objects: [classes, KNOTS] the student's boxes of at least that logit, and their scores' sum.
    """

    seen: FloatArray
    student: FloatArray
    teacher: FloatArray
    boxes: FloatArray
    objects: FloatArray

    @classmethod
    def of(cls, boxes: Boxes, seen: FloatArray, student: FloatArray, teacher: FloatArray) -> "ClassHistory":
        """From the student's boxes in these pictures, objects, and APs (-1 where there is none)."""
        classes = len(seen)
        knot = np.searchsorted(KNOTS, logits_of_scores(boxes.score), side="right")  # below or at the box
        cell = boxes.label * (len(KNOTS) + 1) + knot

        def above(weight: FloatArray | None) -> FloatArray:
            table = np.bincount(cell, weight, minlength=classes * (len(KNOTS) + 1)).reshape(classes, -1)
            return np.asarray(table[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:], dtype=np.float64)

        return cls(seen, _shrunk(student, seen), _shrunk(teacher, seen), above(None), above(boxes.score))


class ClassRows(NamedTuple):
    """Rows [n, columns] of the classes `label` [n] in the pictures `image` [n]."""

    values: NDArray[np.float32]
    image: NDArray[np.intp]
    label: NDArray[np.intp]

    def with_columns(self, features: NDArray[np.float32]) -> "ClassRows":
        """Rows with further columns, `features` [images, m] of each row's picture."""
        return self._replace(values=np.concatenate([self.values, features[self.image]], axis=1))


def class_rows(boxes: Boxes, history: ClassHistory) -> ClassRows:
    """One row for each class of which a picture has a box; the columns are `NAMES`."""
    crowds, rivals = boxes.crowding()
    order = np.lexsort((-boxes.score, boxes.label, boxes.image))
    image, label, s = boxes.image[order], boxes.label[order], boxes.score[order]
    key = image * (len(history.seen) + 1) + label
    first = np.flatnonzero(np.diff(key, prepend=-1))
    rank = np.arange(len(key)) - np.repeat(first, np.diff(first, append=len(key)))
    area, side = np.log(boxes.area[order] + 1), boxes.box[order][:, 2:] + 1
    variance = s * (1 - s)

    def total(values: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(values, first)) if len(first) else values

    def ranked(index: int) -> FloatArray:
        return total(np.where(rank == index, s, 0.0))

    best = s[first]
    images, labels = image[first], label[first]
    of_picture = [
        np.bincount(image, s, boxes.images),
        np.bincount(image, variance, boxes.images),
        np.bincount(images, best > 0.15, boxes.images),
        np.bincount(image, s > 0.1, boxes.images),
        boxes.best(boxes.score, 0.0),
    ]
    sums = total(s)
    least = np.minimum.reduceat(area, first) if len(first) else area
    columns = [
        best, ranked(1), ranked(2), logits_of_scores(best), sums, total(variance),
        np.maximum.reduceat(variance, first) if len(first) else variance,
        *(total((s > level).astype(np.float64)) for level in (0.05, 0.1, 0.3)),
        area[first], total(s * area) / np.maximum(sums, LEAST), least,
        np.log(side[first, 0] / side[first, 1]),
        crowds[order][first], rivals[order][first],
        *(numbers[images] for numbers in of_picture),
        sums / np.maximum(of_picture[0][images], LEAST),
        *_of_class(history, labels, best),
    ]  # fmt: skip
    return ClassRows(np.stack(columns, axis=1).astype(np.float32), images, labels)


def _of_class(history: ClassHistory, label: NDArray[np.intp], score: FloatArray) -> list[FloatArray]:
    """The last columns: where a box of this score would stand among the student's boxes of its class."""
    knot = np.clip(np.searchsorted(KNOTS, logits_of_scores(score), side="right") - 1, 0, len(KNOTS) - 1)
    boxes, objects, seen = history.boxes[label, knot], history.objects[label, knot], history.seen[label]
    return [
        np.log1p(seen),
        history.student[label],
        history.teacher[label],
        (objects + 0.5) / (boxes + 1),
        np.minimum(objects / (seen + 1), 3.0),
    ]


def _shrunk(quality: FloatArray, seen: FloatArray) -> FloatArray:
    judged = quality >= 0
    mean = quality[judged].mean() if judged.any() else 0.0
    return np.asarray((np.where(judged, quality, mean) * seen + mean * SHRINK) / (seen + SHRINK))


def features_of(output: Output) -> NDArray[np.float32]:
    """[images, m] what the student tells of each picture beside its boxes.

    The quantiles (0, 0.25, 0.5, 0.75, 1) of the free energy of its rows of logits, then of their joint
    energy, then `Output.features` where there are any. The joint energy of a lone logit, as a result file has
    it, is a function of the free energy and left out: so a router tells a result file from a model.
    """
    lone = output.logits.values.shape[2] == 1
    names = ("free_energy",) if lone else ("free_energy", "joint_energy")
    parts = [energy_quantiles(output.logits, name) for name in names]
    if output.features is not None:
        parts.append(np.asarray(output.features))
    return np.concatenate(parts, axis=1).clip(-LARGEST, LARGEST).astype(np.float32)


def energy_quantiles(logits: Logits, name: str) -> FloatArray:
    """[images, 5] `QUANTILES` of a score over each picture's rows, linear between two of them.

    Args:
        name: a key of `scores.SCORES`. A picture without rows has the one that stands for it there.
    """
    rows, starts = rows_of(logits)
    counts = np.diff(starts, append=len(rows))
    values = SCORES[name].function(rows)
    ascending = values[np.lexsort((values, np.repeat(np.arange(len(starts)), counts)))]
    position = QUANTILES * (counts[:, None] - 1)
    below = np.floor(position).astype(np.intp)
    low = ascending[starts[:, None] + below]
    high = ascending[starts[:, None] + np.ceil(position).astype(np.intp)]
    return np.asarray(low + (high - low) * (position - below))
