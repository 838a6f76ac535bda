"""What the readers of annotated sets share: pictures by their stems, and objects gathered image by image."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.io.pictures import stored_size
from ebjr_det.tasks.detection.coco.annotations import NO_OBJECTS, Annotations, Truth
from ebjr_det.tasks.detection.coco.ids import DIGITS, Id

DECIMALS = 9
"""Digits of a pixel to which a box that text gives in shares is rounded: whole pixels come back whole."""


class Object(NamedTuple):
    """An annotated object: its class by index, x, y, width and height in pixels, whether it is a crowd."""

    label: int
    box: tuple[float, float, float, float]
    crowd: bool = False


def truth_of(objects: Sequence[Object]) -> Truth:
    """One image's objects as columns; an area is that of the box."""
    if not objects:
        return NO_OBJECTS
    labels, boxes, crowd = zip(*objects, strict=True)
    sides = np.array(boxes, dtype=np.float64)
    return Truth(sides, np.array(labels, dtype=np.intp), sides[:, 2] * sides[:, 3], np.array(crowd))


def ids_of(files: Sequence[PurePath]) -> list[Id]:
    """The ids of pictures that have none: as in Ultralytics' results, whole numbers where every stem is one.

    Stems that two pictures share are told apart by their folders.

    >>> ids_of([PurePath("a/0012.jpg"), PurePath("a/7.jpg")])
    [12, 7]
    >>> ids_of([PurePath("a/x.jpg"), PurePath("b/x.jpg")])
    ['a/x', 'b/x']
    """
    stems = [file.stem for file in files]
    if all(stem.isascii() and stem.isdecimal() and len(stem) < DIGITS for stem in stems):
        numbers: list[Id] = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    if len(set(stems)) == len(stems):
        return list(stems)
    paths = [file.with_suffix("").as_posix() for file in files]
    return list(paths if len(set(paths)) == len(paths) else [file.as_posix() for file in files])


def upright_sizes(files: Iterable[Path]) -> NDArray[np.intp]:
    """[n, 2] width and height as people see each picture, from its header; 0 where that cannot be read."""
    return np.array([stored_size(file, upright=True) for file in files], dtype=np.intp).reshape(-1, 2)


def annotated(
    files: Sequence[PurePath],
    sizes: NDArray[np.intp],
    classes: dict[int, str],
    truths: Sequence[Truth],
    remarks: Counter[str],
) -> Annotations:
    """Pictures of one folder with their objects, in ascending order of their ids.

    Args:
        files: relative to that folder; sizes: [n, 2]; truths: one a file.
        classes: category id -> name, ascending.
    """
    ids = ids_of(files)
    order = sorted(range(len(ids)), key=lambda index: ids[index])
    return Annotations(
        tuple(ids[index] for index in order),
        tuple(files[index].as_posix() for index in order),
        sizes[order],
        tuple(classes),
        tuple(classes.values()),
        tuple(truths[index] for index in order),
        {remark: count for remark, count in remarks.items() if count},
    )
