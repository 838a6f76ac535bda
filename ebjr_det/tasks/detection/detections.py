"""One image's detected objects, and the geometry of boxes: formats, overlap, intersection over union.

Convention: `corners` are x1, y1, x2, y2; `sides` are x, y, width, height. Pixels of the original image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import FloatArray
from ebjr_det.io.compiled import compiled
from ebjr_det.io.third_party import install_hint

if TYPE_CHECKING:
    import supervision

Float = TypeVar("Float", np.float32, np.float64)


@dataclass(frozen=True)
class Detections:
    """One image's detected objects, any number of them.

    Attributes:
        boxes: [n, 4] x1, y1, x2, y2 in pixels of the original image, x1 <= x2 and y1 <= y2.
        scores: [n] detection confidences, finite.
        labels: [n] class indices from 0.
        support: [n] how much other raw candidates agree with each box, from 0; None where nobody knows.

    Raises:
        InvalidInput: lengths that differ, NaN or infinity, boxes of negative size, other negative numbers.
    """

    boxes: FloatArray
    scores: FloatArray
    labels: NDArray[np.intp]
    support: FloatArray | None = None

    def __post_init__(self) -> None:
        boxes, scores, labels, count = self.boxes, self.scores, self.labels, len(self)
        if boxes.shape != (count, 4) or scores.ndim != 1 or labels.shape != (count,):
            raise InvalidInput(
                f"Expected boxes [n, 4], scores [n] and labels [n], got {list(boxes.shape)}, "
                f"{list(scores.shape)} and {list(labels.shape)}."
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise InvalidInput("Expected finite boxes and scores, got NaN or infinity.")
        if (boxes[:, 2:] < boxes[:, :2]).any():
            raise InvalidInput("Expected boxes with x1 <= x2 and y1 <= y2, got one of negative size.")
        if count and labels.min() < 0:
            raise InvalidInput(f"Expected class indices from 0, got {labels.min()}.")
        support = np.zeros(count) if self.support is None else self.support
        if support.shape != (count,) or not (np.isfinite(support) & (support >= 0)).all():
            raise InvalidInput(f"Expected {count} finite numbers from 0 as `support`, got others.")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_supervision(cls, detections: "supervision.Detections") -> "Detections":
        """One picture's detections as supervision has them, of any of the libraries that it reads.

        Raises:
            InvalidInput: they lack `confidence` or `class_id`, or are no such detections.
        """
        columns = [getattr(detections, name, None) for name in ("xyxy", "confidence", "class_id")]
        count = 0 if columns[0] is None else len(columns[0])
        if columns[0] is None or (count and any(column is None for column in columns)):
            raise InvalidInput(
                "Expected supervision's detections with `confidence` and `class_id`, got some without."
            )
        boxes, scores, labels = (() if column is None else column for column in columns)
        return cls(
            np.asarray(boxes, dtype=np.float64).reshape(count, 4),
            np.asarray(scores, dtype=np.float64),
            np.asarray(labels, dtype=np.intp),
        )

    def to_supervision(self, class_names: Sequence[str] = ()) -> "supervision.Detections":
        """The detections as supervision's annotators, trackers and metrics take them.

        Args:
            class_names: by class index, such as those of a loaded pair; they go along as `class_name`.

        Raises:
            ConfigError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ConfigError(
                f"Expected supervision to be installed, got none. Install it: {install_hint('supervision')}."
            ) from error
        data = {"class_name": np.array(class_names)[self.labels]} if len(class_names) else {}
        return supervision.Detections(
            xyxy=np.asarray(self.boxes), confidence=np.asarray(self.scores), class_id=self.labels, data=data
        )


def to_corners(sides: NDArray[Float]) -> NDArray[Float]:
    """Boxes [n, 4] x, y, width, height -> x1, y1, x2, y2."""
    return np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)


def to_sides(corners: NDArray[Float]) -> NDArray[Float]:
    """Boxes [n, 4] x1, y1, x2, y2 -> x, y, width, height."""
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


@compiled(error_model="numpy")
def overlap(first, second):  # type: ignore[no-untyped-def]
    """Width and height that two boxes x1, y1, x2, y2 share; not above 0 where they do not touch."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width, height


@compiled(error_model="numpy")
def iou(first, second, areas):  # type: ignore[no-untyped-def]
    """Intersection over union of two boxes x1, y1, x2, y2 of which `areas` is the sum of the areas.

    In the precision of the boxes, without a branch: a loop over it is calculated many boxes at a time. Areas
    too small for a float give NaN.
    """
    width, height = overlap(first, second)
    shared = width * height
    # `width - width`, not 0, which numba would make a float64
    return shared / (areas - shared) if width > 0 and height > 0 else width - width
