"""The two tables of Open Images: its classes, and its boxes, of which only those of wanted pictures are kept.

Every column is found by its name in the header; a fault is named with its file and line.
"""

import csv
import io
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from reprlib import repr as shown

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import FloatArray
from ebjr_det.io.files import existing_file

SIDES = ("XMin", "XMax", "YMin", "YMax")
COLUMNS = ("ImageID", "LabelName", "IsGroupOf", *SIDES)
GROUP = {"1": True, "0": False, "-1": False}  # -1: unknown
SLACK = 0.1  # a coordinate this far outside [0, 1] is moved to the edge; further out it is no normalised one
BIG_FILE, ROWS_A_STEP = 50_000_000, 1 << 16  # bytes from which on a bar shows the progress, and its pace


@dataclass
class BoxRows:
    """The rows of the wanted pictures, a value a row (of `corners` four), and what else was met.

    Attributes:
        owners: positions among the wanted; `lines`: of the file; `labels`: class indices; `groups`: 0 or 1.
        corners: XMin, XMax, YMin, YMax, as in the file.
        seen: the wanted that have a row; `absent`: numbers of the other pictures, one a run of rows.
        negative: how many rows have Confidence 0.
    """

    owners: "array[int]" = field(default_factory=lambda: array("q"))
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    labels: "array[int]" = field(default_factory=lambda: array("q"))
    groups: "array[int]" = field(default_factory=lambda: array("b"))
    corners: "array[float]" = field(default_factory=lambda: array("d"))
    seen: set[int] = field(default_factory=set)
    absent: "array[int]" = field(default_factory=lambda: array("Q"))
    negative: int = 0


def read_classes(path: Path) -> dict[str, str]:
    """LabelName -> display name, in the order of the file, which has a header or none.

    Raises:
        InvalidInput: a line that is no class, a class that is there twice, or none.
    """
    classes: dict[str, str] = {}
    for line, row in _lines(path):
        if not classes and not row[0].startswith("/") and row[-1].lower().endswith("name"):
            continue  # a header
        if len(row) < 2 or not row[0].startswith("/") or not row[1].strip():
            raise InvalidInput(
                f"Expected a class such as `/m/011k07,Tortoise` in line {line} of `{path}`, "
                f"got {shown(','.join(row))}."
            )
        if row[0] in classes:
            raise InvalidInput(f"Expected distinct classes in `{path}`, got {row[0]} again in line {line}.")
        classes[row[0]] = row[1].strip()
    if not classes:
        raise InvalidInput(f"Expected classes in `{path}`, got none.")
    return classes


def read_boxes(path: Path, pictures: Mapping[str, int], labels: Mapping[str, int]) -> BoxRows:
    """The rows of the ImageIDs of `pictures` as numbers; of the others only the ImageID is looked at.

    Raises:
        InvalidInput: no such file, missing columns, and in a wanted row a class that `labels` does not have
            or a cell that is no such number.
    """
    rows, previous = BoxRows(), ""
    for line, (image, label, group, *cells) in _cells(path):
        owner = pictures.get(image)
        if image != previous:
            number, previous = _number_of(image, path, line), image
            if owner is None:
                rows.absent.append(number)
        if owner is None:
            continue
        if label not in labels:
            raise InvalidInput(
                f"Expected one of the {len(labels):,} described classes in line {line} of `{path}`, "
                f"got {shown(label)}."
            )
        corners, confidence, grouped = _parsed(cells, group, path, line)
        rows.seen.add(owner)
        if not confidence:  # published boxes all have 1; a 0 says, as among the labels of images: none here
            rows.negative += 1
            continue
        rows.owners.append(owner)
        rows.lines.append(line)
        rows.labels.append(labels[label])
        rows.groups.append(grouped)
        rows.corners.extend(corners)
    return rows


