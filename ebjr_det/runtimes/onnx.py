"""ONNX: a network written as a static graph, and run by ONNX Runtime.

Running needs numpy and onnxruntime alone; writing needs torch, onnx and onnxscript as well.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput, first_line
from ebjr_det.io.files import atomic_write
from ebjr_det.io.third_party import check_packages
from ebjr_det.io.threads import thread_count
from ebjr_det.runtimes.registry import Batch, Column, batch_after_batch, of_shape, quiet

if TYPE_CHECKING:
    from torch import nn

Made = TypeVar("Made")

INPUT = "images"
INT32, BOOL = 6, 9
"""Numbers of types in ONNX."""
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

        kind, _, number = device.partition(":")
        provider = PROVIDERS[kind]
        if provider not in onnxruntime.get_available_providers():
            raise ConfigError(
                f"Expected an ONNX Runtime for device `{device}`, got one without {provider}. Install it: "
                "pip install onnxruntime-gpu."
            )
        if kind == "cuda" and hasattr(onnxruntime, "preload_dlls"):  # those that came with torch
            onnxruntime.preload_dlls()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or thread_count()
        options.log_severity_level = 4
        # Threads that wait actively would take the cores from the other model, which doubles a pair's time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=[(provider, {"device_id": number} if number else {})]
            )
            first = self.session.get_inputs()[0]
            self.input, self.shape = first.name, first.shape[1:]
            self.images = first.shape[0] if isinstance(first.shape[0], int) else None
        except Exception as error:  # each of its faults is a class of its own
            raise InvalidInput(
                f"Expected a graph that ONNX Runtime can run in `{path}`, got: {first_line(error)}."
            ) from error
        if provider not in self.session.get_providers():  # it goes on with the CPU, and tells nobody
            raise ConfigError(
                f"Expected an ONNX Runtime that starts {provider}, got one that cannot. Its CUDA or cuDNN "
                "are of other versions than those of this machine, or are missing."
            )

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs as arrays. Raises InvalidInput for images of another shape than the graph's."""
        images = of_shape(batch, self.shape)
        return batch_after_batch(lambda part: self.session.run(None, {self.input: part}), images, self.images)


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
    """Write a network as one ONNX file, of any number of images a batch, or of one where it is laid out so.

    Args:
        graph: see `registry.build_network`; a copy of it is written.

    Raises:
        ConfigError: the writers are not installed, or an operator that ONNX does not know.
    """
    import torch

    check_packages(WRITERS, "onnx", "to write a network as ONNX")
    image = torch.as_tensor(example)[:1].cpu()
    two = image.repeat(2, *[1] * (image.ndim - 1))  # 1 would become a constant
    with torch.inference_mode(), quiet():
        program = _exported(graph, two, dynamic_shapes=({0: torch.export.Dim("batch")},))
        if isinstance(program, Exception) or isinstance(program.model.graph.inputs[0].shape[0], int):
            program = _exported(graph, image)  # some networks are laid out for one number of images
        if isinstance(program, Exception):
            raise ConfigError(
                f"Expected a network that can be written as ONNX, got: {type(program).__name__}: "
                f"{_cause(program)}. Choose another runtime."
            ) from program
        with atomic_write(path) as temporary:
            program.save(temporary, external_data=False)


def write_alike(
    graph: "nn.Module",
    batch: Batch,
    eager: Callable[[Batch], Sequence[Column]],
    path: Path,
    tolerance: float,
    name: str,
) -> None:
    """`write_onnx`, and the graph's answers to the batch compared with those of eager torch.

    Raises:
        ConfigError: outputs that move by more than the tolerance, see `choose.drift`.
    """
    from ebjr_det.runtimes.choose import drift

    write_onnx(graph, batch, path)
    moved = drift(Session(path)(batch), eager(batch))
    if not moved <= tolerance:
        raise ConfigError(
            f"Expected the graph of `{name}` to answer as torch does, got outputs that move by {moved:.2g} "
            f"of their spread, more than {tolerance:g}. Set run.tolerance."
        )


def _exported(graph: "nn.Module", images: Batch, **settings: Any) -> Any:
    """The exporter's program, or what it raised, which can be anything."""
    import torch

    names: Any = getattr(graph, "outputs", ("logits",))
    try:
        return torch.onnx.export(
            deepcopy(graph).cpu(), (images,), input_names=[INPUT], output_names=list(names), dynamo=True,
            verbose=False, custom_translation_table=_translations(), **settings,
        )  # fmt: skip
    except EbjrError:
        raise
    except Exception as error:
        return error


def _translations() -> dict[Any, Callable[..., Any]]:
    """Operators that the exporter lacks, such as one in the decoders of RT-DETR v2 and D-FINE."""
    import torch
    from onnxscript import opset18

    op: Any = opset18

    def all_true(values: Any) -> Any:
        return op.Cast(op.ReduceMin(op.Cast(values, to=INT32), keepdims=0), to=BOOL)

    return {torch.ops.aten._is_all_true.default: all_true}


def _cause(error: BaseException) -> str:
    """What lies behind an exporter's error, whose own first line tells of the exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
