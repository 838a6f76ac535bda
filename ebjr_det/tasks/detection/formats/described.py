"""What a YOLO set says of itself: the names of its classes, and the pictures of each split.

It is a `data.yaml`, or what stands in for one: Darknet's `obj.data`, as CVAT's "YOLO 1.1" has it, or a list
of names alone, Label Studio's `classes.txt` or FiftyOne's `obj.names`. Where none names pictures, the folders
in `images` are the splits.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from reprlib import repr as shown

from ebjr_det.config import yaml_content
from ebjr_det.core.errors import ConfigError, InvalidInput, check_known, first_line
from ebjr_det.io.files import existing_file
from ebjr_det.io.picture_folders import pictures_below

YAML = (".yaml", ".yml")
NAMES = ("obj.names", "classes.txt")
FILES = ("data.yaml", "obj.data", *NAMES)
"""What a folder of a YOLO set is known by, first come first served; else by the one YAML file that it has."""
SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
"""The split of each key, Darknet's among them."""
FOLDERS = ("images", "data")
"""Where pictures are that nothing names, the first that is there; else beside the names."""
ELSEWHERE = ("../", "data/")
"""What paths begin with that an export keeps a folder higher or lower: Roboflow's, CVAT's."""


@dataclass(frozen=True)
class Described:
    """A `data.yaml`, or what stands in for one, read.

    Attributes:
        root: the folder that its paths are relative to; splits: folders of pictures or lists of them.
        classes: index -> name, ascending; pose: how many numbers of keypoints follow a box.
    """

    path: Path
    root: Path
    splits: Mapping[str, tuple[str, ...]]
    classes: dict[int, str]
    pose: int

    def pictures(self, split: str | None) -> list[Path]:
        """The pictures of a split, by default of the only one.

        Raises:
            ConfigError: no split where there are several, or an unknown one.
            InvalidInput: no pictures.
        """
        if split is None and len(self.splits) == 1:
            split = next(iter(self.splits))
        if split is None:
            raise ConfigError(
                f"Expected a split of `{self.path}`, got none. Give one of {', '.join(self.splits)}."
            )
        check_known(split, self.splits, f"a split of `{self.path}`")
        pictures = sorted({*chain.from_iterable(self._pictures(entry) for entry in self.splits[split])})
        if not pictures:
            raise InvalidInput(f"Expected pictures of `{split}` of `{self.path}`, got none.")
        return pictures

    def _pictures(self, entry: str) -> list[Path]:
        """The pictures behind an entry of a split: a folder, or a text file with a path a line."""
        path = found(entry, self.root)
        if path.is_dir():
            return [Path(os.path.abspath(picture)) for picture in pictures_below(path)[0]]
        existing_file(path, f"pictures of `{self.path}`, a folder or a list,")
        pictures = [found(line, path.parent, self.root) for line in _lines(path)]
        if absent := [picture for picture in pictures if not picture.is_file()]:
            raise InvalidInput(
                f"Expected the pictures that `{path}` lists, got none at `{absent[0]}` and "
                f"{len(absent) - 1} others."
            )
        return [Path(os.path.abspath(picture)) for picture in pictures]


def found(entry: str, *folders: Path) -> Path:
    """A path relative to the first of some folders that has it; to the first one where none has."""
    entries = [entry, *(entry.removeprefix(start) for start in ELSEWHERE if entry.startswith(start))]
    candidates = [folder / path for path in entries for folder in folders]
    return next((path for path in candidates if path.exists()), candidates[0])


def description_at(path: Path) -> Path | None:
    """The file that describes the YOLO set at a path, itself or its folder; None where there is none."""
    if path.suffix.lower() in (*YAML, ".data") or path.name in FILES:
        return path
    if not path.is_dir():
        return None
    listed = [path / name for name in FILES if (path / name).is_file()]
    yaml_files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in YAML]
    return next(iter(listed), yaml_files[0] if len(yaml_files) == 1 else None)


def describe(path: Path) -> Described:
    """Read a description, or the one in a folder; see `FILES`.

    Raises:
        InvalidInput: no such file, no names, indices that do not count from 0, another number of names than
            `nc` says.
    """
    path = description_at(path) or path / FILES[0]
    content = _content(path)
    if not isinstance(content, dict) or "names" not in content:
        raise InvalidInput(f"Expected `names` and the pictures of splits in `{path}`, got others.")
    classes, count = _names(content["names"], path), content.get("nc")
    if count is not None and count != len(classes):
        raise InvalidInput(f"Expected as many `names` as `nc` in `{path}`, got {len(classes)} and {count}.")
    stated = Path(str(content.get("path") or "."))
    candidates = (path.parent / stated, stated, path.parent)  # the last of a set that was moved
    root = next(folder for folder in candidates if folder.is_dir())
    splits = {split: _texts(content[key]) for key, split in SPLITS.items() if content.get(key)}
    pose = math.prod(_shape(content.get("kpt_shape") or [0, 0], path))
    return Described(path, root, splits or _folders(root), classes, pose)


def _content(path: Path) -> object:
    """What a description holds, as a data.yaml would hold it."""
    if path.name in NAMES:
        return {"names": _listed_names(path)}
    if path.suffix.lower() != ".data":
        return yaml_content(path, "a YOLO data.yaml")
    pairs = (line.partition("=") for line in _lines(path))
    content: dict[str, object] = {key.strip(): value.strip() for key, mark, value in pairs if mark}
    return content | {"names": _listed_names(found(str(content.get("names", NAMES[0])), path.parent))}


def _listed_names(path: Path) -> list[str]:
    """The classes of a list of names. Raises InvalidInput for a blank line, which may or may not count."""
    names = _lines(path)
    if any(not line.strip() for line in text_lines(path)[: len(names)]):
        raise InvalidInput(f"Expected a class on every line of `{path}`, got a blank line among them.")
    return names


def _lines(path: Path) -> list[str]:
    lines = text_lines(existing_file(path, "names or pictures of a YOLO set"))
    return [line.strip() for line in lines if line.strip()]


def _folders(root: Path) -> dict[str, tuple[str, ...]]:
    """The splits of a set that names none: each folder of pictures, or, without any, all pictures.

    Those of a system, which begin with `.` or `@`, are no splits.
    """
    base = next((root / name for name in FOLDERS if (root / name).is_dir()), root)
    inner = (folder for folder in base.iterdir() if folder.is_dir() and folder.name[0] not in ".@")
    folders = sorted(inner) if base != root else []
    return {folder.name: (str(folder),) for folder in folders} or {"all": (str(base),)}


def _shape(shape: object, path: Path) -> list[int]:
    if isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape):
        return shape
    raise InvalidInput(f"Expected `kpt_shape` in `{path}` to be a list of counts, got {shown(shape)}.")


def _names(names: object, path: Path) -> dict[int, str]:
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if isinstance(listed, dict) and listed and all(type(key) is int for key in listed):
        if strange := [name for name in listed.values() if type(name) not in (str, int, float)]:
            raise InvalidInput(
                f"Expected texts as `names` in `{path}`, got {shown(strange[0])}. Put such a name in quotes."
            )
        classes = {key: str(listed[key]).strip() for key in sorted(listed)}
        if [*classes] == [*range(len(classes))] and all(classes.values()):
            return classes
    raise InvalidInput(
        f"Expected `names` in `{path}` to be a list of names, or one for each of 0, 1, 2 ..., got "
        f"{shown(names)}."
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)


def text_lines(file: Path) -> list[str]:
    """The lines of a file. Raises InvalidInput where it is no text."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeError) as error:
        raise InvalidInput(f"Expected text in `{file}`, got: {first_line(error)}.") from error
