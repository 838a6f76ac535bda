"""What follows another library's network: from raw numbers of all rows to the boxes that stay, torch-free.

Convention: a row is a query, an anchor or a cell. `Head` says how a row's numbers are to be read; what comes
out is the same for every library: boxes, scores, outputs, and for every box all class logits of its row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import Array, FloatArray
from ebjr_det.tasks.detection.networks.frame import Floats, Framed
from ebjr_det.tasks.detection.networks.selection import best_pairs
from ebjr_det.tasks.detection.networks.support import support_of
from ebjr_det.tasks.detection.networks.suppression import sigmoid, suppress

BOXES = ("cxcywh", "xyxy", "xywh")
LAYOUTS = ("parts", "rows", "columns", "best")
ACTIVATIONS = ("sigmoid", "softmax", "objectness")
ALMOST_ONE = 1 - 2.0**-25
"""A probability that float32 rounds to 1; its log-odds, 17.3, stand for all that are larger."""
LEAST = 2.0**-149
"""The smallest number above 0 of float32."""
Counts: TypeAlias = tuple[int, ...]


class Rows(NamedTuple):
    """All rows of one image: boxes [n, 4] as the network has them, scores and logits [n, outputs]."""

    boxes: Floats
    scores: Floats
    logits: Floats


class Kept(NamedTuple):
    """One image's boxes that stay, best first; see `suppression.Survivors`. `support` only after NMS."""

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]
    logits: Floats
    support: FloatArray | None


