"""Weights: where they come from, that they are whole, and that reading them runs no code.

A checkpoint in a configuration is a name from `checkpoints/manifest.yaml` or the path of a file. Known
files are checked against the manifest's sha256; `.safetensors` files hold numbers only and all others are
read with torch's weights_only unpickler. Knows nothing about architectures.
"""

import json
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ebjr_det.errors import CheckpointError, did_you_mean, first_line
from ebjr_det.files import checksum

if TYPE_CHECKING:
    import torch

FOLDER_VARIABLE = "EBJR_DET_CHECKPOINTS"
STATE_KEYS = ("state_dict", "model", "model_state")
UNUSED = "num_batches_tracked"  # old checkpoints have no such counter, and inference needs none
CLASSES = "classes"  # metadata of weights that this project trained: names of the outputs, a JSON list
PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class ManifestEntry:
    """One known file of weights.

    Attributes:
        name: how configurations call it.
        files: paths below a checkpoint folder under which it may lie.
        sha256: of the file's content, or where its owner publishes no more, the first 8 digits.
        source: where a user gets it, or the command that made it.
        licence: as its owner states it.
        note: what it is and how it was trained.
        url: from which `ebjr-det download` fetches it, where that is possible.
    """

    name: str
    files: tuple[str, ...]
    sha256: str
    source: str
    licence: str
    note: str = ""
    url: str = ""


def shipped_folder() -> Path:
    """The project's own `checkpoints/`: beside the package in a checkout, inside it in a wheel."""
    beside = Path(__file__).resolve().parent.parent / "checkpoints"
    return beside if beside.is_dir() else Path(__file__).resolve().parent / "shipped" / "checkpoints"


def folders() -> list[Path]:
    """Where manifest files are looked for, in order: $EBJR_DET_CHECKPOINTS, ./checkpoints, shipped."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return [*([Path(chosen)] if chosen else []), Path("checkpoints"), shipped_folder()]


@cache
def manifest() -> Mapping[str, ManifestEntry]:
    """The shipped manifest by name."""
    entries = yaml.safe_load((shipped_folder() / "manifest.yaml").read_text(encoding="utf-8"))
    return {
        name: ManifestEntry(name, tuple(fields.pop("files")), **fields) for name, fields in entries.items()
    }


def find_checkpoint(reference: str) -> Path:
    """The file behind a manifest name or a path, its checksum verified where it is known.

    Raises:
        CheckpointError: nothing there (says where to get it and where to put it), or a wrong checksum.
    """
    entry = manifest().get(reference)
    if entry is None:
        return _find_path(reference)
    tried = [folder / file for folder in folders() for file in entry.files]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        how = f"Run `ebjr-det download {reference}`, or:" if entry.url else ""
        raise CheckpointError(
            f"Expected checkpoint `{reference}` at one of {', '.join(map(str, dict.fromkeys(tried)))}, got "
            f"none of them. {how} Get it from {entry.source} and put it there, or set {FOLDER_VARIABLE}."
        )
    check_sha256(found, entry.sha256)
    return found


def _find_path(reference: str) -> Path:
    path = Path(reference)
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        raise CheckpointError(
            f"Expected a checkpoint file or a name from the manifest, got `{reference}`. "
            + did_you_mean(reference, manifest())
        )
    for entry in manifest().values():
        if any(path.absolute().as_posix().endswith(f"/{file}") for file in entry.files):
            check_sha256(path, entry.sha256)
    return path


def check_sha256(path: Path, expected: str) -> None:
    """Raises CheckpointError when the file's sha256 is not `expected`, or does not begin so."""
    got = checksum(path)
    if len(expected) < 8 or not got.startswith(expected.lower()):
        raise CheckpointError(
            f"Expected sha256 {expected} for `{path}`, got {got}. "
            "The file is damaged or another one; fetch it again."
        )


