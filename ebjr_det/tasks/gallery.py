"""A gallery beside a report: pictures in groups, and `gallery.json`, which says what each shows."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.core.router import RouterDecision
from ebjr_det.core.types import PairedRun
from ebjr_det.io.files import atomic_write, writable_folder, write_text

GALLERY = "gallery"
Draw: TypeAlias = Callable[[int], tuple[Image.Image, str] | None]
"""The index of a reported image -> its picture and what is to be seen there; None where it is gone."""


class Group(NamedTuple):
    """Pictures of a kind: what it is called, why they are in it, and which they are, best example first."""

    name: str
    title: str
    note: str
    images: NDArray[np.intp]


def write_groups(
    folder: Path, legend: str, groups: Iterable[Group], run: PairedRun, draw: Draw, limit: int
) -> None:
    """Write the first pictures of each group, at most so many, and the JSON that names them.

    Args:
        run: the reported images.
    """
    shutil.rmtree(folder / GALLERY, ignore_errors=True)
    writable_folder(folder / GALLERY)
    content = []
    for name, title, note, images in groups:
        pictures: list[dict[str, str | int]] = []
        for image in images.tolist():
            if len(pictures) == limit:
                break
            if (drawn := draw(image)) is None:
                continue
            picture, caption = drawn
            file = f"{GALLERY}/{name}-{len(pictures) + 1}.jpg"
            with atomic_write(folder / file) as temporary:
                picture.save(temporary, "JPEG", quality=88)
            entry = {"image_id": run.image_ids[image], "file": file, "caption": caption}
            pictures.append({**entry, "width": picture.width, "height": picture.height})
        content.append({"title": title, "note": note, "pictures": pictures})
    write_text(folder / "gallery.json", json.dumps({"legend": legend, "groups": content}, indent=1))


def decision_text(decision: RouterDecision, image: int) -> str:
    """Who answered an image, and why."""
    model = "teacher" if decision.defer[image] else "student"
    score = f"deferral score {decision.scores[image]:.4g} (threshold {decision.threshold:.4g})"
    return f"answered by the {model}, {score}"
