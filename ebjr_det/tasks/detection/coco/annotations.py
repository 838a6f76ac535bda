"""COCO-format ground truth and result files, read with the bits that the file holds and checked at the door.

Convention: boxes are x, y, width, height in pixels of the original image, as in the file. Classes are indices
from 0, the position of a category's id among the sorted ids; the ids themselves stay in this folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import FloatArray
from ebjr_det.tasks.detection.coco.ids import MISSING, Id, distinct, numbered, positions, stranger
from ebjr_det.tasks.detection.coco.validate import (
    NOISE,
    kind_of,
    load_json,
    numbers,
    objects_under,
    outside,
    shown,
    text,
)

UNKNOWN_CATEGORIES = "detections of unknown categories left out"
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
        image_ids: COCO's, whole numbers, or all of them texts.
        file_names: relative to the folder of images.
        sizes: [n, 2] width and height in pixels, 0 where the file does not say.
        category_ids: COCO's, ascending; a class index is a position here.
        remarks: how often something in the file was odd and was left out or taken all the same.
    """

    image_ids: tuple[Id, ...]
    file_names: tuple[str, ...]
    sizes: NDArray[np.intp]
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    truths: tuple[Truth, ...]
    remarks: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image_ids)

    def subset(self, ids: Sequence[Id] | None = None, limit: int | None = None) -> "Annotations":
        """Only the images of `ids`, and of those only the first `limit`.

        Raises:
            ConfigError: an id that is not there.
        """
        places = {str(image): index for index, image in enumerate(self.image_ids)}
        strange = [image for image in ids or () if str(image) not in places]
        if strange:
            raise ConfigError(f"Expected ids of the annotated images, got {strange[0]}.")
        chosen = sorted({places[str(image)] for image in ids}) if ids is not None else range(len(self))
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

    As pycocotools does, objects of unknown images and categories are left out; `remarks` counts them.

    Raises:
        InvalidInput: a damaged file, no images or categories, ids that are there twice, boxes or areas that
            are negative or no numbers, boxes in shares of the picture. Names a culprit.
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
    names, by_category = distinct(categories, "category", path)
    image_ids, by_image = distinct(images, "image", path)
    zero = distinct(annotations, "annotation", path)[0][:1] == (0,)
    owners, _ = positions(annotations, "image_id", image_ids, path)
    classes, _ = positions(annotations, "category_id", names, path)
    known = (owners != MISSING) & (classes != MISSING)
    remarks = {
        "annotations of unknown images left out": int((owners == MISSING).sum()),
        "annotations of unknown categories left out": int(((owners != MISSING) & ~known).sum()),
        "annotation with the id 0, which COCO's tools never match, taken as any other": int(zero),
    }
    boxes = numbers([a.get("bbox") for a in annotations], 4, "bbox", annotations, path)
    given = [a.get("area", w * h) for a, (_, _, w, h) in zip(annotations, boxes.tolist(), strict=True)]
    areas = numbers(given, 0, "area", annotations, path)
    crowd = np.array([_crowd(a, path) for a in annotations], dtype=bool)
    entries = [by_image[image] for image in image_ids]
    sizes = np.array([_size(entry, path) for entry in entries], dtype=np.intp).reshape(-1, 2)
    remarks |= outside(boxes[known], sizes[owners[known]], path)
    truths = tuple(
        Truth(boxes[own], classes[own], areas[own], crowd[own])
        for own in _by_owner(owners, np.flatnonzero(known), len(image_ids))
    )
    category_ids = numbered(names, "category", path)
    by_number = np.argsort(category_ids, kind="stable")
    if (np.diff(by_number) < 0).any():  # texts ascend otherwise than the numbers that they are
        truths = tuple(replace(truth, labels=np.argsort(by_number)[truth.labels]) for truth in truths)
    return Annotations(
        image_ids,
        tuple(_file_name(entry) for entry in entries),
        sizes,
        tuple(category_ids[i] for i in by_number),
        tuple(
            text(by_category[names[i]].get("name", str(names[i])), "category names", path) for i in by_number
        ),
        truths,
        {what: count for what, count in remarks.items() if count},
    )


