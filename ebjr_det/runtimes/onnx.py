"""ONNX: a network written as a static graph, and run by ONNX Runtime.

Running needs numpy and onnxruntime alone; writing needs torch, onnx and onnxscript as well.
"""

from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput, first_line
from ebjr_det.io.files import atomic_write
from ebjr_det.io.third_party import install_hint
from ebjr_det.io.threads import thread_count
from ebjr_det.runtimes.registry import Batch, Column, of_shape, quiet

if TYPE_CHECKING:
    from torch import nn

Made = TypeVar("Made")

INPUT = "images"
WRITERS = ("onnx", "onnxscript")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Session:
    """An ONNX file at work in ONNX Runtime.

    An image's last bits can change with its place in the batch: some kernels round by how their rows lie in
    memory, for example where channels are odd in number.

    Args:
        threads: of the CPU; by default all that this process may use.

    Raises:
        InvalidInput: a file that ONNX Runtime cannot run.
        ConfigError: an ONNX Runtime without the device.
    """

    invariant = False

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        import onnxruntime

        provider = PROVIDERS[device.split(":")[0]]
        if provider not in onnxruntime.get_available_providers():
            raise ConfigError(
                f"Expected an ONNX Runtime for device `{device}`, got one without {provider}. Install it: "
                "pip install onnxruntime-gpu."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or thread_count()
        options.log_severity_level = 4
        # Threads that wait actively would take the cores from the other model, which doubles a pair's time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=[provider])
            self.shape = self.session.get_inputs()[0].shape[1:]
        except Exception as error:  # each of its faults is a class of its own
            raise InvalidInput(
                f"Expected a graph that ONNX Runtime can run in `{path}`, got: {first_line(error)}."
            ) from error

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs as arrays. Raises InvalidInput for images of another shape than the graph's."""
        return tuple(self.session.run(None, {INPUT: of_shape(batch, self.shape)}))


def build(graph: "nn.Module", example: Batch, device: str) -> Session:
    """The network in ONNX Runtime, its file in the cache."""
    import torch

    threads = torch.get_num_threads() if device == "cpu" else None
    return through_onnx(graph, example, lambda path: Session(path, device, threads))


def through_onnx(graph: "nn.Module", example: Batch, read: Callable[[Path], Made]) -> Made:
    """What `read` makes of the network's ONNX file, which is written where the cache has none."""
    from ebjr_det.runtimes.cache import cached

    return cached(graph, example, "onnx", lambda path: write_onnx(graph, example, path), read)


def write_onnx(graph: "nn.Module", example: Batch, path: Path) -> None:
    """Write a network as one ONNX file with any number of images a batch.

    Args:
        graph: see `registry.build_network`; a copy of it is written.

    Raises:
        ConfigError: the writers are not installed, or an operator that ONNX does not know.
    """
    import torch

    if missing := [package for package in WRITERS if find_spec(package) is None]:
        raise ConfigError(
            f"Expected {' and '.join(WRITERS)} to write a network as ONNX, got no {' and '.join(missing)}. "
            f"Install them: {install_hint('onnx')}."
        )
    two = torch.as_tensor(example)[:1].cpu().repeat(2, *[1] * (example.ndim - 1))  # 1 would become a constant
    names: Any = getattr(graph, "outputs", ("logits",))
    try:
        with torch.inference_mode(), quiet():
            program = torch.onnx.export(
                deepcopy(graph).cpu(), (two,), input_names=[INPUT], output_names=list(names), dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False,
            )  # fmt: skip
            with atomic_write(path) as temporary:
                program.save(temporary, external_data=False)  # type: ignore[union-attr]
    except EbjrError:
        raise
    except Exception as error:  # the exporter can raise anything
        raise ConfigError(
            f"Expected a network that can be written as ONNX, got: {type(error).__name__}: "
            f"{first_line(error)}. Choose another runtime."
        ) from error
