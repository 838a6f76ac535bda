"""The runtimes: what each is, which library it needs, and how a network is built for it."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput, did_you_mean, first_line
from ebjr_det.core.types import Array, Opaque, Output
from ebjr_det.io.third_party import install_hint

if TYPE_CHECKING:
    from torch import Tensor, nn

Batch: TypeAlias = "Array | Tensor"
"""Preprocessed images, [images, ...]."""
Column: TypeAlias = "Sequence[Any] | Array | Tensor"
"""One output of a network: one array an image, on the host or, from a GPU, a tensor that still lies there."""


class Network(Protocol):
    """A network made ready to run."""

    @property
    def invariant(self) -> bool:
        """Whether an image's outputs are the same bits whatever else is in its batch."""

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Run a batch, [images, ...], of any length above zero.

        Returns only when the outputs are there; they hold until the next call. Two networks may run in two
        threads at once, one network may not.
        """


def host(values: Any) -> Array:
    """An array of this process's memory, also of a tensor that lies on a GPU."""
    return np.asarray(values if isinstance(values, np.ndarray | np.generic) else values.cpu())


def stacked(column: Column) -> Array:
    """One array [images, ...] of an output, which outlives the next call."""
    return np.array([host(entry) for entry in column] if isinstance(column, list) else host(column))


def of_shape(batch: Batch, shape: Sequence[int]) -> Array:
    """A batch as a contiguous array. Raises InvalidInput for images of another shape than the network's."""
    if tuple(batch.shape[1:]) != tuple(shape):
        raise InvalidInput(
            f"Expected preprocessed images of {list(shape)}, for which the network was made ready, got "
            f"{list(batch.shape[1:])}. Resize them, or set runtime `eager`."
        )
    return np.ascontiguousarray(batch)


def batch_after_batch(
    run: Callable[[Array], Sequence[Array]], images: Array, size: int | None
) -> tuple[Column, ...]:
    """The outputs of a graph that takes `size` images at a time, None for any number; they are copied where
    it is run more than once. What is left over at the end is filled up with its first image.
    """
    if size is None or len(images) == size:
        return tuple(run(images))
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size]
        filled = np.concatenate([part, np.repeat(part[:1], size - len(part), axis=0)])
        parts.append([np.array(column[: len(part)]) for column in run(filled)])
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


class Networked:
    """A model around a network that a runtime runs: a subclass makes its input, and reads its outputs."""

    name: str
    run: Network

    @property
    def invariant(self) -> bool:
        """Whether a picture's answer is the same, to the bit, in any batch."""
        return self.run.invariant

    def batch(self, inputs: Sequence[Opaque]) -> Opaque:
        """The network's input [images, 3, h, w]."""
        raise NotImplementedError

    def __call__(self, inputs: Sequence[Opaque]) -> Output:
        """The answers to preprocessed pictures."""
        return self.decode(self.forward(inputs), inputs)

    def forward(self, inputs: Sequence[Opaque]) -> tuple[Column, ...]:
        """The network's raw outputs."""
        return self.run(self.batch(inputs))

    def decode(self, raw: tuple[Column, ...], inputs: Sequence[Opaque]) -> Output:
        """Raw outputs as answers."""
        raise NotImplementedError


