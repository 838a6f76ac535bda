"""Which images choose, and which are reported on: disjoint parts by id and seed alone."""

from collections.abc import Sequence

import numpy as np

from ebjr_det.core.errors import ConfigError, check_seed
from ebjr_det.core.types import Indices


def split_ids(image_ids: Sequence[str], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Indices of two disjoint, seeded random parts of images: calibration and report.

    The parts depend on the ids and the seed alone, not on the order of the images.

    Raises:
        ConfigError: the fraction leaves a part empty.

    >>> [part.tolist() for part in split_ids(["a", "b", "c", "d"], 0.5, 0)]
    [[0, 2], [1, 3]]
    """
    check_seed(seed)
    count = calibration_size(len(image_ids), fraction)
    by_id = np.argsort(np.array(image_ids))
    shuffled = by_id[np.random.default_rng(seed).permutation(len(image_ids))]
    return np.sort(shuffled[:count]), np.sort(shuffled[count:])


def calibration_size(images: int, fraction: float) -> int:
    """How many of the images calibrate. Raises ConfigError where a part would be empty."""
    count = round(fraction * images) if 0 < fraction < 1 else 0
    if not 0 < count < images:
        raise ConfigError(
            f"Expected a calibration fraction that leaves images on both sides, got {fraction} of {images}."
        )
    return count
