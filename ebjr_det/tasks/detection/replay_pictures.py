"""The pictures of replayed result files, where somebody still has them."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.memory import Source
from ebjr_det.io.notes import say
from ebjr_det.io.pictures import open_picture
from ebjr_det.tasks.detection.coco.annotations import load_annotations
from ebjr_det.tasks.detection.coco.file_names import check_file_names, located
from ebjr_det.tasks.detection.data import DetectionSet


def pictures_of(files: Mapping[str, Source], folder: Path) -> DetectionSet:
    """The annotated images with their pictures in `folder`, by the file names of the annotations.

    Raises:
        ConfigError: no annotations to tell the files by.
        InvalidInput: no folder, none of the pictures in it, or a file name that leaves it.
    """
    if "annotations" not in files:
        raise ConfigError("Expected annotations beside --images, which name the files of pictures, got none.")
    annotations = located(load_annotations(files["annotations"]), folder)
    check_file_names(annotations, files["annotations"])
    missing = [name for name in annotations.file_names if not (folder / name).is_file()]
    count = len(annotations)
    if len(missing) == count:
        raise InvalidInput(
            f"Expected the pictures of `{files['annotations']}` in --images `{folder}`, got none of "
            f"{count:,}; the first is `{missing[0]}`."
        )
    if missing:
        say(f"Note: {len(missing):,} of {count:,} pictures are not in `{folder}`; the gallery shows others.")

    def load(index: int) -> Image.Image:
        width, height = annotations.sizes[index]
        return open_picture(folder / annotations.file_names[index], (int(width), int(height)))

    return DetectionSet(annotations, load)
