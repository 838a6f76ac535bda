"""How much the raw candidates that non-maximum suppression drops agree with the boxes that a detector keeps.

Around an object that a detector is sure of, many anchors say the same; a box that stands alone is one
anchor's opinion. Knows boxes, scores and classes as plain arrays, and no network.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.compiling import compiled
from ebjr_det.types import FloatArray

NEAR = 0.5
"""IoU above which two candidates of one class are about one object; that of the suppression itself."""


def support_of(
    boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[np.int64], kept: NDArray[np.int64]
) -> FloatArray:
    """What the candidates around each kept box add up to: the sum of IoU_k s_k over the others of its class.

    The others are those with IoU > 0.5 with it, which hard suppression folded into it or into a better
    neighbour. The sum counts candidates, each by how near and how sure it is: 0 for a box that stands alone.

    Args:
        boxes: [candidates, 4] x1, y1, x2, y2; scores: theirs before any softening; classes: theirs.
        kept: [n] which of them stay.

    Returns:
        [n] from 0.
    """
    return np.asarray(_support(boxes, scores, classes, kept))


@compiled(error_model="numpy")
def _support(boxes, scores, classes, kept):  # type: ignore[no-untyped-def]
    """See `support_of`."""
    out = np.zeros(len(kept))
    for row in range(len(kept)):
        own = kept[row]
        x1, y1, x2, y2 = boxes[own]
        for other in range(len(scores)):
            if classes[other] != classes[own] or other == own:
                continue
            w = min(x2, boxes[other, 2]) - max(x1, boxes[other, 0])
            h = min(y2, boxes[other, 3]) - max(y1, boxes[other, 1])
            if w <= 0 or h <= 0:
                continue
            area = (boxes[other, 2] - boxes[other, 0]) * (boxes[other, 3] - boxes[other, 1])
            iou = w * h / ((x2 - x1) * (y2 - y1) + area - w * h)
            if iou > NEAR:
                out[row] += iou * scores[other]
    return out
