"""log(sum(exp(x))) without overflow: of rows of logits, and of stretches of one array."""

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import FloatArray, Indices


def row_logsumexp(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """log(sum(exp(values))) over the last axis: scipy's `logsumexp` to the bit, for finite numbers alone.

    A tenth of its time for a picture's rows, where most of scipy's goes to what else it serves. The largest
    terms stand outside of the sum: m + log(n) + log(1 + sum of the smaller ones' exp(x - m) / n).
    """
    top = values.max(axis=-1, keepdims=True)
    largest = values == top
    smaller = np.exp(np.where(largest, -np.inf, values) - top).sum(axis=-1)
    count = largest.sum(axis=-1, dtype=values.dtype)
    return np.asarray(np.log1p(smaller / count) + np.log(count) + top[..., 0])


def segment_logsumexp(by_row: FloatArray, starts: Indices) -> FloatArray:
    """[segments] of `by_row`, cut where each segment starts."""
    largest = np.maximum.reduceat(by_row, starts)
    lengths = np.diff(starts, append=len(by_row))
    return np.asarray(largest + np.log(np.add.reduceat(np.exp(by_row - np.repeat(largest, lengths)), starts)))
