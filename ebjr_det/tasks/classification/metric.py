"""Classification judged: an image is right or wrong, the quality is top-1 accuracy in [0, 1]."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Matches, Opaque
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

        Raises:
            InvalidInput: a label that is no class of the logits.
        """
        logits = np.asarray(predictions)
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
