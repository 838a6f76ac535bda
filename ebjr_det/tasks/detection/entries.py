"""The entries of COCO's JSON files, checked at the door: ids, boxes, numbers and texts.

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

from ebjr_det.errors import InvalidInput, first_line
from ebjr_det.files import existing_file
from ebjr_det.types import FloatArray

__all__ = ["distinct", "kind_of", "load_json", "numbers", "objects_under", "positions", "shown", "text"]


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


def distinct(
    entries: Sequence[dict[str, Any]], what: str, path: Path
) -> tuple[tuple[int, ...], dict[int, dict[str, Any]]]:
    """The ids, ascending, and the entries by id."""
    by_id: dict[int, dict[str, Any]] = {}
    for entry in entries:
        own = entry.get("id")
        if type(own) is not int:
            raise InvalidInput(
                f"Expected every {what} in `{path}` to have a whole number as id, got {shown(own)}."
            )
        if own in by_id:
            raise InvalidInput(f"Expected distinct {what} ids in `{path}`, got {shown(own)} more than once.")
        if what == "annotation" and own == 0:
            raise InvalidInput(f"Expected annotation ids from 1 in `{path}`, got 0: COCO's tools ignore it.")
        by_id[own] = entry
    return tuple(sorted(by_id)), by_id


def positions(
    entries: Sequence[Mapping[str, Any]], key: str, known: Mapping[int, int], path: Path
) -> NDArray[np.intp]:
    """[n] the position among the `known` ids of what each entry has under `key`."""
    values = [entry.get(key) for entry in entries]
    strange = [i for i, value in enumerate(values) if type(value) is not int or value not in known]
    if strange:
        raise InvalidInput(
            f"Expected every `{key}` in `{path}` to be one of the annotated set's, got another in "
            f"{len(strange)} of {len(entries)} entries: {shown(values[strange[0]])} at entry {strange[0]}."
        )
    return np.array([known[value] for value in values], dtype=np.intp)  # type: ignore[index]


def numbers(values: Sequence[Any], width: int, key: str, entries: Sequence[Any], path: Path) -> FloatArray:
    """[n] or [n, width] float64, finite and at least 0 (of boxes: width and height).

    Args:
        values: what the `entries` have under `key`; `width` 0 for plain numbers, 4 for boxes.
    """
    wanted = f"{width} finite numbers, the last two not negative" if width else "a finite number not below 0"
    flat = [number for value in values for number in value] if width and _rows(values, width) else values
    try:
        if not all(type(number) in (int, float) for number in flat):
            raise ValueError
        array = np.array(flat, dtype=np.float64).reshape((len(values), width) if width else (len(values),))
        sizes = array[:, 2:] if width else array[:, None]
        sound = np.isfinite(array.reshape(len(values), width or 1)).all(axis=1) & (sizes >= 0).all(axis=1)
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
