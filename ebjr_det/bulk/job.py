"""A job: what was asked, written beside its shards, and compared when it is gone on with."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Protocol, TypeAlias

from tqdm.auto import tqdm

from ebjr_det.bulk.manifest import FOLDER as MANIFEST
from ebjr_det.bulk.manifest import Manifest, Row, write_manifest
from ebjr_det.bulk.storage import Storage, reached
from ebjr_det.bulk.table import ShardCounts
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.notes import say

JOB = "job.json"
VERSION = 2
"""Counts the changes after which shards of before cannot stand beside shards of after."""
STAMP = f"{MANIFEST}/source"
MANY = 1_000_000
"""Pictures from which a source with its old stamp is believed: to compare a million takes seconds."""
READERS, BATCH = 16, 1024
"""Threads that look at finished shards, and shards that they are given at a time."""
THREADS = "threads"
"""What a job calls the number of its workers' threads, on which last bits can hang; earlier ones do not."""


ShardName: TypeAlias = Callable[[int], str]


class ReadCounts(Protocol):
    """A reader of what a finished shard has."""

    def __call__(self, storage: Storage, index: int, job: str) -> ShardCounts:
        """Raises InvalidInput for a shard of another job, or one that is damaged."""


@dataclass(frozen=True)
class Job:
    """Pictures, what answers them, and the folder in which the answers are.

    Attributes:
        sha256: of all that its answers depend on.
    """

    manifest: Manifest
    sha256: str

    @classmethod
    def open(
        cls,
        storage: Storage,
        pair: Mapping[str, object],
        rows: Iterable[Row],
        shard: int,
        stamp: str = "",
    ) -> "Job":
        """A new job in an empty folder, or that which the folder holds.

        Args:
            pair: everything but the pictures that answers depend on, as plain values.
            rows: the pictures; of an earlier job they are compared, but for one of very many pictures whose
                source has the stamp that it had.
            stamp: of the source, empty for none.

        Raises:
            ConfigError: the folder holds other files, or a job of other pictures or of another pair.
            InvalidInput: what it holds is damaged, or cannot be written.
        """
        saved = load_request(storage)
        if saved is None:  # a source of nothing is refused before it leaves a folder
            stream = iter(rows)
            rows = chain(list(islice(stream, 1)), stream)
        storage.prepare()
        request: dict[str, object] = {"version": VERSION, **pair, "shard": shard}
        request = json.loads(json.dumps(request, allow_nan=False))  # tuples are lists in what was saved
        if saved is None:
            manifest = write_manifest(storage, rows, shard)
            with storage.create(STAMP) as file:
                file.write(stamp.encode())
        else:
            if THREADS not in saved and request.pop(THREADS, None):
                say(
                    f"Note: the job that `{storage.url}` holds does not tell its number of threads. Another "
                    "one than before changes last bits of some networks' answers."
                )
            _check_same(saved, request, storage)
            manifest = _manifest_of(saved, storage)
            if manifest.rows < MANY or not stamp or stamp != _stamp_in(storage):
                manifest.check(rows)
        job = request | {"pictures": manifest.rows, "manifest": manifest.sha256}
        text = json.dumps(job, indent=2, allow_nan=False) + "\n"
        if saved is None:  # after the manifest, before the first shard
            with storage.create(JOB) as file:
                file.write(text.encode())
        return cls(manifest, hashlib.sha256(text.encode()).hexdigest())

    def finished(self, name: ShardName) -> list[int]:
        """The shards that are there, in order."""
        folder, shards = name(0).rpartition("/")[0], range(self.manifest.shards)
        present = {f"{folder}/{file}" for file in self.manifest.storage.names(folder)}
        finished = [index for index in shards if name(index) in present]
        if foreign := present.difference(map(name, finished)):
            raise ConfigError(
                f"Expected shards of the job alone in `{self.manifest.storage.url}`, got `{min(foreign)}`. "
                "Move it elsewhere."
            )
        return finished

    def run(
        self, work: Callable[[Iterator[int]], Iterator[ShardCounts]], name: ShardName, read: ReadCounts
    ) -> "JobCounts":
        """Do what is not there yet, with progress on stderr.

        Args:
            work: numbers of shards -> what each has, in any order.
            name: number of a shard -> the name of its file; read: what is there in it.
        """
        finished = self.finished(name)
        present, counts = set(finished), ShardCounts(0, 0, 0)
        with ThreadPoolExecutor(READERS) as pool:
            for batch in (finished[start : start + BATCH] for start in range(0, len(finished), BATCH)):
                counts = sum(pool.map(partial(read, self.manifest.storage, job=self.sha256), batch), counts)
        pending = (index for index in range(self.manifest.shards) if index not in present)
        with tqdm(
            total=self.manifest.rows, initial=counts.rows, unit="img", desc="answering", dynamic_ncols=True
        ) as bar:
            for shard in work(pending) if len(finished) < self.manifest.shards else ():
                counts += shard
                bar.update(shard.rows)
                if counts.deferred:
                    share = counts.deferred / (counts.rows - counts.unreadable)
                    bar.set_postfix_str(f"{100 * share:.1f} % to the teacher", refresh=False)
        self.manifest.storage.clear()  # whose workers may have been killed on the way
        return JobCounts(counts, self.manifest.shards, len(finished))


@dataclass(frozen=True)
class JobCounts:
    """What a finished job has: its pictures, its shards, and how many of these were there before."""

    pictures: ShardCounts
    shards: int
    resumed: int


def load_request(storage: Storage) -> dict[str, object] | None:
    """What the job in a folder was asked; None where the folder is empty, or its job was never begun."""
    names = storage.names()
    if JOB in names:
        with storage.open(JOB) as file, reached(f"a job in `{storage.url}/{JOB}`"):
            saved = json.loads(file.read())
        if not isinstance(saved, dict):
            raise InvalidInput(f"Expected a job in `{storage.url}/{JOB}`, got something else.")
        return saved
    if foreign := [name for name in names if name != MANIFEST]:
        raise ConfigError(
            f"Expected an empty --out or an earlier job, got other files in `{storage.url}`, such as "
            f"`{foreign[0]}`."
        )
    return None


def _stamp_in(storage: Storage) -> str:
    """The stamp of a job's source when its manifest was written."""
    with storage.open(STAMP) as file:
        return bytes(file.read()).decode()


def _check_same(saved: Mapping[str, object], request: Mapping[str, object], storage: Storage) -> None:
    """Raises ConfigError, which names the first thing that is another than it was."""
    keys = {**saved, **request}.keys() - {"pictures", "manifest"}
    for key in sorted(keys, key=lambda key: (key != "version", key)):
        if saved.get(key) != request.get(key):
            raise ConfigError(
                f"Expected `{key}` as in the job that `{storage.url}` holds, {saved.get(key)}, got "
                f"{request.get(key)}. Choose another --out."
            )


def _manifest_of(saved: Mapping[str, object], storage: Storage) -> Manifest:
    rows, shard, digest = saved.get("pictures"), saved.get("shard"), saved.get("manifest")
    if not (isinstance(rows, int) and isinstance(shard, int) and isinstance(digest, str)):
        raise InvalidInput(
            f"Expected a job in `{storage.url}/{JOB}`, got something else. Choose another --out."
        )
    return Manifest(storage, rows, shard, digest)
