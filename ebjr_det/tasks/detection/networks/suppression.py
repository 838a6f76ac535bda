"""Everything after a detector's network: from raw logits and offsets of all anchors to the boxes that stay.

Two steps. The selection reads all logits, and where those lie on an accelerator it is done there; the rest
needs the few thousand candidates alone. Convention: boxes are x1, y1, x2, y2 in float32. All of it is numpy
and compiled loops of one thread, the same bits whatever the machine's load. Knows no network and no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import FloatArray
from ebjr_det.io.compiled import compiled
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


class Kept(NamedTuple):
    """One image's kept boxes, best first: x1 y1 x2 y2 [n, 4] in original pixels, scores, classes, the rows
    of all logits [n, outputs], and how much the raw candidates agree with each (`support.support_of`).
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
    ) -> Kept:
        """Both steps: raw logits [anchors, outputs], offsets [anchors, 4]; the rest as `keep` takes it."""
        found = self.select(logits, offsets)
        return self.keep(found, anchors, scale, size, lambda rows: logits[rows])

    def select(self, logits: Floats, offsets: Floats, maxima: Floats | None = None) -> Candidates:
        """The first step; see `best_pairs` for `maxima`. Raises InvalidInput for NaN among the logits."""
        anchors, classes = best_pairs(logits, self.max_detection_points, maxima)
        return Candidates(anchors, classes, logits[anchors, classes], offsets.take(anchors, axis=0))

    def keep(
        self,
        candidates: Candidates,
        anchors: Boxes32,
        scale: float,
        size: tuple[int, int],
        rows: Callable[[Indices], Any],
    ) -> Kept:
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
            kept, found = suppress_softly(boxes, scores, classes, self.max_detections)
        else:
            kept = suppress(boxes, scores, classes, self.max_detections)
            found = scores[kept]
        support = support_of(boxes, scores, classes, kept)
        of_kept = np.asarray(rows(candidates.anchors[kept]), dtype=np.float32)
        return Kept(boxes[kept] * scale32, found, classes[kept], of_kept, support)


def sigmoid(logits: NDArray[np.floating[Any]]) -> Floats:
    """1 / (1 + exp(-x)), calculated in float64 and rounded once, so that it never falls where x grows."""
    with np.errstate(over="ignore"):  # exp(-x) of a logit below -709 is infinite, and its score 0
        return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), dtype=np.float32)


def suppress(boxes: Boxes32, scores: Floats, classes: Indices, most: int, iou: float = NMS_IOU) -> Indices:
    """Hard non-maximum suppression by class: a box falls that overlaps a better one of its class by > `iou`.

    Equal to `torchvision.ops.batched_nms(boxes, scores, classes, iou)[:most]`, and done when `most` stay.

    Args:
        boxes: [n, 4]; scores: [n], in any order; classes: [n], from 0.

    Returns:
        indices of what stays, best first; of equal scores the first one.
    """
    order = np.arange(len(scores))
    if (scores[1:] > scores[:-1]).any():
        order = np.argsort(-scores, kind="stable")
    last = int(classes.max(initial=0))
    return np.asarray(_suppress(boxes, classes, order, np.empty(last + 1, np.int64), most, float(iou)))


@compiled(error_model="numpy")
def _suppress(boxes, classes, order, newest, most, iou):  # type: ignore[no-untyped-def]
    """See `suppress`; `newest` holds the place of each class's box that was kept last, `before` the chain."""
    newest[:] = -1
    most = min(most, len(order))
    kept, before = np.empty(most, np.int64), np.empty(most, np.int64)
    corners, count = np.empty((most, 5), boxes.dtype), 0
    for one in order:
        if count == most:
            break
        x1, y1, x2, y2 = boxes[one]
        area = (x2 - x1) * (y2 - y1)
        other = newest[classes[one]]
        while other >= 0:
            a, b, c, d, own = corners[other]
            w, h = min(x2, c) - max(x1, a), min(y2, d) - max(y1, b)
            if w > 0 and h > 0 and w * h / (own + area - w * h) > iou:
                break
            other = before[other]
        if other < 0:
            kept[count], before[count] = one, newest[classes[one]]
            corners[count, 0], corners[count, 1], corners[count, 2], corners[count, 3] = x1, y1, x2, y2
            corners[count, 4] = area
            newest[classes[one]] = count
            count += 1
    return kept[:count]


def suppress_softly(
    boxes: Boxes32,
    scores: Floats,
    classes: Indices,
    most: int,
    sigma: float = SIGMA,
    least: float = LEAST_SOFT,
) -> tuple[Indices, Floats]:
    """Soft non-maximum suppression by class: every box kept multiplies the scores of the others of its class
    by exp(-IoU^2 / sigma), and what sinks to `least` is dropped. Bodla et al. 2017, equation 3.

    Equal to effdet's `batched_soft_nms(..., method_gaussian=True)`, its first `most`, but for the rounding
    of exp.

    Args:
        boxes: [n, 4], from 0; scores: [n], in any order; classes: [n], from 0.

    Returns:
        indices of what stays, best first, and their softened scores.
    """
    if not len(scores):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    # effdet moves each class to a place of its own; its sums are rounded there, and so are these
    moved = boxes + (classes.astype(np.float32) * (boxes.max() + np.float32(1)))[:, None]
    kept, found = _soften(moved, scores.copy(), classes, most, np.float32(sigma), np.float32(least))
    return np.asarray(kept), np.asarray(found)


@compiled(error_model="numpy")
def _soften(boxes, scores, classes, most, sigma, least):  # type: ignore[no-untyped-def]
    """See `suppress_softly`; `scores` is overwritten, `left` holds those still to choose from."""
    left, size, count = np.arange(len(scores)), len(scores), 0
    kept, found = np.empty(min(most, size), np.int64), np.empty(min(most, size), scores.dtype)
    best = int(np.argmax(scores))
    while size > 0 and count < len(kept):
        own = best
        kept[count], found[count] = own, scores[own]
        count += 1
        a, b, c, d = boxes[own]
        area = (c - a) * (d - b)
        stay, best = 0, -1
        for place in range(size):
            one = left[place]
            if one == own:
                continue
            if classes[one] == classes[own]:
                x1, y1, x2, y2 = boxes[one]
                w, h = min(x2, c) - max(x1, a), min(y2, d) - max(y1, b)
                if w > 0 and h > 0 and w * h > 0:
                    iou = w * h / (area + (x2 - x1) * (y2 - y1) - w * h)
                    scores[one] *= np.float32(np.exp(np.float64(-(iou * iou) / sigma)))
            if scores[one] > least:
                left[stay] = one
                stay += 1
                if best < 0 or scores[one] > scores[best]:
                    best = one
        size = stay
    return kept[:count], found[:count]
