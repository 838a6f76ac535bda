"""Sources of pictures: a picture, a folder, a pattern, a list, parquet and tar files, at any address.

Rows come one by one in an order that does not change, so that a source of any length is never held whole.
"""

import tarfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ebjr_det.bulk.manifest import Row
from ebjr_det.bulk.storage import reached
from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.encoded import PictureBytes
from ebjr_det.io.pictures import find_pictures, open_picture, picture_suffixes

if TYPE_CHECKING:
    from PIL.Image import Image

LISTS, PACKED = (".txt",), (".tar", ".parquet")
COLUMNS = ("image", "picture", "jpg", "png", "bytes", "path", "file_name", "url")
"""Names by which a column of pictures in a parquet file is known, the first that is there."""
GROUPS = 2
"""Groups of rows of parquet files that a reader holds."""


def find_rows(source: str) -> Iterator[Row]:
    """The pictures of a source, in order.

    Args:
        source: path or address of a picture, a folder, a pattern such as `s3://bucket/*.jpg`, a `.txt` file
            with one path or address a line, or `.tar` and `.parquet` files, which a folder or a pattern may
            hold too.

    Raises:
        InvalidInput: nothing is there, or it cannot be read.
    """
    with reached(f"pictures at `{source}`"):
        fs, root = url_to_fs(source)
        if isinstance(fs, LocalFileSystem) and "://" not in source:
            files = _local_files(source)
        else:
            files = _remote_files(fs, str(root), source)
    empty = True
    for name, size in files:
        for row in _rows_of(name, size):
            empty = False
            yield row
    if empty:
        raise InvalidInput(f"Expected pictures at `{source}`, got none.")


def _local_files(source: str) -> Iterator[tuple[str, int]]:
    path = Path(source)
    if path.is_file():
        paths = [path]
    elif path.is_dir():
        packed = sorted(file for file in path.iterdir() if file.suffix in PACKED)
        paths = packed or find_pictures([source])
    else:
        paths = find_pictures([source])
    return ((str(file), file.stat().st_size) for file in paths)


def _remote_files(fs: Any, root: str, source: str) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files at an address, in order of their names."""
    if any(letter in root for letter in "*?["):
        sizes = fs.glob(root, detail=True)
    else:
        sizes = fs.find(root, detail=True)
    suffixes = picture_suffixes().union(PACKED, LISTS)
    for path in sorted(sizes):
        if path == root or Path(path).suffix.lower() in suffixes:
            yield fs.unstrip_protocol(path), int(sizes[path].get("size") or -1)


def _rows_of(name: str, size: int) -> Iterator[Row]:
    suffix = Path(name).suffix.lower()
    packed: dict[str, Callable[[str], Iterator[Row]]] = {
        ".txt": _rows_of_list, ".tar": _rows_of_tar, ".parquet": _rows_of_parquet,
    }  # fmt: skip
    if suffix in packed:
        with reached(f"pictures in `{name}`"):
            yield from packed[suffix](name)
    else:
        yield Row(name, size=size)


def _rows_of_list(name: str) -> Iterator[Row]:
    """Lines of a list; relative paths are taken from the list's folder."""
    fs, path = url_to_fs(name)
    with fs.open(path, "r", encoding="utf-8") as lines:
        for line in map(str.strip, lines):
            if line:
                is_whole = "://" in line or line.startswith("/")
                yield Row(line if is_whole else f"{name.rpartition('/')[0] or '.'}/{line}")


def _rows_of_tar(name: str) -> Iterator[Row]:
    """Pictures of a tar file, by their bytes in it."""
    fs, path = url_to_fs(name)
    suffixes = picture_suffixes()
    with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix.lower() in suffixes:
                yield Row(f"{name}/{member.name}", name, member.offset_data, member.size)
            archive.members = []  # type: ignore[attr-defined]  # which it would keep


def _rows_of_parquet(name: str) -> Iterator[Row]:
    """Rows of a parquet file: pictures as bytes, or paths and addresses of them."""
    fs, path = url_to_fs(name)
    with fs.open(path, "rb") as opened:
        file = pq.ParquetFile(opened)
        column = _column(file.schema_arrow, name)
        if not _is_text(file.schema_arrow.field(column).type):
            for row in range(file.metadata.num_rows):
                yield Row(f"{name}#{row}", name, row)
            return
        for batch in file.iter_batches(columns=[column]):
            for text in batch.column(0).to_pylist():
                yield Row(str(text))


def _column(schema: pa.Schema, name: str) -> str:
    """The column of pictures. Raises InvalidInput where there is none."""
    for column in COLUMNS:
        if column in schema.names and (_is_text(kind := schema.field(column).type) or _is_bytes(kind)):
            return column
    raise InvalidInput(
        f"Expected a column of pictures ({', '.join(COLUMNS)}) in `{name}`, as bytes or as paths, got "
        f"{', '.join(schema.names)}."
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes, or have them as `bytes`, as data sets of Hugging Face do."""
    if pa.types.is_struct(kind):
        return "bytes" in [kind.field(i).name for i in range(kind.num_fields)]
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class PictureReader:
    """A reader of the rows of any source, for several threads."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.group = lru_cache(GROUPS)(_load_group)

    def __call__(self, row: Row) -> "Image":
        """The picture as RGB. Raises InvalidInput, which names it, where it cannot be read."""
        fs, path = url_to_fs(row.path)
        if isinstance(fs, LocalFileSystem) and row.start < 0:
            return open_picture(Path(path))
        with reached(f"a readable picture, got `{row.picture}`"):
            content = self._content(row, fs, path)
        return open_picture(PictureBytes(content, row.picture))

    def _content(self, row: Row, fs: Any, path: str) -> bytes:
        if row.start < 0:
            return bytes(fs.cat_file(path))
        if row.size >= 0:
            return bytes(fs.cat_file(path, row.start, row.start + row.size))
        with self.lock:
            group, first = _group_of(row)
            value = self.group(row.file, group)[row.start - first].as_py()
        content = value["bytes"] if isinstance(value, dict) else value
        if content is None:
            raise InvalidInput(f"Expected a readable picture, got `{row.picture}` without bytes.")
        return bytes(content)


@lru_cache(64)
def _starts(name: str) -> list[int]:
    """The first row of each group of a parquet file."""
    fs, path = url_to_fs(name)
    with fs.open(path, "rb") as opened:
        metadata = pq.ParquetFile(opened).metadata
    starts = [0]
    for group in range(metadata.num_row_groups):
        starts.append(starts[-1] + metadata.row_group(group).num_rows)
    return starts


def _group_of(row: Row) -> tuple[int, int]:
    """The group of rows in which a row is, and that group's first row."""
    from bisect import bisect_right

    starts = _starts(row.file)
    group = bisect_right(starts, row.start) - 1
    return group, starts[group]


def _load_group(name: str, group: int) -> pa.ChunkedArray:
    fs, path = url_to_fs(name)
    with fs.open(path, "rb") as opened:
        file = pq.ParquetFile(opened)
        return file.read_row_group(group, columns=[_column(file.schema_arrow, name)]).column(0)
