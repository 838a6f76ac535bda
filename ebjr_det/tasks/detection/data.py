"""Images with annotated objects: sets in COCO's, YOLO's or VOC's format, Open Images, scenes of digits.

A `DetectionSet` names its images, knows their objects and loads one picture at a time. Knows nothing about
networks.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ebjr_det.config import listed_classes, parse_section
from ebjr_det.core.errors import ConfigError, InvalidInput, check_known
from ebjr_det.io.files import existing_file
from ebjr_det.io.notes import say
from ebjr_det.io.pictures import open_picture
from ebjr_det.io.subset import part_of
from ebjr_det.tasks.detection.coco.annotations import (
    NO_OBJECTS,
    Annotations,
    load_annotations,
)
from ebjr_det.tasks.detection.coco.file_names import check_file_names, located
from ebjr_det.tasks.detection.coco.validate import check_located, existing_folder, say_remarks
from ebjr_det.tasks.detection.datasets import digit_scenes as scenes
from ebjr_det.tasks.detection.datasets.open_images import load_classes, load_open_images
from ebjr_det.tasks.detection.formats import described, voc, yolo
from ebjr_det.tasks.detection.metric import Target
from ebjr_det.tasks.detection.networks.classes import UNUSED, coco_names
from ebjr_det.tasks.detection.settings import JudgedSection
from ebjr_det.tasks.unlabelled import named_pictures, picture_folder

COCO_SPLIT = re.compile(r"(train|val|test|unlabeled)20\d\d")
COCO_SOURCE = "https://cocodataset.org/#download, or run `ebjr-det download coco-val2017`"
PictureAt = Callable[[int], Image.Image]


@dataclass(frozen=True)
class DetectionSet:
    """Annotated images by index. `load(i)` gives a PIL image in RGB and raises InvalidInput that names it."""

    annotations: Annotations
    load: PictureAt
    skip_unreadable: bool = True
    labelled: bool = True

    def __len__(self) -> int:
        return len(self.annotations)

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of `annotations` as text."""
        return tuple(str(image) for image in self.annotations.image_ids)

    @property
    def remarks(self) -> Mapping[str, int]:
        """How often something in the annotations was odd and was left out or taken all the same."""
        return self.annotations.remarks

    @property
    def categories(self) -> dict[int, str]:
        """Category id -> name, ascending; a class index is a position here."""
        return dict(zip(self.annotations.category_ids, self.annotations.class_names, strict=True))

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class index."""
        return self.annotations.class_names

    def load_or_say(self, index: int) -> Image.Image | None:
        """A picture; None, said on stderr, where it cannot be decoded and the data allows that."""
        try:
            return self.load(index)
        except InvalidInput as error:
            if not self.skip_unreadable:
                raise
            say(f"Left out: {error}")
            return None

    def target(self, index: int) -> Target:
        """What the detections in an image are judged by."""
        return Target(self.annotations.truths[index], len(self.annotations.category_ids))


def build_data(dataset: str, **fields: object) -> DetectionSet:
    """A data set by name.

    Args:
        dataset: `coco` (any set in COCO's format), `yolo`, `voc`, `open_images`, `digit_scenes` or
            `pictures`.
        fields: of `settings.JudgedSection`.

    Raises:
        ConfigError: unknown name or split, no root, ids that are not there.
        InvalidInput: missing, damaged or empty data.
    """
    check_known(dataset, SETS, "a known `dataset`")
    settings = parse_section(JudgedSection, {"dataset": dataset, **fields})
    everything, load = SETS[dataset](settings)
    if not settings.labels:
        everything = everything.without_objects()
    subset = everything.subset(settings.ids)
    if settings.part is not None:
        subset = subset.subset([subset.image_ids[index] for index in part_of(len(subset), settings.part)])
    subset = subset.subset(limit=settings.limit)
    position_of = {image: index for index, image in enumerate(everything.image_ids)}
    positions = [position_of[image] for image in subset.image_ids]
    return DetectionSet(
        subset, lambda index: load(positions[index]), settings.skip_unreadable, settings.labels
    )


@dataclass(frozen=True)
class Named:
    """The classes of a data set without its pictures: category id -> name, ascending."""

    categories: Mapping[int, str]

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class index."""
        return tuple(self.categories.values())


def build_named(dataset: str, annotations: str | None = None, **settings: Any) -> Named:
    """The classes of a data set, for pictures of one's own.

    Of COCO's layout those of its annotations, or COCO's own where a split that COCO publishes is not here.

    Args:
        dataset, annotations, settings: as in `build_data`.
    """
    if dataset == "digit_scenes":
        return Named(dict(enumerate(scenes.CLASSES, start=1)))
    if dataset == "pictures":
        return Named(_listed(settings.get("classes")))
    if dataset == "open_images":
        return Named(dict(enumerate(load_classes(settings.get("root"), annotations).values(), start=1)))
    if dataset == "yolo":
        return Named(described.describe(_described_at(annotations or settings.get("root"))).classes)
    if dataset == "voc":
        names = listed_classes(settings.get("classes"))
        layout = voc.Layout.of(settings.get("root"), None, annotations, settings.get("images"))
        return Named(dict(enumerate(names or voc.class_names(layout), start=1)))
    if dataset == "coco":
        path = Path(
            annotations or f"{settings.get('root')}/annotations/instances_{settings.get('split')}.json"
        )
        published = COCO_SPLIT.fullmatch(str(settings.get("split")))
        if annotations is None and published and not path.is_file():
            return Named({key: name for key, name in coco_names().items() if name not in UNUSED})
        loaded = load_annotations(path)
        return Named(dict(zip(loaded.category_ids, loaded.class_names, strict=True)))
    return Named(build_data(dataset, annotations=annotations, **settings).categories)


def _coco(settings: JudgedSection) -> tuple[Annotations, PictureAt]:
    root, split, annotations, images = settings.root, settings.split, settings.annotations, settings.images
    if annotations is None or images is None:
        check_located(root, split)
        annotations = annotations or f"{root}/annotations/instances_{split}.json"
        images = images or f"{root}/{split}"
    path, published = Path(annotations), COCO_SPLIT.fullmatch(split or "")  # others have another source
    content = f"COCO annotations (from {COCO_SOURCE})" if published else "annotations"
    loaded = load_annotations(existing_file(path, content), objects_too=settings.labels)
    folder = existing_folder(Path(images), COCO_SOURCE if published else None)
    loaded = located(loaded, folder)
    check_file_names(loaded, path)
    say_remarks(path, loaded.remarks)
    return loaded, partial(_annotated_picture, loaded, folder)


def _yolo(settings: JudgedSection) -> tuple[Annotations, PictureAt]:
    if settings.images is not None:
        raise ConfigError(
            "Expected a YOLO set without `data.images`, got some: its data.yaml names the pictures."
        )
    source = described.describe(_described_at(settings.annotations or settings.root))
    loaded, folder = yolo.load_yolo(source, settings.split, objects_too=settings.labels)
    say_remarks(source.path, loaded.remarks)
    return loaded, partial(_annotated_picture, loaded, folder)


def _described_at(path: str | None) -> Path:
    """The data.yaml of a YOLO set, or its folder."""
    if path is None:
        raise ConfigError(
            "Expected `data.annotations`, the data.yaml of a YOLO set, or `data.root`, got neither."
        )
    return Path(path)


def _voc(settings: JudgedSection) -> tuple[Annotations, PictureAt]:
    layout = voc.Layout.of(settings.root, settings.split, settings.annotations, settings.images)
    names = listed_classes(settings.classes)
    loaded, folder = voc.load_voc(layout, names, settings.first_pixel, objects_too=settings.labels)
    check_file_names(loaded, layout.files)
    say_remarks(layout.files, loaded.remarks)
    return loaded, partial(_annotated_picture, loaded, folder)


def _open_images(settings: JudgedSection) -> tuple[Annotations, PictureAt]:
    loaded, folder = load_open_images(settings.root, settings.split, settings.annotations, settings.images)
    return loaded, partial(_annotated_picture, loaded, folder, as_stored=True)


def _annotated_picture(
    annotations: Annotations, folder: Path, index: int, *, as_stored: bool = False
) -> Image.Image:
    """The picture of an annotated image, as its annotator saw it."""
    width, height = annotations.sizes[index]
    path = folder / annotations.file_names[index]
    return open_picture(path, (int(width), int(height)), as_stored=as_stored)


def _digit_scenes(settings: JudgedSection) -> tuple[Annotations, PictureAt]:
    if settings.root or settings.annotations or settings.images:
        raise ConfigError("Expected digit scenes without `root`, `annotations` and `images`, got some.")
    split = settings.split or "test"
    check_known(split, scenes.SPLITS, "a split of digit_scenes")
    return scenes.describe(split), partial(scenes.draw_scene, split)


def _pictures(settings: JudgedSection) -> tuple[Annotations, PictureAt]:
    """Pictures of a folder and of those below it, by the paths of their files; objects are not known."""
    if settings.labels:
        raise ConfigError("Expected `data.labels: false` with `pictures`, which nobody annotated, got true.")
    folder, names = picture_folder(settings.root), _listed(settings.classes)
    files = named_pictures(folder)
    described = Annotations(
        tuple(files),
        tuple(files.values()),
        np.zeros((len(files), 2), dtype=np.intp),
        tuple(names),
        tuple(names.values()),
        (NO_OBJECTS,) * len(files),
    )
    return described, partial(_annotated_picture, described, folder)


def _listed(classes: list[str] | str | None) -> dict[int, str]:
    """Category id -> name of listed classes, which count from 1; COCO's own where none are listed."""
    names = listed_classes(classes)
    if names is None:
        return {key: name for key, name in coco_names().items() if name not in UNUSED}
    return dict(enumerate(names, start=1))


collate = list
"""Pictures of several sizes are no tensor: a batch is a list of inputs."""

SETS: dict[str, Callable[[JudgedSection], tuple[Annotations, PictureAt]]] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "open_images": _open_images,
    "digit_scenes": _digit_scenes,
    "pictures": _pictures,
}
