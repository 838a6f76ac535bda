"""Latency measured: several callables side by side on the same batches, and the load beside them."""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from ebjr_det.core.cost import Latency
from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.load import Meter, Reading, read_cpus


def measure_latency(
    calls: dict[str, Callable[[Any], Any]],
    batches: Iterable[Any],
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
    meter = Meter(read)
    for index, batch in enumerate(batches):
        turn = index % len(calls)
        for name, call in [*calls.items()][turn:] + [*calls.items()][:turn]:
            for _ in range(warmup if index == 0 else 0):
                call(batch)
            start = perf_counter()
            call(batch)
            times[name].append((perf_counter() - start) * 1e3)
    if not all(times.values()):
        raise InvalidInput("Expected at least one batch to time, got none.")
    load = meter.lap()
    return {name: Latency.of(ms, batch_size, device, load) for name, ms in times.items()}
