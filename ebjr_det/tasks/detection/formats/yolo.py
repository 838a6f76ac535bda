"""YOLO's label files: beside the pictures one text file each, a line an object.

A line is `class x y width height`, the centre and sides of a box as shares of the picture as people see it.
An outline or an oriented box, a class and three or more points, becomes the box round it, as Ultralytics' own
detectors learn it; of a pose the box is taken. A picture without a text file has no object, by YOLO's
convention. Source: https://docs.ultralytics.com/datasets/detect.
"""

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.core.errors import InvalidInput
from ebjr_det.tasks.detection.coco.annotations import NO_OBJECTS, Annotations, Truth
from ebjr_det.tasks.detection.coco.validate import outside
from ebjr_det.tasks.detection.formats.described import Described, text_lines
from ebjr_det.tasks.detection.formats.objects import DECIMALS, Object, annotated, truth_of, upright_sizes

FIELDS, POINTS = 5, 7
"""Columns of a box, and the fewest of an outline: a class and three points."""
SLACK = 0.01
"""How far a share may lie outside [0, 1]: what rounding and boxes at the edge leave."""
MANY_PICTURES = 5_000  # from which on a bar shows the progress
NO_FILE = "pictures without a label file, taken to have no objects"
EMPTY_FILE = "empty label files, of pictures without objects"
UNREADABLE = "pictures that cannot be read, taken to have no objects"
OUTLINES = "outlines or oriented boxes taken as the boxes round them, as masks and angles are not judged"


def load_yolo(
    described: Described, split: str | None, *, objects_too: bool = True
) -> tuple[Annotations, Path]:
    """The pictures of a split with their objects, and the folder that their names are relative to.

    Args:
        objects_too: whether label files are read.

    Raises:
        ConfigError: no split, or an unknown one.
        InvalidInput: no pictures, none with a label file, or a faulty line, named with its file and number.
    """
    pictures = described.pictures(split)
    folder = Path(os.path.commonpath([picture.parent for picture in pictures]))
    sizes, remarks = upright_sizes(_watched(pictures, "reading sizes")), Counter[str]()
    truths: Sequence[Truth] = (NO_OBJECTS,) * len(pictures)
    if objects_too:
        labels = Labels(described, remarks)
        files = [label_file(picture) for picture in _watched(pictures, "reading labels")]
        truths = [labels.read(file, size) for file, size in zip(files, sizes.tolist(), strict=True)]
        if remarks[NO_FILE] == len(files):
            raise InvalidInput(
                f"Expected label files of `{described.path}`, such as `{files[0]}`, got none for any of its "
                f"{len(files)} pictures{f' of `{split}`' * (split is not None)}."
            )
        owners = np.repeat(np.arange(len(truths)), [len(truth) for truth in truths])
        boxes = np.concatenate([truth.boxes for truth in truths])
        remarks.update(outside(boxes, sizes[owners], described.path))
    names = [picture.relative_to(folder) for picture in pictures]
    return annotated(names, sizes, described.classes, truths, remarks), folder


def _watched(pictures: Sequence[Path], title: str) -> "tqdm[Path]":
    return tqdm(pictures, desc=title, unit="img", disable=len(pictures) < MANY_PICTURES)


def label_file(picture: Path) -> Path:
    """The label file of a picture: the last folder `images` is `labels`, else it lies beside the picture.

    >>> label_file(Path("/set/images/val/7.jpg")).as_posix()
    '/set/labels/val/7.txt'
    """
    folders = list(picture.parent.parts)
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        folders[last] = "labels"
    return Path(*folders, f"{picture.stem}.txt")


@dataclass(frozen=True)
class Labels:
    """A reader of label files, which counts in `remarks` what is unusual in them."""

    described: Described
    remarks: Counter[str]

    def read(self, file: Path, size: Sequence[int]) -> Truth:
        """The objects of a picture of so many pixels, width and height; none without a file."""
        if not file.is_file():
            self.remarks[NO_FILE] += 1
            return NO_OBJECTS
        if not all(size):
            self.remarks[UNREADABLE] += 1
            return NO_OBJECTS
        objects = [
            self._object(line.split(), size, f"line {number} of `{file}`")
            for number, line in enumerate(text_lines(file), start=1)
            if line.strip()
        ]
        self.remarks[EMPTY_FILE] += not objects
        return truth_of(objects)

    def _object(self, columns: Sequence[str], size: Sequence[int], origin: str) -> Object:
        if self.described.pose and len(columns) == FIELDS + self.described.pose:
            columns = columns[:FIELDS]
        if len(columns) == FIELDS + 1:
            raise InvalidInput(
                f"Expected a class and a box in {origin}, got {FIELDS + 1} columns, as of results with "
                "confidences. Give the annotated label files."
            )
        if len(columns) < FIELDS or (len(columns) >= POINTS and not len(columns) % 2):
            raise InvalidInput(
                f"Expected `class x y width height`, or a class and points, in {origin}, got "
                f"{len(columns)} columns."
            )
        label, *shares = parsed(columns, origin)
        if label not in self.described.classes:
            raise InvalidInput(
                f"Expected a class from 0 to {len(self.described.classes) - 1}, as `{self.described.path}` "
                f"names them, in {origin}, got {columns[0]}."
            )
        self.remarks[OUTLINES] += len(columns) >= POINTS
        return Object(int(label), in_pixels(shares, size, origin))


def parsed(columns: Sequence[str], origin: str) -> list[float]:
    """The columns of a line as finite numbers, of which all but the class are shares of the picture.

    Raises:
        InvalidInput: other texts, or pixels; names the `origin`.
    """
    numbers = numbers_in(columns, origin)
    beyond = [number for number in numbers[1:] if not -SLACK <= number <= 1 + SLACK]
    if beyond:
        fix = " Divide pixels by the picture's width and height." * (max(beyond) > 1)
        raise InvalidInput(
            f"Expected shares of the picture, from 0 to 1, in {origin}, got {beyond[0]:g}.{fix}"
        )
    return numbers


def numbers_in(columns: Sequence[str], origin: str) -> list[float]:
    """The columns of a line as finite numbers. Raises InvalidInput for others; names the `origin`."""
    try:
        numbers = [float(column) for column in columns]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise InvalidInput(f"Expected finite numbers in {origin}, got {shown(' '.join(columns))}.")
    return numbers


def in_pixels(shares: Sequence[float], size: Sequence[int], origin: str) -> tuple[float, float, float, float]:
    """Shares of a picture, centre and sides or points, as x, y, width, height in its pixels.

    Raises InvalidInput for negative sides.
    """
    width, height = size
    if len(shares) == FIELDS - 1:
        x, y, w, h = shares
        if min(w, h) < 0:
            raise InvalidInput(f"Expected sides from 0 in {origin}, got {min(w, h):g}.")
        left, top = x - w / 2, y - h / 2
    else:
        left, top = min(shares[::2]), min(shares[1::2])
        w, h = max(shares[::2]) - left, max(shares[1::2]) - top
    pixels: Any = (left * width, top * height, w * width, h * height)
    left, top, w, h = (round(side, DECIMALS) for side in pixels)
    return left, top, w, h
