"""COCO-format ground truth and result files, read with the bits that the file holds and checked at the door.

Convention: boxes are x, y, width, height in pixels of the original image, as in the file. Classes are indices
from 0, the position of a category's id among the sorted ids; the ids themselves stay in this folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from reprlib import repr as shown

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import FloatArray
from ebjr_det.io.memory import InMemory, Source
from ebjr_det.tasks.detection.coco.exports import GROUP, OUTLINES, boxes_of, without_group
from ebjr_det.tasks.detection.coco.ids import MISSING, Entry, Id, distinct, numbered, positions, stranger
from ebjr_det.tasks.detection.coco.validate import (
    BOX,
    NOISE,
    SCORE,
    SIZE,
    kind_of,
    load_json,
    numbers,
    objects_under,
    outside,
    text,
)  # fmt: skip

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


NO_OBJECTS = Truth(np.zeros((0, 4)), np.zeros(0, dtype=np.intp), np.zeros(0), np.zeros(0, dtype=bool))


@dataclass(frozen=True)
class Annotations:
    """A set of images with their annotated objects, in ascending order of the image ids.

    Attributes:
        image_ids: COCO's, whole numbers, or all of them texts.
        file_names: relative to the folder of images.
        sizes: [n, 2] width and height in pixels, 0 where the file does not say.
        category_ids: COCO's, ascending; a class index is a position here.
        remarks: how often something in the file was odd and was left out or taken all the same.
        ordered: whether somebody gave the classes their order, which other tools' numbers count.
    """

    image_ids: tuple[Id, ...]
    file_names: tuple[str, ...]
    sizes: NDArray[np.intp]
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    truths: tuple[Truth, ...]
    remarks: Mapping[str, int] = field(default_factory=dict)
    ordered: bool = True

    def __len__(self) -> int:
        return len(self.image_ids)

    def subset(self, ids: Sequence[Id] | None = None, limit: int | None = None) -> "Annotations":
        """Only the images of `ids`, and of those only the first `limit`.

        Raises:
            ConfigError: an id that is not there.
        """
        positions_of = {str(image): index for index, image in enumerate(self.image_ids)}
        strange = [image for image in ids or () if str(image) not in positions_of]
        if strange:
            raise ConfigError(f"Expected ids of the annotated images, got {strange[0]}.")
        indices = (
            list(range(len(self))) if ids is None else sorted({positions_of[str(image)] for image in ids})
        )
        if not (indices := indices[:limit]):
            raise ConfigError("Expected at least one image, got none.")
        return replace(
            self,
            image_ids=tuple(self.image_ids[index] for index in indices),
            file_names=tuple(self.file_names[index] for index in indices),
            sizes=self.sizes[indices],
            truths=tuple(self.truths[index] for index in indices),
        )

    def without_objects(self) -> "Annotations":
        """The images as if nobody had annotated them."""
        return replace(self, truths=(NO_OBJECTS,) * len(self))


@dataclass(frozen=True)
class Results:
    """One image's entries of a result file: boxes [n, 4] x, y, width, height, scores [n], labels [n]."""

    boxes: FloatArray
    scores: FloatArray
    labels: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.scores)


def load_annotations(path: Source, *, objects_too: bool = True) -> Annotations:
    """Read a COCO ground truth, `.json` or `.json.gz`; `objects_too`: and not its pictures and classes alone.

    As pycocotools does, objects of unknown images and categories are left out; `remarks` counts them.
    Raises InvalidInput, and names a culprit, for a damaged file, no images or categories, ids that are there
    twice, boxes or areas that are negative or no numbers, boxes in shares of the picture.
    """
    images, categories, objects, groups = _lists(path, objects_too)
    names, by_category = distinct(categories, "category", path)
    image_ids, by_image = distinct(images, "image", path)
    zero = distinct(objects, "annotation", path)[0][:1] == (0,)
    owners, _ = positions(objects, "image_id", image_ids, path)
    classes, _ = positions(objects, "category_id", names, path)
    values, outlines = boxes_of(objects)
    boxes = numbers(values, BOX, "bbox", objects, path)
    sides = boxes[:, 2:].tolist()
    areas = [entry.get("area", w * h) for entry, (w, h) in zip(objects, sides, strict=True)]
    surfaces, crowd = numbers(areas, SIZE, "area", objects, path), _crowds(objects, path)
    entries = [by_image[image] for image in image_ids]
    sizes = np.array([_size(entry, path) for entry in entries], dtype=np.intp).reshape(-1, 2)
    usable = (owners != MISSING) & (classes != MISSING)
    remarks = {
        "annotations of unknown images left out": int((owners == MISSING).sum()),
        "annotations of unknown categories left out": int(((owners != MISSING) & ~usable).sum()),
        GROUP: groups,
        OUTLINES: outlines,
        "annotation with the id 0, which COCO's tools never match, taken as any other": int(zero),
    } | outside(boxes[usable], sizes[owners[usable]], path)
    category_ids = numbered(names, "category", path)
    ascending = np.argsort(category_ids, kind="stable")  # texts ascend otherwise than the numbers they are
    labels = np.argsort(ascending)[classes]
    rows_of = _by_owner(owners, np.flatnonzero(usable), len(image_ids))
    class_names = [by_category[names[index]].get("name", str(names[index])) for index in ascending]
    return Annotations(
        image_ids,
        tuple(_file_name(entry) for entry in entries),
        sizes,
        tuple(category_ids[index] for index in ascending),
        tuple(text(name, "category names", path) for name in class_names),
        tuple(Truth(boxes[rows], labels[rows], surfaces[rows], crowd[rows]) for rows in rows_of),
        {remark: count for remark, count in remarks.items() if count},
    )


