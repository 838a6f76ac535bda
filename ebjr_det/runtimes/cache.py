"""What took long to make from a network, kept on disk: ONNX files and compiled packages.

A file's name is a digest of all that it was made from: weights, layers and their source, shape of the
input, versions, processor. It is ours and in the user's own folder; remove the folder to begin anew.
"""

import hashlib
import inspect
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ebjr_det.files import writable_folder

FOLDER = "EBJR_DET_CACHE"
MADE_WITH = ("ebjr-det", "torch", "torchvision", "timm", "effdet", "numpy")


def cache_folder() -> Path:
    """`EBJR_DET_CACHE`, or `ebjr_det` in the user's cache."""
    here = os.environ.get(FOLDER)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return writable_folder(Path(here) if here else Path(cache).expanduser() / "ebjr_det")


def kept_file(
    graph: nn.Module, example: Any, kind: str, write: Callable[[Path], None], *, note: str = ""
) -> Path:
    """The file that `write(path)` makes of a network, made only where it is not there yet.

    Args:
        kind: its suffix, `onnx` or `pt2`; `note`: whatever else it depends on.
    """
    path = cache_folder() / f"{digest_of(graph, example, note)}.{kind}"
    if not path.is_file():
        write(path)
    return path


def digest_of(graph: nn.Module, example: Any, note: str) -> str:
    """Of everything that a file made of the network depends on."""
    digest = hashlib.sha256()
    layers = {type(module) for module in graph.modules()}
    told = (
        note, repr(graph), str(tuple(example.shape[1:])), str(example.dtype),
        *(f"{name} {version(name)}" for name in MADE_WITH),
        torch.backends.cpu.get_cpu_capability(),
        *sorted(_source(layer) for layer in layers),
    )  # fmt: skip
    for text in told:
        digest.update(text.encode())
    for name, value in sorted(graph.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            if value.ndim
            else repr(value.item()).encode()
        )
    return digest.hexdigest()[:32]


def _source(layer: type) -> str:
    try:
        return f"{layer.__module__}.{layer.__qualname__} {inspect.getsource(layer)}"
    except (OSError, TypeError):  # built in, or made on the fly
        return f"{layer.__module__}.{layer.__qualname__}"
