"""CUDA graphs: all kernels of a network recorded once and launched together.

A GPU answers a small batch faster than Python can launch its kernels one by one. torch's own graphs behind
`mode="reduce-overhead"` belong to the thread that made them; those here replay in any thread, so that the
teacher of a stream may work in its own.
"""

from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebjr_det.runtimes.eager import TorchNetwork, laid_out
from ebjr_det.runtimes.registry import Batch

WARM = 3
"""Calls before a recording: compilers compile and libraries set themselves up, which no graph can hold."""
_RECORDING = Lock()
"""To compile and to begin a recording is to wait for the whole GPU, which fails while another one is made."""


class Recording(NamedTuple):
    """One graph, what it reads and what it writes."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    outputs: tuple[Tensor, ...]


class CudaGraphs(TorchNetwork):
    """A network on a GPU, recorded for each shape of a batch; sizes are rounded up to powers of two."""

    tf32 = True

    def __init__(self, graph: Callable[[Tensor], tuple[Tensor, ...]], device: str) -> None:
        super().__init__(graph, device, channels_last=True)
        self.recordings: dict[tuple[object, ...], Recording] = {}
        self.pool = torch.cuda.graph_pool_handle()

    def outputs_of(self, images: Tensor) -> tuple[Tensor, ...]:
        """Outputs that the next call writes over."""
        count = len(images)
        size = 2 ** (count - 1).bit_length()
        key = size, images.dtype, *images.shape[1:]
        if key not in self.recordings:
            missing = images[-1:].expand(size - count, *images.shape[1:])
            self.recordings[key] = self._record(torch.cat([images, missing]))
        recording = self.recordings[key]
        recording.images[:count].copy_(images)
        recording.graph.replay()
        return tuple(output[:count] for output in recording.outputs)

    def _record(self, images: Tensor) -> Recording:
        images = images.contiguous(memory_format=self.layout) if images.ndim == 4 else images
        graph = torch.cuda.CUDAGraph()
        with _RECORDING:
            for _ in range(WARM):
                super().outputs_of(images)
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                outputs = super().outputs_of(images)
        return Recording(graph, images, outputs)


def build(graph: nn.Module, example: Batch, device: str, *, precision: str | None = None) -> CudaGraphs:
    """The network operator by operator, as CUDA graphs."""
    return CudaGraphs(laid_out(graph, device, precision), device)
