"""Classification judged: an image is right or wrong, the quality is top-1 accuracy in [0, 1]."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array, FloatArray, Matches, Opaque
from ebjr_det.tasks.image_mean import ImageMean

TOP_K = 5


class Accuracy(ImageMean):
    """The classification task. A prediction is a vector of class logits, a target a class index."""

    name = "classification"
    columns: ClassVar = MappingProxyType({"accuracy": "correct", "top5_accuracy": "top5_correct"})

    def match(self, predictions: Sequence[Opaque], targets: Sequence[Opaque]) -> Matches:
        """Columns `correct` and `top5_correct`, bool [images], and the classes: `label`, `predicted`.

        A specialised student's vector is longer by a last entry, "other", which is right for no label, and is
        -inf for every class that it does not tell apart. The predicted class is the first of the largest
        logits; an image is right in the top 5 when its class has a logit above -inf and fewer than five
        classes have a larger one, or an equal one at a smaller index.

        Where labels are not known, a target is how likely each class is, [classes]: the columns are then the
        probabilities that the answer is right, float64, and `label` is the likeliest class.

        Raises:
            InvalidInput: a label that is no class of the logits.
        """
        logits = np.asarray(predictions)
        if np.ndim(targets) == 2:
            return _expected(logits, np.asarray(targets, dtype=np.float64))
        labels = np.asarray(targets, dtype=np.intp)
        if labels.size and (labels.min() < 0 or labels.max() >= logits.shape[1]):
            raise InvalidInput(
                f"Expected labels in 0..{logits.shape[1] - 1}, got {labels.min()}..{labels.max()}."
            )
        logit = np.take_along_axis(logits, labels[:, None], axis=1)
        earlier = np.arange(logits.shape[1]) < labels[:, None]
        rank = ((logits > logit) | ((logits == logit) & earlier)).sum(axis=1)
        return {
            "correct": rank == 0,
            "top5_correct": (rank < TOP_K) & (logit[:, 0] > -np.inf),
            "label": labels.astype(np.int32),
            "predicted": logits.argmax(axis=1).astype(np.int32),
        }


def _expected(logits: Array, likelihood: FloatArray) -> Matches:
    """Match records without labels; likelihood [images, classes]: how likely each class is."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    right = np.zeros(logits.shape)  # "other" is right for no label
    classes = likelihood.shape[1]
    right[:, :classes] = np.where(logits[:, :classes] > -np.inf, likelihood, 0.0)
    of_best = np.take_along_axis(right, order, axis=1)
    return {
        "correct": of_best[:, 0],
        "top5_correct": of_best.sum(axis=1),
        "label": likelihood.argmax(axis=1).astype(np.int32),
        "predicted": order[:, 0].astype(np.int32),
    }
