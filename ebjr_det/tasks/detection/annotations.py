"""COCO-format ground truth and result files, read with the bits that the file holds and checked at the door.

Convention: boxes are x, y, width, height in pixels of the original image, as in the file. Classes are indices
from 0, the position of a category's id among the sorted ids; the ids themselves stay in this folder.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.errors import ConfigError, InvalidInput, first_line
from ebjr_det.files import existing_file
from ebjr_det.types import FloatArray


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
        InvalidInput: a damaged file, no images, ids that are unknown, 0 or there twice, boxes or areas that
            are negative or no numbers, a file name that leaves its folder. Names the first culprit.
    """
    content = _load_json(path, "COCO annotations")
    if not isinstance(content, dict):
        raise InvalidInput(f"Expected an object with `images` in `{path}`, got {type(content).__name__}.")
    images, categories, annotations = (
        _entries(content, key, path) for key in ("images", "categories", "annotations")
    )
    if not images or not categories:
        raise InvalidInput(f"Expected at least one image and one category in `{path}`, got none.")
    category_ids, by_category = _distinct(categories, "category", path)
    image_ids, by_image = _distinct(images, "image", path)
    _distinct(annotations, "annotation", path)
    order = {image: index for index, image in enumerate(image_ids)}
    labels = {category: index for index, category in enumerate(category_ids)}
    owners = np.array([_known(a, "image_id", order, path) for a in annotations], dtype=np.intp)
    classes = np.array([_known(a, "category_id", labels, path) for a in annotations], dtype=np.intp)
    boxes = _numbers([a.get("bbox") for a in annotations], 4, "bbox", annotations, path)
    areas = [a.get("area", box[2] * box[3]) for a, box in zip(annotations, boxes, strict=True)]
    sizes = _numbers(areas, 0, "area", annotations, path)
    crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], dtype=bool)
    truths = tuple(
        Truth(boxes[own], classes[own], sizes[own], crowd[own]) for own in _by_owner(owners, len(image_ids))
    )
    entries = [by_image[image] for image in image_ids]
    return Annotations(
        image_ids,
        tuple(_file_name(entry, path) for entry in entries),
        np.array([_size(entry, path) for entry in entries], dtype=np.intp).reshape(-1, 2),
        category_ids,
        tuple(str(by_category[category].get("name", category)) for category in category_ids),
        truths,
    )


def load_results(path: Path, annotations: Annotations) -> tuple[Results, ...]:
    """Read a COCO result file, `.json` or `.json.gz`: one `Results` an image, in the file's own order.

    Raises:
        InvalidInput: a damaged file, unknown images or categories, boxes of negative size, scores outside
            [0, 1] or no numbers, or no entry for any of the images.
    """
    entries = _load_json(path, "COCO results")
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise InvalidInput(f"Expected a list of detections in `{path}`, got something else.")
    if not entries:
        raise InvalidInput(f"Expected detections in `{path}`, got none.")
    order = {image: index for index, image in enumerate(annotations.image_ids)}
    labels = {category: index for index, category in enumerate(annotations.category_ids)}
    owners = np.array([_known(e, "image_id", order, path) for e in entries], dtype=np.intp)
    classes = np.array([_known(e, "category_id", labels, path) for e in entries], dtype=np.intp)
    boxes = _numbers([e.get("bbox") for e in entries], 4, "bbox", entries, path)
    scores = _numbers([e.get("score") for e in entries], 0, "score", entries, path)
    if scores.max() > 1:
        worst = int(scores.argmax())
        raise InvalidInput(f"Expected scores in [0, 1] in `{path}`, got {scores[worst]} at entry {worst}.")
    return tuple(
        Results(boxes[own], scores[own], classes[own]) for own in _by_owner(owners, len(annotations))
    )


def _load_json(path: Path, what: str) -> Any:
    existing_file(path, what)
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except Exception as error:  # a damaged file can raise anything
        raise InvalidInput(f"Expected {what} (JSON) in `{path}`, got: {first_line(error)}.") from error


