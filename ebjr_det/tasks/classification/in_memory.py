"""Labelled pictures in memory as a data set."""

from collections.abc import Sequence

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Opaque
from ebjr_det.io.pictures import as_picture
from ebjr_det.tasks.classification.data import UNKNOWN, ImageSet


def build_labelled(
    pictures: Sequence[Opaque],
    labels: Sequence[int] | None,
    class_names: Sequence[str],
    image_ids: Sequence[str] | None = None,
) -> ImageSet:
    """Pictures with one label each, as `data` of `evaluate`.

    Args:
        pictures: PIL images, uint8 arrays [height, width, 3], or paths.
        labels: class indices from 0, one a picture; anything that numpy makes an array of. None where nobody
            knows them, for an evaluation with `labels: false`.
        class_names: of all classes that the models tell apart, by index.
        image_ids: distinct names, by default `0`, `1`, ...

    Raises:
        InvalidInput: no picture, another number of labels or ids, or a label that is no class.

    >>> data = build_labelled([np.zeros((8, 8, 3), np.uint8)], [1], ["cat", "dog"])
    >>> data.image_ids, data.target(0), data.load(0).size
    (('0',), 1, (8, 8))
    """
    names = tuple(map(str, class_names))
    indices = np.full(len(pictures), UNKNOWN) if labels is None else np.asarray(labels)
    ids = tuple(map(str, range(len(pictures)) if image_ids is None else image_ids))
    if not len(pictures) or len(pictures) != len(ids) or indices.shape != (len(pictures),):
        raise InvalidInput(
            f"Expected pictures with one label and one id each, got {len(pictures)} pictures, labels of "
            f"shape {list(indices.shape)} and {len(ids)} ids."
        )
    if len(set(ids)) < len(ids) or len(set(names)) < len(names):
        raise InvalidInput("Expected distinct `image_ids` and `class_names`, got one twice.")
    if not np.issubdtype(indices.dtype, np.integer):
        raise InvalidInput(f"Expected integer labels, got {indices.dtype}.")
    if labels is not None and (indices.min() < 0 or indices.max() >= len(names)):
        raise InvalidInput(f"Expected labels in 0..{len(names) - 1}, got {indices.min()}..{indices.max()}.")
    return ImageSet(ids, indices.astype(np.intp), names, lambda index: as_picture(pictures[index]))
