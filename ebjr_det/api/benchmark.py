"""`benchmark`: how fast student, teacher and the pair are on this machine, after MLPerf's scenarios."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from ebjr_det.config import EvaluateConfig
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.joint import ScoreFunction
from ebjr_det.core.router import check_rate
from ebjr_det.core.types import Model
from ebjr_det.evaluation.benchmark.machine import gpu_state, progress
from ebjr_det.evaluation.benchmark.result import (
    RESULT,
    SIDES,
    Benchmark,
    Machine,
    Offline,
    Point,
    Served,
    Staged,
    Used,
)
from ebjr_det.evaluation.benchmark.scenarios import (
    Calls,
    Pace,
    Subject,
    closed_loop,
    poisson_arrivals,
    server,
    taken,
    turned,
)
from ebjr_det.evaluation.benchmark.subjects import (
    DECODE,
    ROUTING,
    Watch,
    Watched,
    halves,
    points_at,
    sample_of,
    scores_of,
    subjects_of,
)
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import check_answers, weights_of
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import check_writable, writable_folder, write_text
from ebjr_det.io.load import Meter
from ebjr_det.io.threads import on_threads
from ebjr_det.reporting.benchmark.against import Against, check_subjects

RATES, BATCH_SIZES = (0.1, 0.3, 0.5), (1, 8)
LOAD, BOUND, QUERIES = 0.7, 3.0, 3


class Measured(NamedTuple):
    """What was measured, its numbers, how it compares with an earlier one, and where it was written."""

    result: Benchmark
    summary: dict[str, Any]
    against: Against | None
    folder: Path


@on_threads("run")
def benchmark(
    config: EvaluateConfig,
    out: str | Path,
    *,
    rates: Sequence[float] | None = None,
    threshold: float | None = None,
    known_threshold: float | None = None,
    images: int = 64,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    arrival_rate: float | None = None,
    bound_ms: float | None = None,
    seconds: float = 10.0,
    against: str | Path | None = None,
) -> Measured:
    """Time student, teacher and the pair side by side on a seeded sample of the data; judge no answer.

    Four scenarios: the stages of an image, single stream, offline and server (see `scenarios`). Writes
    `benchmark.json` with every call, `benchmark.md`, `.png` and `.svg` to `out`.

    Args:
        rates: deferral rates whose thresholds the student's scores on the sample give; by default 0.1, 0.3
            and 0.5, or none beside a `threshold`.
        threshold: a point of its own; `known_threshold`: of a finished run, one more point where it is not
            given, as is that of the configuration.
        batch_sizes: of offline and of the stages, which are also told for batch 1; a server takes up to the
            largest.
        arrival_rate: requests a second; by default 0.7 of the pair's single stream at the middle rate.
        bound_ms: latency that is in time; by default three times the teacher's p50 in single stream.
        seconds: for each scenario and subject. One call, or a few, takes as long as it takes.
        against: an earlier `benchmark.json` of the same subjects, or its folder.

    Raises:
        ConfigError: numbers that cannot be. InvalidInput: nowhere to write, or no such earlier benchmark.
    """
    from ebjr_det.inference.pair import Pair

    load = os.getloadavg()
    shares = RATES if rates is None and threshold is None else tuple(dict.fromkeys(rates or ()))
    _check(shares, threshold, images, batch_sizes, arrival_rate, bound_ms, seconds)
    sizes = tuple(sorted(set(batch_sizes)))
    earlier = None if against is None else Benchmark.load(Path(against))
    scoring = Scoring.load(config.task, config.router, live=True)
    folder = Path(out)
    check_writable(folder)
    pair = Pair.build(config.model_copy(update={"router": scoring.section}))
    told = () if pair.popular is None else pair.popular.names
    weights = weights_of(pair.student)
    scoring = scoring.bind(pair.data.class_names, told, pair.student.name, weights)
    check_answers(scoring, partial(pair.first_answers, pair.student), weights)
    models = {"student": scoring.adapted(pair.student), "teacher": pair.teacher}
    places, pictures = sample_of(pair.data, images, config.run.seed)
    scores = scores_of(models["student"], scoring.score, pictures, sizes[-1])
    known = scoring.section.threshold if known_threshold is None else known_threshold
    points = points_at(scores, shares, known if threshold is None else threshold)
    if not points:
        raise ConfigError("Expected at least one deferral rate or a threshold, got none.")
    used = {
        side: Used(
            model.name, getattr(getattr(pair.config, side), "runtime", "eager"), halves(model) is not None
        )
        for side, model in models.items()
    }
    if earlier is not None:
        check_subjects(earlier, used, points)
    task = _Task(models, scoring.score, points, pair.data.load, places, pictures, sizes)
    gpu = gpu_state(pair.device)
    meter, beside = Meter(), {}
    with progress(seconds, len(points) + len(SIDES)) as (begin, pace):
        begin("stages")
        lots = sorted({1, *sizes})
        stages = tuple(_stages(task, size, _part(pace, lots)) for size in lots)
        beside["stages"] = meter.lap()
        begin("single stream")
        single = closed_loop(task.subjects(1), pictures, 1, pace)
        beside["single stream"] = meter.lap()
        begin("offline")
        offline = tuple(_offline(task, size, _part(pace, sizes), single) for size in sizes)
        beside["offline"] = meter.lap()
        begin("server")
        served = _served(task, pace, single, arrival_rate, bound_ms, config.run.seed)
        beside["server"] = meter.lap()
    environment = describe_environment(pair.device, config.run.seed)
    result = Benchmark(
        title=config.title or f"{pair.student.name} + {pair.teacher.name}",
        score=scoring.name,
        models=used,
        points=points,
        image_ids=tuple(pair.data.image_ids[place] for place in places),
        seed=config.run.seed,
        seconds=seconds,
        single=single,
        offline=offline,
        server=served,
        stages=stages,
        machine=Machine(environment["cpus"], (load, os.getloadavg()), (gpu, gpu_state(pair.device)), beside),
        environment=environment,
        config=pair.config.model_dump(mode="json"),
    )
    return _write(result, None if earlier is None else Against.of(result, earlier), folder)


def _write(result: Benchmark, against: Against | None, folder: Path) -> Measured:
    from ebjr_det.reporting.benchmark.figures import write_benchmark_figure
    from ebjr_det.reporting.benchmark.tables import markdown

    writable_folder(folder)
    summary = result.summary()
    summary |= {"against": None if against is None else against.to_dict(), "out": str(folder)}
    write_text(folder / "benchmark.md", markdown(result, summary, against))
    write_benchmark_figure(folder / "benchmark", result)
    write_text(folder / RESULT, result.to_json(summary))
    return Measured(result, summary, against, folder)


@dataclass(frozen=True)
class _Task:
    """The models, the points of the pair, and the images, by place and as pictures."""

    models: Mapping[str, Model]
    score: ScoreFunction
    points: Mapping[str, Point]
    load: Callable[[int], Any]
    places: Sequence[int]
    pictures: Sequence[Any]
    sizes: Sequence[int]

    def subjects(self, batch_size: int) -> list[Subject]:
        return subjects_of(self.models, self.score, self.points, batch_size)


def _stages(task: _Task, size: int, pace: Pace) -> Staged:
    """Every stage of every subject, on pictures that are loaded for each call."""
    watch = Watch()
    watched = {side: Watched(model, side, watch) for side, model in task.models.items()}
    subjects = replace(task, models=watched).subjects(size)
    ms: dict[str, dict[str, list[float]]] = {subject.name: {} for subject in subjects}
    for subject in subjects:
        for _ in range(pace.warmup):
            subject.call(taken(task.pictures, 0, size))
    for index in pace.rounds(len(subjects)):
        watch.read()
        pictures = [watch.time(DECODE, task.load, place) for place in taken(task.places, index * size, size)]
        decoding = watch.read()
        for subject in turned(subjects, index):
            start = perf_counter()
            subject.call(pictures)
            whole, laps = perf_counter() - start, watch.read()
            if subject.name in task.points:
                laps[ROUTING] = whole - sum(laps.values())
            columns = ms[subject.name]
            for stage in {*columns, *laps, *decoding}:  # the teacher's are 0 where nothing is deferred
                column = columns.setdefault(stage, [0.0] * index)
                column.append(1e3 * (laps | decoding).get(stage, 0.0))
    return Staged(size, {name: {k: tuple(v) for k, v in own.items()} for name, own in ms.items()})


def _part(pace: Pace, lots: Sequence[Any]) -> Pace:
    """The pace of one of several lots that share a scenario's time."""
    return replace(pace, seconds=pace.seconds / len(lots))


