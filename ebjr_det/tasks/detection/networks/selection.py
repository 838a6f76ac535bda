"""Which pairs of an anchor and a class have the largest logits, out of millions."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.compiled import compiled

Floats: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]
NOT_NUMBERS = "Expected a detector's logits to be numbers, got NaN. Check its weights."
INDEX_BITS = 32
"""Of a sorted key, which hold a pair's index; those above hold its logit."""


def best_pairs(logits: Floats, count: int, maxima: Floats | None = None) -> tuple[Indices, Indices]:
    """The `count` largest of logits [anchors, classes], descending: their anchors and their classes.

    Equal logits stand in the order of the array, which holds fewer than 2^32.

    Args:
        maxima: [anchors] the largest logit of each, where the network tells it: a pass over all less.

    Raises:
        InvalidInput: NaN among the logits that are read.
    """
    if not logits.size or count < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    maxima = logits.max(axis=1) if maxima is None else maxima
    # The `count` best anchors have a pair each that is not below the last one's: so are all winners.
    least = np.partition(maxima, -count)[-count] if len(maxima) >= count else np.float32(-np.inf)
    flat, classes = logits.reshape(-1), logits.shape[1]
    pairs = _not_below(least, flat, np.flatnonzero(~(maxima < least)), classes)
    values = flat.take(pairs)
    if np.isnan(values).any():
        raise InvalidInput(NOT_NUMBERS)
    keys = _falling(values).astype(np.int64) << INDEX_BITS | pairs  # no two are equal: no order to keep
    keys = np.partition(keys, count - 1)[:count] if len(keys) > count else keys
    anchors, outputs = np.divmod(np.sort(keys) & (1 << INDEX_BITS) - 1, classes)
    return anchors, outputs


@compiled(error_model="numpy")
def _not_below(least, flat, anchors, classes):  # type: ignore[no-untyped-def]
    """Indices in `flat` of the logits of these anchors that are not below `least`, or are NaN."""
    width, pairs = np.uint32(classes), np.empty(len(anchors) * classes + 1, np.uint32)
    count = np.uint32(0)
    for anchor in anchors:
        start = np.uint32(anchor) * width
        for pair in range(start, start + width):  # without a branch, which would be guessed wrong too often
            pairs[count] = pair
            count += np.uint32(not flat[pair] < least)
    return pairs[:count]


def _falling(values: Floats) -> NDArray[np.int32]:
    """Whole numbers that fall as floats rise, one for both zeros: their bits, of negative ones turned."""
    bits = (np.float32(0) - values).view(np.int32)
    return np.asarray(np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits))
