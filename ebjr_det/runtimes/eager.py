"""torch as it comes: operator by operator, with another memory layout or in autocast.

torch picks its kernels by the size of a batch and of the lot that a thread takes, so the last bits of an
image's outputs change with what else is in the batch.
"""

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy

import torch
from torch import Tensor, nn

from ebjr_det.runtimes.registry import Batch, Column


class TorchNetwork:
    """A module on a device.

    On a GPU it has a stream of its own, so that a student and a teacher in two threads overlap.
    """

    invariant = False

    def __init__(
        self,
        graph: Callable[[Tensor], tuple[Tensor, ...]],
        device: str,
        channels_last: bool = False,
        precision: str | None = None,
    ) -> None:
        self.graph, self.device = graph, torch.device(device)
        self.layout = torch.channels_last if channels_last else torch.preserve_format
        self.precision = None if precision is None else getattr(torch, precision)
        self.stream: torch.cuda.Stream | None = None
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self.stream.wait_stream(torch.cuda.current_stream(self.device))  # weights may be on their way

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs as arrays, or on a GPU as tensors that lie there."""
        torch.get_num_threads()  # else a thread's first convolution may not know a limit that came late
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.stream is not None:
                stack.enter_context(torch.cuda.stream(self.stream))
            if self.precision is not None:
                stack.enter_context(torch.autocast(self.device.type, self.precision))
            images = on_device(batch, self.device, self.layout)
            outputs = tuple(output.float() for output in self.graph(images))
        if self.stream is None:
            return tuple(output.numpy() for output in outputs)
        self.stream.synchronize()
        return outputs


def on_device(batch: Batch, device: torch.device, layout: torch.memory_format) -> Tensor:
    """A batch as a tensor on the device."""
    images = torch.as_tensor(batch)
    layout = layout if images.ndim == 4 else torch.preserve_format
    return images.to(device, non_blocking=True, memory_format=layout)


def build(
    graph: nn.Module,
    example: Batch,
    device: str,
    *,
    channels_last: bool = False,
    precision: str | None = None,
) -> TorchNetwork:
    """The module itself, or a copy with its weights laid out anew."""
    if channels_last:
        graph = deepcopy(graph).to(memory_format=torch.channels_last)
    return TorchNetwork(graph, device, channels_last, precision)
