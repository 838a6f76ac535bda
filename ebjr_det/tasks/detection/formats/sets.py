"""Annotated images from a path, whatever its form: COCO's JSON, YOLO's data.yaml or VOC's folder."""

from pathlib import Path

from ebjr_det.io.memory import Source
from ebjr_det.tasks.detection.coco.annotations import Annotations, load_annotations
from ebjr_det.tasks.detection.coco.file_names import located
from ebjr_det.tasks.detection.formats import voc, yolo
from ebjr_det.tasks.detection.formats.described import describe, description_at


def load_set(
    source: Source, split: str | None = None, first_pixel: int | None = None, *, objects_too: bool = True
) -> Annotations:
    """Read annotated images.

    Args:
        split: of YOLO's and VOC's sets; of VOC's all pictures without one.
        first_pixel: the number of the first pixel of VOC's boxes; by default see `voc.Layout`.
        objects_too: whether objects are read, and not pictures and classes alone.

    Raises EbjrError as the form's reader does.
    """
    if is_yolo(source):
        return yolo.load_yolo(describe(Path(str(source))), split, objects_too=objects_too)[0]
    if is_voc(source):
        layout = voc.Layout.of(None, split, str(source))
        return voc.load_voc(layout, None, first_pixel, objects_too=objects_too)[0]
    return load_annotations(source, objects_too=objects_too)


def pictures_of(
    source: Source, split: str | None, first_pixel: int | None, images: Path | None
) -> tuple[Annotations, Path]:
    """Annotated images as `load_set` reads them, and the folder that the names of their files are below.

    Args:
        images: that folder, where the source is a COCO file.
    """
    if is_yolo(source):
        return yolo.load_yolo(describe(Path(str(source))), split)
    if is_voc(source):
        return voc.load_voc(voc.Layout.of(None, split, str(source)), None, first_pixel)
    assert images is not None
    return located(load_annotations(source), images), images


def names_of(source: Source) -> tuple[str, ...]:
    """The classes of annotated images, by index."""
    if is_yolo(source):
        return tuple(describe(Path(str(source))).classes.values())
    if is_voc(source):
        return tuple(voc.class_names(voc.Layout.of(None, None, str(source))))
    return load_annotations(source, objects_too=False).class_names


def form_of(source: Source) -> str:
    """`yolo`, `voc` or `coco`, by what a path leads to."""
    return "yolo" if is_yolo(source) else "voc" if is_voc(source) else "coco"


def is_yolo(source: Source) -> bool:
    """Whether a path leads to what describes a YOLO set, or to its folder, which has no XML files."""
    if not isinstance(source, Path) or description_at(source) is None:
        return False
    return not (source / "Annotations").is_dir() and next(source.glob("*.xml"), None) is None


def is_voc(source: Source) -> bool:
    """Whether a path leads to a folder of VOC's XML files, or to one that has such a folder."""
    return isinstance(source, Path) and source.is_dir() and not is_yolo(source)
