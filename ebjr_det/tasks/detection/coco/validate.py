"""The entries of COCO's JSON files, checked at the door: boxes, numbers and texts.

A fault is named with the file, what was expected and the first entry that has it.
"""

import gzip
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import FloatArray
from ebjr_det.io.files import existing_file

__all__ = [
    "NOISE",
    "kind_of",
    "load_json",
    "numbers",
    "objects_under",
    "outside",
    "say_remarks",
    "shown",
    "text",
]

NOISE = 1e-6
"""How far a score may lie outside [0, 1]: a few last bits of a 32-bit float."""
SMALL, FEW_BOXES, MOST_OUTSIDE = 4, 8, 0.25
"""Side of a picture in pixels, number of boxes, and share of them from which the form of boxes is judged."""


def load_json(path: Path, what: str) -> Any:
    """The content of a `.json` or `.json.gz`; `what` it should be is named in the error."""
    existing_file(path, what)
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except Exception as error:  # a damaged file can raise anything
        raise InvalidInput(f"Expected {what} (JSON) in `{path}`, got: {first_line(error)}.") from error


def kind_of(content: Any) -> str:
    """What a JSON value is, in words."""
    if isinstance(content, list) and content:
        return f"a list with {kind_of(next((e for e in content if not isinstance(e, dict)), content[0]))}"
    kinds = {
        dict: "an object",
        list: "an empty list",
        str: "a text",
        type(None): "null",
        bool: "true or false",
    }
    return kinds.get(type(content), "a number")


def objects_under(content: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """The list of objects that the file has under a key."""
    entries = content.get(key)
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        got = kind_of(entries) if key in content else "no such key"
        raise InvalidInput(f"Expected a list of objects under `{key}` in `{path}`, got {got}.")
    return entries


def numbers(
    values: Sequence[Any], width: int, key: str, entries: Sequence[Any], path: Path, least: float = 0.0
) -> FloatArray:
    """[n] or [n, width] float64, finite and at least 0 (of boxes: width and height).

    Args:
        values: what the `entries` have under `key`; `width` 0 for plain numbers, 4 for boxes.
        least: of plain numbers, a float's noise below 0.
    """
    wanted = f"{width} finite numbers, the last two not negative" if width else "a finite number not below 0"
    flat = [number for value in values for number in value] if width and _rows(values, width) else values
    try:
        if not all(type(number) in (int, float) for number in flat):
            raise ValueError
        array = np.array(flat, dtype=np.float64).reshape((len(values), width) if width else (len(values),))
        sizes = array[:, 2:] if width else array[:, None]
        sound = np.isfinite(array.reshape(len(values), width or 1)).all(axis=1) & (sizes >= least).all(axis=1)
    except (OverflowError, ValueError):  # other things than numbers, or a whole number too large for a float
        sound = np.array([_is_number(value, width) for value in values])
    if not sound.all():
        bad = int(np.flatnonzero(~sound)[0])
        raise InvalidInput(
            f"Expected `{key}` in `{path}` to be {wanted}, got {shown(values[bad])} at entry {bad}, "
            f"of image {shown(entries[bad].get('image_id'))}."
        )
    return array


def _rows(values: Sequence[Any], width: int) -> bool:
    return all(isinstance(value, list) and len(value) == width for value in values)


def _is_number(value: Any, width: int) -> bool:
    parts = value if width and isinstance(value, list) and len(value) == width else [value]
    plain = len(parts) == (width or 1) and all(type(part) in (int, float) for part in parts)
    return plain and all(abs(part) <= sys.float_info.max for part in parts)


def text(value: Any, what: str, path: Path) -> str:
    """`value`, which UTF-8 can write."""
    if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidInput(f"Expected {what} in `{path}` to be text, got {shown(value)}.")
    return value


def outside(boxes: FloatArray, sizes: NDArray[np.intp], path: Path) -> dict[str, int]:
    """The remark on boxes that end outside their picture, where so many do that they have another form.

    Args:
        boxes: [n, 4] x, y, width, height; sizes: [n, 2] of their pictures, 0 where unknown.

    Raises:
        InvalidInput: every box is within the first pixel of a larger picture.
    """
    known = (sizes > SMALL).all(axis=1)
    ends = (boxes[:, :2] + boxes[:, 2:])[known]
    if len(ends) < FEW_BOXES:
        return {}
    if ends.max() <= 1 + NOISE:
        raise InvalidInput(
            f"Expected boxes in pixels in `{path}`, got {len(ends):,} in shares of the picture, none "
            "beyond 1. Multiply them by its width and height."
        )
    out = (ends > 1.02 * sizes[known] + 2).any(axis=1)
    what = "boxes that end outside their picture, as if x1, y1, x2, y2 instead of x, y, width, height"
    return {what: int(out.sum())} if out.mean() > MOST_OUTSIDE else {}


def say_remarks(path: Path, remarks: Mapping[str, int]) -> None:
    """Tell on stderr what was odd in a file and was left out or taken all the same."""
    if remarks:
        said = "; ".join(f"{what}: {count:,}" for what, count in remarks.items())
        tqdm.write(f"Note on `{path}`: {said}.", file=sys.stderr)
