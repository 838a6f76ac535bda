"""What arrays must be to be columns of a run: one entry an image, plain numbers, finite where they are used.

Knows nothing about what the numbers mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.errors import InvalidInput


def check_ids(image_ids: Sequence[str]) -> None:
    """Raises InvalidInput where there are no ids, one comes twice, or no file can hold one."""
    if not image_ids:
        raise InvalidInput("Expected at least one image, got none.")
    if len(set(image_ids)) != len(image_ids):
        seen: set[str] = set()
        twice = next(i for i in image_ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise InvalidInput(f"Expected distinct image ids, got `{twice}` more than once.")
    if any("\ud800" <= letter <= "\udfff" for letter in "".join(image_ids)):
        raise InvalidInput("Expected image ids that UTF-8 can write, got one with half a character.")


def check_score(values: NDArray[Any], name: str, images: int) -> None:
    """Raises InvalidInput where a deferral score is no finite float64 number an image."""
    if values.dtype != np.float64 or values.shape != (images,) or not np.isfinite(values).all():
        raise InvalidInput(
            f"Expected score `{name}` to be {images} finite float64 numbers, "
            f"got {values.dtype} of shape {list(values.shape)}."
        )


def check_records(records: Mapping[str, NDArray[Any]], side: str, images: int) -> None:
    """Raises InvalidInput where match records are no plain numbers, or of another number of images."""
    allowed = {images}
    counts = records.get("counts")
    if counts is not None and np.issubdtype(counts.dtype, np.integer):
        allowed.add(int(counts.sum()))
    for name, column in records.items():
        whole = allowed if name != "counts" else {images}
        if column.dtype.hasobject or not column.ndim or len(column) not in whole:
            raise InvalidInput(
                f"Expected `{side}/{name}` to hold numbers for {images} images, "
                f"got {column.dtype} of shape {list(column.shape)}."
            )


def check_abstains(abstains: NDArray[Any] | None, images: int) -> None:
    """Raises InvalidInput where what a student hands on is no truth value an image."""
    if abstains is not None and (abstains.dtype != np.bool_ or abstains.shape != (images,)):
        raise InvalidInput(
            f"Expected `abstains` to be {images} truth values, "
            f"got {abstains.dtype} of shape {list(abstains.shape)}."
        )


def check_features(features: NDArray[Any] | None, images: int) -> None:
    """Raises InvalidInput where a student's features are not [images, columns] of finite floats.

    Finite in float32, the precision in which runs keep them and forests see them.
    """
    if features is None:
        return
    if not np.issubdtype(features.dtype, np.floating) or features.ndim != 2 or len(features) != images:
        raise InvalidInput(
            f"Expected `features` to be floats of shape [{images}, columns], "
            f"got {features.dtype} of shape {list(features.shape)}."
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(features.astype(np.float32)).all(axis=1)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise InvalidInput(
            f"Expected finite `features`, got NaN or infinity for {int((~finite).sum())} of {images} images, "
            f"the first at index {first}."
        )
