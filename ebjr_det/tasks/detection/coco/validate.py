"""The entries of COCO's JSON files, checked at the door: boxes, numbers and texts.

A fault is named with the file, what was expected and the first entry that has it.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import repr as shown
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, Field, Strict, TypeAdapter, ValidationError

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.types import FloatArray
from ebjr_det.io.files import existing_file
from ebjr_det.io.memory import Converted, InMemory, Source, from_memory
from ebjr_det.io.notes import say
from ebjr_det.tasks.detection.coco.ids import Entry

NOISE = 1e-6
"""How far a score may lie outside [0, 1]: a few last bits of a 32-bit float."""
SMALL, FEW_BOXES, MOST_OUTSIDE = 4, 8, 0.25
"""Side of a picture in pixels, number of boxes, and share of them from which the form of boxes is judged."""

Finite = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Positive = Annotated[Finite, Field(ge=0)]
NearPositive = Annotated[Finite, Field(ge=-NOISE)]


class NumberForm(NamedTuple):
    """What numbers under a key must be: how pydantic checks it, in words, and the shape of none of them."""

    adapter: TypeAdapter[object]
    expected: str
    empty: tuple[int, ...] = (0,)


BOX = NumberForm(
    TypeAdapter(Annotated[list[tuple[Finite, Finite, Positive, Positive]], FailFast()]),
    "4 finite numbers, the last two not negative",
    (0, 4),
)
SIZE = NumberForm(TypeAdapter(Annotated[list[Positive], FailFast()]), "a finite number not below 0")
SCORE = NumberForm(TypeAdapter(Annotated[list[NearPositive], FailFast()]), SIZE.expected)


def load_json(path: Source, content: str) -> Any:
    """A `.json` or `.json.gz`, read; the `content` that it should have is named in the error."""
    if isinstance(path, Converted):
        return path.content
    if isinstance(path, InMemory):
        return from_memory(path)
    existing_file(path, content)
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except Exception as error:  # a damaged file can raise anything
        raise InvalidInput(f"Expected {content} (JSON) in `{path}`, got: {first_line(error)}.") from error


def kind_of(content: object) -> str:
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


def objects_under(content: Entry, key: str, path: Source) -> list[Entry]:
    """The list of objects that the file has under a key."""
    entries = content.get(key)
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        got = kind_of(entries) if key in content else "no such key"
        raise InvalidInput(f"Expected a list of objects under `{key}` in `{path}`, got {got}.")
    return entries


def numbers(
    values: Sequence[object], form: NumberForm, key: str, entries: Sequence[Entry], path: Source
) -> FloatArray:
    """[n] or [n, 4] float64, what the `entries` have under `key`, as `BOX`, `SIZE` or `SCORE` wants it.

    Raises:
        InvalidInput: names the first entry that has another value.
    """
    try:
        array = np.array(form.adapter.validate_python(values), dtype=np.float64)
    except ValidationError as error:
        bad = int(error.errors()[0]["loc"][0])
        raise InvalidInput(
            f"Expected `{key}` in `{path}` to be {form.expected}, got {shown(values[bad])} at entry {bad}, "
            f"of image {shown(entries[bad].get('image_id'))}."
        ) from None
    return array if len(array) else array.reshape(form.empty)


def text(value: object, name: str, path: Source) -> str:
    """`value`, which UTF-8 can write."""
    if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidInput(f"Expected {name} in `{path}` to be text, got {shown(value)}.")
    return value


def outside(boxes: FloatArray, sizes: NDArray[np.intp], path: Source) -> dict[str, int]:
    """The remark on boxes that end outside their picture, where so many do that they have another form.

    Args:
        boxes: [n, 4] x, y, width, height; sizes: [n, 2] of their pictures, 0 where unknown.

    Raises:
        InvalidInput: every box is within the first pixel of a larger picture.
    """
    judged = (sizes > SMALL).all(axis=1)
    ends = (boxes[:, :2] + boxes[:, 2:])[judged]
    if len(ends) < FEW_BOXES:
        return {}
    if ends.max() <= 1 + NOISE:
        raise InvalidInput(
            f"Expected boxes in pixels in `{path}`, got {len(ends):,} in shares of the picture, none "
            "beyond 1. Multiply them by its width and height."
        )
    out = (ends > 1.02 * sizes[judged] + 2).any(axis=1)
    remark = "boxes that end outside their picture, as if x1, y1, x2, y2 instead of x, y, width, height"
    return {remark: int(out.sum())} if out.mean() > MOST_OUTSIDE else {}


def check_located(root: str | None, split: str | None) -> None:
    """Raises ConfigError where a set's files are neither named nor in a known layout."""
    if root is None or split is None:
        raise ConfigError(
            "Expected `data.root` and `data.split`, or `data.annotations` and `data.images`, got neither."
        )


def existing_folder(folder: Path, source: str | None) -> Path:
    """The folder of a set's pictures, published at `source`. Raises InvalidInput where there is none."""
    if not folder.is_dir():
        hint = "Set `data.images`." if source is None else f"Get it from {source}."
        raise InvalidInput(f"Expected a folder of pictures at `{folder}`, got none. {hint}")
    return folder


def say_remarks(path: Source, remarks: Mapping[str, int]) -> None:
    """Tell on stderr what was odd in a file and was left out or taken all the same."""
    if remarks:
        say(f"Note on `{path}`: {'; '.join(f'{text}: {count:,}' for text, count in remarks.items())}.")
