"""Which runtime is fastest here, and does it say what torch says?

Drift of an output: the root mean square of its difference from eager torch, over the standard deviation of
eager's output, on sample images; of a network: the largest of its outputs. bfloat16 moves trained networks by
about 0.01, TF32 by less than 0.001, float32 by less than 0.00001; a network that is wrong moves by about 1.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from ebjr_det.core.errors import ConfigError, EbjrError
from ebjr_det.io.load import Meter, Stopwatch
from ebjr_det.io.notes import say
from ebjr_det.runtimes.int8 import STRANGE, EightBits, has_instructions
from ebjr_det.runtimes.registry import (
    EIGHT_BITS,
    RUNTIMES,
    Batch,
    Column,
    Network,
    build_network,
    check_runtime,
    host,
    installed,
)

if TYPE_CHECKING:
    from torch import nn

AUTO, EAGER = "auto", "eager"
OF_FILES = ("onnxruntime", "openvino", "openvino_bf16")
"""Runtimes that take an ONNX file; the first is what the others are measured against."""
TOLERANCE = 0.02
LEAST, MOST, ENOUGH_SECONDS = 3, 50, 5.0
"""Rounds that are timed."""


@dataclass(frozen=True)
class Trial:
    """One runtime tried: median ms an image at batch size 1, drift from eager, and what speaks against it.

    Attributes:
        quality: of a network in eight bits, beside that in float; in words.
    """

    name: str
    ms: float | None
    drift: float | None
    against: str = ""
    quality: str = ""

    def __str__(self) -> str:
        if self.ms is None:
            return f"{self.name} ({self.against})"
        drift = "" if self.drift == 0 else f", drift {self.drift:.1e}"
        remarks = f", {self.quality}" * bool(self.quality) + f" ({self.against})" * bool(self.against)
        return f"{self.name} {self.ms:.3g} ms{drift}{remarks}"


@dataclass(frozen=True)
class Calibration:
    """What a network in eight bits is calibrated on, and judged by.

    Attributes:
        batch: gives preprocessed pictures of the calibration part. Raises ConfigError for no such part.
        quality: of the model on that part where it is run by a network; None where no label judges.
        quality_name: accuracy, AP; loss: how much of it `auto` may lose.
    """

    batch: Callable[[], Batch]
    quality: Callable[[Network], float] | None
    quality_name: str
    loss: float

    def judge(self, trial: Trial, network: Network, in_float: float) -> Trial:
        """A trial in eight bits with its quality beside that in float, and whether that speaks against it."""
        assert self.quality is not None
        quality = self.quality(network)
        lost = f"loses more than {self.loss:g}" if in_float - quality > self.loss else ""
        text = f"{self.quality_name} {quality:.4f} for {in_float:.4f} in float ({quality - in_float:+.4f})"
        return replace(trial, quality=text, against=lost)


def choose_runtime(
    name: str,
    graph: "nn.Module",
    samples: Batch,
    device: str,
    *,
    model: str,
    tolerance: float = TOLERANCE,
    calibration: Calibration | None = None,
) -> tuple[str, Network]:
    """The network made ready by the named runtime, or with `auto` by the fastest that agrees with eager.

    What was tried is told on stderr: times, drifts, and why a runtime was left out. A runtime that was named
    is taken even where it drifts, with a warning; one in eight bits falls back on its float where the
    processor has no instructions for it, which is said. `auto` takes eight bits by the quality that is kept.

    Args:
        graph: see `build_network`; samples: a batch of preprocessed images to try it on.
        model: the model's name, for messages.
        calibration: of networks in eight bits; without one `auto` tries none, and a named one is calibrated
            on the samples.

    Raises:
        ConfigError: see `build_network`; InvalidInput: a cache that cannot be written to.
    """
    if name != AUTO:
        check_runtime(name, device)
        name = in_eight_bits(name, model)
    eager = build_network(EAGER, graph, samples, device)
    if name == EAGER:
        return name, eager
    singles = [samples[index : index + 1] for index in range(len(samples))]
    reference = _outputs(eager, singles)

    def build(runtime: str) -> tuple[Network, float]:
        if runtime == EAGER:  # agrees with itself, NaN or not
            return eager, 0.0
        pictures = calibration.batch() if calibration and runtime in EIGHT_BITS else samples
        network = build_network(runtime, graph, pictures, device)
        return network, drift(_outputs(network, singles), reference)

    if name == AUTO:
        return _fastest(RUNTIMES, build, singles, device, model, tolerance, calibration)
    network, moved = build(name)
    if isinstance(network, EightBits):
        _say_strange(network, samples, model)
    if moved > tolerance:
        say(
            f"Warning: runtime `{name}` moves the outputs of `{model}` by {moved:.2g} of their spread, more "
            f"than {tolerance:g}. Choose its threshold on a run with it, or another runtime."
        )
    return name, network


def _say_strange(network: EightBits, samples: Batch, model: str) -> None:
    """Warn of pictures that are unlike those of a network's calibration."""
    stray, expected = network.activation_drift(samples), network.drift_at_calibration
    if stray > STRANGE * expected:
        say(
            f"Warning: activations of `{model}` leave the ranges of its calibration by {stray:.2g} of these, "
            f"those of further calibration pictures by {expected:.2g}: these are pictures of another kind."
        )