def _lists(path: Source, objects_too: bool) -> tuple[list[Entry], list[Entry], list[Entry], int]:
    """The images, categories and annotations of a file, and how many categories were none."""
    content = load_json(path, "COCO annotations")
    if not isinstance(content, dict):
        raise InvalidInput(
            f"Expected an object with `images`, `annotations` and `categories` in `{path}`, "
            f"got {kind_of(content)}."
        )
    images, categories = (objects_under(content, key, path) for key in ("images", "categories"))
    objects = objects_under(content, "annotations", path) if objects_too else []
    if not images or not categories:
        raise InvalidInput(
            f"Expected at least one image and one category in `{path}`, "
            f"got {len(images)} images and {len(categories)} categories."
        )
    entries = content.get("annotations")
    owned = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    categories, groups = without_group(categories, owned)
    return images, categories, objects, groups


def load_results(
    path: Source, annotations: Annotations, lenient: bool = False, remarks: dict[str, int] | None = None
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
    entries = result_entries(path)
    owners, named = positions(entries, "image_id", annotations.image_ids, path, annotations.file_names)
    classes, _ = positions(entries, "category_id", annotations.category_ids, path)
    boxes = numbers([entry.get("bbox") for entry in entries], BOX, "bbox", entries, path)
    scores = numbers([entry.get("score") for entry in entries], SCORE, "score", entries, path)
    if scores.max() > 1 + NOISE:
        raise _too_large(scores, path)
    expected, usable = owners != MISSING, (owners != MISSING) & (classes != MISSING)
    if not expected.any() or not (expected.all() or lenient):
        fix = f"Give the results of these images{', or leave such out: --lenient' * bool(expected.any())}."
        raise stranger(entries, owners, "image_id", path, fix)
    if not usable.any():
        raise stranger(entries, classes, "category_id", path, "Give results with the ids of its categories.")
    counts = {
        "detections of unknown images left out": int((~expected).sum()),
        UNKNOWN_CATEGORIES: int((expected & ~usable).sum()),
        "image ids that are names of files": named,
        "scores outside [0, 1] by a float's noise": int(((scores < 0) | (scores > 1)).sum()),
    } | outside(boxes[usable], annotations.sizes[owners[usable]], path)
    if remarks is not None:
        remarks |= {remark: count for remark, count in counts.items() if count}
    by_image = _by_owner(owners, np.flatnonzero(usable), len(annotations))
    return tuple(Results(boxes[rows], scores[rows], classes[rows]) for rows in by_image)


def result_entries(path: Source) -> list[Entry]:
    """The objects of a result file as they are. Raises InvalidInput for another file, or no entry at all."""
    entries = load_json(path, "COCO results")
    if type(path) is InMemory and isinstance(entries, dict):  # of pycocotools' `loadRes`
        listed = entries.get("annotations")
        entries = listed if listed and all("score" in entry for entry in listed) else entries
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise InvalidInput(
            f"Expected a list of detections (COCO results) in `{path}`, got {kind_of(entries)}. "
            "Give a detector's results, not the ground truth."
        )
    if not entries:
        raise InvalidInput(
            f"Expected detections in `{path}`, got none. A detector that finds nothing is no pair."
        )
    return entries


def _too_large(scores: FloatArray, path: Source) -> InvalidInput:
    worst, percent = int(scores.argmax()), scores.max() <= 100 and np.median(scores) > 1
    fix = "They look like percent: divide them by 100." if percent else "Save them after the sigmoid."
    return InvalidInput(f"Expected scores in [0, 1] in `{path}`, got {scores[worst]} at entry {worst}. {fix}")


def _by_owner(owners: NDArray[np.intp], usable: NDArray[np.intp], count: int) -> list[NDArray[np.intp]]:
    """For each of `count` images the positions of its `usable` entries, in their order."""
    order = usable[np.argsort(owners[usable], kind="stable")]
    return np.split(order, np.searchsorted(owners[order], np.arange(1, count)))


def _file_name(entry: Entry) -> str:
    """As the file has it; nothing where it is no text. It is checked where pictures are opened."""
    name = entry.get("file_name", "")
    return name if isinstance(name, str) else ""


def _crowds(entries: Sequence[Entry], path: Source) -> NDArray[np.bool_]:
    flags = [entry.get("iscrowd", 0) for entry in entries]
    if strange := [flag for flag in flags if flag not in (0, 1)]:
        raise InvalidInput(f"Expected `iscrowd` to be 0 or 1 in `{path}`, got {shown(strange[0])}.")
    return np.array(flags, dtype=bool)


def _size(entry: Entry, path: Source) -> tuple[int, int]:
    """Width and height, whole numbers (640.0 too), 0 where the file does not say."""
    sides = tuple(
        int(side) if type(side) is float and side.is_integer() else side
        for side in (entry.get("width") or 0, entry.get("height") or 0)
    )
    lengths = [side for side in sides if type(side) is int and 0 <= side <= LONGEST_SIDE]
    if len(lengths) != 2:
        raise InvalidInput(
            f"Expected an image's sides in `{path}` to be whole numbers up to {LONGEST_SIDE:,}, "
            f"got {shown(sides)}."
        )
    return lengths[0], lengths[1]
