"""Sources of pictures: a picture, a folder, a pattern, a list, tar and parquet files, at any address.

Rows come one by one in an order that does not change, so that a source of any length is never held whole.
"""

import os
import posixpath
import re
import tarfile
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from hashlib import sha256
from pathlib import Path, PurePosixPath

from fsspec import get_filesystem_class

from ebjr_det.bulk.columns import ParquetColumn
from ebjr_det.bulk.files import PACKED, find_files, suffix_of
from ebjr_det.bulk.manifest import Row
from ebjr_det.bulk.storage import locate, open_at, reached
from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.notes import say_left_out
from ebjr_det.io.pictures import picture_suffixes

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
LIST = ".txt"
PACKED_NAME = re.compile("|".join(map(re.escape, (*PACKED, LIST))).encode(), re.IGNORECASE)
NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
TAR_BLOCK = 512
VERSION = re.compile(r"etag|md5|^sha\d*$|crc|checksum|digest|generation|modif|mtime|updated|blob_?id", re.I)
"""In names of what file systems tell of a file, those of which one changes when the file does."""


def find_rows(source: str, column: str = "") -> Iterator[Row]:
    """The pictures of a source, in order.

    Args:
        source: path or address of a picture; a folder, with pictures or with tar and parquet files below it;
            a pattern such as `s3://bucket/*.jpg` or `shard-{000..099}.tar`; a `.txt` file with one of these
            files a line; a `.tar` or `.parquet` file. Addresses are fsspec's.
        column: of pictures in parquet files; by default see `columns.picture_column`.

    Raises:
        InvalidInput: nothing is there, or it cannot be read.
    """
    for part in _numbered(source):
        empty = True
        with reached(f"pictures at `{part}`"):
            for file in find_files(part):
                for row in _rows_of(file, column):
                    empty = False
                    yield row
        if empty:
            raise InvalidInput(f"Expected pictures at `{part}`, got none.")


def stamp_of(source: str, column: str = "") -> str:
    """What changes when a list or a packed file of a source does, told without a look into what is packed.

    Empty where pictures lie there themselves, as to list them is to compare them, and where nobody tells
    more of a file than its size.

    Raises:
        InvalidInput: it cannot be read.
    """
    digest = sha256(column.encode())
    for part in _numbered(source):
        with reached(f"pictures at `{part}`"):
            for file in find_files(part):
                if suffix_of(file.picture) not in (*PACKED, LIST):
                    return ""
                for name in _packed_in(file.picture):
                    fs, path = locate(name)
                    info = fs.info(path)
                    if not any(value and VERSION.search(key) for key, value in info.items()):
                        return ""
                    digest.update(ascii((name, sha256(str(info).encode()).hexdigest())).encode())
    return digest.hexdigest()


def _packed_in(name: str, within: tuple[str, ...] = ()) -> Iterator[str]:
    """A list or a packed file, and those that a list, itself `within` others, names."""
    yield name
    if suffix_of(name) == LIST:
        for line in _lines(name, within, PACKED_NAME):
            if suffix_of(line) in (*PACKED, LIST):
                yield from _packed_in(line, (*within, name))


def _numbered(source: str) -> Iterator[str]:
    """Names for a pattern with numbers, `{000..099}`, one by one; a name that is there is itself."""
    match = NUMBERS.search(source)
    if match is None or os.path.exists(source):  # which no name is too long for
        yield source
        return
    first, last = match.groups()
    if int(first) > int(last):
        raise InvalidInput(
            f"Expected numbers that rise in the pattern `{source}`, got `{match[0]}`. Write "
            f"`{{{last}..{first}}}`."
        )
    for number in range(int(first), int(last) + 1):
        yield from _numbered(f"{source[: match.start()]}{number:0{len(first)}}{source[match.end() :]}")


