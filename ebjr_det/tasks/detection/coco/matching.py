"""COCO's greedy matching of detections to annotated objects, once per image and model.

The rules and the arithmetic are those of pycocotools' `evaluateImg` and `bbIou`, to the bit; the loops are
compiled, because pycocotools needs half a minute for what takes them half a second. Knows nothing about
precision: what it leaves behind are records that `accumulate` turns into numbers for any mix of images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import FloatArray, Matches
from ebjr_det.io.compiled import compiled
from ebjr_det.tasks.detection.coco.annotations import Results, Truth

AREAS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]], dtype=np.float64)
"""Square pixels of all, small, medium and large objects, both ends included."""
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
KEPT = 100  # detections per image and class, the largest of COCO's limits


def match_images(results: Sequence[Results], truths: Sequence[Truth], classes: int) -> Matches:
    """Match every image's detections; returns match records.

    Columns, one entry a kept detection (at most 100 an image and class), an image's rows by class, then
    descending score: `score`; `label`; `box` [rows, 4] x, y, width, height; `rank` within image and class;
    `matched` and `ignored`, whose bit 10 a + t belongs to area range a (all, small, medium, large) and IoU
    threshold t. One entry an image: `counts`, how many rows it has; `truths` [images, classes, 4], objects
    that count, by area range.
    """
    found = _Flat([r.labels for r in results], [r.boxes for r in results])
    real = _Flat([t.labels for t in truths], [t.boxes for t in truths])
    scores = np.concatenate([r.scores for r in results])
    order = np.lexsort((-scores, found.labels, found.images))
    key = found.images[order] * classes + found.labels[order]
    firsts = np.flatnonzero(np.diff(key, prepend=-1))
    rank = np.arange(len(key)) - np.repeat(firsts, np.diff(firsts, append=len(key)))
    order, key, rank = (column[rank < KEPT] for column in (order, key, rank))
    truth_order = np.lexsort((real.labels, real.images))
    truth_key = real.images[truth_order] * classes + real.labels[truth_order]
    crowd = np.concatenate([t.crowd for t in truths])[truth_order]
    areas = np.concatenate([t.areas for t in truths])[truth_order]
    outside = crowd[:, None] | (areas[:, None] < AREAS[:, 0]) | (areas[:, None] > AREAS[:, 1])
    groups, starts = np.unique(key, return_index=True)
    matched, ignored = _match_groups(
        found.boxes[order],
        np.append(starts, len(key)),
        real.boxes[truth_order],
        np.searchsorted(truth_key, groups),
        np.searchsorted(truth_key, groups, side="right"),
        crowd,
        outside,
    )
    counted = np.zeros((len(truths) * classes, len(AREAS)), dtype=np.uint16)
    np.add.at(counted, truth_key, ~outside)
    return {
        "counts": np.bincount(found.images[order], minlength=len(results)),
        "truths": counted.reshape(len(truths), classes, len(AREAS)),
        "score": scores[order],
        "label": found.labels[order].astype(np.uint16),
        "box": found.boxes[order],
        "rank": rank.astype(np.uint8),
        "matched": matched,
        "ignored": ignored,
    }


class _Flat:
    """Boxes of several images in one array, with the image of each."""

    def __init__(self, labels: Sequence[NDArray[np.intp]], boxes: Sequence[FloatArray]) -> None:
        self.images = np.repeat(np.arange(len(labels)), [len(own) for own in labels])
        self.labels = np.concatenate(labels)
        self.boxes = np.concatenate(boxes).reshape(-1, 4)


@compiled()
def _match_groups(boxes, starts, truth_boxes, truth_starts, truth_ends, crowd, outside):  # type: ignore[no-untyped-def]
    """Match the detections of each group (image and class) with its truths.

    Args:
        boxes: [rows, 4] x, y, w, h, by group in descending score; `starts` [groups + 1].
        truth_boxes: [truths, 4] by group, from `truth_starts` to `truth_ends` [groups].
        crowd: [truths]; outside: [truths, areas] not to be counted, by crowd or area.

    Returns:
        matched and ignored [rows], bit 10 a + t.
    """
    matched = np.zeros(len(boxes), dtype=np.uint64)
    ignored = np.zeros(len(boxes), dtype=np.uint64)
    for group in range(len(truth_starts)):
        first, last = starts[group], starts[group + 1]
        lo, hi = truth_starts[group], truth_ends[group]
        ious = _ious(boxes[first:last], truth_boxes[lo:hi], crowd[lo:hi])
        for a in range(len(AREAS)):
            away = outside[lo:hi, a]
            order = np.concatenate(
                (np.flatnonzero(~away), np.flatnonzero(away))
            )  # those that count come first
            for t in range(len(IOU_THRESHOLDS)):
                bit = np.uint64(1) << np.uint64(10 * a + t)
                taken = np.zeros(hi - lo, dtype=np.bool_)
                for row in range(last - first):
                    best = _best_truth(ious[row], order, away, taken, crowd[lo:hi], IOU_THRESHOLDS[t])
                    if best >= 0:
                        matched[first + row] |= bit
                        taken[best] = True
                        if away[best]:
                            ignored[first + row] |= bit
                    else:
                        area = boxes[first + row, 2] * boxes[first + row, 3]
                        if area < AREAS[a, 0] or area > AREAS[a, 1]:
                            ignored[first + row] |= bit
    return matched, ignored


@compiled()
def _best_truth(ious, order, away, taken, crowd, threshold):  # type: ignore[no-untyped-def]
    """The truth that a detection is matched with, or -1: the best free one, those that count first."""
    best, least = -1, min(threshold, 1 - 1e-10)
    for index in order:
        if taken[index] and not crowd[index]:
            continue
        if best >= 0 and not away[best] and away[index]:
            break
        if ious[index] < least:
            continue
        best, least = index, ious[index]
    return best


@compiled(error_model="numpy")
def _ious(boxes, truths, crowd):  # type: ignore[no-untyped-def]
    """[rows, truths] intersection over union; over the detection's own area where the truth is a crowd.

    Areas too small or too large for a float give NaN, as in pycocotools.
    """
    ious = np.zeros((len(boxes), len(truths)))
    for d in range(len(boxes)):
        own = boxes[d, 2] * boxes[d, 3]
        for g in range(len(truths)):
            w = min(boxes[d, 2] + boxes[d, 0], truths[g, 2] + truths[g, 0]) - max(boxes[d, 0], truths[g, 0])
            h = min(boxes[d, 3] + boxes[d, 1], truths[g, 3] + truths[g, 1]) - max(boxes[d, 1], truths[g, 1])
            if w <= 0 or h <= 0:
                continue
            inside = w * h
            union = own if crowd[g] else own + truths[g, 2] * truths[g, 3] - inside
            ious[d, g] = inside / union
    return ious
