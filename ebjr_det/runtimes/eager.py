"""torch as it comes: operator by operator, with another memory layout or in autocast.

torch picks its kernels by the size of a batch and of the lot that a thread takes, so the last bits of an
image's outputs change with what else is in the batch.
"""

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from copy import deepcopy

import torch
from torch import Tensor, nn

from ebjr_det.core.errors import OutOfMemory
from ebjr_det.runtimes.products import float32_products
from ebjr_det.runtimes.registry import Batch, Column


class Autocast(nn.Module):
    """A graph with its precision inside, so that it is compiled and recorded along; outputs in float32."""

    def __init__(self, graph: nn.Module, precision: str, device: str) -> None:
        super().__init__()
        self.network, self.kind = graph, device.split(":")[0]
        self.precision: torch.dtype = getattr(torch, precision)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs for a batch."""
        with torch.autocast(self.kind, self.precision):
            outputs = self.network(images)
        return tuple(output.float() for output in outputs)


class TorchNetwork:
    """A module on a device.

    On a GPU it has a stream of its own, so that a student and a teacher in two threads overlap.

    Attributes:
        tf32: whether a GPU may multiply float32 in TF32; else it multiplies as exactly as a CPU.
    """

    invariant = False
    tf32 = False

    def __init__(
        self, graph: Callable[[Tensor], tuple[Tensor, ...]], device: str, channels_last: bool = False
    ) -> None:
        self.graph, self.device = graph, torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.preserve_format
        self.stream: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self.stream.wait_stream(torch.cuda.current_stream(self.device))  # weights may be on their way

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs as arrays, or on a GPU as tensors that lie there.

        Raises:
            OutOfMemory: a batch for which the GPU has too little memory, with the size of one that fits.
        """
        torch.get_num_threads()  # else a thread's first convolution may not know a limit that came late
        outputs = self._attempt(batch)
        if outputs is not None:
            return outputs
        fitting = len(batch) // 2  # outside of the error's frames, which hold what they had taken
        while fitting and self._attempt(batch[:fitting]) is None:
            fitting //= 2
        raise OutOfMemory(
            f"Expected a batch for which `{self.device}` has memory, got one of {len(batch)} pictures. "
            + (f"Set the batch size to {fitting}, which fits." if fitting else "Not even one fits.")
        )

    def _attempt(self, batch: Batch) -> tuple[Column, ...] | None:
        """The outputs, or None where the GPU's memory is too small."""
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                if self.stream is not None:
                    stack.enter_context(torch.cuda.stream(self.stream))
                outputs = self.outputs_of(on_device(batch, self.device, self.layout))
        except torch.OutOfMemoryError:
            outputs = None
        if outputs is None:
            torch.cuda.empty_cache()
        elif self.stream is None:
            return tuple(output.numpy() for output in outputs)
        else:
            self.stream.synchronize()
        return outputs

    def outputs_of(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs of a batch on the device, in float32."""
        with float32_products(self.tf32) if self.stream is not None else nullcontext():
            return tuple(output.float() for output in self.graph(images))


def on_device(batch: Batch, device: torch.device, layout: torch.memory_format) -> Tensor:
    """A batch as a tensor on the device."""
    images = torch.as_tensor(batch)
    layout = layout if images.ndim == 4 else torch.preserve_format
    return images.to(device, non_blocking=True, memory_format=layout)


def laid_out(graph: nn.Module, device: str, precision: str | None) -> nn.Module:
    """A copy of a graph with its weights' channels innermost, in autocast where a precision is named."""
    copy = deepcopy(graph).to(memory_format=torch.channels_last)
    return (copy if precision is None else Autocast(copy, precision, device)).eval()


def build(
    graph: nn.Module,
    example: Batch,
    device: str,
    *,
    channels_last: bool = False,
    precision: str | None = None,
) -> TorchNetwork:
    """The module itself, or a copy with its weights laid out anew."""
    channels_last = channels_last or precision is not None
    return TorchNetwork(laid_out(graph, device, precision) if channels_last else graph, device, channels_last)
