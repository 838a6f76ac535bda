"""`bulk`: the pair on any number of pictures, by shards that go on after whatever ended them."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from time import perf_counter
from typing import TYPE_CHECKING

from ebjr_det.api.evaluate import evaluate_by
from ebjr_det.api.load import samples_of
from ebjr_det.api.report import Result
from ebjr_det.config import EvaluateConfig, identity
from ebjr_det.config.tiers import inner_pair
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.run_folder import CONFIG, SHARDS
from ebjr_det.inference.absent import SIDES
from ebjr_det.inference.exported import Exported
from ebjr_det.inference.in_memory import NO_OBJECTS, told_apart
from ebjr_det.inference.live import Settings, build_live, build_teacher, choose_threshold, settled
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.io.clusters import RAY, check_cluster
from ebjr_det.io.records import PartStore
from ebjr_det.io.third_party import install_hint
from ebjr_det.io.threads import on_threads, thread_count
from ebjr_det.runtimes.choose import AUTO

if TYPE_CHECKING:
    from ebjr_det.bulk.executors import Stage, Stages
    from ebjr_det.bulk.job import Job
    from ebjr_det.bulk.records import RecordStage
    from ebjr_det.bulk.stages import StudentStage, TeacherStage
    from ebjr_det.bulk.table import ShardCounts
    from ebjr_det.inference.pair import Pair

PACKAGES = ("fsspec", "pyarrow")


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
            if getattr(self, name) < least:
                raise ConfigError(f"Expected `{name}` to be at least {least}, got {getattr(self, name)}.")
        if self.workers and self.ray is not None:
            raise ConfigError("Expected either workers or Ray, got both.")


@dataclass(frozen=True)
class BulkResult:
    """How many pictures a job has, and who answered; its fields are the keys of the JSON.

    Attributes:
        images: answered pictures; `unreadable`: rows with an error; `deferred`: answered by the teacher.
        shards: files of the job; `resumed`: those of them that were there before.
        threshold: None where it is infinite.
        seconds: of this call, with building the models.
    """

    images: int
    unreadable: int
    deferred: int
    deferral_rate: float
    score: str
    threshold: float | None
    shards: int
    resumed: int
    seconds: float
    out: str

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


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
    settings = _checked(settings)
    from ebjr_det.bulk.identity import identity_of
    from ebjr_det.bulk.job import Job, load_request
    from ebjr_det.bulk.sources import find_rows, stamp_of
    from ebjr_det.bulk.storage import Storage
    from ebjr_det.bulk.table import read_counts, shard_file

    storage, started = Storage(out), perf_counter()
    if not storage.is_shared and (settings.workers or settings.ray):
        raise ConfigError(
            f"Expected an --out that all workers see, got `{out}`, which one process alone has."
        )
    storage.check(source)
    scoring, threshold = choose_threshold(config, threshold, rate)
    config = _as_begun(config, load_request(storage))
    config, classes = settled(config, samples_of(config))
    pair = identity_of(config, classes, scoring, threshold)
    rows, stamp = find_rows(source, settings.column), stamp_of(source, settings.column)
    job = Job.open(storage, pair, rows, settings.shard, stamp)
    builders = partial(_student, config, scoring, threshold, job), partial(_teacher, config, job)
    stages = _stages(builders, config)
    result = job.run(partial(_run, stages, settings), shard_file, read_counts)
    counts = result.pictures
    images = counts.rows - counts.unreadable
    return BulkResult(
        images, counts.unreadable, counts.deferred, counts.deferred / images if images else 0.0, scoring.name,
        threshold if math.isfinite(threshold) else None, result.shards, result.resumed,
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


def _run(stages: "Stages", settings: BulkSettings, shards: Iterator[int]) -> "Iterator[ShardCounts]":
    """The shards as the settings say."""
    if settings.ray is not None:
        os.environ |= RAY | os.environ
        from ebjr_det.bulk.on_ray import run_ray

        return run_ray(stages, shards, settings.ray)
    from ebjr_det.bulk.executors import run_here, run_processes

    if settings.workers:
        return run_processes(stages, shards, settings.workers)
    return run_here(stages, shards)


def _stages(builders: "tuple[Callable[[], Stage], ...]", config: Settings) -> "Stages":
    """The stages, and what each takes of its machine: on Ray also half a GPU where models use it."""
    from ebjr_det.bulk.executors import Stages

    threads = config.run.threads or thread_count()
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
    return TeacherStage(live, config.task, Plan(size, size, run.workers), job.manifest, job.sha256)


def bulk_evaluate(
    config: EvaluateConfig | Mapping[str, object], out: str | Path, settings: BulkSettings | None = None
) -> Result:
    """Run a pair on labelled images as `evaluate` does, by shards that several processes or Ray work on.

    Both models see every image once; the records of a shard are one file, whole or not there, in
    `out/shards`, and are joined to the very `run.npz` of `evaluate`, so that every report works on it. The
    same call goes on after whatever ended it.

    Args:
        config: as that of `evaluate`, without objects in memory.
        out: the folder of the run, which all workers see.
        settings: `shard` must be a multiple of `run.batch_size`.

    Raises:
        EbjrError: as `evaluate`; also a shard that would cut a batch.

    Example:
        >>> from ebjr_det import bulk_evaluate, load_config
        >>> bulk_evaluate(load_config("digits"), "runs/bulk").summary["images"]  # doctest: +SKIP
        360
    """
    settings, folder = _checked(settings), Path(out)
    section, objects = told_apart(config)
    if objects != NO_OBJECTS:
        raise ConfigError("Expected models and data by name, which every worker can make, got objects.")
    if inner_pair(section) is not None:
        raise ConfigError("Expected two models for `bulk evaluate`, got tiers. Use `evaluate`.")
    if settings.shard % section.run.batch_size:
        raise ConfigError(
            f"Expected `shard` to be a multiple of `run.batch_size`, {section.run.batch_size}, got "
            f"{settings.shard}: another cut of batches has other last bits."
        )
    resume = (folder / CONFIG).is_file()
    result = evaluate_by(section, objects, folder, partial(_record, settings, folder / SHARDS), resume)
    rmtree(folder / SHARDS, ignore_errors=True)
    return result


def _record(
    settings: BulkSettings, folder: Path, pair: "Pair", scoring: Scoring, parts: PartStore
) -> PairedRun:
    """The records of all images by shards, joined; `parts` stays empty."""
    from ebjr_det.bulk.job import Job
    from ebjr_det.bulk.manifest import Row
    from ebjr_det.bulk.records import joined, read_counts, record_file
    from ebjr_det.bulk.storage import Storage
    from ebjr_det.inference.pair import with_device

    config = with_device(pair.config, pair.device)
    rows = map(Row, pair.data.image_ids)
    job = Job.open(Storage(str(folder)), identity(config), rows, settings.shard)
    build = partial(_recording, config, scoring, job)
    stages = _stages((build,), config)
    job.run(partial(_run, stages, settings), record_file, read_counts)
    return joined(job.manifest)


def _recording(config: EvaluateConfig, scoring: Scoring, job: "Job") -> "RecordStage":
    """The stage in which both models see images, wherever they work."""
    from ebjr_det.bulk.records import RecordStage
    from ebjr_det.inference.pair import Pair

    pair = Pair.build(config)
    return RecordStage(replace(pair, student=scoring.adapted(pair.student)), scoring.scores, job.manifest)


def _checked(settings: BulkSettings | None) -> BulkSettings:
    """The settings. Raises ConfigError where packages of the extra, or the cluster they name, are missing."""
    settings = settings or BulkSettings()
    packages, extra = (PACKAGES, "bulk") if settings.ray is None else ((*PACKAGES, "ray"), "ray")
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ConfigError(
            f"Expected {', '.join(packages)} for a job, got no {' and '.join(missing)}. Install them: "
            f"{install_hint(extra)}."
        )
    if settings.ray is not None:
        check_cluster(settings.ray)
    return settings
