"""COCO's greedy matching of detections to annotated objects, once per image and model.

The rules and the arithmetic are those of pycocotools' `evaluateImg` and `bbIou`, to the bit; the loops are
compiled, because pycocotools needs half a minute for what takes them half a second. Knows nothing about
precision: what it leaves behind are records that `accumulate` turns into numbers for any mix of images.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Matches
from ebjr_det.io.compiled import compiled
from ebjr_det.tasks.detection.coco.annotations import Results, Truth
from ebjr_det.tasks.detection.detections import overlap

AREAS = np.array([[0, 1e5**2], [0, 32**2], [32**2, 96**2], [96**2, 1e5**2]], dtype=np.float64)
"""Square pixels of all, small, medium and large objects, both ends included."""
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
DETECTIONS = 100  # matched per image and class, the largest of COCO's limits


def match_images(results: Sequence[Results], truths: Sequence[Truth], classes: int) -> Matches:
    """Match every image's detections; returns match records.

    Columns, one entry a matched detection (at most 100 an image and class), an image's rows by class, then
    descending score: `score`; `label`; `box` [rows, 4] x, y, width, height; `rank` within image and class;
    `matched` and `ignored`, whose bit 10 a + t belongs to area range a (all, small, medium, large) and IoU
    threshold t. One entry an image: `counts`, how many rows it has; `truths` [images, classes, 4], objects
    that count, by area range.
    """
    images, labels, boxes = _flat(results)
    scores = np.concatenate([result.scores for result in results])
    order = np.lexsort((-scores, labels, images))
    key = images[order] * classes + labels[order]
    firsts = np.flatnonzero(np.diff(key, prepend=-1))
    rank = np.arange(len(key)) - np.repeat(firsts, np.diff(firsts, append=len(key)))
    order, key, rank = (column[rank < DETECTIONS] for column in (order, key, rank))
    truth_images, truth_labels, truth_boxes = _flat(truths)
    truth_order = np.lexsort((truth_labels, truth_images))
    truth_key = truth_images[truth_order] * classes + truth_labels[truth_order]
    crowd = np.concatenate([truth.crowd for truth in truths])[truth_order]
    areas = np.concatenate([truth.areas for truth in truths])[truth_order]
    outside = crowd[:, None] | (areas[:, None] < AREAS[:, 0]) | (areas[:, None] > AREAS[:, 1])
    groups, starts = np.unique(key, return_index=True)
    ends = np.searchsorted(truth_key, groups), np.searchsorted(truth_key, groups, side="right")
    matched, ignored = _match_groups(
        boxes[order], np.append(starts, len(key)), truth_boxes[truth_order], *ends, crowd, outside
    )
    counted = np.zeros((len(truths) * classes, len(AREAS)), dtype=np.uint16)
    np.add.at(counted, truth_key, ~outside)
    return {
        "counts": np.bincount(images[order], minlength=len(results)),
        "truths": counted.reshape(len(truths), classes, len(AREAS)),
        "score": scores[order],
        "label": labels[order].astype(np.uint16),
        "box": boxes[order],
        "rank": rank.astype(np.uint8),
        "matched": matched,
        "ignored": ignored,
    }


def _flat(
    entries: Sequence[Results] | Sequence[Truth],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """The boxes of several images in one array: the image of each, its label, and the boxes [n, 4]."""
    images = np.repeat(np.arange(len(entries)), [len(entry) for entry in entries])
    boxes = np.concatenate([entry.boxes for entry in entries]).reshape(-1, 4)
    return images, np.concatenate([entry.labels for entry in entries]), boxes


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
    matched, ignored = np.zeros(len(boxes), dtype=np.uint64), np.zeros(len(boxes), dtype=np.uint64)
    for group in range(len(truth_starts)):
        first, last = starts[group], starts[group + 1]
        low, high = truth_starts[group], truth_ends[group]
        ious = _ious(boxes[first:last], truth_boxes[low:high], crowd[low:high])
        for a in range(len(AREAS)):
            away = outside[low:high, a]
            # An object that counts is matched before one that does not, whatever their IoUs.
            order = np.concatenate((np.flatnonzero(~away), np.flatnonzero(away)))
            for t in range(len(IOU_THRESHOLDS)):
                bit = np.uint64(1) << np.uint64(10 * a + t)
                used = np.zeros(high - low, dtype=np.bool_)
                for row in range(first, last):  # the surest detection chooses first
                    best = _best_truth(ious[row - first], order, away, used, crowd[low:high], t)
                    if best >= 0:
                        matched[row] |= bit
                        used[best] = True
                        if away[best]:
                            ignored[row] |= bit
                    else:  # a false positive, but for one of another size than this range
                        area = boxes[row, 2] * boxes[row, 3]
                        if area < AREAS[a, 0] or area > AREAS[a, 1]:
                            ignored[row] |= bit
    return matched, ignored


@compiled()
def _best_truth(ious, order, away, used, crowd, t):  # type: ignore[no-untyped-def]
    """The truth that a detection is matched with, or -1: the best free one, those that count first."""
    best, least = -1, min(IOU_THRESHOLDS[t], 1 - 1e-10)
    for index in order:
        if used[index] and not crowd[index]:  # a crowd takes any number of detections
            continue
        if best >= 0 and not away[best] and away[index]:  # from here on none counts
            break
        if ious[index] < least:
            continue
        best, least = index, ious[index]  # of equal ones the last, as pycocotools has it
    return best


@compiled(error_model="numpy")
def _ious(boxes, truths, crowd):  # type: ignore[no-untyped-def]
    """[rows, truths] intersection over union; over the detection's own area where the truth is a crowd.

    Areas too small or too large for a float give NaN, as in pycocotools.
    """
    ious = np.zeros((len(boxes), len(truths)))
    for d in range(len(boxes)):
        for g in range(len(truths)):
            width, height = overlap(_corners(boxes[d]), _corners(truths[g]))
            if width > 0 and height > 0:
                inside, area = width * height, boxes[d, 2] * boxes[d, 3]
                ious[d, g] = inside / (area if crowd[g] else area + truths[g, 2] * truths[g, 3] - inside)
    return ious


@compiled()
def _corners(box):  # type: ignore[no-untyped-def]
    return box[0], box[1], box[0] + box[2], box[1] + box[3]
