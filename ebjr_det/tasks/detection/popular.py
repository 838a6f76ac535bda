"""A specialised detector: data with its N + 1 classes, and its boxes among all classes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ebjr_det.popular import OTHER, Popular
from ebjr_det.tasks.detection.data import DetectionSet, Named
from ebjr_det.types import Logits, Output


def narrow(data: DetectionSet, popular: Popular) -> DetectionSet:
    """The same images with the student's classes: boxes of all other classes are "other"."""
    categories = narrow_classes(data, popular).categories
    whole = data.annotations
    truths = tuple(replace(truth, labels=popular.narrow(truth.labels)) for truth in whole.truths)
    names = tuple(categories.values())
    annotations = replace(whole, truths=truths, category_ids=tuple(categories), class_names=names)
    return replace(data, annotations=annotations)


def narrow_classes(data: DetectionSet | Named, popular: Popular) -> Named:
    """The student's classes alone. Popular categories keep their ids; "other" has the next one after all."""
    ids = list(data.categories)
    return Named({ids[index]: popular.all_names[index] for index in popular.classes} | {ids[-1] + 1: OTHER})


def class_counts(data: DetectionSet) -> NDArray[np.intp]:
    """[classes] annotated objects of each, crowds left out."""
    shown = [truth.labels[~truth.crowd] for truth in data.annotations.truths]
    return np.bincount(np.concatenate(shown), minlength=len(data.class_names))


def widen(output: Output, popular: Popular, other_at: float) -> Output:
    """The student's boxes of popular classes among all classes, and the logits of these boxes.

    It abstains where a box of "other" has a score of at least `other_at`. Boxes of "other" are no answer:
    they are left out, of logits too, so that scores look at what the student would answer.
    """
    found, kept = [], []
    abstains = np.zeros(len(output.predictions), dtype=bool)
    classes = np.array(popular.classes, dtype=np.intp)
    for image, boxes in enumerate(output.predictions):
        own = boxes.labels < popular.other
        abstains[image] = (boxes.scores[~own] >= other_at).any()
        support = None if boxes.support is None else boxes.support[own]
        found.append(
            replace(
                boxes, boxes=boxes.boxes[own], scores=boxes.scores[own],
                labels=classes[boxes.labels[own]], support=support,
            )
        )  # fmt: skip
        kept.append(output.logits.values[image, : len(boxes)][own])
    values = np.zeros((len(kept), max(1, *map(len, kept)), popular.other + 1), dtype=np.float32)
    valid = np.zeros(values.shape[:2], dtype=bool)
    for image, rows in enumerate(kept):
        values[image, : len(rows)], valid[image, : len(rows)] = rows, True
    return replace(output, predictions=found, logits=Logits(values, valid), abstains=abstains)
