"""Options of one task alone, as the command line has them, and what `convert` asks of a task."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict


class FileOption(NamedTuple):
    """A file of saved outputs: its flag on the command line, what it holds, whether it can be missing."""

    flag: str
    help: str
    optional: bool = False


class TaskOption(NamedTuple):
    """An option of one task alone: flag, kind of its value (`bool`: a switch), help, commands, and
    the form of its value where that is text.
    """

    flag: str
    kind: type
    help: str
    verbs: tuple[str, ...] = ("replay", "fit-router")
    metavar: str | None = None


class ConvertOptions(TypedDict, total=False):
    """What is not in the files that `convert` reads.

    Attributes:
        annotations: the set that results are of, in any form; with it the source is results.
        images: the folder of the pictures of a COCO file.
        split: of the set, in YOLO's or VOC's form; also how the written one is called.
        first_pixel: the number of the first pixel of VOC's boxes, read or written.
        class_ids, image_ids: what numbers in results are, as options of `replay`.
    """

    annotations: str | Path
    images: str | Path
    split: str
    first_pixel: int
    class_ids: str
    image_ids: str


class Forms(Protocol):
    """The part that reads and writes annotated sets and results in other tools' forms."""

    @property
    def endings(self) -> Mapping[str, tuple[str, ...]]:
        """Each form that can be written, with how the name of its file may end; a folder's none."""

    @property
    def write_set(self) -> Callable[[Path, Path, str, ConvertOptions], Sequence[int]]:
        """(a set, what to write, form, options) -> how many pictures and objects were written."""

    @property
    def write_results(self) -> Callable[[Path, Path, str, ConvertOptions], Sequence[int]]:
        """(results, what to write, form, options) -> how many pictures and detections were written."""
