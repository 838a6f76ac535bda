"""ONNX files that somebody else wrote: what they take and give, run without torch.

A file tells its inputs and outputs, often with sizes that it leaves open, and perhaps names of classes. What
it really gives is known when it has run once.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.types import Array
from ebjr_det.io.files import existing_file
from ebjr_det.io.third_party import check_packages
from ebjr_det.runtimes.onnx import Session
from ebjr_det.runtimes.onnx_check import check_whole
from ebjr_det.runtimes.registry import EIGHT_BITS, Batch, Column, Network, check_runtime, stacked

TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


@dataclass(frozen=True)
class GraphFile:
    """An ONNX file of one picture input [images, 3, h, w].

    Attributes:
        size: height and width, where the file fixes them; dtype: of its input.
        outputs: names; metadata: texts that its exporter left.
    """

    path: Path
    size: tuple[int, int] | None
    dtype: str
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]

    @classmethod
    def read(cls, name: str) -> "GraphFile":
        """What a file says. Raises InvalidInput for no graph of pictures, ConfigError for no ONNX Runtime."""
        check_packages(["onnxruntime"], "onnx", f"for `{name}`")
        path = existing_file(Path(name), "an ONNX graph")
        check_whole(path)
        session = Session(path).session
        inputs = session.get_inputs()
        first = inputs[0] if len(inputs) == 1 else None
        if (
            first is None
            or len(first.shape) != 4
            or first.shape[1] not in (3, "3")
            or first.type not in TYPES
        ):
            shapes = ", ".join(f"{entry.name} {entry.shape} {entry.type}" for entry in inputs)
            raise InvalidInput(f"Expected one input [images, 3, height, width] in `{path}`, got {shapes}.")
        height, width = first.shape[2:]
        size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
        outputs = tuple(entry.name for entry in session.get_outputs())
        metadata = dict(session.get_modelmeta().custom_metadata_map)
        return cls(path, size, TYPES[first.type], outputs, metadata)

    def names(self) -> list[str] | None:
        """Class names that its exporter left; None where it left none that can be read."""
        names = self._literal("names")
        if isinstance(names, dict):
            names = [name for _, name in sorted(names.items())]
        return [str(name) for name in names] if isinstance(names, list) else None

    def stated_size(self) -> tuple[int, int] | None:
        """Height and width that its exporter left beside a graph of any size."""
        match self._literal("imgsz"):
            case [int(height), int(width)]:
                return height, width
        return None

    def _literal(self, key: str) -> object:
        """A text of the metadata as the plain Python value that it spells; None for any other text."""
        try:
            return ast.literal_eval(self.metadata[key])
        except (KeyError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None

    def open(self, size: tuple[int, int], runtime: str = "onnxruntime", device: str = "cpu") -> Network:
        """The graph at work on pictures of a size. Raises ConfigError for a runtime that takes no file."""
        shape = (3, *size)
        if runtime in ("eager", "onnxruntime"):
            session = Session(self.path, device)
            session.shape = shape
            return Cast(session, self.dtype)
        if runtime in EIGHT_BITS or not runtime.startswith("openvino"):
            raise ConfigError(
                f"Expected runtime onnxruntime or openvino for `{self.path}`, a graph, got `{runtime}`."
            )
        settings = check_runtime(runtime, device).settings
        from ebjr_det.runtimes.openvino import open_file

        return Cast(open_file(self.path, shape, **settings), self.dtype)  # type: ignore[arg-type]

    def probe(self, network: Network, size: tuple[int, int], scale: float) -> list[Array]:
        """The outputs for one picture of noise. Raises InvalidInput where the graph does not run."""
        noise = np.random.default_rng(0).integers(256, size=(1, 3, *size)).astype(np.float32) * scale
        try:
            return [stacked(column) for column in network(noise)]
        except Exception as error:  # each of a runtime's faults is a class of its own
            raise InvalidInput(
                f"Expected `{self.path}` to run on a picture of {size[1]} x {size[0]}, got: "
                f"{first_line(error)}."
            ) from error


class Cast:
    """A network that is given pictures in the type that it takes."""

    def __init__(self, network: Network, dtype: str) -> None:
        self.network, self.dtype = network, np.dtype(dtype)

    @property
    def invariant(self) -> bool:
        """Whether an image's outputs are the same bits whatever else is in its batch."""
        return self.network.invariant

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs of a batch."""
        return self.network(np.asarray(batch, dtype=self.dtype))


class RunsFile:
    """What a model around an ONNX file shares with others of its kind.

    Attributes:
        file: the graph; size: of its pictures; run: what runs it; runtime: its name.
    """

    file: GraphFile
    size: tuple[int, int]
    run: Network
    runtime: str

    def run_in(self, runtime: str, device: str) -> str:
        """Change the runtime; the name of what runs it from here on."""
        self.runtime = "onnxruntime" if runtime == "eager" else runtime
        self.run = self.file.open(self.size, self.runtime, device)
        return self.runtime

    @cached_property
    def macs(self) -> int:
        """Multiply-adds an image, counted while the graph runs."""
        from ebjr_det.runtimes.graph_macs import count_graph_macs

        return count_graph_macs(self.file.path, np.zeros((1, 3, *self.size), dtype=self.file.dtype))


def shapes_of(names: Sequence[str], raw: Sequence[Any]) -> str:
    """Outputs with their shapes, for messages."""
    return ", ".join(f"{name} {list(np.shape(output))}" for name, output in zip(names, raw, strict=True))
