"""A seeded part of a set of images, by shares: parts whose shares do not overlap have no image in common."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError

SEED = 0


def part_of(count: int, shares: Sequence[float]) -> NDArray[np.intp]:
    """Indices, ascending, of the images whose place in one random order lies between two shares of it.

    Raises:
        ConfigError: shares that are no range within 0 and 1, or that hold no image.

    >>> sorted([*part_of(10, (0.0, 0.8)), *part_of(10, (0.8, 1.0))]) == list(range(10))
    True
    """
    first, last = shares
    if not 0 <= first < last <= 1:
        raise ConfigError(f"Expected `part` to be two shares, 0 <= first < last <= 1, got {list(shares)}.")
    order = np.random.default_rng(SEED).permutation(count)
    chosen = np.sort(order[round(first * count) : round(last * count)])
    if not len(chosen):
        raise ConfigError(f"Expected `part` {list(shares)} of {count} images to hold one, got none.")
    return chosen
