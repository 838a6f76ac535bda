"""A specialised classifier: data with its N + 1 classes, and its answers among all classes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Output
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.popular import Popular

UNKNOWN = -np.inf
"""The logit of a class that the student does not tell apart."""


def narrow(data: ImageSet, popular: Popular) -> ImageSet:
    """A set of the same images with the student's classes."""
    return replace(data, labels=popular.narrow(data.labels), class_names=popular.class_names)


narrow_classes = narrow  # a network is tried on an image of its data


def class_counts(data: ImageSet) -> NDArray[np.intp]:
    """[classes] images of each. Raises InvalidInput where nobody knows the labels."""
    if data.labels.min(initial=0) < 0:
        raise InvalidInput("Expected a label of every picture, got some without. Set `labels: false`.")
    return np.bincount(data.labels, minlength=data.num_classes)


def widen(output: Output, popular: Popular, other_at: float | None = None) -> Output:
    """The student's answers among all K classes: vectors of K + 1 logits, the last one "other".

    It abstains where "other" has the largest logit, whatever `other_at`. The logits that scores see stay
    the student's own.
    """
    logits = output.logits.values[:, 0]
    wide = np.full((len(logits), len(popular.all_names) + 1), UNKNOWN, dtype=logits.dtype)
    wide[:, [*popular.classes, -1]] = logits
    return replace(output, predictions=list(wide), abstains=logits.argmax(axis=1) == popular.other)
