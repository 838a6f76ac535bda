"""A classifier's answer to one picture, for people and for programs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from ebjr_det.pictures import with_strip
from ebjr_det.tasks.classification.data import ImageSet

COLOR = "#444444"


def annotate(
    picture: Any, answer: NDArray[Any], named: ImageSet, least_score: float, *, side: int = 0
) -> Any:
    """The picture under the predicted class and its probability.

    Args:
        side: of the picture's longer side in pixels; by default as it is.
    """
    scale = side / max(picture.size)
    if scale not in (0, 1):
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    best = int(np.argmax(answer))
    return with_strip(picture, f"class {best}: {softmax(answer.astype(np.float64))[best]:.3f}", COLOR)


def to_entries(answer: NDArray[Any], image_id: int, named: ImageSet) -> Iterator[dict[str, Any]]:
    """The predicted class."""
    best = int(np.argmax(answer))
    probability = float(softmax(answer.astype(np.float64))[best])
    yield {"image_id": image_id, "category_id": best, "score": probability}
