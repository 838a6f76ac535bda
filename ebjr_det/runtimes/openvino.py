"""OpenVINO: reads the network's ONNX file, in float32 or bfloat16."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.types import Array
from ebjr_det.io.threads import thread_count
from ebjr_det.runtimes.onnx import through_onnx
from ebjr_det.runtimes.registry import Batch, Column, batch_after_batch, of_shape

if TYPE_CHECKING:
    from torch import nn

CPU = "CPU"


class OpenVino:
    """A compiled model; an image's outputs are the same bits in every batch."""

    invariant = True

    def __init__(self, compiled: Any) -> None:
        images, *sides = compiled.input(0).partial_shape
        self.shape = [side.get_length() for side in sides]
        self.images = images.get_length() if images.is_static else None
        self.request = compiled.create_infer_request()
        self.outputs = len(compiled.outputs)

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs as arrays that the next call writes over. Raises InvalidInput: images of another shape."""
        return batch_after_batch(self._run, of_shape(batch, self.shape), self.images)

    def _run(self, images: Array) -> list[Array]:
        self.request.infer([images], share_inputs=True, share_outputs=True)
        return [self.request.get_output_tensor(index).data for index in range(self.outputs)]


def build(graph: "nn.Module", example: Batch, device: str, *, precision: str = "f32") -> OpenVino:
    """The network compiled for this processor. Raises ConfigError where it has no such precision."""
    import torch

    core = _core()
    return OpenVino(
        _compiled(through_onnx(graph, example, core.read_model), precision, torch.get_num_threads())
    )


def open_file(path: Path, shape: Sequence[int], precision: str = "f32") -> OpenVino:
    """An ONNX file, of images [3, h, w] of the given shape, compiled for this processor."""
    try:
        model = _core().read_model(path)
        model.reshape([model.inputs[0].partial_shape[0], *shape])
        return OpenVino(_compiled(model, precision, thread_count()))
    except RuntimeError as error:
        raise InvalidInput(
            f"Expected a graph that OpenVINO can run in `{path}`, got: {first_line(error)}."
        ) from error


def read_file(path: Path) -> OpenVino:
    """An ONNX file of a size of its own, compiled for this processor."""
    return OpenVino(_compiled(_core().read_model(path), "f32", thread_count()))


def _compiled(model: Any, precision: str, threads: int) -> Any:
    core = _core()
    if precision.upper() not in {"F32", *core.get_property(CPU, "OPTIMIZATION_CAPABILITIES")}:
        raise ConfigError(f"Expected a processor with {precision} for OpenVINO, got one without.")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        # Pinned, the threads of every process lie on the first CPUs and stay beside whoever is busy there.
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(model, CPU, settings)


@cache
def _core() -> Any:
    """OpenVINO's core, one for the whole process and never let go of.

    Its processor plugin gives the thread another stack for signals, and takes that away when it goes. Of
    two plugins the one that goes last puts back the stack of the first, which is gone: the next Ctrl-C, or
    the end of a loader's process, is then a crash.
    """
    import openvino

    return openvino.Core()
