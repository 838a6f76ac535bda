"""What an evaluation of classifiers leaves besides its report: a gallery of pictures with both answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.router import RouterDecision
from ebjr_det.core.types import FloatArray, PairedRun
from ebjr_det.io.lettering import legible, with_strip
from ebjr_det.io.memory import Source
from ebjr_det.io.picture_folders import pictures_below
from ebjr_det.io.pictures import as_picture, open_picture
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.classification.replay import class_names
from ebjr_det.tasks.gallery import Group, decision_text, write_groups
from ebjr_det.tasks.popular import OTHER

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
    position = {image: index for index, image in enumerate(data.image_ids)}
    gain = run.teacher["correct"].astype(float) - run.student["correct"]
    doubt = np.argsort(-decision.scores, kind="stable")

    def draw(image: int) -> tuple[Image.Image, str] | None:
        try:
            picture = as_picture(data.load(position[run.image_ids[image]]))
        except InvalidInput:
            return None
        student, teacher = (_name(data, side["predicted"][image]) for side in (run.student, run.teacher))
        caption = (
            f"{run.image_ids[image]}: {_name(data, run.student['label'][image])}; the student says "
            f"{student}, the teacher {teacher}; {decision_text(decision, image)}"
        )
        return with_strip(legible(picture, SIDE), f"{student} / {teacher}", "#444444"), caption

    groups = [
        Group("gained", "Gained", "The teacher is right, the student wrong.", _first(doubt, gain)),
        Group("lost", "Lost", "The student is right, the teacher wrong.", _first(doubt, -gain)),
        Group("hardest", "Hardest", "The student doubts most here.", doubt),
    ]  # fmt: skip
    write_groups(folder, LEGEND, groups, run, draw, PICTURES)


def _first(doubt: NDArray[np.intp], gain: FloatArray) -> NDArray[np.intp]:
    """Images of the largest gain first, those of equal gain by doubt; only where there is any."""
    ordered = doubt[np.argsort(-gain[doubt], kind="stable")]
    return ordered[gain[ordered] > 0]


def _name(data: ImageSet, index: int) -> str:
    """A class by index; the last one of a specialised student is "other"."""
    return data.class_names[index] if index < data.num_classes else OTHER
