"""What arrays must be to be columns of a run: one entry an image, plain numbers, finite where they are used.

Knows nothing about what the numbers mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput

LARGEST_LOGIT = 1e100


def check_logits(values: NDArray[Any], valid: NDArray[Any]) -> None:
    """Raises InvalidInput where arrays are no logits of images; see `types.Logits`."""
    shape = values.shape
    if len(shape) != 3 or shape[2] < 1:
        raise InvalidInput(f"Expected logits of shape [images, rows, classes], got {list(shape)}.")
    if valid.shape != shape[:2]:
        raise InvalidInput(f"Expected `valid` of shape {list(shape[:2])}, got {list(valid.shape)}.")
    with np.errstate(over="ignore"):
        magnitude = np.abs(values.astype(np.float64))
    finite = (magnitude <= LARGEST_LOGIT).all(axis=2) | ~valid
    if not finite.all():
        image = int(np.flatnonzero(~finite.all(axis=1))[0])
        bad = int((~finite.all(axis=1)).sum())
        raise InvalidInput(
            f"Expected finite logits, got NaN or infinity for {bad} of {shape[0]} images, "
            f"the first at index {image}."
        )


def check_detections(
    boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], support: NDArray[Any] | None
) -> None:
    """Raises InvalidInput where arrays are no detections of an image; see `types.Detections`."""
    count = len(scores)
    if boxes.shape != (count, 4) or scores.ndim != 1 or labels.shape != (count,):
        raise InvalidInput(
            f"Expected boxes [n, 4], scores [n] and labels [n], got {list(boxes.shape)}, "
            f"{list(scores.shape)} and {list(labels.shape)}."
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise InvalidInput("Expected finite boxes and scores, got NaN or infinity.")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise InvalidInput("Expected boxes with x1 <= x2 and y1 <= y2, got one of negative size.")
    if count and labels.min() < 0:
        raise InvalidInput(f"Expected class indices from 0, got {labels.min()}.")
    known = support if support is not None else np.zeros(count)
    if known.shape != (count,) or not (np.isfinite(known) & (known >= 0)).all():
        raise InvalidInput(f"Expected {count} finite numbers from 0 as `support`, got others.")


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
