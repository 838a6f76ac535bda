"""Everything after a detector's network: from raw logits and offsets of all anchors to the boxes that stay.

Two steps. The selection reads all logits, and where those lie on an accelerator it is done there; the rest
needs the few thousand candidates alone. Convention: boxes are x1, y1, x2, y2 in float32. All of it is numpy
and compiled loops of one thread, the same bits whatever the machine's load. Knows no network and no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import FloatArray
from ebjr_det.io.compiled import compiled
from ebjr_det.tasks.detection.detections import iou
from ebjr_det.tasks.detection.networks.anchors import Boxes32, clip_boxes, decode_boxes
from ebjr_det.tasks.detection.networks.selection import Floats, Indices, best_pairs
from ebjr_det.tasks.detection.networks.support import support_of

NMS_IOU = 0.5
SIGMA = 0.5  # of soft suppression's Gaussian, as in effdet's bench
LEAST_SOFT = 0.001  # softened scores up to this are dropped


class Candidates(NamedTuple):
    """The pairs of an anchor and a class with the largest logits, best first: n each, [n, 4] offsets."""

    anchors: Indices
    classes: Indices
    logits: Floats
    offsets: Floats


class Survivors(NamedTuple):
    """One image's boxes that stay, best first: x1 y1 x2 y2 [n, 4] in original pixels, scores, classes, the
    rows of all logits [n, outputs], and how much the raw candidates agree with each (`support.support_of`).
    """

    boxes: Boxes32
    scores: Floats
    classes: Indices
    logits: Floats
    support: FloatArray


@dataclass(frozen=True)
class Suppression:
    """What follows a network on one image, as effdet's bench does it.

    Attributes:
        max_detections: how many boxes stay at most.
        max_detection_points: how many candidates are looked at.
        soft_nms: whether neighbours of a better box are softened instead of dropped.
    """

    max_detections: int = 100
    max_detection_points: int = 5000
    soft_nms: bool = False

    def __call__(
        self, logits: Floats, offsets: Floats, anchors: Boxes32, scale: float, size: tuple[int, int]
    ) -> Survivors:
        """Select and keep: logits [anchors, outputs], offsets [anchors, 4]; the rest as `keep` takes it."""
        return self.keep(self.select(logits, offsets), anchors, scale, size, lambda rows: logits[rows])

    def select(self, logits: Floats, offsets: Floats, maxima: Floats | None = None) -> Candidates:
        """The first step; see `best_pairs` for `maxima`. Raises InvalidInput for NaN among the logits."""
        anchors, classes = best_pairs(logits, self.max_detection_points, maxima)
        values = logits.reshape(-1).take(anchors * logits.shape[1] + classes)
        return Candidates(anchors, classes, values, offsets.take(anchors, axis=0))

    def keep(
        self,
        candidates: Candidates,
        anchors: Boxes32,
        scale: float,
        size: tuple[int, int],
        rows: Callable[[Indices], NDArray[np.floating]],
    ) -> Survivors:
        """The second step: candidates -> the boxes that stay.

        Args:
            candidates: of one image, best first.
            anchors: [anchors, 4] all anchor boxes, `Anchors.boxes`.
            scale, size: of the image's `letterbox.Input`.
            rows: the rows of all logits of these anchors; asked once, for the anchors that stay.
        """
        scale32 = np.float32(scale)
        boxes = decode_boxes(candidates.offsets, anchors.take(candidates.anchors, axis=0))
        boxes = clip_boxes(boxes, np.asarray(size, dtype=np.float32) / scale32)
        scores, classes = sigmoid(candidates.logits), candidates.classes
        if self.soft_nms:
            survivors, final_scores = suppress_softly(boxes, scores, classes, self.max_detections)
        else:
            survivors = suppress(boxes, scores, classes, self.max_detections)
            final_scores = scores[survivors]
        support = support_of(boxes, scores, classes, survivors)
        logits = np.asarray(rows(candidates.anchors[survivors]), dtype=np.float32)
        return Survivors(boxes[survivors] * scale32, final_scores, classes[survivors], logits, support)


def sigmoid(logits: NDArray[np.floating]) -> Floats:
    """1 / (1 + exp(-x)), calculated in float64 and rounded once, so that it never falls where x grows."""
    with np.errstate(over="ignore"):  # exp(-x) of a logit below -709 is infinite, and its score 0
        return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), dtype=np.float32)


def suppress(boxes: Boxes32, scores: Floats, classes: Indices, limit: int, least: float = NMS_IOU) -> Indices:
    """Hard non-maximum suppression by class: a box falls that overlaps a better one by an IoU > `least`.

    Equal to `torchvision.ops.batched_nms(boxes, scores, classes, least)[:limit]`, and done when `limit` stay.
    Scores are in any order, classes count from 0; returns indices, best first, of equal scores the first.
    """
    order = np.arange(len(scores))
    if (scores[1:] > scores[:-1]).any():
        order = np.argsort(-scores, kind="stable")
    newest = np.full(int(classes.max(initial=0)) + 1, -1)
    return np.asarray(_suppress(boxes, classes, order, newest, limit, float(least)))


@compiled(error_model="numpy")
def _suppress(boxes, classes, order, newest, limit, least):  # type: ignore[no-untyped-def]
    """Loop of `suppress`; each class's survivors are a chain, from its `newest` back through `earlier`."""
    limit, count = min(limit, len(order)), 0
    survivors, earlier = np.empty(limit, np.int64), np.empty(limit, np.int64)
    corners, areas = np.empty((limit, 4), boxes.dtype), np.empty(limit, boxes.dtype)
    for index in order:
        if count == limit:  # enough stay: the rest, all worse, is never looked at
            break
        x1, y1, x2, y2 = boxes[index]
        area, better = (x2 - x1) * (y2 - y1), newest[classes[index]]
        while better >= 0 and not iou(corners[better], (x1, y1, x2, y2), areas[better] + area) > least:
            better = earlier[better]
        if better < 0:  # no better box of its class is too near
            survivors[count], earlier[count] = index, newest[classes[index]]
            corners[count, 0], corners[count, 1], corners[count, 2], corners[count, 3] = x1, y1, x2, y2
            areas[count], newest[classes[index]] = area, count
            count += 1
    return survivors[:count]


