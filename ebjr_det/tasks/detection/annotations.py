"""COCO-format ground truth and result files, read with the bits that the file holds and checked at the door.

Convention: boxes are x, y, width, height in pixels of the original image, as in the file. Classes are indices
from 0, the position of a category's id among the sorted ids; the ids themselves stay in this folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.errors import ConfigError, InvalidInput
from ebjr_det.tasks.detection.entries import (
    distinct,
    kind_of,
    load_json,
    numbers,
    objects_under,
    positions,
    shown,
    text,
)
from ebjr_det.types import FloatArray

LONGEST_SIDE = 1_000_000
"""Pixels; a larger number is a mistake."""


@dataclass(frozen=True)
class Truth:
    """The annotated objects of one image.

    Attributes:
        boxes: [m, 4] x, y, width, height in pixels.
        labels: [m] class indices from 0.
        areas: [m] in square pixels, of the object's mask where it has one.
        crowd: [m] True where the box stands for a group; it is matched, never missed.
    """

    boxes: FloatArray
    labels: NDArray[np.intp]
    areas: FloatArray
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Annotations:
    """A set of images with their annotated objects, in ascending order of the image ids.

    Attributes:
        image_ids: COCO's, whole numbers.
        file_names: relative to the folder of images.
        sizes: [n, 2] width and height in pixels, 0 where the file does not say.
        category_ids: COCO's, ascending; a class index is a position here.
    """

    image_ids: tuple[int, ...]
    file_names: tuple[str, ...]
    sizes: NDArray[np.intp]
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    truths: tuple[Truth, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    def subset(self, ids: Sequence[int] | None = None, limit: int | None = None) -> "Annotations":
        """Only the images of `ids`, and of those only the first `limit`.

        Raises:
            ConfigError: an id that is not there.
        """
        positions = {image: index for index, image in enumerate(self.image_ids)}
        strange = [image for image in ids or () if image not in positions]
        if strange:
            raise ConfigError(f"Expected ids of the annotated images, got {strange[0]}.")
        chosen = sorted({positions[image] for image in ids}) if ids is not None else range(len(self))
        chosen = list(chosen)[:limit]
        if not chosen:
            raise ConfigError("Expected at least one image, got none.")
        return replace(
            self,
            image_ids=tuple(self.image_ids[i] for i in chosen),
            file_names=tuple(self.file_names[i] for i in chosen),
            sizes=self.sizes[chosen],
            truths=tuple(self.truths[i] for i in chosen),
        )


@dataclass(frozen=True)
class Results:
    """One image's entries of a result file: boxes [n, 4] x, y, width, height, scores [n], labels [n]."""

    boxes: FloatArray
    scores: FloatArray
    labels: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.scores)


def load_annotations(path: Path) -> Annotations:
    """Read a COCO ground truth, `.json` or `.json.gz`.

    Raises:
        InvalidInput: a damaged file, no images or categories, ids that are unknown, 0 or there twice, boxes
            or areas that are negative or no numbers, a file name that leaves its folder. Names a culprit.
    """
    content = load_json(path, "COCO annotations")
    if not isinstance(content, dict):
        raise InvalidInput(
            f"Expected an object with `images`, `annotations` and `categories` in `{path}`, "
            f"got {kind_of(content)}."
        )
    images, categories, annotations = (
        objects_under(content, key, path) for key in ("images", "categories", "annotations")
    )
    if not images or not categories:
        raise InvalidInput(
            f"Expected at least one image and one category in `{path}`, "
            f"got {len(images)} images and {len(categories)} categories."
        )
    category_ids, by_category = distinct(categories, "category", path)
    image_ids, by_image = distinct(images, "image", path)
    distinct(annotations, "annotation", path)
    order = {image: index for index, image in enumerate(image_ids)}
    labels = {category: index for index, category in enumerate(category_ids)}
    owners = positions(annotations, "image_id", order, path)
    classes = positions(annotations, "category_id", labels, path)
    boxes = numbers([a.get("bbox") for a in annotations], 4, "bbox", annotations, path)
    areas = [a.get("area", w * h) for a, (_, _, w, h) in zip(annotations, boxes.tolist(), strict=True)]
    sizes = numbers(areas, 0, "area", annotations, path)
    crowd = np.array([_crowd(a, path) for a in annotations], dtype=bool)
    truths = tuple(
        Truth(boxes[own], classes[own], sizes[own], crowd[own]) for own in _by_owner(owners, len(image_ids))
    )
    entries = [by_image[image] for image in image_ids]
    return Annotations(
        image_ids,
        tuple(_file_name(entry, path) for entry in entries),
        np.array([_size(entry, path) for entry in entries], dtype=np.intp).reshape(-1, 2),
        category_ids,
        tuple(text(by_category[c].get("name", str(c)), "category names", path) for c in category_ids),
        truths,
    )


def load_results(path: Path, annotations: Annotations) -> tuple[Results, ...]:
    """Read a COCO result file, `.json` or `.json.gz`: one `Results` an image, in the file's own order.

    Raises:
        InvalidInput: a damaged file, unknown images or categories, boxes of negative size, scores outside
            [0, 1] or no numbers, or no entry at all.
    """
    entries = load_json(path, "COCO results")
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise InvalidInput(
            f"Expected a list of detections (COCO results) in `{path}`, got {kind_of(entries)}. "
            "Give a detector's results, not the ground truth."
        )
    if not entries:
        raise InvalidInput(
            f"Expected detections in `{path}`, got none. A detector that finds nothing is no pair."
        )
    order = {image: index for index, image in enumerate(annotations.image_ids)}
    labels = {category: index for index, category in enumerate(annotations.category_ids)}
    owners = positions(entries, "image_id", order, path)
    classes = positions(entries, "category_id", labels, path)
    boxes = numbers([e.get("bbox") for e in entries], 4, "bbox", entries, path)
    scores = numbers([e.get("score") for e in entries], 0, "score", entries, path)
    if scores.max() > 1:
        worst = int(scores.argmax())
        raise InvalidInput(
            f"Expected scores in [0, 1] in `{path}`, got {scores[worst]} at entry {worst}. "
            "Save them after the sigmoid."
        )
    return tuple(
        Results(boxes[own], scores[own], classes[own]) for own in _by_owner(owners, len(annotations))
    )


def _by_owner(owners: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """For each of `count` images the positions of its entries, in their order."""
    order = np.argsort(owners, kind="stable")
    return np.split(order, np.searchsorted(owners[order], np.arange(1, count)))


def _file_name(entry: Mapping[str, Any], path: Path) -> str:
    name = text(entry.get("file_name", ""), "file names", path)
    windows = PureWindowsPath(name)
    rooted = PurePosixPath(name).is_absolute() or windows.drive or windows.root
    if rooted or ".." in windows.parts or "\0" in name:
        raise InvalidInput(f"Expected file names inside the folder of images in `{path}`, got {shown(name)}.")
    return name


def _crowd(entry: Mapping[str, Any], path: Path) -> bool:
    flag = entry.get("iscrowd", 0)
    if flag not in (0, 1):
        raise InvalidInput(f"Expected `iscrowd` to be 0 or 1 in `{path}`, got {shown(flag)}.")
    return bool(flag)


def _size(entry: Mapping[str, Any], path: Path) -> tuple[int, int]:
    sides = entry.get("width", 0), entry.get("height", 0)
    if not all(type(side) is int and 0 <= side <= LONGEST_SIDE for side in sides):
        raise InvalidInput(
            f"Expected an image's sides in `{path}` to be whole numbers up to {LONGEST_SIDE:,}, "
            f"got {shown(sides)}."
        )
    return sides
