"""torch Inductor: on a CPU a compiled package for one image, kept on disk; on a GPU CUDA graphs.

One image a call costs a CPU no speed, and makes an image's outputs the same bits in every batch.
"""

import getpass
import os
import shutil
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ebjr_det.core.errors import ConfigError
from ebjr_det.io.files import atomic_write
from ebjr_det.io.notes import say
from ebjr_det.runtimes.cache import cache_folder, cached
from ebjr_det.runtimes.eager import TorchNetwork, on_device
from ebjr_det.runtimes.registry import Batch, Column, Network, of_shape


class _Autocast(nn.Module):
    """The graph with its precision inside, so that it is compiled along; outputs in float32."""

    def __init__(self, graph: nn.Module, precision: str | None, device: str) -> None:
        super().__init__()
        self.network = graph
        self.precision, self.kind = precision, device.split(":")[0]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        low = self.precision is not None
        with torch.autocast(self.kind, getattr(torch, self.precision)) if self.precision else nullcontext():
            outputs = self.network(images)
        return tuple(output.float() for output in outputs) if low else outputs


class Package:
    """A compiled package that runs one image a call, on the CPU.

    Compiled code trusts its input, so shape and type of each batch are checked here.
    """

    invariant = True

    def __init__(self, path: Path, example: Batch) -> None:
        images = torch.as_tensor(example)
        self.shape, self.dtype = tuple(images.shape[1:]), images.dtype
        self.run: Any = torch._inductor.aoti_load_package(str(path))

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs as arrays, image by image. Raises InvalidInput for images of another shape."""
        images = torch.as_tensor(of_shape(batch, self.shape)).to(self.dtype)
        with torch.inference_mode():
            rows = [self.run(_laid_out(images[index : index + 1])) for index in range(len(images))]
        return tuple([row[0].numpy() for row in column] for column in zip(*rows, strict=True))


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images.contiguous()


def build(graph: nn.Module, example: Batch, device: str, *, precision: str | None = None) -> Network:
    """The network compiled, or its package from an earlier time.

    Raises:
        ConfigError: no C++ compiler.
    """

    def laid_out() -> nn.Module:
        copy = _Autocast(deepcopy(graph), precision, device).eval()
        return copy.to(memory_format=torch.channels_last)

    if device.split(":")[0] == "cuda":
        run = torch.compile(laid_out(), mode="reduce-overhead", dynamic=False)
        return _Graphs(run, device, True, None)
    note = f"{precision} {torch.get_num_threads()}"  # the number of threads is compiled in
    return cached(
        graph, example, "pt2", lambda path: _compile(laid_out(), example, path),
        lambda path: Package(path, example), note=note,
    )  # fmt: skip


class _Graphs(TorchNetwork):
    """CUDA graphs: one is recorded for each size of a batch, so sizes are rounded up to powers of two."""

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs on the device."""
        images = on_device(batch, self.device, self.layout)
        count = len(images)
        missing = 2 ** (count - 1).bit_length() - count
        padded = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing else images
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return tuple(output[:count] for output in super().__call__(padded))


def _compile(graph: nn.Module, example: Batch, path: Path) -> None:
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")))):
        raise ConfigError("Expected a C++ compiler for runtime `compile`, got none. Install g++.")
    try:  # torch names its own folder after the user, whom a container need not have
        getpass.getuser()
    except (KeyError, OSError):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    say("Compiling a network, once for this machine: about a minute ...")
    image = _laid_out(torch.as_tensor(example)[:1])
    with torch.no_grad(), atomic_write(path) as temporary:
        program = torch.export.export(graph, (image,))
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(temporary), inductor_configs={"freezing": True}
        )
