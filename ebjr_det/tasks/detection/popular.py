"""A specialised detector: data with its N + 1 classes, and its boxes among all classes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Output
from ebjr_det.tasks.detection.coco.annotations import Annotations, Results
from ebjr_det.tasks.detection.data import DetectionSet, Named
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.networks.classes import padded
from ebjr_det.tasks.popular import Popular

OTHER_AT = 0.3
"""Score from which on a box of "other" hands its picture on, where nothing else is said."""


def narrow(data: DetectionSet, popular: Popular) -> DetectionSet:
    """A set of the same images with the student's classes: boxes of all other classes are "other"."""
    return replace(data, annotations=narrow_annotations(data.annotations, popular))


def narrow_annotations(annotations: Annotations, popular: Popular) -> Annotations:
    """Annotations with the student's classes. Popular categories keep their ids, "other" has the next one."""
    truths = tuple(replace(truth, labels=popular.narrow(truth.labels)) for truth in annotations.truths)
    ids = _ids(annotations.category_ids, popular)
    return replace(annotations, truths=truths, category_ids=ids, class_names=popular.class_names)


def narrow_classes(data: DetectionSet | Named, popular: Popular) -> Named:
    """The student's classes alone, with the ids of `narrow_annotations`."""
    ids = _ids(list(data.categories), popular)
    return Named(dict(zip(ids, popular.class_names, strict=True)))


def _ids(all_ids: Sequence[int], popular: Popular) -> tuple[int, ...]:
    return (*(all_ids[index] for index in popular.classes), all_ids[-1] + 1)


def class_counts(data: DetectionSet) -> NDArray[np.intp]:
    """[classes] annotated objects of each, crowds left out."""
    labels = [truth.labels[~truth.crowd] for truth in data.annotations.truths]
    return np.bincount(np.concatenate(labels), minlength=len(data.class_names))


def widen_results(results: Results, popular: Popular, other_at: float) -> tuple[Results, bool]:
    """One image's entries of a result file of the student's classes: those of popular classes among all
    classes, and whether the student abstains, as in `widen`.
    """
    real, abstains = _split(results.labels, results.scores, popular, other_at)
    labels = np.array(popular.classes, dtype=np.intp)[results.labels[real]]
    return Results(results.boxes[real], results.scores[real], labels), abstains


def widen(output: Output, popular: Popular, other_at: float) -> Output:
    """The student's boxes of popular classes among all classes, and the logits of these boxes.

    It abstains where a box of "other" has a score of at least `other_at`. Boxes of "other" are no answer:
    they are left out, of logits too, so that scores look at what the student would answer.
    """
    predictions, logits, backgrounds = [], [], []
    background = output.logits.background
    abstains = np.zeros(len(output.predictions), dtype=bool)
    classes = np.array(popular.classes, dtype=np.intp)
    for image, answer in enumerate(output.predictions):
        real, abstains[image] = _split(answer.labels, answer.scores, popular, other_at)
        support = None if answer.support is None else answer.support[real]
        labels = classes[answer.labels[real]]
        predictions.append(Detections(answer.boxes[real], answer.scores[real], labels, support))
        logits.append(output.logits.values[image, : len(answer)][real])
        if background is not None:
            backgrounds.append(background[image, : len(answer)][real][:, None])
    rows = padded(logits, popular.other + 1, output.logits.values.dtype)
    if background is not None:
        padding = padded(backgrounds, 1, background.dtype).values[..., 0]
        rows = replace(rows, head=output.logits.head, background=padding)
    return replace(output, predictions=predictions, logits=rows, abstains=abstains)


def _split(
    labels: NDArray[np.intp], scores: NDArray[np.float64], popular: Popular, other_at: float
) -> tuple[NDArray[np.bool_], bool]:
    """[n] which boxes are of popular classes, and whether one of "other" hands the picture on."""
    real = labels < popular.other
    return real, bool((scores[~real] >= other_at).any())
