"""The records of a shard of labelled images: all models see each of them once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic
from zipfile import ZipFile, is_zipfile

from ebjr_det.bulk.job import Job
from ebjr_det.bulk.storage import Storage
from ebjr_det.bulk.table import ShardCounts, of_another_job
from ebjr_det.core.errors import InvalidInput
from ebjr_det.inference.offline import Batch, Records
from ebjr_det.io.load import Stopwatch
from ebjr_det.io.records import Part, Parts

FOLDER = "records"


def record_file(index: int) -> str:
    """The name of the file of a shard's records.

    >>> record_file(7)
    'records/00000007.npz'
    """
    return f"{FOLDER}/{index:08d}.npz"


@dataclass(frozen=True)
class RecordStage(Generic[Part]):
    """A stage in which all models see a shard, whose records are then written.

    Attributes:
        batches: first image and the one behind the last -> their batches.
        store: how records are written.
    """

    recorder: Records[Part]
    batches: Callable[[int, int], Iterable[Batch]]
    store: type[Parts[Part]]
    job: Job

    def __call__(self, index: int) -> ShardCounts:
        """Write the shard's file, an archive of nothing where none of its images can be read."""
        manifest, watch = self.job.manifest, Stopwatch()
        start, rows = index * manifest.shard, manifest.size(index)
        parts = [self.recorder.record(batch, watch) for batch in self.batches(start, start + rows)]
        run = self.store.join(parts) if parts else None
        with manifest.storage.create(record_file(index)) as file:
            file.write(self._to_bytes(run))
        return ShardCounts(rows, 0, rows - (0 if run is None else len(run)))

    def _to_bytes(self, run: Part | None) -> bytes:
        """The records as a file, an archive whose comment tells the job."""
        with TemporaryDirectory() as folder:
            path = Path(folder, "shard.npz")
            if run is not None:
                self.store.save_part(run, path)
            with ZipFile(path, "a") as archive:
                archive.comment = self.job.sha256.encode()
            return path.read_bytes()


def read_records(store: type[Parts[Part]], storage: Storage, index: int, job: str) -> Part | None:
    """The records of a shard in a folder of this machine; None where none of its images could be read.

    Raises:
        InvalidInput: it is of another job, or damaged. That of an earlier version does not tell its job.
    """
    path = Path(storage.root, record_file(index))
    if not path.stat().st_size:  # as an earlier version has them
        return None
    if is_zipfile(path):
        with ZipFile(path) as archive:
            told, files = archive.comment, archive.namelist()
        if told not in (b"", job.encode()):
            raise of_another_job(storage, record_file(index))
        if not files:
            return None
    return store.load_part(path)


def read_counts(store: type[Parts[Part]], storage: Storage, index: int, job: str) -> ShardCounts:
    """What a shard of a job has; images that cannot be read are counted when all are joined."""
    run = read_records(store, storage, index, job)
    return ShardCounts(0 if run is None else len(run), 0, 0)


def joined(store: type[Parts[Part]], job: Job) -> Part:
    """The records of all shards, in order. Raises InvalidInput where no image could be read."""
    storage, shards = job.manifest.storage, range(job.manifest.shards)
    runs = [run for index in shards if (run := read_records(store, storage, index, job.sha256)) is not None]
    if not runs:
        raise InvalidInput("Expected at least one image that can be read, got none.")
    return store.join(runs)