_QUIET = RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Within, nothing is heard of what exporters and compilers warn and log, as nobody can act on it.

    What is silenced is the whole process's, so only one thread is within at a time.
    """
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


@dataclass(frozen=True)
class Runtime:
    """One way to run a network.

    Attributes:
        name: as in a configuration; `what`: for people.
        builder: `module:function` in this folder, called with a graph, an example batch and a device.
        packages: the libraries that must be installed, and the `extra` of this project that brings them.
        devices: kinds of devices that it serves, `cpu`, `cuda`.
        settings: further arguments of the builder.
    """

    name: str
    what: str
    builder: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")
    settings: Mapping[str, object] = field(default_factory=dict)

    def build(self, graph: "nn.Module", example: Batch, device: str) -> Network:
        """The graph made ready; see `build_network`."""
        module, _, function = self.builder.partition(":")
        builder: Callable[..., Network] = getattr(import_module(f"ebjr_det.runtimes.{module}"), function)
        return builder(graph, example, device, **self.settings)


CALIBRATED = "calibrated on pictures, on a CPU that has them"
SLOW = "slow on a CPU without AVX512-BF16 or AMX"
_ALL = (
    Runtime("eager", "torch, operator by operator", "eager:build"),
    Runtime(
        "channels_last", "torch, channels innermost", "eager:build", settings={"channels_last": True}
    ),
    Runtime(
        "bf16", f"torch in bfloat16, channels innermost ({SLOW})", "eager:build",
        settings={"channels_last": True, "precision": "bfloat16"},
    ),
    Runtime(
        "fp16", "torch in float16, channels innermost", "eager:build", devices=("cuda",),
        settings={"channels_last": True, "precision": "float16"},
    ),
    Runtime(
        "cuda_graphs", "torch, channels innermost, as CUDA graphs, in TF32", "cuda_graphs:build",
        devices=("cuda",),
    ),
    Runtime(
        "cuda_graphs_bf16", "torch in bfloat16, as CUDA graphs", "cuda_graphs:build", devices=("cuda",),
        settings={"precision": "bfloat16"},
    ),
    Runtime("compile", "compiled by torch Inductor (CUDA graphs and TF32 on a GPU)", "inductor:build"),
    Runtime(
        "compile_bf16", f"compiled, in bfloat16 ({SLOW})", "inductor:build",
        settings={"precision": "bfloat16"},
    ),
    Runtime(
        "compile_fp16", "compiled, in float16", "inductor:build", devices=("cuda",),
        settings={"precision": "float16"},
    ),
    Runtime("onnxruntime", "ONNX Runtime", "onnx:build", ("onnxruntime",), "onnx"),
    Runtime("openvino", "OpenVINO", "openvino:build", ("openvino",), "openvino", ("cpu",)),
    Runtime(
        "openvino_bf16", "OpenVINO in bfloat16, on a CPU that has it", "openvino:build", ("openvino",),
        "openvino", ("cpu",), {"precision": "bf16"},
    ),
    Runtime(
        "onnxruntime_int8", f"ONNX Runtime in eight bits, {CALIBRATED}", "int8:build",
        ("onnxruntime", "onnx"), "onnx", ("cpu",), {"by": "onnxruntime"},
    ),
    Runtime(
        "openvino_int8", f"OpenVINO in eight bits by NNCF, {CALIBRATED}", "int8:build",
        ("openvino", "nncf", "onnxruntime"), "openvino", ("cpu",), {"by": "openvino"},
    ),
)  # fmt: skip
RUNTIMES = {runtime.name: runtime for runtime in _ALL}
"""Every runtime by its name; the first is what all others are measured against."""

EIGHT_BITS = {"onnxruntime_int8": "onnxruntime", "openvino_int8": "openvino"}
"""Runtimes in eight bits, which change answers, and what each falls back on."""


def find_runtime(name: str) -> Runtime:
    """A runtime by name. Raises ConfigError for an unknown one, with the nearest."""
    if name not in RUNTIMES:
        hint = did_you_mean(name, [*RUNTIMES, "auto"])
        raise ConfigError(f"Expected a known runtime, got `{name}`. {hint}")
    return RUNTIMES[name]


def installed(runtime: Runtime) -> bool:
    """Whether a runtime's libraries are here."""
    return all(find_spec(package) is not None for package in runtime.packages)


def check_runtime(name: str, device: str) -> Runtime:
    """A runtime that can be built here.

    Raises:
        ConfigError: it is unknown, not installed, or not for the device.
    """
    runtime = find_runtime(name)
    if not installed(runtime):
        raise ConfigError(
            f"Expected runtime `{name}` to be installed, got no {' and '.join(runtime.packages)}. "
            f"Install it: {install_hint(runtime.extra)}."
        )
    if device.split(":")[0] not in runtime.devices:
        raise ConfigError(
            f"Expected a runtime for device `{device}`, got `{name}`, which serves "
            f"{', '.join(runtime.devices)} only."
        )
    return runtime


def build_network(name: str, graph: "nn.Module", example: Batch, device: str) -> Network:
    """A network made ready to run by a runtime.

    Args:
        graph: a torch module in evaluation mode, one batch in, a tuple of tensors out, [images, ...] each;
            `graph.outputs` names them. It is left as it is.
        example: a batch of preprocessed images.

    Raises:
        ConfigError: an unknown runtime, one that is not installed or serves another device, or a network that
            it cannot take, such as one with an operator that it does not know.
    """
    runtime = check_runtime(name, device)
    try:
        with quiet():
            network = runtime.build(graph, example, device)
            network(example[:1])
    except (EbjrError, MemoryError):
        raise
    except Exception as error:  # compilers and exporters can raise anything
        raise ConfigError(
            f"Expected a network that runtime `{name}` can take, got: {type(error).__name__}: "
            f"{first_line(error)}. Choose another runtime."
        ) from error
    return network
