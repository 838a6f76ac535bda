"""A classifier's answer to one picture, for people and for programs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from ebjr_det.io.lettering import legible, with_strip
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.popular import OTHER

COLOR = "#444444"


def annotate(
    picture: Any, answer: NDArray[Any], named: ImageSet, least_score: float, *, side: int = 0
) -> Any:
    """The picture under the predicted class, or "other", and its probability.

    Args:
        side: of the picture's longer side in pixels; by default that of the picture, at least 480.
    """
    best, probability = _best(answer)
    name = OTHER if best == named.num_classes else f"class {best}"
    return with_strip(legible(picture, side), f"{name}: {probability:.3f}", COLOR)


def to_entries(answer: NDArray[Any], image_id: int, named: ImageSet) -> Iterator[dict[str, Any]]:
    """The predicted class, None where a specialised student alone says "other"."""
    best, probability = _best(answer)
    category = None if best == named.num_classes else best
    yield {"image_id": image_id, "category_id": category, "score": probability}


def _best(answer: NDArray[Any]) -> tuple[int, float]:
    """The largest logit's index, and its probability."""
    best = int(np.argmax(answer))
    return best, float(softmax(answer.astype(np.float64))[best])
