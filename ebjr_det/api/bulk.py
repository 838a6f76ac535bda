"""`bulk`: the pair on any number of pictures, by shards that go on after whatever ended them."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from ebjr_det.api.load import samples_of
from ebjr_det.api.predict import AnsweredPictures
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import finite
from ebjr_det.inference.absent import SIDES
from ebjr_det.inference.exported import Exported
from ebjr_det.inference.live import (
    Settings,
    build_live,
    build_teacher,
    check_sides,
    choose_threshold,
    settled,
)
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.io.clusters import RAY, check_cluster
from ebjr_det.io.notes import say
from ebjr_det.io.third_party import check_packages
from ebjr_det.io.threads import on_threads, thread_count, usable_cpus
from ebjr_det.runtimes.choose import AUTO

if TYPE_CHECKING:
    from ebjr_det.bulk.executors import Stage, Stages
    from ebjr_det.bulk.job import Job
    from ebjr_det.bulk.stages import StudentStage, TeacherStage
    from ebjr_det.bulk.table import ShardCounts

PACKAGES = ("fsspec", "pyarrow")


MOST = 10**9
"""Pictures a shard, and processes, at most."""


@dataclass(frozen=True)
class BulkSettings:
    """How a job is cut and who works on it. Only `shard` can change the last bits of an answer.

    Attributes:
        shard: pictures a shard, each of which becomes one file.
        workers: processes of this machine that work on shards, each with both models; 0 works here.
        ray: address of a Ray cluster whose machines all see pictures, models and `out`, as `auto`, or `local`
            for one that is started here; None for none.
        column: of pictures in parquet files; by default it is found.

    Raises:
        ConfigError: a number that is out of range, or both workers and Ray.
    """

    shard: int = 256
    workers: int = 0
    ray: str | None = None
    column: str = ""

    def __post_init__(self) -> None:
        for name, least in (("shard", 1), ("workers", 0)):
            if not least <= getattr(self, name) <= MOST:
                raise ConfigError(f"Expected `{name}` from {least} to {MOST}, got {getattr(self, name)}.")
        if self.workers and self.ray is not None:
            raise ConfigError("Expected either workers or Ray, got both.")


@dataclass(frozen=True)
class BulkResult(AnsweredPictures):
    """How many pictures a job has, and who answered; its fields are the keys of the JSON.

    Attributes:
        shards: files of the job; `resumed`: those of them that were there before.
        seconds: of this call, with building the models.
    """

    shards: int
    resumed: int
    seconds: float
    out: str


@on_threads("run")
def bulk_predict(
    config: Settings,
    source: str,
    out: str,
    settings: BulkSettings | None = None,
    *,
    threshold: float | None = None,
    rate: float | None = None,
) -> BulkResult:
    """Answer all pictures of a source: one parquet file a shard, with a row for every picture.

    Shards are whole or not there, so the same call goes on after whatever ended it, and ends with the same
    bytes. So it does whoever works on them: this process, several, or Ray. `manifest/` has the pictures,
    `job.json` what was asked, `answers/*.parquet` a row for each picture: `index`, `picture`, `error` (why it
    cannot be read, else null), `width`, `height`, `answered_by`, `deferral_score`, and the task's columns:
    `boxes`, `scores`, `labels`, `category_ids`, or `logits`, `probabilities`, `label`, `name`.

    Args:
        source: see `bulk.sources.find_rows`.
        out: path or address of a folder, empty or with this job's earlier shards.
        threshold, rate: as in `predict`.

    Raises:
        EbjrError: settings, models, source and `out` are checked before the first batch.

    Example:
        >>> from ebjr_det import bulk_predict, load_config
        >>> result = bulk_predict(load_config("digits"), "pictures", "bulk", threshold=-0.9)
        >>> result.images, result.shards
        (4, 1)
    """
    settings = checked(settings)
    check_sides(config)
    from ebjr_det.bulk.identity import identity_of
    from ebjr_det.bulk.job import THREADS, Job, load_request
    from ebjr_det.bulk.sources import find_rows, stamp_of
    from ebjr_det.bulk.storage import Storage
    from ebjr_det.bulk.table import read_counts, shard_file

    if not source:
        raise ConfigError("Expected a source of pictures, got an empty path.")
    storage, started = Storage(out), perf_counter()
    if not storage.is_shared and (settings.workers or settings.ray):
        raise ConfigError(
            f"Expected an --out that all workers see, got `{out}`, which one process alone has."
        )
    storage.check(source)
    scoring, threshold = choose_threshold(config, threshold, rate, fronted=True)
    request = load_request(storage)
    config, threads = _as_begun(config, request), threads_of(config, request)
    config, classes = settled(config, samples_of(config))
    pair = identity_of(config, classes, scoring, threshold) | {THREADS: threads}
    rows, stamp = find_rows(source, settings.column), stamp_of(source, settings.column)
    job = Job.open(storage, pair, rows, settings.shard, stamp)
    builders = partial(_student, config, scoring, threshold, job), partial(_teacher, config, job)
    stages = stages_of(builders, config, threads)
    result = job.run(partial(run_shards, stages, settings), shard_file, read_counts)
    counts = result.pictures
    images = counts.rows - counts.unreadable
    return BulkResult(
        images, counts.unreadable, counts.deferred, counts.deferred / images if images else 0.0, scoring.name,
        finite(threshold), result.shards, result.resumed,
        perf_counter() - started, out,
    )  # fmt: skip


def _as_begun(config: Settings, request: Mapping[str, object] | None) -> Settings:
    """The settings with the runtimes that a job has chosen, where they leave them open."""
    if isinstance(config, Exported) or request is None:
        return config
    chosen = {side: request.get(f"{side}.runtime") for side in SIDES}
    sections = {side: getattr(config, side) for side in SIDES}
    return config.model_copy(
        update={
            side: section.model_copy(update={"runtime": chosen[side]})
            for side, section in sections.items()
            if section.runtime == AUTO and isinstance(chosen[side], str)
        }
    )


def threads_of(config: Settings, request: Mapping[str, object] | None) -> int:
    """Threads of a worker: as set, else as in the job that is there, else those of this process."""
    from ebjr_det.bulk.job import THREADS

    begun = (request or {}).get(THREADS)
    count = config.run.threads or (begun if isinstance(begun, int) else thread_count())
    if count == begun and count > usable_cpus():
        say(
            f"Note: the job began with {count} threads, on which last bits can hang, and goes on with them; "
            f"this process may use {usable_cpus()} CPUs."
        )
    return count if count == begun else min(count, usable_cpus())


def run_shards(stages: "Stages", settings: BulkSettings, shards: Iterator[int]) -> "Iterator[ShardCounts]":
    """The shards as the settings say."""
    if settings.ray is not None:
        os.environ |= RAY | os.environ
        from ebjr_det.bulk.on_ray import run_ray

        return run_ray(stages, shards, settings.ray)
    from ebjr_det.bulk.executors import run_here, run_processes

    if settings.workers:
        return run_processes(stages, shards, settings.workers)
    return run_here(stages, shards)


def stages_of(builders: "tuple[Callable[[], Stage], ...]", config: Settings, threads: int) -> "Stages":
    """The stages, and what each takes of its machine: on Ray also half a GPU where models use it."""
    from ebjr_det.bulk.executors import Stages

    return Stages(builders, threads, 0.5 if config.run.device.startswith("cuda") else 0.0)


def _student(config: Settings, scoring: Scoring, threshold: float, job: "Job") -> "StudentStage":
    """The student's stage, wherever it works."""
    from ebjr_det.bulk.stages import StudentStage

    live = build_live(config, scoring, threshold, samples_of(config), sides=("student",))
    run = config.run
    return StudentStage(live, Plan(run.batch_size, run.batch_size, run.workers), job.manifest)


def _teacher(config: Settings, job: "Job") -> "TeacherStage":
    """The teacher's stage, wherever it works."""
    from ebjr_det.bulk.stages import TeacherStage

    run, live = config.run, build_teacher(config, samples_of(config))
    size = run.teacher_batch or run.batch_size
    fronted = config.router.front is not None
    return TeacherStage(live, config.task, Plan(size, size, run.workers), job, fronted)


def checked(settings: BulkSettings | None) -> BulkSettings:
    """The settings. Raises ConfigError where packages of the extra, or the cluster they name, are missing."""
    settings = settings or BulkSettings()
    packages, extra = (PACKAGES, "bulk") if settings.ray is None else ((*PACKAGES, "ray"), "ray")
    check_packages(packages, extra, "for a job")
    if settings.ray is not None:
        check_cluster(settings.ray)
    return settings
