"""A file of weights read into named tensors, without running or building anything that it asks for.

The file's content says what it is, not its name. `.safetensors` hold numbers only; torch files are read by
torch's weights_only unpickler, which refuses whatever is neither a tensor nor a container. Training tools put
settings beside the tensors. The few types that these use are read as `_Nothing`: the names are known, so the
file is no reason for alarm, but their own code never sees what the file says.
"""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ebjr_det.core.errors import CheckpointError, first_line, listed

if TYPE_CHECKING:
    import torch

WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of a tensor's name that torch's own wrappers leave; no network has them."""
SETTINGS = (
    "argparse.Namespace", "types.SimpleNamespace", "pathlib.PosixPath", "pathlib.WindowsPath",
    "pathlib._local.PosixPath", "pathlib._local.WindowsPath", "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath", "numpy.core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar", "numpy._core.multiarray._reconstruct", "numpy.dtype", "numpy.ndarray",
    "datetime.datetime", "datetime.timedelta", "torch.torch_version.TorchVersion", "builtins.bool",
    "builtins.dict", "builtins.float", "builtins.int", "builtins.list", "builtins.str", "builtins.tuple",
)  # fmt: skip
"""Types that tell of a training and hold no tensor: what they were is not looked at."""
MAPPINGS = (
    "collections.defaultdict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
"""Types that are read as plain mappings."""
ASKED = re.compile(r"GLOBAL (\S+)")
SHOWN = 3

_LOCK = Lock()  # the names that torch lets pass are the whole process's


class _Nothing:
    """Stands for a setting while unpickling; takes whatever it is built from and keeps none of it."""

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


class _Mapping:
    """Stands for a dictionary of another type: building one gives a plain one."""

    def __new__(cls, *_: object) -> OrderedDict[str, object]:  # type: ignore[misc]
        return OrderedDict()


def read_state(path: Path) -> dict[str, "torch.Tensor"]:
    """Every tensor of a file, on the CPU, by its name.

    The name of a tensor in a dictionary of the file begins with that dictionary's key, as in
    `state_dict/module.fc.weight`; `load_into` finds what of it is a network's.

    Raises:
        CheckpointError: no file of weights, a damaged one, one that asks for code, or one without tensors.
    """
    try:
        content = _read(path)
        state = dict(_tensors(content))
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"Expected plain tensors in `{path}`, got {_refusal(path, error)}") from error
    except Exception as error:  # a damaged file can raise anything
        raise CheckpointError(
            f"Expected a readable checkpoint, got `{path}`: {_first_reason(error)}."
        ) from error
    if not state:
        raise CheckpointError(f"Expected named tensors in `{path}`, got {_words_of(content)}.")
    return state


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do, whatever its name."""
    with path.open("rb") as opened:
        head = opened.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def _read(path: Path) -> Any:
    """The content of a file, read as its first bytes say. Raises CheckpointError for one without weights."""
    with path.open("rb") as opened:
        head = opened.read(512)
    if not head:
        raise CheckpointError(f"Expected weights in `{path}`, got an empty file. Fetch it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"Expected weights in `{path}`, got a git-lfs pointer to them. Run `git lfs pull` "
            "in its repository."
        )
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise CheckpointError(
            f"Expected weights in `{path}`, got a web page. Fetch the file itself, not the "
            "page that shows it."
        )
    if is_safetensors(path) or (path.suffix == ".safetensors" and head[8:9] == b"{"):
        from safetensors.torch import load_file

        return load_file(path)
    if head.lstrip().startswith(b"{") and b"\0" not in head:
        raise CheckpointError(
            f"Expected weights in `{path}`, got JSON text, such as the index of weights in several files. "
            "Put all tensors into one file: safetensors.torch.save_file."
        )
    return _load_torch(path)


def _load_torch(path: Path) -> Any:
    import torch

    harmless: list[Any] = [(_Nothing, name) for name in SETTINGS] + [(_Mapping, name) for name in MAPPINGS]
    with (
        _LOCK,
        torch.serialization.safe_globals(harmless),
        warnings.catch_warnings(),
        path.open("rb") as opened,
    ):
        warnings.simplefilter("ignore")  # of old formats, which are read or refused all the same
        # an opened file: of a path torch would look at the suffix
        return torch.load(opened, map_location="cpu", weights_only=True)


def _tensors(content: object) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Tensors of a dictionary, and of those in it with their keys and a slash before the names."""
    import torch

    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, dict):
            yield from ((f"{key}/{name}", tensor) for name, tensor in _tensors(value))
        elif isinstance(value, torch.Tensor):
            yield ".".join(part for part in str(key).split(".") if part not in WRAPPERS), value


def _refusal(path: Path, error: Exception) -> str:
    """Why a file is refused: what it asks for, or that it is damaged."""
    import torch

    try:
        unsafe = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # no zip file, or one whose pickle cannot be followed; torch has said what it met first
        unsafe = []
    unsafe = [name for name in unsafe if name not in {*SETTINGS, *MAPPINGS}] or ASKED.findall(str(error))[:1]
    if not unsafe:
        return f"a file that is damaged, or no file of torch: {_first_reason(error)}."
    names = ", ".join(f"`{name.encode('unicode_escape').decode()[:80]}`" for name in unsafe[:SHOWN])
    end = f" and {len(unsafe) - SHOWN} more" if len(unsafe) > SHOWN else ""
    return (
        f"a file that asks for {names}{end} and so wants to run code; refused. Save the network's "
        "state_dict() alone, or as safetensors."
    )


def _first_reason(error: BaseException) -> str:
    """The reason that torch gives, without its advice."""
    text = str(error)
    if "TorchScript" in text:
        return "a TorchScript archive, which is code. Save the network's state_dict() alone"
    if "PytorchStreamReader" in text:
        return "a zip archive that is cut off or damaged. Fetch it again"
    _, _, reason = text.partition("WeightsUnpickler error: ")
    return first_line(ValueError(reason)) if reason.strip() else first_line(error)


def _words_of(content: object) -> str:
    if not isinstance(content, dict):
        return type(content).__name__
    if not content:
        return "an empty one"
    names = [str(key) for key in content]
    return f"no tensor under {listed(names, SHOWN)}"
