"""The pictures of replayed result files, where somebody still has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.memory import Source
from ebjr_det.io.notes import say
from ebjr_det.io.pictures import open_picture
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.file_names import check_file_names, located
from ebjr_det.tasks.detection.data import DetectionSet
from ebjr_det.tasks.detection.formats.described import describe
from ebjr_det.tasks.detection.formats.sets import is_yolo, load_set


def pictures_of(files: Mapping[str, Source], folder: Path, image_ids: Sequence[str]) -> DetectionSet:
    """The annotated images with their pictures in `folder`, by the file names of the annotations.

    Args:
        image_ids: of the replayed images, by which a YOLO set's split is known.

    Raises:
        ConfigError: no annotations to tell the files by.
        InvalidInput: no folder, none of the pictures in it, or a file name that leaves it.
    """
    if "annotations" not in files:
        raise ConfigError("Expected annotations beside --images, which name the files of pictures, got none.")
    annotations = located(_annotations(files["annotations"], image_ids), folder)
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


def _annotations(source: Source, image_ids: Sequence[str]) -> Annotations:
    if not is_yolo(source):
        return load_set(source, first_pixel=0)  # a pixel more or less in a thumbnail
    sets = (load_set(source, split) for split in describe(Path(str(source))).splits)
    return next(loaded for loaded in sets if {*image_ids} <= {*map(str, loaded.image_ids)})
