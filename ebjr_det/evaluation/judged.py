"""What a run's records were made and judged by, as those that are still to come must be, too."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pydantic_core

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.files import to_json, write_text
from ebjr_det.io.loader import Images
from ebjr_det.io.memory import as_plain

JUDGED = "judged.json"
"""File of a run: how it read pictures and classes, a digest of what it was judged by, and what made its
networks in eight bits.
"""
READING = 2
"""Counts the changes of how pictures are read and classes found, after which records cannot be mixed."""

OTHERS = {"calibration": "pictures that calibrate", "eight bits": "rules or libraries"}
"""What differs where networks in eight bits were made otherwise, by its key."""


def check_judged(out: Path, images: Images, eight_bits: Mapping[str, object], begun: bool) -> None:
    """What made and judged the records must be what it is now; a run that begins writes it down.

    Args:
        eight_bits: see `inference.calibration_part.eight_bits_of`.
    """
    path, current = out / JUDGED, {"reading": READING, "targets": digest_of(images), **eight_bits}
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
    if saved.get("targets") != current["targets"]:
        raise InvalidInput(
            f"Expected the annotations by which the run in `{out}` was judged, got others. "
            "Choose another --out."
        )
    for key, value in eight_bits.items():
        if saved.get(key) != value:
            raise InvalidInput(
                f"Expected `{key}` as in the run in `{out}`, {saved.get(key)}, got {value}: other "
                f"{OTHERS[key]} make other networks. Choose another --out, or set it as it was."
            )


def digest_of(images: Images) -> str:
    """A digest of what every picture is judged by, and of the classes' names."""
    digest = sha256(to_json(list(getattr(images, "class_names", ()))).encode())
    for index in range(len(images)):
        digest.update(pydantic_core.to_json(images.target(index), fallback=as_plain))
    return digest.hexdigest()
