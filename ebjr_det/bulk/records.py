"""The records of a shard of labelled images: both models see each of them once."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ebjr_det.bulk.manifest import Manifest
from ebjr_det.bulk.storage import Storage
from ebjr_det.bulk.table import ShardCounts
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import PairedRun
from ebjr_det.inference.offline import ScoresFunction
from ebjr_det.inference.pair import Pair
from ebjr_det.io.load import Stopwatch
from ebjr_det.io.records import join_runs, load_run, save_run

FOLDER = "records"


def record_file(index: int) -> str:
    """The name of the file of a shard's records.

    >>> record_file(7)
    'records/00000007.npz'
    """
    return f"{FOLDER}/{index:08d}.npz"


@dataclass(frozen=True)
class RecordStage:
    """A stage in which both models see a shard, whose records are then written.

    Attributes:
        pair: its student as the router looks at it.
        scores: the student's answers -> named deferral scores.
    """

    pair: Pair
    scores: ScoresFunction
    manifest: Manifest

    def __call__(self, index: int) -> ShardCounts:
        """Write the shard's file, which is empty where none of its images can be read."""
        start, rows = index * self.manifest.shard, self.manifest.size(index)
        recorder, watch = self.pair.recorder(self.scores), Stopwatch()
        parts = [recorder.record(batch, watch) for batch in self.pair.batches(start, start + rows)]
        run = join_runs(parts) if parts else None
        with self.manifest.storage.create(record_file(index)) as file:
            file.write(b"" if run is None else _to_bytes(run))
        return ShardCounts(rows, 0, rows - (0 if run is None else len(run)))


def read_records(storage: Storage, index: int) -> PairedRun | None:
    """The records of a shard; None where none of its images could be read."""
    with storage.open(record_file(index)) as file:
        content = file.read()
    if not content:
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder, "shard.npz")
        path.write_bytes(content)
        return load_run(path)


def read_counts(storage: Storage, index: int, job: str) -> ShardCounts:
    """What a shard of a job has; images that cannot be read are counted when all are joined."""
    run = read_records(storage, index)
    return ShardCounts(0 if run is None else len(run), 0, 0)


def joined(manifest: Manifest) -> PairedRun:
    """The records of all shards, in order. Raises InvalidInput where no image could be read."""
    shards = (read_records(manifest.storage, index) for index in range(manifest.shards))
    runs = [run for run in shards if run is not None]
    if not runs:
        raise InvalidInput("Expected at least one image that can be read, got none.")
    return join_runs(runs)


def _to_bytes(run: PairedRun) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "shard.npz")
        save_run(run, path)
        return path.read_bytes()
