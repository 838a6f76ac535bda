"""A specialised detector: data with its N + 1 classes, and its boxes among all classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Output
from ebjr_det.tasks.detection.coco.annotations import Annotations, Results
from ebjr_det.tasks.detection.data import DetectionSet, Named
from ebjr_det.tasks.detection.networks.classes import padded
from ebjr_det.tasks.popular import Popular

OTHER_AT = 0.3
"""Score from which on a box of "other" hands its picture on, where nothing else is said."""


def narrow(data: DetectionSet, popular: Popular) -> DetectionSet:
    """The same images with the student's classes: boxes of all other classes are "other"."""
    return replace(data, annotations=narrow_annotations(data.annotations, popular))


def narrow_annotations(whole: Annotations, popular: Popular) -> Annotations:
    """The same of annotations. Popular categories keep their ids; "other" has the next one after all."""
    truths = tuple(replace(truth, labels=popular.narrow(truth.labels)) for truth in whole.truths)
    ids = _ids(whole.category_ids, popular)
    return replace(whole, truths=truths, category_ids=ids, class_names=popular.class_names)


def narrow_classes(data: DetectionSet | Named, popular: Popular) -> Named:
    """The student's classes alone, with the same ids."""
    ids = _ids(list(data.categories), popular)
    return Named(dict(zip(ids, popular.class_names, strict=True)))


def _ids(all_ids: Sequence[int], popular: Popular) -> tuple[int, ...]:
    return (*(all_ids[index] for index in popular.classes), all_ids[-1] + 1)


def class_counts(data: DetectionSet) -> NDArray[np.intp]:
    """[classes] annotated objects of each, crowds left out."""
    shown = [truth.labels[~truth.crowd] for truth in data.annotations.truths]
    return np.bincount(np.concatenate(shown), minlength=len(data.class_names))


def widen_results(own: Results, popular: Popular, other_at: float) -> tuple[Results, bool]:
    """One image's entries of a result file of the student's classes: those of popular classes among all
    classes, and whether the student abstains, as in `widen`.
    """
    kept = own.labels < popular.other
    classes = np.array(popular.classes, dtype=np.intp)
    popular_ones = Results(own.boxes[kept], own.scores[kept], classes[own.labels[kept]])
    return popular_ones, bool((own.scores[~kept] >= other_at).any())


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
    logits = padded(kept, popular.other + 1, output.logits.values.dtype)
    return replace(output, predictions=found, logits=logits, abstains=abstains)