def _rows_of(file: Row, column: str, within: tuple[str, ...] = ()) -> Iterator[Row]:
    """The pictures of a file, itself or what is listed or packed in it, which lists name: `within`."""
    if file.picture.lower().endswith(COMPRESSED):
        raise InvalidInput(
            f"Expected a tar file that is not compressed, got `{file.title}`, in which no picture can be "
            "read without all before it. Decompress it."
        )
    with reached(f"pictures in `{file.title}`"):
        match suffix_of(file.picture):
            case ".txt":
                for name in _lines(file.picture, within):
                    yield from _rows_of(Row(name), column, (*within, file.picture))
            case ".tar":
                yield from _rows_of_tar(file.picture)
            case ".parquet":
                yield from _rows_of_parquet(file, column)
            case _:
                _check_address(file.picture)
                yield file


def _lines(
    name: str, within: tuple[str, ...] = (), pattern: re.Pattern[bytes] = re.compile(b"")
) -> Iterator[str]:
    """Paths and addresses of a list, of those lines in which a pattern is."""
    if name in within:
        raise InvalidInput(f"Expected a list of other files, got `{name}`, which names itself.")
    with open_at(name) as lines:
        for number, line in enumerate(lines, 1):
            if b"\0" in line:
                raise InvalidInput(
                    f"Expected a list in UTF-8, got `{name}` with a zero byte in line {number}, as UTF-16 "
                    "has. Save it as UTF-8."
                )
            if pattern.search(line) and (text := line.decode("utf-8-sig", "surrogateescape").strip()):
                yield beside(name, text)


def _check_address(name: str) -> None:
    """Raises InvalidInput for an address whose protocol nobody here knows, before the job begins."""
    protocol, separator, _ = name.partition("://")
    if separator:
        with reached(f"an address whose protocol is known here, got `{name}`"):
            _protocol(protocol.rpartition("::")[2])


_protocol = lru_cache(get_filesystem_class)


def beside(name: str, path: str) -> str:
    """A path that stands in a file, which relative ones are taken from.

    >>> beside("lists/first.txt", "a.png"), beside("s3://bucket/lists/first.txt", "../a.png")
    ('lists/a.png', 's3://bucket/a.png')
    """
    if "://" in path or path.startswith("/"):
        return path
    if "://" not in name:
        return str(Path(name).parent / path)
    inner, chained, outer = name.partition("::")
    protocol, _, inner = inner.partition("://")
    return (
        f"{protocol}://{posixpath.normpath(posixpath.join(posixpath.dirname(inner), path))}{chained}{outer}"
    )


def _rows_of_tar(name: str) -> Iterator[Row]:
    """Pictures of a tar file, by their bytes in it; a name that it has twice is two pictures."""
    links = 0
    with open_at(name) as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if _is_picture(PurePosixPath(member.name)):
                links += member.islnk() or member.issym()
                if member.isfile():
                    yield Row(f"{name}/{member.name}", name, member.offset_data, member.size)
            archive.members = []  # type: ignore[attr-defined]  # which it would keep
        file.seek(archive.offset)  # where it stopped, at zeros or at damage
        end = file.read(TAR_BLOCK)
    say_left_out(name, {"links to pictures": links})
    if len(end) < TAR_BLOCK or any(end):
        raise InvalidInput(f"Expected a whole tar file, got one that is damaged or cut off, `{name}`.")


def _is_picture(path: PurePosixPath) -> bool:
    return path.suffix.lower() in picture_suffixes() and not any(part[0] == "." for part in path.parts)


def _rows_of_parquet(file: Row, column: str) -> Iterator[Row]:
    """Rows of a parquet file: pictures in it, or paths and addresses of them."""
    name = file.picture
    with closing(ParquetColumn(name, column)) as values:
        numbers: Iterator[tuple[int, object]] = (
            enumerate(values) if values.is_text else ((row, None) for row in range(values.rows))
        )
        for row, text in numbers:
            if isinstance(text, str):
                _check_address(picture := beside(name, text))
                yield Row(picture)
            else:
                yield Row(f"{name}#{row}", name, row, file.size, values.name)