def choose_for_file(
    open_in: Callable[[str], Network],
    samples: Batch,
    device: str,
    *,
    model: str,
    tolerance: float = TOLERANCE,
) -> str:
    """The name of the fastest runtime of an ONNX file that agrees with ONNX Runtime; see `choose_runtime`.

    Args:
        open_in: the file at work in a runtime of a name.
    """
    singles = [samples[index : index + 1] for index in range(len(samples))]
    first = open_in(OF_FILES[0])
    reference = _outputs(first, singles)

    def build(runtime: str) -> tuple[Network, float]:
        if runtime == OF_FILES[0]:
            return first, 0.0
        network = open_in(runtime)
        return network, drift(_outputs(network, singles), reference)

    return _fastest(OF_FILES, build, singles, device, model, tolerance)[0]


def in_eight_bits(name: str, model: str) -> str:
    """A runtime by name, or its float where it is in eight bits and the processor is not; which is said."""
    if name not in EIGHT_BITS or has_instructions():
        return name
    say(f"Note: `{model}` runs in `{EIGHT_BITS[name]}`: this processor has no instructions for eight bits.")
    return EIGHT_BITS[name]


def _fastest(
    names: Iterable[str],
    build: Callable[[str], tuple[Network, float]],
    singles: Sequence[Batch],
    device: str,
    model: str,
    tolerance: float,
    calibration: Calibration | None = None,
) -> tuple[str, Network]:
    """The fastest runtime of a device whose drift is small; `build` gives a network and its drift."""
    networks: dict[str, Network] = {}
    trials = []
    for name in names:
        runtime = RUNTIMES[name]
        if device.split(":")[0] not in runtime.devices or not installed(runtime):
            continue
        try:
            _check_judged(name, calibration)
            networks[name], moved = build(name)
        except EbjrError as error:
            trials.append(Trial(name, None, None, str(error).rstrip(".")))
        else:
            drifts = moved > tolerance and name not in EIGHT_BITS
            trials.append(Trial(name, None, moved, f"drifts by more than {tolerance:g}" * drifts))
    meter = Meter()
    times = _measure_ms(networks, singles)
    trials = [replace(trial, ms=times.get(trial.name)) for trial in trials]
    load = meter.lap()
    best, trials = _kept(trials, networks, calibration)
    listed = "; ".join(map(str, trials)) + f", tried {load.in_words}" * load.noisy
    say(f"{model}: runtime {best}, of {listed}.")
    return best, networks[best]


def _check_judged(name: str, calibration: Calibration | None) -> None:
    """Raises ConfigError for a runtime in eight bits that would be slow, or whose quality nobody can tell."""
    if name not in EIGHT_BITS:
        return
    if not has_instructions():
        raise ConfigError("the processor has no instructions for eight bits")
    if calibration is None or calibration.quality is None:
        raise ConfigError("no labelled calibration part tells its quality")


def _kept(
    trials: Sequence[Trial], networks: Mapping[str, Network], calibration: Calibration | None
) -> tuple[str, list[Trial]]:
    """The fastest runtime that nothing speaks against; those in eight bits are judged where faster."""
    judged = {trial.name: trial for trial in trials}
    order = sorted((trial for trial in trials if not trial.against), key=lambda trial: trial.ms or 0)
    in_float = next(trial.name for trial in order if trial.name not in EIGHT_BITS)
    quality = None
    for trial in order:
        if trial.name == in_float:
            break
        assert calibration is not None
        assert calibration.quality is not None
        quality = calibration.quality(networks[in_float]) if quality is None else quality
        judged[trial.name] = calibration.judge(trial, networks[trial.name], quality)
        if not judged[trial.name].against:
            return trial.name, [*judged.values()]
    return in_float, [*judged.values()]


def drift(outputs: Sequence[Column], reference: Sequence[Column]) -> float:
    """How far outputs lie from eager's, by the definition above; infinite where they are not finite.

    Args:
        outputs, reference: columns of a network on the same images.
    """
    return max(_drift(*columns) for columns in zip(outputs, reference, strict=True))


def _drift(column: Column, reference: Column) -> float:
    ours, eager = (np.concatenate([host(entry).ravel() for entry in side]) for side in (column, reference))
    with np.errstate(invalid="ignore", over="ignore"):
        spread = float(eager.std(dtype=np.float64)) or 1.0
        distance = float(np.sqrt(np.mean(np.square(ours - eager, dtype=np.float64))))
    return distance / spread if np.isfinite(distance) else float("inf")


def _outputs(network: Network, singles: Sequence[Batch]) -> list[Column]:
    """Outputs of single images as columns, copied: a network may write over them at its next call."""
    rows = [[[np.array(host(entry)) for entry in column] for column in network(single)] for single in singles]
    return [[entry for column in columns for entry in column] for columns in zip(*rows, strict=True)]


def _measure_ms(networks: Mapping[str, Network], singles: Sequence[Batch]) -> dict[str, float]:
    """Median ms of each on single images, in turn, so that a machine that slows down does so for all."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    watch, begun = Stopwatch(perf_counter), perf_counter()
    for turn in range(MOST):
        if turn >= LEAST and perf_counter() - begun > ENOUGH_SECONDS:
            break
        single = singles[turn % len(singles)]
        for name, network in networks.items():
            network(single)  # threads of the one before may still wait for work
            watch.time(name, network, single)
            times[name].append(1e3 * watch.read()[name])
    return {name: float(np.median(laps)) for name, laps in times.items()}
