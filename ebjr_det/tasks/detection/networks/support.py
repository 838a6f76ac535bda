"""How much the raw candidates that non-maximum suppression drops agree with the boxes that a detector keeps.

Around an object that a detector is sure of, many anchors say the same; a box that stands alone is one
anchor's opinion. Knows boxes, scores and classes as plain arrays, and no network.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import FloatArray
from ebjr_det.io.compiled import compiled

NEAR = 0.5
"""IoU above which two candidates of one class are about one object; that of the suppression itself."""


def support_of(
    boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[np.int64], kept: NDArray[np.int64]
) -> FloatArray:
    """What the candidates around each kept box add up to: the sum of IoU_k s_k over the others of its class.

    The others are those with IoU > 0.5 with it, which hard suppression folded into it or into a better
    neighbour. The sum counts candidates, each by how near and how sure it is: 0 for a box that stands alone.

    Args:
        boxes: [candidates, 4] x1, y1, x2, y2; scores: theirs before any softening; classes: theirs, from 0.
        kept: [n] which of them stay.

    Returns:
        [n] from 0.
    """
    if not len(kept):
        return np.zeros(0)
    starts = np.zeros(int(classes.max()) + 2, dtype=np.int64)
    return np.asarray(_support(boxes, scores, classes, kept, starts))


@compiled(error_model="numpy")
def _support(boxes, scores, classes, kept, starts):  # type: ignore[no-untyped-def]
    """See `support_of`; `starts`, all 0, becomes where each class begins among the candidates by class."""
    for one in classes:
        starts[one + 1] += 1
    for one in range(1, len(starts)):
        starts[one] += starts[one - 1]
    by_class, filled = np.empty(len(classes), np.int64), starts.copy()
    x1, y1, x2, y2 = np.empty((4, len(classes)), boxes.dtype)
    score = np.empty(len(classes), scores.dtype)
    for one in range(len(classes)):
        place = filled[classes[one]]
        filled[classes[one]] += 1
        by_class[place], score[place] = one, scores[one]
        x1[place], y1[place], x2[place], y2[place] = boxes[one]
    out, parts, zero = np.zeros(len(kept)), np.zeros(len(classes), scores.dtype), boxes.dtype.type(0)
    for row in range(len(kept)):
        own = kept[row]
        a, b, c, d = boxes[own]
        area = (c - a) * (d - b)
        start, end = starts[classes[own]], starts[classes[own] + 1]
        for k in range(start, end):  # without a branch: it is calculated many at a time
            w = max(min(c, x2[k]) - max(a, x1[k]), zero)
            h = max(min(d, y2[k]) - max(b, y1[k]), zero)
            iou = w * h / (area + (x2[k] - x1[k]) * (y2[k] - y1[k]) - w * h)
            parts[k] = iou * score[k] if iou > NEAR else zero
        for k in range(start, end):
            if parts[k] > 0 and by_class[k] != own:
                out[row] += parts[k]
    return out
