"""Which pairs of an anchor and a class have the largest logits, out of millions, in one pass over them.

All of it is numpy and compiled loops of one thread: the same pairs in the same order on every machine. Knows
no boxes, no network and no torch.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.compiled import compiled

Floats: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]

GROUP = 64  # logits that are looked at together
NO_NUMBERS = "Expected a detector's logits to be numbers, got NaN. Check its weights."
MAGNITUDE = np.int32(0x7FFFFFFF)  # a float's bits but its sign
INFINITE = np.int32(0x7F800000)  # those of infinity
SHIFT = np.int32(0x007FFFFF)  # see `_key`
LOWEST = np.int32(-0x80000000)  # the key of minus infinity
NEGATIVE_ZERO = np.int32(-0x00800000)  # the key of -0.0, one below that of 0.0


def best_pairs(logits: Floats, most: int, maxima: Floats | None = None) -> tuple[Indices, Indices]:
    """The `most` largest of logits [anchors, classes], descending: their anchors and their classes.

    Equal logits stand in the order of the array. Of the array cut into groups, the winners are all in those
    whose own maximum is not below the `most`-th largest maximum, and only those few groups are read.

    Args:
        maxima: [anchors] the largest logit of each, where the network tells it: groups are anchors then.
            Without it one pass over all logits finds the maxima of groups of `GROUP`.

    Raises:
        InvalidInput: NaN among the logits that are read.
    """
    bits = _bits(logits)
    if not bits.size or most < 1:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if maxima is None:
        group, largest = GROUP, _group_maxima(bits)
    else:
        group, largest = logits.shape[1], _keys(_bits(maxima))
    if largest.max() > _key(INFINITE):
        raise InvalidInput(NO_NUMBERS)
    among = largest if most <= len(largest) else _keys(bits)
    place = max(len(among) - most, 0)
    bound = np.partition(among, place)[place]
    pairs = _pairs_from(bits, largest, bound - (bound == _key(np.int32(0))), group)  # -0.0 is as large as 0.0
    if len(pairs) > most:
        pairs = np.partition(pairs, len(pairs) - most)[len(pairs) - most :]
    pairs = np.sort(pairs)[::-1]
    if len(pairs) and pairs[0] >> 31 > _key(INFINITE):
        raise InvalidInput(NO_NUMBERS)
    anchors, classes = np.divmod(MAGNITUDE - (pairs & MAGNITUDE), logits.shape[1])
    return anchors, classes


def _bits(values: Floats) -> NDArray[np.int32]:
    """The bits of floats, in one row."""
    return np.ascontiguousarray(values, dtype=np.float32).view(np.int32).reshape(-1)


def _keys(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """`_key` of each."""
    return np.asarray((bits ^ ((bits >> 31) & MAGNITUDE)) - SHIFT)


@compiled()
def _key(bits):  # type: ignore[no-untyped-def]
    """A float's bits as a whole number in the order of the floats, but NaN, of either sign, above infinity.

    Whole numbers are compared many at a time where floats, for NaN's sake, are not. A negative float's bits
    fall as it grows, so all but the sign are turned over; then the scale is moved by as much as brings
    negative NaN from its lower end round to its upper one.
    """
    return np.int32((bits ^ ((bits >> np.int32(31)) & MAGNITUDE)) - SHIFT)


@compiled()
def _group_maxima(bits):  # type: ignore[no-untyped-def]
    """Largest key of each `GROUP` numbers, the last one shorter."""
    full = len(bits) // GROUP
    groups, largest = bits[: full * GROUP].reshape(-1, GROUP), np.empty(-(-len(bits) // GROUP), np.int32)
    for group in range(full):
        best = LOWEST
        for column in range(GROUP):
            best = max(best, _key(groups[group, column]))
        largest[group] = best
    if full < len(largest):
        largest[full] = LOWEST
        for place in range(full * GROUP, len(bits)):
            largest[full] = max(largest[full], _key(bits[place]))
    return largest


@compiled()
def _pairs_from(bits, largest, bound, group):  # type: ignore[no-untyped-def]
    """Key * 2^31 + (2^31 - 1 - place in the array) of every pair from the bound: they sort as pairs do."""
    hot, count = (largest >= bound).sum(), 0
    pairs, keys = np.empty(hot * group, np.int64), np.empty(group, np.int32)
    for row in range(len(largest)):
        if largest[row] < bound:
            continue
        start = row * group
        width = min(group, len(bits) - start)
        for column in range(width):
            keys[column] = _key(bits[start + column])
        for column in range(width):
            if keys[column] >= bound:
                key = np.int64(keys[column])
                key += key == NEGATIVE_ZERO  # and equal zeros stand in the array's order
                pairs[count] = (key << 31) + (MAGNITUDE - (start + column))
                count += 1
    return pairs[:count]
