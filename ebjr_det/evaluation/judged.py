"""What a run's records were judged by, which those that are still to come must be judged by, too."""

from hashlib import sha256
from pathlib import Path

import pydantic_core

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.files import to_json, write_text
from ebjr_det.io.loader import Images
from ebjr_det.io.memory import as_plain

JUDGED = "judged.json"
"""File of a run: how it read pictures and classes, and a digest of what it was judged by."""
READING = 2
"""Counts the changes of how pictures are read and classes found, after which records cannot be mixed."""


def check_judged(out: Path, images: Images, begun: bool) -> None:
    """What the records were judged by must be what it is now; a run that begins writes it down."""
    path, current = out / JUDGED, {"reading": READING, "targets": digest_of(images)}
    if not begun:
        write_text(path, to_json(current))
        return
    try:
        saved = pydantic_core.from_json(path.read_bytes())
    except (OSError, ValueError):
        saved = {}
    if saved.get("reading") != READING:
        raise InvalidInput(
            f"Expected a run of this version in `{out}`, got one of an earlier version, which read some "
            "pictures and classes otherwise; `report` still draws it. Choose another --out."
        )
    if saved != current:
        raise InvalidInput(
            f"Expected the annotations by which the run in `{out}` was judged, got others. "
            "Choose another --out."
        )


def digest_of(images: Images) -> str:
    """A digest of what every picture is judged by, and of the classes' names."""
    digest = sha256(to_json(list(getattr(images, "class_names", ()))).encode())
    for index in range(len(images)):
        digest.update(pydantic_core.to_json(images.target(index), fallback=as_plain))
    return digest.hexdigest()
