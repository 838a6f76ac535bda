"""What a file would hold, given in memory: the same code reads it, and the same words refuse it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pydantic_core import PydanticSerializationError, from_json, to_json

from ebjr_det.core.errors import InvalidInput, first_line


@dataclass(frozen=True)
class InMemory:
    """Content that no file holds.

    Attributes:
        name: what it is of, such as `student`.
        content: arrays, or what JSON would hold.

    >>> print(InMemory("student", [1, 2]))
    <student in memory>
    """

    name: str
    content: object

    def __str__(self) -> str:
        return f"<{self.name} in memory>"

    @cached_property
    def sha256(self) -> str:
        """A digest of the content, the same for equal content of one form."""
        digest = sha256()
        entries = self.content.items() if isinstance(self.content, Mapping) else [("", self.content)]
        for key, value in entries:
            digest.update(str(key).encode())
            if hasattr(value, "__array__"):
                array = np.asarray(value)
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(
                    _json(array, self) if array.dtype.hasobject else np.ascontiguousarray(array).data
                )
            else:
                digest.update(_json(value, self))
        return digest.hexdigest()


@dataclass(frozen=True)
class Converted(InMemory):
    """Content of a file of another form, which is called by that file's name."""

    def __str__(self) -> str:
        return self.name


Source: TypeAlias = Path | InMemory
"""Where something is read from; as text it is what a message calls it."""


def source_of(name: str, content: object) -> Source:
    """A path as a file, anything else as content; of an object with a `dataset`, such as COCO's API, that."""
    if isinstance(content, str | os.PathLike):
        return Path(content)
    return InMemory(name, getattr(content, "dataset", content))


def described(source: Source) -> str:
    """A source as a run folder tells it: a path, or that there was none and a digest of the content."""
    return str(source) if isinstance(source, Path) else f"<in memory> sha256 {source.sha256}"


ALIKE = ("labels", "predictions.json", "results.bbox.json", "labels.json", "samples.json")
"""What YOLO's tools, mmdetection and FiftyOne call the results of every model."""


def name_of(source: Source) -> str:
    """What to call what a source holds: a file's name without what it ends in, safe to print.

    What a tool calls alike for every model goes by the folder that it is in.

    >>> [name_of(Path(name)) for name in ("yolo11n/labels", "yolo11x/predictions.json", "a.json.gz")]
    ['yolo11n', 'yolo11x', 'a']
    """
    if isinstance(source, InMemory):
        return source.name
    if source.name in ALIKE and source.parent.name:
        source = source.parent
    stem = Path(source.name.removesuffix(".gz")).stem
    return "".join(letter if letter.isprintable() else "?" for letter in stem)


def from_memory(source: InMemory) -> object:
    """Content as a JSON file of it would be read: lists for tuples and arrays, Python's numbers for numpy's.

    Raises InvalidInput for what no JSON holds.

    >>> from_memory(InMemory("student", {"bbox": np.array([1.0, 2.0]), "image_id": np.int64(7)}))
    {'bbox': [1.0, 2.0], 'image_id': 7}
    """
    return from_json(_json(source.content, source))


def _json(value: object, source: InMemory) -> bytes:
    try:
        return to_json(value, inf_nan_mode="constants", bytes_mode="base64", fallback=as_plain)
    except (PydanticSerializationError, ValueError) as error:  # a list in itself, half a character
        raise InvalidInput(
            f"Expected plain numbers and texts in `{source}`, got: {first_line(error)}."
        ) from error


def as_plain(value: object) -> object:
    """Arrays as lists for JSON, anything else that it does not know by the name of its type."""
    as_list = getattr(value, "tolist", None)
    return type(value).__name__ if as_list is None else as_list()
