"""Annotated pictures in memory as a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Opaque
from ebjr_det.io.memory import source_of
from ebjr_det.io.pictures import as_picture
from ebjr_det.tasks.detection.coco.annotations import Annotations, load_annotations
from ebjr_det.tasks.detection.coco.validate import load_json, say_remarks
from ebjr_det.tasks.detection.data import DetectionSet


def build_annotated(
    pictures: Sequence[Opaque] | Mapping[object, Opaque], annotations: object
) -> DetectionSet:
    """Pictures with COCO's annotations, as `data` of `evaluate`.

    Args:
        pictures: PIL images, uint8 arrays [height, width, 3], or paths: in the order of the annotations'
            `images`, or by image id or file name.
        annotations: COCO's object with `images`, `annotations` and `categories`, pycocotools' `COCO`, or a
            path.

    Raises:
        InvalidInput: a fault in the annotations, a picture that is missing, or too many. A picture of another
            size than annotated is an error where it is loaded.

    >>> import numpy as np
    >>> images = [{"id": 7, "file_name": "7.png", "width": 8, "height": 8}]
    >>> coco = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    >>> data = build_annotated([np.zeros((8, 8, 3), np.uint8)], coco)
    >>> data.image_ids, data.class_names, data.load(0).size
    (('7',), ('cat',), (8, 8))
    """
    source = source_of("annotations", annotations)
    loaded = load_annotations(source)
    say_remarks(source, loaded.remarks)
    if not isinstance(pictures, Mapping):
        ids = [str(entry["id"]) for entry in load_json(source, "COCO annotations")["images"]]
        if len(ids) != len(pictures):
            raise InvalidInput(
                f"Expected a picture of each of the {len(ids)} annotated images, got {len(pictures)}."
            )
        pictures = dict(zip(ids, pictures, strict=True))
    by_name = {str(key): picture for key, picture in pictures.items()}
    keys = zip(map(str, loaded.image_ids), loaded.file_names, strict=True)
    chosen = [by_name[image] if image in by_name else by_name.get(file) for image, file in keys]
    missing = [image for image, picture in zip(loaded.image_ids, chosen, strict=True) if picture is None]
    if missing:
        raise InvalidInput(
            f"Expected a picture of each annotated image, got none of `{missing[0]}`, by its id or file name."
        )
    return DetectionSet(loaded, _Loader(loaded, chosen), skip_unreadable=False)


@dataclass(frozen=True)
class _Loader:
    """A picture by its index, if it has the size that its annotations are of."""

    annotations: Annotations
    pictures: Sequence[Opaque]

    def __call__(self, index: int) -> Image.Image:
        picture, size = as_picture(self.pictures[index]), tuple(self.annotations.sizes[index].tolist())
        if 0 not in size and picture.size != size:
            raise InvalidInput(
                f"Expected the picture of image `{self.annotations.image_ids[index]}` in the annotated size, "
                f"{size[0]} x {size[1]}, got {picture.size[0]} x {picture.size[1]}."
            )
        return picture
