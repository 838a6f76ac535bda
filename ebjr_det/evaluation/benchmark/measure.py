"""The four scenarios of a benchmark on one sample of images: stages, single stream, offline, server."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar, TypeVarTuple

import numpy as np

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.joint import ScoreFunction
from ebjr_det.core.router import check_rate
from ebjr_det.core.types import Model, Opaque
from ebjr_det.evaluation.benchmark.machine import SCENARIOS, metered, progress
from ebjr_det.evaluation.benchmark.result import (
    DECODE,
    ROUTING,
    JouleWindows,
    OfflineQueries,
    Point,
    ServerLoad,
    StageTimes,
    UsedModel,
)
from ebjr_det.evaluation.benchmark.scenarios import (
    Calls,
    Pace,
    Subject,
    closed_loop,
    cycled,
    poisson_arrivals,
    server,
    warm_up,
)
from ebjr_det.evaluation.benchmark.subjects import StagedModel, subjects_of
from ebjr_det.io.joules import JouleCounter
from ebjr_det.io.load import Load, Meter, Stopwatch

Inputs = TypeVarTuple("Inputs")
Result = TypeVar("Result")
RATES = (0.1, 0.3, 0.5)
LOAD, BOUND, QUERIES = 0.7, 3.0, 3


@dataclass(frozen=True)
class BenchmarkSettings:
    """What to measure, and for how long.

    Attributes:
        rates: deferral rates whose thresholds the student's scores on the sample give; by default 0.1, 0.3
            and 0.5, or none beside a `threshold`.
        threshold: a point of its own.
        images: size of the seeded sample of the data.
        batch_sizes: of offline and of the stages, which are also told for batch 1; a server takes up to the
            largest.
        arrival_rate: requests a second; by default 0.7 of the pair's single stream at the middle rate.
        bound_ms: latency that is in time; by default three times the teacher's p50 in single stream.
        seconds: for each scenario and subject. One call, or a few, takes as long as it takes.

    Raises:
        ConfigError: numbers that cannot be.
    """

    rates: Sequence[float] | None = None
    threshold: float | None = None
    images: int = 64
    batch_sizes: Sequence[int] = (1, 8)
    arrival_rate: float | None = None
    bound_ms: float | None = None
    seconds: float = 10.0

    def __post_init__(self) -> None:
        for rate in self.rates or ():
            check_rate(rate)
        if self.threshold is not None and math.isnan(self.threshold):
            raise ConfigError("Expected `threshold` to be a number, got nan.")
        if self.images < 1:
            raise ConfigError(f"Expected at least 1 image, got {self.images}.")
        if not self.batch_sizes or not all(1 <= size <= 1_000_000 for size in self.batch_sizes):
            raise ConfigError(f"Expected batch sizes from 1 to 1,000,000, got {list(self.batch_sizes)}.")
        arrivals, bound = self.arrival_rate, self.bound_ms
        for name, value in (("arrival rate", arrivals), ("latency bound", bound), ("seconds", self.seconds)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"Expected `{name}` to be a number above 0, got {value:g}.")

    @property
    def shares(self) -> tuple[float, ...]:
        """The deferral rates, each once."""
        rates = RATES if self.rates is None and self.threshold is None else self.rates
        return tuple(dict.fromkeys(rates or ()))

    @property
    def sizes(self) -> list[int]:
        """The batch sizes from small to large, each once."""
        return sorted(set(self.batch_sizes))


class Scenarios(NamedTuple):
    """What was measured in each scenario, and the load of other processes beside it."""

    single: dict[str, Calls]
    offline: tuple[OfflineQueries, ...]
    server: ServerLoad
    stages: tuple[StageTimes, ...]
    beside: dict[str, Load]
    joules: tuple[JouleWindows, ...]


@dataclass(frozen=True)
class Measurement:
    """The models, the points of the pair, and the images, by index in the data and as pictures.

    Attributes:
        joules: the device's counter, where it has one.
    """

    models: Mapping[str, Model]
    used: Mapping[str, UsedModel]
    score: ScoreFunction
    points: Mapping[str, Point]
    load: Callable[[int], Opaque]
    indices: Sequence[int]
    pictures: Sequence[Opaque]
    settings: BenchmarkSettings
    joules: JouleCounter | None = None

    def run(self, seed: int) -> Scenarios:
        """All scenarios one after the other, on a bar with the time left."""
        beside, meter = dict[str, Load](), Meter()
        subjects, scenarios = len(self.points) + len(self.models), SCENARIOS + (self.joules is not None)
        with progress(self.settings.seconds, subjects, scenarios) as (begin, pace):

            def measured(name: str, scenario: Callable[[Pace, *Inputs], Result], *inputs: *Inputs) -> Result:
                begin(name)
                result = scenario(pace, *inputs)
                beside[name] = meter.lap()
                return result

            stages = measured("stages", self.stages)
            single = measured("single stream", self.single_stream)
            offline = measured("offline", self.offline, single)
            server = measured("server", self.serve, single, seed)
            joules = () if self.joules is None else measured("joules", self.meter, self.joules)
        return Scenarios(single, offline, server, stages, beside, joules)

    def subjects(self, batch_size: int) -> list[Subject]:
        """Student, teacher and the pair at its points."""
        return subjects_of(self.models, self.score, self.points, batch_size)

    def stages(self, pace: Pace) -> tuple[StageTimes, ...]:
        """Every stage of every subject at every batch size and at batch 1."""
        sizes = sorted({1, *self.settings.sizes})
        pace = replace(pace, seconds=pace.seconds / len(sizes))
        return tuple(self._stages(size, pace) for size in sizes)

    def _stages(self, size: int, pace: Pace) -> StageTimes:
        """Pictures are loaded anew for each call."""
        watch = Stopwatch()
        timed = {side: StagedModel(model, side, watch) for side, model in self.models.items()}
        subjects = replace(self, models=timed).subjects(size)
        ms: dict[str, dict[str, list[float]]] = {subject.name: {} for subject in subjects}
        warm_up(subjects, cycled(self.pictures, 0, size), pace.warmup)
        for index in pace.rounds(len(subjects)):
            watch.read()
            batch = cycled(self.indices, index * size, size)
            pictures = [watch.time(DECODE, self.load, picture) for picture in batch]
            decoding = watch.read()
            for subject in cycled(subjects, index, len(subjects)):
                call = Stopwatch()
                call.time(subject.name, subject.call, pictures)
                seconds = watch.read()
                if subject.name in self.points:  # what the stages of its models leave of the whole call
                    seconds[ROUTING] = call.seconds[subject.name] - sum(seconds.values())
                columns = ms[subject.name]
                for stage in {*columns, *seconds, *decoding}:  # the teacher's are 0 where nothing is deferred
                    column = columns.setdefault(stage, [0.0] * index)
                    column.append(1e3 * (seconds | decoding).get(stage, 0.0))
        return StageTimes(
            size,
            {
                name: {stage: tuple(column) for stage, column in columns.items()}
                for name, columns in ms.items()
            },
        )

    def single_stream(self, pace: Pace) -> dict[str, Calls]:
        """One image after the other."""
        return closed_loop(self.subjects(1), self.pictures, 1, pace)

    def offline(self, pace: Pace, single: Mapping[str, Calls]) -> tuple[OfflineQueries, ...]:
        """Queries of whole batches: the sample, or as much of it as leaves time for a few queries."""
        seconds = pace.seconds / len(self.settings.sizes)
        slowest = max(calls.mean for calls in single.values()) / 1e3
        pace, results = replace(pace, seconds=seconds, warmup=1), []
        for size in self.settings.sizes:
            batches = min(math.ceil(len(self.pictures) / size), int(seconds / QUERIES / (slowest * size) + 1))
            calls = closed_loop(self.subjects(size), self.pictures, size * batches, pace)
            results.append(OfflineQueries(size, calls))
        return tuple(results)

    def meter(self, pace: Pace, joules: JouleCounter) -> tuple[JouleWindows, ...]:
        """What an image takes at batch 1 and at the largest."""
        sizes = sorted({1, self.settings.sizes[-1]})
        pace = replace(pace, seconds=pace.seconds / len(sizes))
        return tuple(
            JouleWindows(size, metered(self.subjects(size), self.pictures, size, joules, pace))
            for size in sizes
        )

    def serve(self, pace: Pace, single: Mapping[str, Calls], seed: int) -> ServerLoad:
        """Requests at random times, at a rate that the pair can follow where none is set."""
        rate, bound, size = self.settings.arrival_rate, self.settings.bound_ms, self.settings.sizes[-1]
        pairs = sorted((single[name] for name in self.points), key=lambda calls: calls.deferral_rate)
        load = LOAD * pairs[(len(pairs) - 1) // 2].throughput if rate is None else rate
        bound_ms = BOUND * float(np.median(single["teacher"].per_image)) if bound is None else bound
        arrivals = poisson_arrivals(load, pace.seconds, seed, pace.least)
        requests = server(self.subjects(size), self.pictures, arrivals, size, pace)
        times = tuple(arrivals.tolist())
        return ServerLoad(load, rate is not None, bound_ms, bound is not None, size, times, requests)
