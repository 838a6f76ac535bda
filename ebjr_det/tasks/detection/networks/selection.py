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
        maxima: [anchors] the largest logit of each, where the network tells it: a pass over all less. Where
            they are rounded otherwise than the logits, so that too few remain, they are taken anew.

    Raises:
        InvalidInput: NaN among the logits that are read.
    """
    if not logits.size or count < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    told, maxima = maxima is not None, logits.max(axis=1) if maxima is None else maxima
    # Each of the `count` anchors with the largest maxima, of equal ones the first, has a pair that comes
    # before all pairs of any further anchor: the winners are theirs, and none is below their least maximum.
    least = np.partition(maxima, -count)[-count] if len(maxima) >= count else np.float32(-np.inf)
    keys = _keys(logits.reshape(-1), maxima, least, count)
    if len(keys) < min(count, logits.size):
        if told:
            return best_pairs(logits, count)
        raise InvalidInput(NOT_NUMBERS)
    keys = np.partition(keys, count - 1)[:count] if len(keys) > count else keys
    anchors, classes = np.divmod(np.sort(keys) & (1 << INDEX_BITS) - 1, logits.shape[1])
    return anchors, classes


@compiled(error_model="numpy")
def _keys(flat, maxima, least, rows):  # type: ignore[no-untyped-def]
    """Whole numbers for the logits not below `least` that fall as logits rise and rise with their
    index: no two are equal, so they sort fast. Of `rows` anchors at most; none where there is NaN.
    """
    width, numbers, above = np.uint32(len(flat) // len(maxima)), 0, 0
    for maximum in maxima:
        numbers += maximum == maximum
        above += maximum > least
    if numbers < len(maxima):
        return np.empty(0, np.int64)
    pairs, count, equal = np.empty(min(rows, len(maxima)) * width + 1, np.uint32), np.uint32(0), rows - above
    for anchor, maximum in enumerate(maxima):
        if maximum < least or (maximum == least and equal == 0):
            continue
        equal -= maximum == least
        start = np.uint32(anchor) * width
        for pair in range(start, start + width):  # without a branch, which would be guessed wrong too often
            pairs[count] = pair
            count += np.uint32(not flat[pair] < least)
    keys = np.empty(count, np.int64)
    for index in range(count):
        logit = flat[pairs[index]]
        if np.isnan(logit):
            return keys[:0]
        bits = np.float32(0 - logit).view(np.int32)  # the same of both zeros; of negative floats they fall
        falling = bits if bits >= 0 else bits ^ np.int32(0x7FFFFFFF)
        keys[index] = np.int64(falling) << INDEX_BITS | np.int64(pairs[index])
    return keys
