"""`bulk evaluate`: the run of `evaluate`, by shards that go on after whatever ended them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, TypeVar

from ebjr_det.api.bulk import BulkSettings, checked, run_shards, stages_of, threads_of
from ebjr_det.api.evaluate import evaluate_by
from ebjr_det.api.evaluate_tiers import choosing_fraction, evaluate_tiers
from ebjr_det.api.report import Result
from ebjr_det.api.tiers import TieredResult
from ebjr_det.config import EvaluateConfig, identity
from ebjr_det.config.tiers import inner_pair
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.tiers import TieredRun
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.run_folder import CONFIG, SHARDS
from ebjr_det.inference.in_memory import NO_OBJECTS, told_apart
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.records import Part, Parts, PartStore, TierStore

if TYPE_CHECKING:
    from ebjr_det.bulk.job import Job
    from ebjr_det.bulk.records import RecordStage
    from ebjr_det.inference.pair import Pair
    from ebjr_det.inference.tiered import Tiers

Scored = TypeVar("Scored", Scoring, Sequence[Scoring])


def bulk_evaluate(
    config: EvaluateConfig | Mapping[str, object], out: str | Path, settings: BulkSettings | None = None
) -> Result | TieredResult:
    """Run a pair, or tiers, on labelled images as `evaluate` does, by shards that processes or Ray work on.

    All models see every image once; the records of a shard are one file, whole or not there, in
    `out/shards`, and are joined to the very `run.npz`, or `tiers.npz`, of `evaluate`, so that every report
    works on it. The same call goes on after whatever ended it.

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
    settings, folder = checked(settings), Path(out)
    if "://" in str(out) or not str(out):
        raise ConfigError(f"Expected the path of a run folder, which reports read as files, got `{out}`.")
    section, objects = told_apart(config)
    if objects != NO_OBJECTS:
        raise ConfigError("Expected models and data by name, which every worker can make, got objects.")
    if settings.shard % section.run.batch_size:
        raise ConfigError(
            f"Expected `shard` to be a multiple of `run.batch_size`, {section.run.batch_size}, got "
            f"{settings.shard}: another cut of batches has other last bits."
        )
    resume = (folder / CONFIG).is_file()
    result: Result | TieredResult
    if inner_pair(section) is None:
        record_pair = partial(_record, _recording, settings, folder / SHARDS)
        result = evaluate_by(section, objects, folder, record_pair, resume)
    else:
        record_tiers = partial(_record, _recording_tiers, settings, folder / SHARDS)
        result = evaluate_tiers(section, objects, folder, resume, record_tiers)
    from ebjr_det.bulk.job import JOB

    if (folder / SHARDS / JOB).is_file():  # else a folder of that name is somebody's own
        rmtree(folder / SHARDS, ignore_errors=True)
    return result


def _record(
    build: "Callable[[EvaluateConfig, Scored, Job], RecordStage[Part]]",
    settings: BulkSettings,
    folder: Path,
    models: "Pair | Tiers",
    scorings: "Scored",
    parts: Parts[Part],
) -> Part:
    """The records of all images by shards, joined; `parts` stays empty."""
    from ebjr_det.bulk.job import THREADS, Job, load_request
    from ebjr_det.bulk.manifest import Row
    from ebjr_det.bulk.records import joined, read_counts, record_file
    from ebjr_det.bulk.storage import Storage
    from ebjr_det.inference.pair import with_device

    config = with_device(models.config, models.device)
    storage, rows = Storage(str(folder)), map(Row, models.data.image_ids)
    threads = threads_of(config, load_request(storage))
    job = Job.open(storage, identity(config) | {THREADS: threads}, rows, settings.shard)
    stages = stages_of((partial(build, config, scorings, job),), config, threads)
    job.run(partial(run_shards, stages, settings), record_file, partial(read_counts, type(parts)))
    return joined(type(parts), job)


def _recording(config: EvaluateConfig, scoring: Scoring, job: "Job") -> "RecordStage[PairedRun]":
    """The stage in which a pair sees images, wherever it works."""
    from ebjr_det.bulk.records import RecordStage
    from ebjr_det.inference.pair import Pair

    pair = Pair.build(config)
    pair = replace(pair, student=scoring.adapted(pair.student))
    return RecordStage(pair.recorder(scoring.scores), pair.batches, PartStore, job)


def _recording_tiers(
    config: EvaluateConfig, scorings: Sequence[Scoring], job: "Job"
) -> "RecordStage[TieredRun]":
    """The stage in which all tiers see images, wherever they work."""
    from ebjr_det.bulk.records import RecordStage
    from ebjr_det.inference.tiered import Tiers

    tiers = Tiers.build(config, NO_OBJECTS, choosing_fraction(config)).adapted(scorings)
    return RecordStage(tiers.recorder(scorings), tiers.batches, TierStore, job)
