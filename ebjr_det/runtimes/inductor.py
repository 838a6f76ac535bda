"""torch Inductor: on a CPU a compiled package for one image, kept on disk; on a GPU CUDA graphs.

One image a call costs a CPU no speed, and makes an image's outputs the same bits in every batch.
"""

import getpass
import os
import shutil
import sys
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ebjr_det.core.errors import ConfigError
from ebjr_det.io.files import atomic_write
from ebjr_det.runtimes.cache import cache_folder, kept
from ebjr_det.runtimes.eager import TorchNetwork, on_device
from ebjr_det.runtimes.registry import of_shape


class _Autocast(nn.Module):
    """The graph with its precision inside, so that it is compiled along; outputs in float32."""

    def __init__(self, graph: nn.Module, precision: str | None, device: str) -> None:
        super().__init__()
        self.whole = graph
        self.precision, self.kind = precision, device.split(":")[0]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        low = self.precision is not None
        with torch.autocast(self.kind, getattr(torch, self.precision)) if self.precision else nullcontext():
            outputs = self.whole(images)
        return tuple(output.float() for output in outputs) if low else outputs


class Package:
    """A compiled package that runs one image a call, on the CPU.

    It trusts what it is given, so shape and type of each batch are checked here.
    """

    invariant = True

    def __init__(self, path: Path, example: Any) -> None:
        one = torch.as_tensor(example)
        self.shape, self.dtype = tuple(one.shape[1:]), one.dtype
        self.run: Any = torch._inductor.aoti_load_package(str(path))

    def __call__(self, batch: Any) -> tuple[Any, ...]:
        """Outputs as arrays, image by image. Raises InvalidInput for images of another shape."""
        images = torch.as_tensor(of_shape(batch, self.shape)).to(self.dtype)
        with torch.inference_mode():
            rows = [self.run(_laid_out(images[at : at + 1])) for at in range(len(images))]
        return tuple([row[0].numpy() for row in column] for column in zip(*rows, strict=True))


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images.contiguous()


def build(graph: nn.Module, example: Any, device: str, *, precision: str | None = None) -> Any:
    """The network compiled, or its package from an earlier time.

    Raises:
        ConfigError: no C++ compiler.
    """

    def whole() -> nn.Module:
        copy = _Autocast(deepcopy(graph), precision, device).eval()
        return copy.to(memory_format=torch.channels_last)

    if device.split(":")[0] == "cuda":
        run = torch.compile(whole(), mode="reduce-overhead", dynamic=False)
        return _Graphs(run, device, True, None)
    note = f"{precision} {torch.get_num_threads()}"  # the number of threads is compiled in
    return kept(
        graph, example, "pt2", lambda path: _compile(whole(), example, path),
        lambda path: Package(path, example), note=note,
    )  # fmt: skip


class _Graphs(TorchNetwork):
    """CUDA graphs: one is recorded for each size of a batch, so sizes are rounded up to powers of two."""

    def __call__(self, batch: Any) -> tuple[Any, ...]:
        """Outputs on the device."""
        images = on_device(batch, self.device, self.layout)
        count = len(images)
        more = 2 ** (count - 1).bit_length() - count
        padded = torch.cat([images, images[-1:].expand(more, *images.shape[1:])]) if more else images
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return tuple(output[:count] for output in super().__call__(padded))


def _give_inductor_a_place() -> None:
    """Torch names its own folder after the user, whom a container need not have."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))


def _compile(whole: nn.Module, example: Any, path: Path) -> None:
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")))):
        raise ConfigError("Expected a C++ compiler for runtime `compile`, got none. Install g++.")
    _give_inductor_a_place()
    tqdm.write("Compiling a network, once for this machine: about a minute ...", file=sys.stderr)
    one = _laid_out(torch.as_tensor(example)[:1])
    with torch.no_grad(), atomic_write(path) as temporary:
        program = torch.export.export(whole, (one,))
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(temporary), inductor_configs={"freezing": True}
        )
