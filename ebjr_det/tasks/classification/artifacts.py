"""What an evaluation of classifiers leaves besides its report: a gallery of pictures with both answers."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.router import RouterDecision
from ebjr_det.core.types import FloatArray, PairedRun
from ebjr_det.io.files import atomic_write, writable_folder, write_text
from ebjr_det.io.lettering import legible, with_strip
from ebjr_det.io.memory import Source
from ebjr_det.io.picture_folders import pictures_below
from ebjr_det.io.pictures import as_picture, open_picture
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.classification.replay import class_names
from ebjr_det.tasks.popular import OTHER

GALLERY = "gallery"
PICTURES = 6  # of a group
SIDE = 320  # pixels
LEGEND = "Above each picture what both models call it, below it who answered."


def pictures_of(files: Mapping[str, Source], folder: Path, image_ids: Sequence[str]) -> ImageSet:
    """Images with their pictures in `folder`: an id is a path in it, with or without what it ends in.

    Raises:
        ConfigError: no labels to tell right from wrong, or no id is there.
    """
    if "labels" not in files:
        raise ConfigError("Expected labels beside --images, which tell right from wrong, got none.")
    paths, _ = pictures_below(folder)
    names = {path.relative_to(folder).as_posix(): path for path in sorted(paths)}
    names |= {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(paths)}
    if not any(image in names for image in image_ids):
        raise ConfigError(
            f"Expected pictures in --images `{folder}` whose paths are the `image_ids` of the logits, such "
            f"as `{image_ids[0]}`, got none of {len(image_ids):,}."
        )

    def load(index: int) -> Image.Image:
        if image_ids[index] not in names:
            raise InvalidInput(f"Expected a picture `{image_ids[index]}` in `{folder}`, got none.")
        return open_picture(names[image_ids[index]])

    return ImageSet(tuple(image_ids), np.zeros(len(image_ids), np.intp), class_names(**files), load)


def write_gallery(folder: Path, data: ImageSet, run: PairedRun, decision: RouterDecision) -> None:
    """`gallery.json` and the pictures it names, of the images that are reported.

    Args:
        run: the reported images; `decision`: on them, in their order.
    """
    shutil.rmtree(folder / GALLERY, ignore_errors=True)
    writable_folder(folder / GALLERY)
    gain = run.teacher["correct"].astype(float) - run.student["correct"]
    doubt = np.argsort(-decision.scores, kind="stable")
    groups = [
        {"title": title, "note": note, "pictures": list(_entries(folder, stem, data, run, decision, images))}
        for stem, title, note, images in (
            ("gained", "Gained", "The teacher is right, the student wrong.", _first(doubt, gain)),
            ("lost", "Lost", "The student is right, the teacher wrong.", _first(doubt, -gain)),
            ("hardest", "Hardest", "The student doubts most here.", doubt),
        )
    ]
    write_text(folder / "gallery.json", json.dumps({"legend": LEGEND, "groups": groups}, indent=1))


def _first(doubt: NDArray[np.intp], gain: FloatArray) -> NDArray[np.intp]:
    """Images of the largest gain first, those of equal gain by doubt; only where there is any."""
    ordered = doubt[np.argsort(-gain[doubt], kind="stable")]
    return ordered[gain[ordered] > 0]


def _entries(
    folder: Path,
    stem: str,
    data: ImageSet,
    run: PairedRun,
    decision: RouterDecision,
    images: NDArray[np.intp],
) -> Iterator[dict[str, str | int]]:
    """The first few of the images whose pictures can be read, written; what the page says of each."""
    position, number = {image: index for index, image in enumerate(data.image_ids)}, 0
    for image in images.tolist():
        if number == PICTURES:
            return
        try:
            picture = as_picture(data.load(position[run.image_ids[image]]))
        except InvalidInput:
            continue
        number += 1
        names = [_name(data, int(records["predicted"][image])) for records in (run.student, run.teacher)]
        titled = with_strip(legible(picture, SIDE), f"{names[0]} / {names[1]}", "#444444")
        file = f"{GALLERY}/{stem}-{number}.jpg"
        with atomic_write(folder / file) as temporary:
            titled.save(temporary, "JPEG", quality=88)
        model = "teacher" if decision.defer[image] else "student"
        caption = (
            f"{run.image_ids[image]}: {_name(data, int(run.student['label'][image]))}; the student says "
            f"{names[0]}, the teacher {names[1]}; answered by the {model}, deferral score "
            f"{decision.scores[image]:.4g} (threshold {decision.threshold:.4g})"
        )
        size = {"width": titled.width, "height": titled.height}
        yield {"image_id": run.image_ids[image], "file": file, "caption": caption, **size}


def _name(data: ImageSet, index: int) -> str:
    """A class by index; the last one of a specialised student is "other"."""
    return data.class_names[index] if index < data.num_classes else OTHER
