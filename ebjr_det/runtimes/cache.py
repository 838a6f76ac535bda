"""What took long to make from a network, kept on disk: ONNX files and compiled packages.

A file's name is a digest of all that it was made from: weights, layers and their source, shape of the
input, versions, processor. It is ours and in the user's own folder; remove the folder to begin anew.
"""

import hashlib
import inspect
import os
import platform
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.environment import cpu_flags, version_of
from ebjr_det.io.files import writable_folder
from ebjr_det.runtimes.registry import Batch

FOLDER = "EBJR_DET_CACHE"
MADE_WITH = ("ebjr-det", "torch", "torchvision", "timm", "effdet", "numpy", "onnx", "onnxscript")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
PLAIN = (bool, int, float, complex, str, bytes, type(None), tuple, list, dict, torch.dtype)

Made = TypeVar("Made")


def cache_folder() -> Path:
    """`EBJR_DET_CACHE`, or `ebjr_det` in the user's cache. Raises InvalidInput where the user has no home."""
    chosen = os.environ.get(FOLDER)
    of_user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(chosen) if chosen else Path(of_user).expanduser() / "ebjr_det"
    except RuntimeError as error:  # neither HOME nor an entry of the user
        raise InvalidInput(
            f"Expected a folder for what runtimes keep, got no home folder. Set {FOLDER} to one."
        ) from error


def cached(
    graph: nn.Module,
    example: Batch,
    kind: str,
    write: Callable[[Path], None],
    read: Callable[[Path], Made],
    *,
    note: str = "",
) -> Made:
    """What `read(path)` makes of the file that `write(path)` makes of a network, written once.

    A file whose reading fails, because it is damaged, is written anew. Writers replace the file at once, so
    that several processes may write it at a time.

    Args:
        kind: its suffix, `onnx` or `pt2`; `note`: whatever else it depends on.

    Raises:
        InvalidInput: a folder that cannot be written to.
    """
    path = cache_folder() / f"{digest_of(graph, example, note)}.{kind}"
    if path.is_file():
        try:
            return read(path)
        except Exception:  # noqa: S110 - libraries raise anything for a damaged file
            pass
    try:
        writable_folder(path.parent)
    except InvalidInput as error:
        raise InvalidInput(f"{error} Set {FOLDER}.") from error
    write(path)
    return read(path)


def digest_of(graph: nn.Module, example: Batch, note: str) -> str:
    """A digest of everything that a file made of the network depends on."""
    digest = hashlib.sha256()
    layers = {kind for module in graph.modules() for kind in type(module).__mro__}
    texts = (
        note, repr(graph), str(tuple(example.shape[1:])), str(example.dtype),
        torch.__version__, *(f"{name} {version_of(name)}" for name in MADE_WITH),
        platform.python_version(), _processor(),
        *(f"{name} {_settings(module)}" for name, module in graph.named_modules()),
        *sorted(map(_source, layers)),
    )  # fmt: skip
    for text in texts:
        digest.update(ADDRESS.sub("", text).encode() + b"\0")
    # a state_dict leaves buffers out that are not persistent
    for name, value in (*graph.named_parameters(), *graph.named_buffers()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _settings(module: nn.Module) -> str:
    """A layer's plain attributes, which `repr` need not show."""
    settings = [item for item in vars(module).items() if item[0][0] != "_" and isinstance(item[1], PLAIN)]
    return repr(sorted(settings))


def _source(layer: type) -> str:
    """A layer's name, and the source of its whole module, whose functions it may call."""
    return f"{layer.__module__}.{layer.__qualname__} {source_of_module(layer.__module__)}"


@cache
def source_of_module(name: str) -> str:
    """The text of a loaded module; empty where nobody has it."""
    try:
        return inspect.getsource(sys.modules[name])
    except (KeyError, OSError, TypeError):  # built in, or made on the fly
        return ""


def _processor() -> str:
    """The processor's instructions: compiled code of a richer one dies on another."""
    flags = " ".join(sorted(cpu_flags())) or platform.processor()
    return f"{platform.system()} {platform.machine()} {torch.backends.cpu.get_cpu_capability()} {flags}"
