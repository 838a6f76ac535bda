"""Which pairs of an anchor and a class have the largest logits, out of millions."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput

Floats: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]
NOT_NUMBERS = "Expected a detector's logits to be numbers, got NaN. Check its weights."


def best_pairs(logits: Floats, count: int, maxima: Floats | None = None) -> tuple[Indices, Indices]:
    """The `count` largest of logits [anchors, classes], descending: their anchors and their classes.

    Equal logits stand in the order of the array.

    Args:
        maxima: [anchors] the largest logit of each, where the network tells it: a pass over all less.

    Raises:
        InvalidInput: NaN among the logits that are read.
    """
    if not logits.size or count < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    # The winners are all of anchors whose own maximum is not below the `count`-th largest maximum.
    anchors = _from_largest(logits.max(axis=1) if maxima is None else maxima, count)
    values = logits[anchors].ravel()
    pairs = _from_largest(values, count)
    pairs = pairs[np.argsort(-values[pairs], kind="stable")[:count]]
    rows, classes = np.divmod(pairs, logits.shape[1])
    return anchors[rows], classes


def _from_largest(values: Floats, count: int) -> Indices:
    """Indices, ascending, of the values that are not below the `count`-th largest one."""
    position = max(len(values) - count, 0)
    parted = np.partition(values, position)
    if np.isnan(parted[position:]).any():  # NaN comes last
        raise InvalidInput(NOT_NUMBERS)
    return np.flatnonzero(values >= parted[position])