def load_results(
    path: Path, annotations: Annotations, lenient: bool = False, remarks: dict[str, int] | None = None
) -> tuple[Results, ...]:
    """Read a COCO result file, `.json` or `.json.gz`: one `Results` an image, in the file's own order.

    As pycocotools does, detections of unknown categories are left out, and scores keep their order where a
    float's noise puts them outside [0, 1].

    Args:
        lenient: leave out detections of unknown images too.
        remarks: gets the counts of what was odd and left out or taken all the same.

    Raises:
        InvalidInput: a damaged file, unknown images, boxes of negative size or in shares of the picture,
            scores outside [0, 1] or no numbers, or no entry at all.
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
    owners, named = positions(entries, "image_id", annotations.image_ids, path, annotations.file_names)
    classes, _ = positions(entries, "category_id", annotations.category_ids, path)
    boxes = numbers([e.get("bbox") for e in entries], 4, "bbox", entries, path)
    scores = numbers([e.get("score") for e in entries], 0, "score", entries, path, -NOISE)
    if scores.max() > 1 + NOISE:
        raise _too_large(scores, path)
    there, known = owners != MISSING, (owners != MISSING) & (classes != MISSING)
    if not there.any() or not (there.all() or lenient):
        fix = "Give the results of these images" + ", or leave such out: --lenient." * bool(there.any())
        raise stranger(entries, owners, "image_id", path, fix.rstrip(".") + ".")
    if not known.any():
        raise stranger(entries, classes, "category_id", path, "Give results with the ids of its categories.")
    counts = {
        "detections of unknown images left out": int((~there).sum()),
        UNKNOWN_CATEGORIES: int((there & ~known).sum()),
        "image ids that are names of files": named,
        "scores outside [0, 1] by a float's noise": int(((scores < 0) | (scores > 1)).sum()),
    } | outside(boxes[known], annotations.sizes[owners[known]], path)
    if remarks is not None:
        remarks |= {what: count for what, count in counts.items() if count}
    return tuple(
        Results(boxes[own], scores[own], classes[own])
        for own in _by_owner(owners, np.flatnonzero(known), len(annotations))
    )


def _too_large(scores: FloatArray, path: Path) -> InvalidInput:
    worst = int(scores.argmax())
    percent = scores.max() <= 100 and np.median(scores) > 1
    fix = "They look like percent: divide them by 100." if percent else "Save them after the sigmoid."
    return InvalidInput(f"Expected scores in [0, 1] in `{path}`, got {scores[worst]} at entry {worst}. {fix}")


def check_file_names(annotations: Annotations, path: Path) -> None:
    """Raises InvalidInput where a picture has no name, or one that leaves the folder of pictures."""
    for image, name in zip(annotations.image_ids, annotations.file_names, strict=True):
        text(name, "file names", path)
        windows = PureWindowsPath(name)
        rooted = PurePosixPath(name).is_absolute() or windows.drive or windows.root
        if not name or rooted or ".." in windows.parts or "\0" in name:
            raise InvalidInput(
                f"Expected file names inside the folder of images in `{path}`, got {shown(name)} of image "
                f"{shown(image)}."
            )


def _by_owner(owners: NDArray[np.intp], known: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """For each of `count` images the positions of its `known` entries, in their order."""
    order = known[np.argsort(owners[known], kind="stable")]
    return np.split(order, np.searchsorted(owners[order], np.arange(1, count)))


def _file_name(entry: Mapping[str, Any]) -> str:
    """As the file has it; nothing where it is no text. It is checked where pictures are opened."""
    name = entry.get("file_name", "")
    return name if isinstance(name, str) else ""


def _crowd(entry: Mapping[str, Any], path: Path) -> bool:
    flag = entry.get("iscrowd", 0)
    if flag not in (0, 1):
        raise InvalidInput(f"Expected `iscrowd` to be 0 or 1 in `{path}`, got {shown(flag)}.")
    return bool(flag)


def _size(entry: Mapping[str, Any], path: Path) -> tuple[int, int]:
    given = entry.get("width") or 0, entry.get("height") or 0
    sides = tuple(int(side) if type(side) is float and side.is_integer() else side for side in given)
    if not all(type(side) is int and 0 <= side <= LONGEST_SIDE for side in sides):
        raise InvalidInput(
            f"Expected an image's sides in `{path}` to be whole numbers up to {LONGEST_SIDE:,}, "
            f"got {shown(sides)}."
        )
    return sides[0], sides[1]