def read_state(path: Path) -> dict[str, "torch.Tensor"]:
    """The tensors of a checkpoint by name, on the CPU, without wrapper prefixes.

    Reads `.safetensors` and torch files, the latter with weights_only: a pickle that wants to call anything
    is refused before it runs. A training checkpoint's `state_dict` is taken out of its dictionary.

    Raises:
        CheckpointError: unreadable, truncated, unsafe, or without tensors.
    """
    try:
        content = _read(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"Expected plain tensors in `{path}`, got a file that is damaged or wants to run code; refused."
        ) from error
    except Exception as error:  # a damaged file can raise anything
        raise CheckpointError(
            f"Expected a readable checkpoint, got `{path}`: {first_line(error)}."
        ) from error
    try:
        return _tensors(content, path)
    except (RuntimeError, NotImplementedError) as error:  # torch cannot compute with every type it stores
        raise CheckpointError(
            f"Expected tensors of an ordinary type in `{path}`, got: {first_line(error)}."
        ) from error


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(content: Any, path: Path) -> dict[str, "torch.Tensor"]:
    import torch

    for key in STATE_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    state = content if isinstance(content, dict) else {}
    state = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if not state:
        raise CheckpointError(f"Expected named tensors in `{path}`, got none.")
    for key, tensor in state.items():
        plain = tensor.layout == torch.strided and not (
            tensor.is_meta or tensor.is_nested or tensor.is_complex() or tensor.is_quantized
        )
        if not plain or (tensor.is_floating_point() and not tensor.float().isfinite().all()):
            raise CheckpointError(
                f"Expected dense tensors of finite numbers in `{path}`, got another kind or NaN in `{key}`."
            )
    while (prefix := next(iter(state)).split(".")[0] + ".") in PREFIXES and all(
        k.startswith(prefix) for k in state
    ):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def load_into(network: "torch.nn.Module", state: Mapping[str, "torch.Tensor"], origin: str) -> None:
    """Put a state into a network of exactly that architecture and class count.

    Raises:
        CheckpointError: names the first missing, unexpected and wrongly shaped tensors and their number;
            the classifier's shape comes first because a wrong class count is the usual cause.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith(UNUSED)]
    unexpected = [key for key in state if key not in own]
    misshapen = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in reversed(own)
        if key in state and state[key].shape != own[key].shape
    ]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in (
            ("of another shape, so another class count or width", misshapen),
            ("missing", missing),
            ("unexpected", unexpected),
        )
        if names
    ]
    if faults:
        raise CheckpointError(f"Expected `{origin}` to fit the network, got tensors {'; '.join(faults)}.")
    try:
        network.load_state_dict({**own, **state})
    except RuntimeError as error:  # a type that cannot be converted
        raise CheckpointError(
            f"Expected `{origin}` to hold weights as numbers, got: {first_line(error)}."
        ) from error


def check_classes(path: Path, class_names: Sequence[str]) -> None:
    """Raises CheckpointError where a file of this project's own training tells of other outputs."""
    if path.suffix != ".safetensors":
        return
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as opened:
            told = (opened.metadata() or {}).get(CLASSES)
        names = None if told is None else json.loads(told)
    except (SafetensorError, ValueError):
        return  # `read_state` says what is wrong with it, and foreign metadata say nothing
    if isinstance(names, list) and names != list(class_names):
        raise CheckpointError(
            f"Expected weights for {_listed(class_names)} in `{path}`, got weights for "
            f"{_listed(names)}. Set `popular`, or the data, to these."
        )


def _listed(names: Sequence[str]) -> str:
    few = ", ".join(map(str, names[:4]))
    return f"{len(names)} classes ({few}{', ...' if len(names) > 4 else ''})"


def load_fitting(network: "torch.nn.Module", state: Mapping[str, "torch.Tensor"], origin: str) -> None:
    """Put in what fits of another network's state; the rest keeps its fresh weights and is named on stderr.

    Raises:
        CheckpointError: not even half of the network's tensors are there.
    """
    own = network.state_dict()
    fitting = {key: value for key, value in state.items() if key in own and value.shape == own[key].shape}
    left = [key for key in own if key not in fitting and not key.endswith(UNUSED)]
    if len(left) > len(fitting):
        raise CheckpointError(
            f"Expected weights of a similar network in `{origin}`, got {len(fitting)} tensors that fit, "
            f"{len(left)} missing."
        )
    if left:
        named = ", ".join(left[:3]) + ", ..." * (len(left) > 3)
        print(f"`{origin}` lacks {len(left)} tensors, which start anew: {named}", file=sys.stderr)
    network.load_state_dict({**own, **fitting})