@dataclass(frozen=True)
class Head:
    """How a network's raw numbers are read.

    Attributes:
        layout: `parts` (class numbers [n, outputs] and boxes [n, 4] shifted), `rows` (one array, box first),
            `columns` (that array turned over) or `best` (corners, score and class of each box: no logits).
        order: of `parts`, which of the network's outputs are the class numbers and which the boxes.
        activation: `sigmoid`, one a class; `softmax` over all outputs; `objectness`, a probability of any
            object before those of the classes, which it multiplies.
        applied: whether the numbers are probabilities already; else they are logits.
        boxes: `cxcywh`, `xyxy` or `xywh`; shares: whether in shares of the input, else in its pixels.
        pairs: whether each class of a row is a box of its own, else only the best one.
        nms_iou: IoU from which a better box of its class takes a box away; None for networks that need none.
        gap: pixels by which a library moves classes shifted for that, whose rounding counts.
        least_score: only boxes above it; max_detections: of an image, with `within_rows` no more than rows.
        background: the output that is "no object", of a softmax.

    Raises:
        ConfigError: words or numbers that no head has.
    """

    layout: Literal["parts", "rows", "columns", "best"]
    activation: Literal["sigmoid", "softmax", "objectness"] = "sigmoid"
    applied: bool = False
    boxes: Literal["cxcywh", "xyxy", "xywh"] = "cxcywh"
    shares: bool = False
    pairs: bool = False
    nms_iou: float | None = None
    gap: float = 0.0
    least_score: float = 0.0
    max_detections: int = 100
    order: tuple[int, int] = (0, 1)
    background: int | None = None
    within_rows: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))
        words = (self.layout in LAYOUTS, self.activation in ACTIVATIONS, self.boxes in BOXES)
        limits = 0 <= self.least_score < 1 and 1 <= self.max_detections <= 10_000
        if not (all(words) and limits and (self.nms_iou is None or 0 < self.nms_iou <= 1)):
            raise ConfigError(f"Expected a head's settings in their limits, got {self}.")

    @property
    def softmax(self) -> bool:
        """Whether a row's logits are one softmax."""
        return self.activation == "softmax"

    def __str__(self) -> str:
        """In words, for `facts`."""
        background = "" if self.background is None else f", output {self.background} is no object"
        end = "no suppression" if self.nms_iou is None else f"suppression above IoU {self.nms_iou:g}"
        if self.layout == "best":
            return f"best class of each box alone, {self.boxes}, {end}"
        form = "probabilities" if self.applied else "logits"
        places = "shares" if self.shares else "pixels"
        return f"{self.activation} of {form}{background}; boxes {self.boxes} in {places}; {end}"

    def __call__(self, raw: Sequence[Array], picture: Framed) -> Kept:
        """One image's raw outputs, without the batch's axis -> the boxes that stay, best first."""
        rows = self.read(raw)
        if not np.isfinite(rows.scores).all():
            raise InvalidInput("Expected a detector's scores to be numbers, got NaN. Check its weights.")
        places, classes = self._candidates(rows.scores, rows.logits)
        scores = rows.scores[places, classes]
        boxes = corners(rows.boxes[places], self.boxes)
        support: FloatArray | None = None
        stay = np.arange(min(len(scores), self.max_detections))
        labels = self._labels(raw, places, classes)
        if self.nms_iou is not None:
            shifted = boxes + (labels.astype(np.float32) * np.float32(self.gap))[:, None]
            groups = np.zeros_like(labels) if self.gap else labels
            stay = suppress(shifted, scores, groups, self.max_detections, self.nms_iou)
            support = support_of(boxes, scores, labels, stay)
        original = picture.to_original(boxes[stay], shares=self.shares)
        original[:, 2:] = np.maximum(original[:, 2:], original[:, :2])  # sides that come out below 0 are 0
        logits = rows.logits[places[stay]].astype(np.float32)
        return Kept(original, scores[stay], labels[stay], logits, support)

    def read(self, raw: Sequence[Array]) -> Rows:
        """The rows of one image, their numbers as scores and as logits."""
        if self.layout == "parts":
            numbers, boxes = raw[self.order[0]], raw[self.order[1]]
        else:
            rows = raw[0].T if self.layout == "columns" else raw[0]
            boxes, numbers = rows[:, :4], rows[:, 4:5] if self.layout == "best" else rows[:, 4:]
        boxes, numbers = boxes.astype(np.float32), numbers.astype(np.float32)
        if self.activation == "objectness":
            numbers = numbers if self.applied else sigmoid(numbers)
            scores = numbers[:, :1] * numbers[:, 1:]
            return Rows(boxes, scores, log_odds(scores))
        if not self.applied:
            activated = softmax(numbers.astype(np.float64), axis=-1) if self.softmax else sigmoid(numbers)
            return Rows(boxes, activated.astype(np.float32), numbers)
        if self.softmax:
            return Rows(boxes, numbers, np.log(np.maximum(numbers, np.float32(LEAST))))
        return Rows(boxes, numbers, log_odds(numbers))

    def _candidates(self, scores: Floats, logits: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and outputs of the boxes above the least score, best first; of equals the first row's."""
        if self.background is not None:
            scores = np.delete(scores, self.background, axis=1)
        if self.pairs:
            # by logits, which tell apart what a score rounds to 1; a softmax compares between rows by scores
            values = scores if self.softmax or self.background is not None else logits
            limit = self.max_detections if self.nms_iou is None else values.size
            limit = min(limit, len(values)) if self.within_rows else limit
            places, classes = best_pairs(np.ascontiguousarray(values), limit)
        else:
            classes = scores.argmax(axis=1) if scores.size else np.zeros(len(scores), dtype=np.int64)
            places = np.argsort(-scores.max(axis=1, initial=0), kind="stable")
            classes = classes[places]
        above = scores[places, classes] > self.least_score
        places, classes = places[above], classes[above]
        if self.background is not None:
            classes = classes + (classes >= self.background)
        return places, classes

    def _labels(
        self, raw: Sequence[Array], places: NDArray[np.int64], classes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        return raw[0][places, 5].astype(np.int64) if self.layout == "best" else classes


def corners(boxes: Floats, form: str) -> Floats:
    """Boxes [n, 4] of a format as x1, y1, x2, y2."""
    if form == "xyxy":
        return boxes
    first, sides = boxes[:, :2], boxes[:, 2:]
    if form == "cxcywh":
        half = sides * np.float32(0.5)
        return np.concatenate([first - half, first + half], axis=1)
    return np.concatenate([first, first + sides], axis=1)


def log_odds(probabilities: Floats) -> Floats:
    """log(p / (1 - p)), finite also where float32 has rounded a probability to 0 or 1."""
    p = np.clip(probabilities.astype(np.float64), LEAST, ALMOST_ONE)
    return (np.log(p) - np.log1p(-p)).astype(np.float32)