def _entries(content: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise InvalidInput(f"Expected a list of objects under `{key}` in `{path}`, got something else.")
    return entries


def _distinct(
    entries: Sequence[dict[str, Any]], what: str, path: Path
) -> tuple[tuple[int, ...], dict[int, dict[str, Any]]]:
    by_id: dict[int, dict[str, Any]] = {}
    for entry in entries:
        own = entry.get("id")
        if type(own) is not int:
            raise InvalidInput(
                f"Expected every {what} in `{path}` to have a whole number as id, got {own!r}."
            )
        if own in by_id:
            raise InvalidInput(f"Expected distinct {what} ids in `{path}`, got {own} more than once.")
        if what == "annotation" and own == 0:
            raise InvalidInput(f"Expected annotation ids from 1 in `{path}`, got 0: COCO's tools ignore it.")
        by_id[own] = entry
    return tuple(sorted(by_id)), by_id


def _known(entry: Mapping[str, Any], key: str, known: Mapping[int, int], path: Path) -> int:
    value = entry.get(key)
    if type(value) is not int or value not in known:
        raise InvalidInput(f"Expected `{key}` of the annotated set in `{path}`, got {value!r}.")
    return known[value]


def _numbers(values: Sequence[Any], width: int, key: str, entries: Sequence[Any], path: Path) -> FloatArray:
    """[n] or [n, width] float64, finite and at least 0 (of boxes: width and height)."""
    shape = (len(values), width) if width else (len(values),)
    flat = [number for value in values for number in value] if width and _rows(values, width) else values
    if not all(type(number) in (int, float) for number in flat):
        bad = next(i for i, v in enumerate(values) if not _is_number(v, width))
        raise InvalidInput(
            f"Expected `{key}` to be {f'{width} numbers' if width else 'a number'} in `{path}`, "
            f"got {values[bad]!r} at entry {bad}."
        )
    array = np.array(flat, dtype=np.float64).reshape(shape)
    sizes = array[:, 2:] if width else array[:, None]
    fault = ~(np.isfinite(array.reshape(len(values), -1)).all(axis=1) & (sizes >= 0).all(axis=1))
    if fault.any():
        bad = int(np.flatnonzero(fault)[0])
        owner = entries[bad].get("image_id")
        raise InvalidInput(
            f"Expected finite `{key}` of no negative size in `{path}`, got {values[bad]} of image {owner}."
        )
    return array


def _rows(values: Sequence[Any], width: int) -> bool:
    return all(isinstance(value, list) and len(value) == width for value in values)


def _is_number(value: Any, width: int) -> bool:
    parts = value if width and isinstance(value, list) and len(value) == width else [value]
    return (len(parts) == (width or 1)) and all(type(part) in (int, float) for part in parts)


def _by_owner(owners: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """For each of `count` images the positions of its entries, in their order."""
    order = np.argsort(owners, kind="stable")
    return np.split(order, np.searchsorted(owners[order], np.arange(1, count)))


def _file_name(entry: Mapping[str, Any], path: Path) -> str:
    name = entry.get("file_name", "")
    windows = PureWindowsPath(str(name))
    inside = isinstance(name, str) and not (
        PurePosixPath(name).is_absolute()
        or windows.drive
        or windows.root
        or ".." in windows.parts
        or "\0" in name
    )
    if not inside:
        raise InvalidInput(f"Expected file names inside the folder of images in `{path}`, got {name!r}.")
    return str(name)


def _size(entry: Mapping[str, Any], path: Path) -> tuple[int, int]:
    sides = entry.get("width", 0), entry.get("height", 0)
    if not all(type(side) is int and side >= 0 for side in sides):
        raise InvalidInput(f"Expected whole numbers as an image's sides in `{path}`, got {sides}.")
    return sides