def suppress_softly(
    boxes: Boxes32,
    scores: Floats,
    classes: Indices,
    limit: int,
    sigma: float = SIGMA,
    least: float = LEAST_SOFT,
) -> tuple[Indices, Floats]:
    """Soft non-maximum suppression by class: each box that stays multiplies the scores of the others of its
    class by exp(-IoU^2 / sigma), and what sinks to `least` is dropped. Bodla et al. 2017, equation 3.

    Equal to effdet's `batched_soft_nms(..., method_gaussian=True)`, its first `limit`, but for the rounding
    of exp. Scores are in any order, boxes and classes from 0; returns indices, best first, and their scores.
    """
    if not len(scores):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    # effdet moves each class to a place of its own; its sums are rounded there, and so are these
    moved = boxes + (classes.astype(np.float32) * (boxes.max() + np.float32(1)))[:, None]
    survivors, softened = _soften(moved, scores.copy(), classes, limit, np.float32(sigma), np.float32(least))
    return np.asarray(survivors), np.asarray(softened)


@compiled(error_model="numpy")
def _soften(boxes, scores, classes, limit, sigma, least):  # type: ignore[no-untyped-def]
    """Loop of `suppress_softly`; overwrites `scores`; `left` holds the `size` boxes still to choose from."""
    left, size, count = np.arange(len(scores)), len(scores), 0
    survivors, softened = np.empty(min(limit, size), np.int64), np.empty(min(limit, size), scores.dtype)
    best = int(np.argmax(scores))
    while size > 0 and count < len(survivors):
        chosen = best
        survivors[count], softened[count] = chosen, scores[chosen]
        count += 1
        a, b, c, d = boxes[chosen]
        area = (c - a) * (d - b)
        stay, best = 0, -1
        # One pass softens what is left, closes the gaps that dropped boxes leave, and finds the next best.
        for position in range(size):
            index = left[position]
            if index == chosen:
                continue
            if classes[index] == classes[chosen]:
                x1, y1, x2, y2 = boxes[index]
                near = iou((x1, y1, x2, y2), (a, b, c, d), area + (x2 - x1) * (y2 - y1))
                if near > 0:
                    scores[index] *= np.float32(np.exp(np.float64(-(near * near) / sigma)))
            if scores[index] > least:
                left[stay] = index
                stay += 1
                if best < 0 or scores[index] > scores[best]:
                    best = index
        size = stay
    return survivors[:count], softened[:count]
