"""How much the raw candidates that non-maximum suppression drops agree with the boxes that a detector keeps.

Around an object that a detector is sure of, many anchors say the same; a box that stands alone is one
anchor's opinion. Knows boxes, scores and classes as plain arrays, and no network.
"""

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Array, FloatArray
from ebjr_det.io.compiled import compiled
from ebjr_det.tasks.detection.detections import iou

NEAR = 0.5
"""IoU above which two candidates of one class are about one object; that of the suppression itself."""


def support_of(
    boxes: Array, scores: Array, classes: NDArray[np.int64], survivors: NDArray[np.int64]
) -> FloatArray:
    """What the candidates around each kept box add up to: the sum of IoU_k s_k over the others of its class.

    The others are those with IoU > 0.5 with it, which hard suppression folded into it or into a better
    neighbour. The sum counts candidates, each by how near and how sure it is: 0 for a box that stands alone.

    Args:
        boxes: [candidates, 4] x1, y1, x2, y2; scores: theirs before any softening; classes: theirs, from 0.
        survivors: [n] which of them stay.

    Returns:
        [n] from 0.
    """
    if not len(survivors):
        return np.zeros(0)
    short = classes.astype(np.min_scalar_type(classes.max()))  # two bytes sort by digits
    order = np.argsort(short, kind="stable")
    starts = np.searchsorted(classes[order], np.arange(classes.max() + 2))
    candidates = boxes.T.take(order, axis=1), scores.take(order), order, starts
    return np.asarray(_support(*candidates, boxes[survivors], classes[survivors], survivors))


@compiled(error_model="numpy")
def _support(corners, scores, order, starts, boxes, classes, survivors):  # type: ignore[no-untyped-def]
    """[n]; `corners` [4, candidates], `scores` and `order` stand class by class, each from its `starts`."""
    x1, y1, x2, y2 = corners
    areas, zero = (x2 - x1) * (y2 - y1), scores.dtype.type(0)
    support, parts = np.zeros(len(survivors)), np.empty(len(order), scores.dtype)
    for row in range(len(survivors)):
        a, b, c, d = boxes[row]
        area = (c - a) * (d - b)
        start, end = starts[classes[row]], starts[classes[row] + 1]
        for k in range(start, end):  # without a branch: it is calculated many at a time
            near = iou((a, b, c, d), (x1[k], y1[k], x2[k], y2[k]), area + areas[k])
            parts[k] = near * scores[k] if near > NEAR else zero
        for k in range(start, end):  # the sum apart from it, in the order of the candidates
            if parts[k] > 0 and order[k] != survivors[row]:
                support[row] += parts[k]
    return support
