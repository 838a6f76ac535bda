"""Which pictures a job has, in what order, cut into shards; read by shard, so nobody holds it whole."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice, zip_longest
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ebjr_det.bulk.storage import Storage
from ebjr_det.core.errors import ConfigError, InvalidInput

FOLDER = "manifest"
SHARDS_A_FILE = 1000
"""Shards that a file of a manifest tells of, a row group each: readers load the index of one file."""


class Row(NamedTuple):
    """One picture of a source.

    Attributes:
        picture: its name.
        file: path or address of the file that it is, or is in; empty where that is its name.
        start: first byte in a tar, number of the row in a parquet file; -1 where it is a file.
        size: bytes, of a parquet file those of the whole file; -1 where nobody has told.
        column: of a parquet file, else empty.
    """

    picture: str
    file: str = ""
    start: int = -1
    size: int = -1
    column: str = ""

    @property
    def path(self) -> str:
        """Path or address of the file to open."""
        return self.file or self.picture

    @property
    def title(self) -> str:
        """The name as text."""
        return as_text(self.picture)


def as_text(name: str) -> str:
    r"""A file's name, in which bytes that are not UTF-8 are written as such.

    >>> as_text("\udcff.png")
    '\\xff.png'
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


NAMES = ("picture", "file", "column")
"""Fields whose values are bytes in a manifest, as file systems have names in any encoding."""
SCHEMA = pa.schema([(name, pa.binary() if name in NAMES else pa.int64()) for name in Row._fields])


@dataclass(frozen=True)
class Manifest:
    """The pictures of a job.

    Attributes:
        rows: how many; shard: how many a shard.
        sha256: of all rows in order.
    """

    storage: Storage
    rows: int
    shard: int
    sha256: str

    @property
    def shards(self) -> int:
        """How many shards there are, the last of which may be smaller."""
        return -(-self.rows // self.shard)

    def size(self, index: int) -> int:
        """How many pictures a shard has."""
        return min(self.shard, self.rows - index * self.shard)

    def load(self, index: int) -> list[Row]:
        """The pictures of a shard. Raises InvalidInput for a manifest that is damaged."""
        file, group = divmod(index, SHARDS_A_FILE)
        with self.storage.open(_name(file)) as opened:
            content = pq.ParquetFile(opened, metadata=_index_of(self.storage, _name(file)))
            return _rows(content.read_row_group(group))

    def check(self, rows: Iterable[Row]) -> None:
        """Compare the manifest, as it is stored, with the pictures of a source.

        Raises:
            ConfigError: other pictures. InvalidInput: a manifest that is damaged.
        """
        digest, count = hashlib.sha256(), 0
        for stored, row in zip_longest(_digested(self._read(), digest), rows):
            if stored != row:
                raise ConfigError(
                    f"Expected the pictures of the job that `{self.storage.url}` holds, got at index {count} "
                    f"{_told(row)} instead of {_told(stored)}. Choose another --out."
                )
            count += 1
        if (count, digest.hexdigest()) != (self.rows, self.sha256):
            raise InvalidInput(
                f"Expected the manifest of its job in `{self.storage.url}/{FOLDER}`, got another one. Choose "
                "another --out."
            )

    def _read(self) -> Iterator[Row]:
        """All rows as they are stored."""
        for file in range(-(-self.shards // SHARDS_A_FILE)):
            with self.storage.open(_name(file)) as opened:
                for batch in pq.ParquetFile(opened).iter_batches():
                    yield from _rows(pa.Table.from_batches([batch]))


@lru_cache(2)
def _index_of(storage: Storage, name: str) -> pq.FileMetaData:
    """Where the groups of a file are, which is long beside one of them, so it is kept from shard to shard."""
    with storage.open(name) as opened:
        return pq.read_metadata(opened)


def write_manifest(storage: Storage, rows: Iterable[Row], shard: int) -> Manifest:
    """Write the pictures of a source as they come."""
    digest, count = hashlib.sha256(), 0
    stream = _digested(rows, digest)
    shards = iter(lambda: list(islice(stream, shard)), [])
    for file, first in enumerate(shards):
        with storage.create(_name(file)) as opened, pq.ParquetWriter(opened, SCHEMA) as writer:
            for group in chain([first], islice(shards, SHARDS_A_FILE - 1)):
                writer.write_table(_table(group), row_group_size=shard)
                count += len(group)
    return Manifest(storage, count, shard, digest.hexdigest())


def _digested(rows: Iterable[Row], digest: "hashlib._Hash") -> Iterator[Row]:
    """The rows, each of which is added to the digest when it goes by."""
    for row in rows:
        digest.update(ascii(tuple(row)).encode())
        yield row


def _told(row: Row | None) -> str:
    if row is None:
        return "none"
    size = f" of {row.size:,} bytes" if row.size >= 0 else ""
    return f"`{row.title}`{size}"


def _table(rows: Iterable[Row]) -> pa.Table:
    columns = zip(Row._fields, zip(*rows, strict=True), strict=True)
    return pa.table(
        [list(map(os.fsencode, values)) if name in NAMES else values for name, values in columns],
        schema=SCHEMA,
    )


def _rows(table: pa.Table) -> list[Row]:
    columns = (
        list(map(os.fsdecode, table[name].to_pylist())) if name in NAMES else table[name].to_pylist()
        for name in Row._fields
    )
    return list(map(Row, *columns))


def _name(file: int) -> str:
    return f"{FOLDER}/{file:06d}.parquet"
