"""Where a checkpoint lies: a name from `checkpoints/manifest.yaml`, or the path of a file.

Known files are checked against the manifest's sha256.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from ebjr_det.core.errors import CheckpointError, did_you_mean, listed
from ebjr_det.io.checkpoints.reading import is_safetensors
from ebjr_det.io.files import checksum, shipped

FOLDER_VARIABLE = "EBJR_DET_CHECKPOINTS"
CLASSES = "classes"
"""Metadata of weights that this project trained: in JSON the names of the outputs, or name -> output where
some outputs are no class. One key alone: safetensors writes several in any order."""


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
    return shipped("checkpoints")


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
    paths = [folder / file for folder in folders() for file in entry.files]
    for path in paths:
        if path.is_file():
            check_sha256(path, entry.sha256)
            return path
    command = f"Run `ebjr-det download {reference}`, or:" if entry.url else ""
    raise CheckpointError(
        f"Expected checkpoint `{reference}` at one of {', '.join(map(str, dict.fromkeys(paths)))}, got "
        f"none of them. {command} Get it from {entry.source} and put it there, or set {FOLDER_VARIABLE}."
    )


def _find_path(reference: str) -> Path:
    path = Path(reference)
    try:
        exists = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        exists = False
    if not exists:
        raise CheckpointError(
            f"Expected a checkpoint file or a name from the manifest, got `{reference}`. "
            + did_you_mean(reference, manifest())
        )
    for entry in manifest().values():
        if any(path.absolute().as_posix().endswith(f"/{file}") for file in entry.files):
            check_sha256(path, entry.sha256)
    return path


def check_sha256(path: Path, expected: str, digest: str | None = None) -> None:
    """Raises CheckpointError when the file's sha256, or a folder's `digest`, does not begin as `expected`."""
    digest = digest or checksum(path)
    if len(expected) < 8 or not digest.startswith(expected.lower()):
        raise CheckpointError(
            f"Expected sha256 {expected} for `{path}`, got {digest}. "
            "The file is damaged or another one; fetch it again."
        )


def read_classes(path: Path) -> list[tuple[str, int]] | None:
    """Name and output of each class in weights that this project trained; None of any other file."""
    if not is_safetensors(path):
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as opened:
            classes = json.loads((opened.metadata() or {})[CLASSES])
        if isinstance(classes, list):
            return [(str(name), output) for output, name in enumerate(classes)]
        return [(str(name), int(output)) for name, output in classes.items()]
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None  # `read_state` says what is wrong with it, and foreign metadata say nothing


def check_classes(path: Path, class_names: Sequence[str]) -> None:
    """Raises CheckpointError where weights that this project trained have other outputs."""
    stored = read_classes(path)
    if stored is not None and stored != [(name, output) for output, name in enumerate(class_names)]:
        raise CheckpointError(
            f"Expected weights for {_counted(class_names)} in `{path}`, got weights for "
            f"{_counted([name for name, _ in stored])}. Set `popular`, or the data, to these."
        )


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} classes ({listed(names, 4)})"
