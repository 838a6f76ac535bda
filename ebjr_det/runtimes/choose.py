"""Which runtime is fastest here, and does it say what torch says?

Drift of an output: the root mean square of its difference from eager torch, over the standard deviation of
eager's output, on sample images; of a network: the largest of its outputs. bfloat16 moves trained networks by
about 0.01, float32 by less than 0.001; a network that is wrong moves by about 1.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.core.errors import EbjrError
from ebjr_det.io.load import Meter, Stopwatch
from ebjr_det.runtimes.registry import RUNTIMES, Network, build_network, check_runtime, host, installed

AUTO, EAGER = "auto", "eager"
TOLERANCE = 0.02
LEAST, MOST, ENOUGH_SECONDS = 3, 50, 5.0
"""Rounds that are timed."""


@dataclass(frozen=True)
class Trial:
    """One runtime tried: median ms an image at batch size 1, drift from eager, and what speaks against it."""

    name: str
    ms: float | None
    drift: float | None
    against: str = ""

    def __str__(self) -> str:
        if self.ms is None:
            return f"{self.name} ({self.against})"
        drift = "" if self.name == EAGER else f", drift {self.drift:.1e}"
        return f"{self.name} {self.ms:.3g} ms{drift}" + (f" ({self.against})" if self.against else "")


def drift(outputs: Sequence[Sequence[Any]], reference: Sequence[Sequence[Any]]) -> float:
    """How far outputs lie from eager's, by the definition above; infinite where they are not finite.

    Args:
        outputs, reference: columns of a network on the same images.
    """
    return max(_drift(*columns) for columns in zip(outputs, reference, strict=True))


def _drift(found: Sequence[Any], wanted: Sequence[Any]) -> float:
    ours, theirs = (np.concatenate([host(own).ravel() for own in column]) for column in (found, wanted))
    with np.errstate(invalid="ignore", over="ignore"):
        spread = float(theirs.std(dtype=np.float64)) or 1.0
        distance = float(np.sqrt(np.mean(np.square(ours - theirs, dtype=np.float64))))
    return distance / spread if np.isfinite(distance) else float("inf")


def _copied(columns: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Outputs that outlive the next call."""
    return [[np.array(host(own)) for own in column] for column in columns]


def choose_runtime(
    name: str, graph: Any, samples: Any, device: str, *, who: str, tolerance: float = TOLERANCE
) -> tuple[str, Network]:
    """The network made ready by the named runtime, or with `auto` by the fastest that agrees with eager.

    What was tried is told on stderr: times, drifts, and why a runtime was left out. A runtime that was named
    is taken even where it drifts, with a warning.

    Args:
        graph: see `build_network`; samples: a batch of preprocessed images to try it on.
        who: the model's name, for messages.

    Raises:
        ConfigError: see `build_network`; InvalidInput: a cache that cannot be written to.
    """
    if name != AUTO:
        check_runtime(name, device)
    eager = build_network(EAGER, graph, samples, device)
    if name == EAGER:
        return name, eager
    ones = [samples[at : at + 1] for at in range(len(samples))]
    wanted = _reference(eager, ones)
    if name != AUTO:
        network = build_network(name, graph, samples, device)
        moved = drift(_reference(network, ones), wanted)
        if moved > tolerance:
            _say(
                f"Warning: runtime `{name}` moves the outputs of `{who}` by {moved:.2g} of their spread, "
                f"more than {tolerance:g}. Choose its threshold on a run with it, or another runtime."
            )
        return name, network
    tried = [
        _try(runtime.name, eager, graph, samples, ones, wanted, device, tolerance)
        for runtime in RUNTIMES.values()
        if device.split(":")[0] in runtime.devices and installed(runtime)
    ]
    meter = Meter()
    times = _measure_ms({trial.name: network for trial, network in tried if network is not None}, ones)
    trials = [replace(trial, ms=times.get(trial.name)) for trial, _ in tried]
    load = meter.lap()
    best = min((trial for trial in trials if not trial.against), key=lambda trial: trial.ms or 0)
    told = "; ".join(map(str, trials)) + f", tried {load.in_words}" * load.noisy
    _say(f"{who}: runtime {best.name}, of {told}.")
    return best.name, next(network for trial, network in tried if trial.name == best.name and network)


def _try(
    name: str, eager: Network, graph: Any, samples: Any, ones: Sequence[Any], wanted: Any, device: str,
    tolerance: float,
) -> tuple[Trial, Network | None]:  # fmt: skip
    if name == EAGER:  # agrees with itself, NaN or not
        return Trial(name, None, 0.0), eager
    try:
        network = build_network(name, graph, samples, device)
        moved = drift(_reference(network, ones), wanted)
    except EbjrError as error:
        return Trial(name, None, None, str(error).rstrip(".")), None
    return Trial(
        name, None, moved, f"drifts by more than {tolerance:g}" if moved > tolerance else ""
    ), network


def _reference(network: Network, ones: Sequence[Any]) -> list[list[Any]]:
    """Outputs of single images, as columns."""
    rows = [_copied(network(one)) for one in ones]
    return [[entry for column in columns for entry in column] for columns in zip(*rows, strict=True)]


def _measure_ms(networks: Mapping[str, Network], ones: Sequence[Any]) -> dict[str, float]:
    """Median ms of each on single images, in turn, so that a machine that slows down does so for all."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    watch, begun = Stopwatch(perf_counter), perf_counter()
    for at in range(MOST):
        if at >= LEAST and perf_counter() - begun > ENOUGH_SECONDS:
            break
        for name, network in networks.items():
            network(ones[at % len(ones)])  # threads of the one before may still wait for work
            watch.time(name, network, ones[at % len(ones)])
            times[name].append(1e3 * watch.read()[name])
    return {name: float(np.median(own)) for name, own in times.items()}


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)