def _parsed(cells: Sequence[str], group: str, path: Path, line: int) -> tuple[list[float], float, bool]:
    """Corners, confidence (1 where the table has none) and whether a box is of a group."""
    try:
        corners, confidence = [float(cell) for cell in cells[:4]], float(cells[4]) if cells[4:] else 1.0
        if confidence in (0.0, 1.0):
            return corners, confidence, GROUP[group]
    except (ValueError, KeyError):
        pass
    raise InvalidInput(
        f"Expected numbers in {', '.join(SIDES)}, 0 or 1 in Confidence, and -1, 0 or 1 in IsGroupOf, "
        f"in line {line} of `{path}`, got {', '.join(map(shown, (*cells, group)))}."
    )


def sound_corners(rows: BoxRows, path: Path) -> FloatArray:
    """[n, 4] XMin, XMax, YMin, YMax, moved into [0, 1].

    Raises:
        InvalidInput: NaN, a coordinate far outside, a lower bound above its upper. Names the first line.
    """
    corners = np.array(rows.corners).reshape(-1, 4)
    near = np.asarray(((corners >= -SLACK) & (corners <= 1 + SLACK)).all(axis=1))  # NaN is not
    ordered = (corners[:, 0::2] <= corners[:, 1::2]).all(axis=1)
    bad = np.flatnonzero(~(near & ordered))
    if len(bad):
        expected = "XMin <= XMax and YMin <= YMax" if near[bad[0]] else f"{', '.join(SIDES)} in [0, 1]"
        raise InvalidInput(
            f"Expected {expected} in line {rows.lines[bad[0]]} of `{path}`, got "
            f"{', '.join(f'{value:g}' for value in corners[bad[0]])}. {len(bad):,} rows have such a fault."
        )
    return np.asarray(corners.clip(0, 1))


def first_of_twins(rows: BoxRows, corners: FloatArray) -> NDArray[np.bool_]:
    """[n] False where an earlier row says the same of the same picture."""
    table = np.column_stack([rows.owners, rows.labels, rows.groups, corners])  # ids are whole in a float
    first = np.zeros(len(table), dtype=bool)
    first[np.unique(table, axis=0, return_index=True)[1]] = True
    return first


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that is not empty, with a bar where the file is big."""
    size = existing_file(path, "a table of Open Images").stat().st_size
    title = f"reading {path.name}"
    bar = tqdm(total=size, unit="B", unit_scale=True, desc=title, disable=size < BIG_FILE)
    with path.open("rb") as raw, bar:
        reader = csv.reader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
        try:
            for count, row in enumerate(reader):
                if row:
                    yield reader.line_num, row
                if not count % ROWS_A_STEP:
                    bar.update(raw.tell() - bar.n)
        except (csv.Error, OSError, UnicodeError) as error:
            raise InvalidInput(
                f"Expected CSV in `{path}`, got near line {reader.line_num + 1}: {first_line(error)}."
            ) from error
        bar.update(size - bar.n)


def _cells(path: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number and the cells under `COLUMNS`, then under `Confidence` where there is one."""
    lines = _lines(path)
    header = [name.strip() for name in next(lines, (0, []))[1]]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InvalidInput(
            f"Expected a header with {', '.join(COLUMNS)} in `{path}`, got none with {', '.join(missing)}."
        )
    names = (*COLUMNS, "Confidence") if "Confidence" in header else COLUMNS
    pick = itemgetter(*map(header.index, names))
    for line, row in lines:
        if len(row) != len(header):
            raise InvalidInput(
                f"Expected {len(header)} columns in line {line} of `{path}`, got {len(row)}. "
                "Was it fetched whole?"
            )
        yield line, pick(row)


def _number_of(image: str, path: Path, line: int) -> int:
    if not re.fullmatch("[0-9a-f]{16}", image):
        raise InvalidInput(
            f"Expected an ImageID of 16 hexadecimal digits in line {line} of `{path}`, got {shown(image)}."
        )
    return int(image, 16)
