"""`convert`: an annotated set, or a detector's results, from the form that they have into another one."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TypedDict, Unpack

from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.io.files import writable_folder
from ebjr_det.io.memory import source_of
from ebjr_det.tasks.detection.coco.annotations import Annotations, Results, load_results
from ebjr_det.tasks.detection.coco.results import result_entries_of, write_annotations, write_json
from ebjr_det.tasks.detection.coco.validate import say_remarks
from ebjr_det.tasks.detection.formats.results import Reading, as_cocos
from ebjr_det.tasks.detection.formats.sets import is_voc, is_yolo, load_set, pictures_of
from ebjr_det.tasks.detection.formats.writing import write_voc_set, write_yolo_results, write_yolo_set

FORMS = ("coco", "yolo", "voc")


class ConvertOptions(TypedDict, total=False):
    """What is not in the files that `convert` reads.

    Attributes:
        annotations: the set that results are of, in any form; with it `source` is results.
        images: the folder of the pictures of a COCO file.
        split: of the set, in YOLO's or VOC's form; also how the written one is called.
        first_pixel: the number of the first pixel of VOC's boxes, read or written.
        class_ids, image_ids: see `formats.results.Reading`.
    """

    annotations: str | Path
    images: str | Path
    split: str
    first_pixel: int
    class_ids: str
    image_ids: str


@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote: where, how many pictures, and how many objects or detections."""

    path: Path
    pictures: int
    boxes: int


def convert(source: str | Path, out: str | Path, to: str, **options: Unpack[ConvertOptions]) -> Conversion:
    """Write an annotated set, or results, in another form, whole or not at all.

    Boxes keep their bits where the form can hold them. Of a set in YOLO's or VOC's form the pictures are
    linked, or copied where the disk cannot link.

    Args:
        source: a set (COCO's JSON, YOLO's data.yaml, VOC's folder) or, beside `annotations`, results in any
            form that `replay` reads.
        out: a JSON file (`coco`) or a folder, which must not be there yet.
        to: `coco`, `yolo` or, of sets alone, `voc`.

    Raises:
        ConfigError: an unknown form, `out` exists, or the pictures are not told.
        InvalidInput: whatever is wrong with the files.

    Example:
        >>> import ebjr_det
        >>> ebjr_det.convert("data.yaml", "truth.json", "coco", split="val").pictures  # doctest: +SKIP
        128
    """
    check_known(to, FORMS, "a form to write")
    path = Path(out)
    if path.exists():
        raise ConfigError(f"Expected a new path to write to, got `{path}`, which exists. Name another one.")
    if to == "coco" and not path.name.endswith((".json", ".json.gz")):
        raise ConfigError(f"Expected a .json or .json.gz for COCO's form, got `{path}`.")
    if "annotations" in options:
        return _results(Path(source), path, to, options)
    return _set(Path(source), path, to, options)


def _results(source: Path, out: Path, to: str, options: ConvertOptions) -> Conversion:
    if to == "voc":
        raise ConfigError("Expected results as `coco` or `yolo`, got `voc`.")
    first_pixel = options.get("first_pixel", 1)
    truth = load_set(source_of("annotations", options["annotations"]), options.get("split"), first_pixel)
    reading = Reading(options.get("class_ids"), options.get("image_ids", "ids"), first_pixel)
    remarks = dict[str, int]()
    results = load_results(as_cocos(source, truth, reading), truth, remarks=remarks)
    say_remarks(source, remarks)
    _write_results(truth, results, out, to)
    return Conversion(out, len(truth), sum(map(len, results)))


def _write_results(truth: Annotations, results: Sequence[Results], out: Path, to: str) -> None:
    if to == "coco":
        write_json(list(result_entries_of(results, truth.image_ids, truth.category_ids)), out)
        return
    with _whole_folder(out) as folder:
        write_yolo_results(truth, results, folder)


def _set(source: Path, out: Path, to: str, options: ConvertOptions) -> Conversion:
    split, first_pixel = options.get("split"), options.get("first_pixel", 1)
    images = options.get("images")
    if to == "coco":
        annotations = load_set(source, split, first_pixel)
        say_remarks(source, annotations.remarks)
        write_annotations(annotations, out)
    else:
        form = "yolo" if is_yolo(source) else "voc" if is_voc(source) else "coco"
        if form == "coco" and images is None:
            raise ConfigError("Expected --images, the folder of the pictures of a COCO file, got none.")
        annotations, pictures = pictures_of(
            source, split, first_pixel, None if images is None else Path(images)
        )
        say_remarks(source, annotations.remarks)
        with _whole_folder(out) as folder:
            if to == "yolo":
                write_yolo_set(annotations, pictures, split or "val", folder)
            else:
                write_voc_set(annotations, pictures, split or "val", folder, first_pixel)
    return Conversion(out, len(annotations), sum(map(len, annotations.truths)))


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its name when the block ends well, and goes otherwise."""
    temporary = writable_folder(out.with_name(f".{out.name}-{token_hex(4)}"))
    try:
        yield temporary
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
