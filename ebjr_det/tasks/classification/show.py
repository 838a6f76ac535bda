"""A classifier's answer to one picture, for people and for programs."""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.special import softmax

from ebjr_det.core.types import Array
from ebjr_det.io.lettering import legible, with_strip
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.popular import OTHER

COLOR = "#444444"


def annotate(
    picture: Image.Image, answer: Array, named: ImageSet, least_score: float, *, side: int = 0
) -> Image.Image:
    """The picture under the predicted class, or "other", and its probability.

    Args:
        side: of the picture's longer side in pixels; by default that of the picture, at least 480.
    """
    best, probability = _best(answer)
    name = OTHER if best == named.num_classes else f"class {best}"
    return with_strip(legible(picture, side), f"{name}: {probability:.3f}", COLOR)


def to_entries(answer: Array, image_id: int, named: ImageSet) -> Iterator[dict[str, int | float | None]]:
    """The predicted class, None where a specialised student alone says "other"."""
    best, probability = _best(answer)
    category = None if best == named.num_classes else best
    yield {"image_id": image_id, "category_id": category, "score": probability}


def _best(answer: Array) -> tuple[int, float]:
    best = int(np.argmax(answer))
    return best, float(softmax(answer.astype(np.float64))[best])