def _offline(task: _Task, size: int, pace: Pace, single: Mapping[str, Calls]) -> Offline:
    """Queries of whole batches: the sample, or as much of it as leaves time for a few queries."""
    slowest = max(calls.mean for calls in single.values()) / 1e3
    most = min(math.ceil(len(task.pictures) / size), int(pace.seconds / QUERIES / (slowest * size) + 1))
    return Offline(
        size, closed_loop(task.subjects(size), task.pictures, size * most, replace(pace, warmup=1))
    )


def _served(
    task: _Task,
    pace: Pace,
    single: Mapping[str, Calls],
    rate: float | None,
    bound_ms: float | None,
    seed: int,
) -> Served:
    joints = sorted((single[name] for name in task.points), key=lambda calls: calls.deferral_rate)
    load = LOAD * joints[(len(joints) - 1) // 2].throughput if rate is None else rate
    bound = BOUND * float(np.median(single["teacher"].per_image)) if bound_ms is None else bound_ms
    arrivals = poisson_arrivals(load, pace.seconds, seed, pace.least)
    size = task.sizes[-1]
    requests = server(task.subjects(size), task.pictures, arrivals, size, pace)
    return Served(
        load, rate is not None, bound, bound_ms is not None, size, tuple(arrivals.tolist()), requests
    )


def _check(
    rates: Sequence[float],
    threshold: float | None,
    images: int,
    batch_sizes: Sequence[int],
    arrival_rate: float | None,
    bound_ms: float | None,
    seconds: float,
) -> None:
    for rate in rates:
        check_rate(rate)
    if threshold is not None and math.isnan(threshold):
        raise ConfigError("Expected `threshold` to be a number, got nan.")
    if images < 1:
        raise ConfigError(f"Expected at least 1 image, got {images}.")
    if not batch_sizes or not all(1 <= size <= 1_000_000 for size in batch_sizes):
        raise ConfigError(f"Expected batch sizes from 1 to 1,000,000, got {list(batch_sizes)}.")
    named = {"arrival rate": arrival_rate, "latency bound": bound_ms, "seconds": seconds}
    for name, value in named.items():
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"Expected `{name}` to be a number above 0, got {value:g}.")
