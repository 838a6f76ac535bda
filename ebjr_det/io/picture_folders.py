"""Pictures on disk: found by name, folder or pattern."""

import glob
import os
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.io.notes import say_left_out
from ebjr_det.io.pictures import picture_suffixes


def find_pictures(names: Sequence[str]) -> list[Path]:
    """The files behind names, folders (all pictures below them) and patterns such as `*.jpg`, each file once.

    What a folder holds besides (see `pictures_below`) is said on stderr.

    Raises:
        InvalidInput: a name behind which there is no picture.
    """
    pictures: dict[str, Path] = {}
    for name in names:
        try:
            paths = _pictures_at(name)
        except (OSError, ValueError):  # a name that no file can have
            paths = []
        if not paths:
            raise InvalidInput(f"Expected pictures at `{name}`, a file, a folder or a pattern, got none.")
        for path in paths:
            pictures.setdefault(os.path.abspath(path), path)
    return list(pictures.values())


def _pictures_at(name: str) -> list[Path]:
    path = Path(name)
    if path.is_file():
        return [path]
    if name and path.is_dir():
        pictures, left_out = pictures_below(path)
        say_left_out(path, left_out)
        return pictures
    return sorted(p for p in map(Path, glob.glob(name, recursive=True)) if p.is_file())


def pictures_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The pictures in a folder and in those below it, in order, and how many of what was left out.

    See `walk_pictures`.
    """
    left_out = Counter[str]()
    return list(walk_pictures(folder, left_out)), left_out


def walk_pictures(
    folder: Path, left_out: Counter[str], suffixes: Container[str] | None = None
) -> Iterator[Path]:
    """The pictures in a folder and in those below it, one by one in the order of their paths.

    Links are followed, but not into a folder that the link is in. Left out are files without a picture's
    suffix, and files and folders whose names begin with a dot (`.ipynb_checkpoints`, the `._` files that
    macOS leaves). A link to nothing is given, to be named when it is opened. The names in one folder are
    held at a time, and those in the folders that it is in.

    Args:
        left_out: is added to.
        suffixes: of the files that are wanted, in lower case, instead of pictures'.

    Raises:
        InvalidInput: a folder that cannot be read.
    """
    suffixes = picture_suffixes() if suffixes is None else suffixes
    left_out.update({"hidden files and folders": 0, "files that are no pictures": 0})
    entries, inside = [_entries(str(folder))], [_identity(folder)]
    while entries:
        entry = next(entries[-1], None)
        if entry is None:
            del entries[-1], inside[-1]
        elif entry.name.startswith("."):
            left_out["hidden files and folders"] += 1
        elif os.path.isdir(entry) if entry.is_symlink() else entry.is_dir():
            if (identity := _identity(entry)) not in inside:  # else a link to a folder that it is in
                entries.append(_entries(entry.path))
                inside.append(identity)
        elif os.path.splitext(entry.name)[1].lower() in suffixes:
            yield Path(entry.path)
        else:
            left_out["files that are no pictures"] += 1


def _entries(folder: str) -> "Iterator[os.DirEntry[str]]":
    """What is in a folder, in the order of the names. Raises InvalidInput where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as error:
        raise InvalidInput(
            f"Expected a folder that can be read, got `{folder}`: {first_line(error)}."
        ) from error


def _identity(folder: "str | os.PathLike[str]") -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
