"""Files of a source: of this machine, or at any address that fsspec knows, in one order for both."""

import posixpath
from collections import Counter
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from ebjr_det.bulk.manifest import Row
from ebjr_det.bulk.storage import is_local, locate
from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.notes import say_left_out
from ebjr_det.io.picture_folders import walk_pictures
from ebjr_det.io.pictures import picture_suffixes

PACKED = (".tar", ".parquet")


def find_files(source: str) -> Iterator[Row]:
    """The files at a path, in a folder or behind a pattern, in order, each as if it were one picture."""
    fs, root = locate(source)
    if is_local(fs):
        return _local_files(Path(root))
    fs.invalidate_cache()
    inner, _, outer = source.partition("::")
    return _remote_files(fs, root, f"::{outer}" if "://" in inner and outer else "")


def _local_files(path: Path) -> Iterator[Row]:
    if path.is_dir():
        left_out = Counter[str]()
        paths = walk_pictures(path, left_out, picture_suffixes().union(PACKED))
        yield from _of_one_kind(map(_local_file, paths), str(path))
        say_left_out(path, left_out)
    elif path.is_file():
        yield _local_file(path)
    else:
        yield from map(
            _local_file, sorted(p for p in map(Path, glob(str(path), recursive=True)) if p.is_file())
        )


def _local_file(path: Path) -> Row:
    try:
        return Row(str(path), size=path.stat().st_size)
    except OSError:  # a link to nothing, which is told of when it is opened
        return Row(str(path))


def _of_one_kind(files: Iterator[Row], folder: str) -> Iterator[Row]:
    """The pictures of a folder, or else its packed files. Raises InvalidInput for both."""
    packed, pictures = list[Row](), 0
    for file in files:
        if suffix_of(file.picture) in PACKED:
            packed.append(file)
        else:
            pictures += 1
            yield file
    if packed and pictures:
        raise InvalidInput(
            f"Expected pictures or packed files in `{folder}`, got both, such as `{packed[0].title}`. Name "
            f"one kind by a pattern, such as `{folder}/**/*{suffix_of(packed[0].picture)}`."
        )
    yield from packed


def _remote_files(fs: Any, root: str, outer: str) -> Iterator[Row]:
    """Files at an address.

    Args:
        outer: what follows an address inside a packed file, as in `zip://*.png::s3://bucket/pictures.zip`.
    """
    if any(letter in root for letter in "*?["):
        infos = fs.glob(root, detail=True).values()
        entries = (entry for entry in sorted(infos, key=_parts) if entry["type"] == "file")
        yield from (_remote_file(fs, entry, outer) for entry in entries)
    elif root and not root.endswith("/") and fs.isfile(root):
        yield _remote_file(fs, fs.info(root), outer)
    elif fs.exists(root):
        suffixes = picture_suffixes().union(PACKED)
        files = (_remote_file(fs, entry, outer) for entry in _walk(fs, root, suffixes))
        yield from _of_one_kind(files, f"{fs.unstrip_protocol(root)}{outer}")


def _walk(fs: Any, folder: str, suffixes: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The files below a folder in the order in which `walk_pictures` has them."""
    for entry in sorted(fs.ls(folder, detail=True), key=_parts):
        name = entry["name"].rstrip("/")
        if name == folder.rstrip("/") or posixpath.basename(name).startswith("."):
            continue  # object stores list a folder in itself
        if entry["type"] == "directory":
            yield from _walk(fs, name, suffixes)
        elif suffix_of(name) in suffixes:
            yield entry


def _parts(entry: dict[str, Any]) -> list[str]:
    return str(entry["name"]).rstrip("/").split("/")


def _remote_file(fs: Any, entry: dict[str, Any], outer: str) -> Row:
    size = entry.get("size")
    return Row(f"{fs.unstrip_protocol(entry['name'])}{outer}", size=-1 if size is None else int(size))


def suffix_of(name: str) -> str:
    """The ending of a file's name at a path or an address, in lower case."""
    return Path(name.partition("::")[0] if "://" in name else name).suffix.lower()
