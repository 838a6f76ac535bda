"""torch Inductor: on a CPU a compiled package for one image, kept on disk; on a GPU CUDA graphs.

One image a call costs a CPU no speed, and makes an image's outputs the same bits in every batch.
"""

import getpass
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ebjr_det.core.errors import ConfigError
from ebjr_det.io.files import atomic_write
from ebjr_det.io.notes import say
from ebjr_det.runtimes.cache import cache_folder, cached
from ebjr_det.runtimes.cuda_graphs import CudaGraphs
from ebjr_det.runtimes.eager import laid_out
from ebjr_det.runtimes.registry import Batch, Column, Network, of_shape


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
    """The network compiled, or its package from an earlier time. Raises ConfigError: no C++ compiler."""
    if device.split(":")[0] == "cuda":
        # The first batch size is compiled as it is, the second one for all that come.
        return CudaGraphs(torch.compile(laid_out(graph, device, precision)), device)
    note = f"{precision} {torch.get_num_threads()}"  # the number of threads is compiled in
    return cached(
        graph, example, "pt2", lambda path: _compile(laid_out(graph, device, precision), example, path),
        lambda path: Package(path, example), note=note,
    )  # fmt: skip


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
