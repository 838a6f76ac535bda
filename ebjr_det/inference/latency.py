"""Latency measured: several callables side by side on the same batches, and the load beside them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import RouterDecision
from ebjr_det.core.types import Model, Opaque, Output
from ebjr_det.io.load import Load, Meter, Reading, Stopwatch, read_cpus


@dataclass(frozen=True)
class Latency:
    """Wall time per image in ms over batches of one size; the mean is what adds up in a mixture."""

    mean: float
    p50: float
    p90: float
    p99: float
    batch_size: int
    images: int
    device: str
    load: Load | None = None

    @classmethod
    def of(
        cls, batch_ms: Sequence[float], batch_size: int, device: str, load: Load | None = None
    ) -> "Latency":
        """Summary of measured batch times, each divided by the batch size."""
        per_image = np.asarray(batch_ms) / batch_size
        p50, p90, p99 = (float(q) for q in np.percentile(per_image, [50, 90, 99]))
        mean = float(per_image.mean())
        return cls(mean, p50, p90, p99, batch_size, batch_size * len(per_image), device, load)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self) | {"load": None if self.load is None else self.load.to_dict()}


def measure_latency(
    calls: Mapping[str, Callable[[Sequence[Opaque]], object]],
    batches: Iterable[Sequence[Opaque]],
    *,
    batch_size: int,
    device: str,
    warmup: int = 3,
    read: Callable[[], Reading] = read_cpus,
) -> dict[str, Latency]:
    """Time several callables side by side on the same batches.

    Every batch goes through each callable before the next batch, each time another one first, so that
    what changes the machine's speed changes it for all. A callable must return only when its answer is there
    (see `types.Model`).

    Args:
        calls: what to time, by name.
        batches: inputs of one call, each of `batch_size` images.
        warmup: untimed calls before the first timed one, on the first batch.
        read: tells how busy the CPUs are; the load beside all these calls stands in every latency.

    Raises:
        InvalidInput: no batches.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    meter, watch = Meter(read), Stopwatch()
    for index, batch in enumerate(batches):
        turn = index % len(calls)
        for name, call in [*calls.items()][turn:] + [*calls.items()][:turn]:
            for _ in range(warmup if index == 0 else 0):
                call(batch)
            watch.time(name, call, batch)
            times[name].append(watch.read()[name] * 1e3)
    if not all(times.values()):
        raise InvalidInput("Expected at least one batch to time, got none.")
    load = meter.lap()
    return {name: Latency.of(ms, batch_size, device, load) for name, ms in times.items()}


def measure_decision(score: Callable[[Output], object], outputs: Sequence[Output]) -> float:
    """Milliseconds that a router takes for one picture, half of them less.

    Args:
        outputs: a student's answers, to one picture each.
    """
    times = measure_latency({"": lambda batch: score(batch[0])}, zip(outputs), batch_size=1, device="cpu")
    return times[""].p50


def with_latency(
    cost: CostModel, times: Mapping[str, Latency], by_batch: Mapping[int, tuple[float, float]] | None = None
) -> CostModel:
    """The costs with the measured latencies of `student` and `teacher`, where there are any.

    Args:
        by_batch: those of further batch sizes.
    """
    if not times:
        return cost
    student, teacher = times["student"], times["teacher"]
    sizes = {**(by_batch or {}), student.batch_size: (student.mean, teacher.mean)}
    return replace(
        cost, student_ms=student.mean, teacher_ms=teacher.mean, by_batch=dict(sorted(sizes.items()))
    )


def stratified(decision: RouterDecision, count: int, generator: np.random.Generator) -> list[int]:
    """`count` images, deferred ones in the share of `decision`, in random order, repeated if too few."""
    deferred = np.flatnonzero(decision.defer)
    answered = np.flatnonzero(~decision.defer)
    number_deferred = round(count * decision.deferral_rate)
    parts = [
        np.resize(generator.permutation(group), number)
        for group, number in ((deferred, number_deferred), (answered, count - number_deferred))
        if len(group)
    ]
    return [int(index) for index in generator.permutation(np.concatenate(parts))]


class TimedModel:
    """A model that keeps the time of its preprocessing and inference, and counts its images.

    Args:
        stage: the name under which both go to the watch.
    """

    def __init__(self, model: Model, watch: Stopwatch, stage: str) -> None:
        self.model, self.name, self.watch, self.stage, self.images = model, model.name, watch, stage, 0
        if (at_score := getattr(model, "preprocess_at", None)) is not None:
            self.preprocess_at = partial(watch.time, stage, at_score)

    def preprocess(self, image: Opaque) -> Opaque:
        """An input of the model."""
        return self.watch.time(self.stage, self.model.preprocess, image)

    def __call__(self, inputs: Sequence[Opaque]) -> Output:
        """The model's answers to a batch."""
        self.images += len(inputs)
        return self.watch.time(self.stage, self.model, inputs)
