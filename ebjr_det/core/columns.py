"""What arrays must be to be columns of a run: one entry an image, plain numbers, finite."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput


def check_ids(image_ids: Sequence[str]) -> None:
    """Raises InvalidInput where there are no ids, one comes twice, or no file can hold one."""
    if not image_ids:
        raise InvalidInput("Expected at least one image, got none.")
    if len(set(image_ids)) != len(image_ids):
        seen: set[str] = set()
        twice = next(image for image in image_ids if image in seen or seen.add(image))  # type: ignore
        raise InvalidInput(f"Expected distinct image ids, got `{twice}` more than once.")
    if any("\ud800" <= letter <= "\udfff" for letter in "".join(image_ids)):
        raise InvalidInput("Expected image ids that UTF-8 can write, got one with half a character.")


def check_records(records: Mapping[str, NDArray[Any]], side: str, images: int) -> None:
    """Raises InvalidInput where match records are no numbers, one an image or as many as `counts` says."""
    lengths = {images}
    if "counts" in records and np.issubdtype(records["counts"].dtype, np.integer):
        lengths.add(int(records["counts"].sum()))
    for name, column in records.items():
        sound = not column.dtype.hasobject and column.ndim > 0
        sound = sound and len(column) in (lengths if name != "counts" else {images})
        check(sound, f"`{side}/{name}` to hold numbers for {images} images", column)


def check_student_columns(features: NDArray[Any] | None, abstains: NDArray[Any] | None, images: int) -> None:
    """Raises InvalidInput where there is not one an image, or features are not finite in float32, as kept."""
    if features is not None:
        sound = np.issubdtype(features.dtype, np.floating) and features.ndim == 2 and len(features) == images
        check(sound, f"`features` to be floats of shape [{images}, columns]", features)
        with np.errstate(over="ignore"):
            check_finite(np.isfinite(features.astype(np.float32)), "`features`")
    if abstains is not None:
        sound = abstains.dtype == np.bool_ and abstains.shape == (images,)
        check(sound, f"`abstains` to be {images} truth values", abstains)


def check(sound: bool | np.bool_, expected: str, column: NDArray[Any]) -> None:
    """Raises InvalidInput that shows the column where it is not sound."""
    if not sound:
        raise InvalidInput(f"Expected {expected}, got {column.dtype} of shape {list(column.shape)}.")


def check_finite(entries: NDArray[np.bool_], noun: str) -> None:
    """Raises InvalidInput that counts the images for which an entry, [images, ...], is not finite."""
    finite = np.asarray(entries.all(axis=tuple(range(1, entries.ndim))))
    if not finite.all():
        raise InvalidInput(
            f"Expected finite {noun}, got NaN or infinity for {(~finite).sum()} of {len(finite)} images, "
            f"the first at index {finite.argmin()}."
        )
