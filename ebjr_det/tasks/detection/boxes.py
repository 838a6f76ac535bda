"""The boxes of many images in one table, which is what deferral scores and routers of detectors look at.

Convention: x, y, width, height in pixels of the original image. Rows come image after image, within one by
descending score, then class. No annotated object is in here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from ebjr_det.core.types import FloatArray, Matches
from ebjr_det.io.compiled import compiled
from ebjr_det.tasks.detection.detections import Detections, iou, to_corners, to_sides

LEAST = 1e-9  # distance of a score from 0 and 1, which have no logit


def logits_of_scores(scores: FloatArray) -> FloatArray:
    """log(s / (1 - s)) of scores in [0, 1], the two ends of which have none and count as 1e-9 from them."""
    return np.asarray(logit(np.clip(scores, LEAST, 1 - LEAST)))


@dataclass(frozen=True)
class Boxes:
    """Detected boxes of `images` images.

    Attributes:
        image: [n] index of the image, ascending.
        box: [n, 4] x, y, width, height; score: [n] in [0, 1]; label: [n] class indices from 0.
        support: [n] `Detections.support`, or None where an image has none.
    """

    images: int
    image: NDArray[np.intp]
    box: FloatArray
    score: FloatArray
    label: NDArray[np.intp]
    support: FloatArray | None = None

    def _sorted(self) -> "Boxes":
        order = np.lexsort((self.label, -self.score, self.image))
        support = None if self.support is None else self.support[order]
        image, box, score, label = self.image[order], self.box[order], self.score[order], self.label[order]
        return Boxes(self.images, image, box, score, label, support)

    @classmethod
    def of_predictions(cls, predictions: Sequence[Detections]) -> "Boxes":
        """The boxes that a detector returns."""
        image = np.repeat(np.arange(len(predictions)), [len(answer) for answer in predictions])
        box = to_sides(np.concatenate([answer.boxes for answer in predictions]))
        score = np.concatenate([answer.scores for answer in predictions])
        label = np.concatenate([answer.labels for answer in predictions])
        supports = [answer.support for answer in predictions if answer.support is not None]
        support = np.concatenate(supports) if len(supports) == len(predictions) else None
        return cls(len(predictions), image, box, score, label, support)._sorted()

    @classmethod
    def of_records(cls, matches: Matches) -> "Boxes":
        """The boxes behind match records, which hold no support; how they were matched is not looked at."""
        counts = matches["counts"]
        image = np.repeat(np.arange(len(counts)), counts)
        label = matches["label"].astype(np.intp)
        return cls(len(counts), image, matches["box"], np.clip(matches["score"], 0, 1), label)._sorted()

    def total(self, values: FloatArray) -> FloatArray:
        """Sum of a number a box over each image, [n] -> [images]; 0 for an image without boxes."""
        return np.bincount(self.image, values, self.images).astype(np.float64)

    def best(self, values: FloatArray, missing: float) -> FloatArray:
        """Largest of a number a box in each image, [n] -> [images]; `missing` without boxes."""
        largest = np.full(self.images, missing)
        starts = np.flatnonzero(np.diff(self.image, prepend=-1))
        if len(starts):
            largest[self.image[starts]] = np.maximum.reduceat(values, starts)
        return largest

    @property
    def area(self) -> FloatArray:
        """[n] square pixels; infinity where no float holds them."""
        with np.errstate(over="ignore"):
            return np.asarray(self.box[:, 2] * self.box[:, 3])

    def crowding(self) -> tuple[FloatArray, FloatArray]:
        """For each box, the overlap (IoU) with the other boxes of its image weighted by their scores.

        Returns:
            [n] the sum over boxes of its own class, and [n] the largest over boxes of other classes.
        """
        starts = np.searchsorted(self.image, np.arange(self.images + 1))
        crowds, rivals = _overlaps(starts, to_corners(self.box), self.area, self.score, self.label)
        return crowds, rivals


@compiled(error_model="numpy")
def _overlaps(starts, corners, area, score, label):  # type: ignore[no-untyped-def]
    """Loop of `Boxes.crowding`: each pair of boxes of an image once, for both."""
    crowds, rivals = np.zeros(len(score)), np.zeros(len(score))
    for image in range(len(starts) - 1):
        for a in range(starts[image], starts[image + 1]):
            for b in range(starts[image], a):
                near = iou(corners[a], corners[b], area[a] + area[b])
                if not near > 0:  # apart, or areas too small or too large for a float
                    continue
                if label[a] == label[b]:
                    crowds[a] += near * score[b]
                    crowds[b] += near * score[a]
                else:
                    rivals[a] = max(rivals[a], near * score[b])
                    rivals[b] = max(rivals[b], near * score[a])
    return crowds, rivals
