"""Which pictures a job has, in what order, cut into shards; read by shard, so nobody holds it whole."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ebjr_det.bulk.storage import Storage

FOLDER = "manifest"
SHARDS_A_FILE = 1000
"""Shards that a file of a manifest tells of, a row group each: readers load the index of one file."""


class Row(NamedTuple):
    """One picture of a source.

    Attributes:
        picture: its name.
        file: path or address of the file that it is, or is in; empty where that is its name.
        start: first byte in a tar, number of the row in a parquet file; -1 where it is a file.
        size: bytes; -1 where nobody has told.
    """

    picture: str
    file: str = ""
    start: int = -1
    size: int = -1

    @property
    def path(self) -> str:
        """Path or address of the file to open."""
        return self.file or self.picture


SCHEMA = pa.schema(
    [("picture", pa.string()), ("file", pa.string()), ("start", pa.int64()), ("size", pa.int64())]
)


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
        """The pictures of a shard."""
        file, group = divmod(index, SHARDS_A_FILE)
        with self.storage.open(_name(file)) as opened:
            table = pq.ParquetFile(opened).read_row_group(group)
        return [Row(**entry) for entry in table.to_pylist()]


def write_manifest(storage: Storage, rows: Iterable[Row], shard: int) -> Manifest:
    """Write the pictures of a source as they come."""
    digest, count = hashlib.sha256(), 0
    stream = digested(rows, digest)
    shards = iter(lambda: list(islice(stream, shard)), [])
    for file, first in enumerate(shards):
        with storage.create(_name(file)) as opened, pq.ParquetWriter(opened, SCHEMA) as writer:
            writer.write_table(_table(first), row_group_size=shard)
            count += len(first)
            for _, following in zip(range(SHARDS_A_FILE - 1), shards, strict=False):
                writer.write_table(_table(following), row_group_size=shard)
                count += len(following)
    return Manifest(storage, count, shard, digest.hexdigest())


def digest_rows(storage: Storage, rows: Iterable[Row], shard: int) -> Manifest:
    """What `write_manifest` would give, of a manifest that is there."""
    digest = hashlib.sha256()
    count = sum(1 for _ in digested(rows, digest))
    return Manifest(storage, count, shard, digest.hexdigest())


def digested(rows: Iterable[Row], digest: "hashlib._Hash") -> Iterator[Row]:
    """The rows, each of which is added to the digest when it goes by."""
    for row in rows:
        digest.update("\0".join(map(str, row)).encode(errors="surrogateescape") + b"\n")
        yield row


def _table(rows: Iterable[Row]) -> pa.Table:
    return pa.table(list(zip(*rows, strict=True)), schema=SCHEMA)


def _name(file: int) -> str:
    return f"{FOLDER}/{file:06d}.parquet"
