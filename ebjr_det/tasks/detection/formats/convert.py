"""Annotated sets and results from any form that is read into one that other tools read."""

from collections.abc import Collection, Mapping
from pathlib import Path, PurePath

from ebjr_det.core.errors import ConfigError
from ebjr_det.io.memory import source_of
from ebjr_det.tasks.detection.coco.annotations import load_results
from ebjr_det.tasks.detection.coco.results import result_entries_of, write_annotations, write_json
from ebjr_det.tasks.detection.coco.validate import say_remarks
from ebjr_det.tasks.detection.formats.results import Reading, as_cocos, readings_of
from ebjr_det.tasks.detection.formats.sets import form_of, load_set, pictures_of
from ebjr_det.tasks.detection.formats.voc import check_first_pixel
from ebjr_det.tasks.detection.formats.writing import (
    ultralytics_entries,
    write_voc_results,
    write_voc_set,
    write_yolo_results,
    write_yolo_set,
)
from ebjr_det.tasks.options import ConvertOptions

JSON = (".json", ".json.gz")
endings: Mapping[str, tuple[str, ...]] = {"coco": JSON, "yolo": (), "voc": (), "ultralytics": JSON}
"""Each form that can be written, with how the name of its file may end; a folder's none."""


def write_results(source: Path, out: Path, to: str, options: ConvertOptions) -> tuple[int, int]:
    """Results in any form in another one; how many pictures there are, and detections.

    Raises:
        ConfigError, InvalidInput: as the readers do, or what the form cannot hold.
    """
    split, first_pixel = options.get("split"), options.get("first_pixel")
    written = _plain(split or "val")
    annotated = source_of("annotations", options["annotations"])
    truth, forms = load_set(annotated, split, first_pixel), (form_of(annotated), to)
    named = forms[0] != "coco" or to == "voc"
    used = ["annotations", *["split"] * named, *["first_pixel"] * ("voc" in forms)]
    if any(options.get(name) is not None for name in Reading.__annotations__):
        used += readings_of(source, truth)
    _check_used(options, used, f"such results as {to}")
    first_pixel = 1 if first_pixel is None else first_pixel
    reading = Reading(options.get("class_ids"), options.get("image_ids", "ids"), first_pixel)
    remarks = dict[str, int]()
    results = load_results(as_cocos(source, truth, reading), truth, remarks=remarks)
    say_remarks(source, remarks)
    if to == "coco":
        write_json(list(result_entries_of(results, truth.image_ids, truth.category_ids)), out)
    elif to == "ultralytics":
        write_json(list(ultralytics_entries(truth, results)), out)
    elif to == "yolo":
        write_yolo_results(truth, results, out)
    else:
        write_voc_results(truth, results, out, written, first_pixel)
    return len(truth), sum(map(len, results))


def _check_used(options: ConvertOptions, used: Collection[str], conversion: str) -> None:
    """Raises ConfigError for an option that a conversion has no use for."""
    for name, value in options.items():
        if value is not None and name not in used:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"Expected no {flag} to write {conversion}, which has no use for it, got one. Leave it out."
            )


def _plain(split: str) -> str:
    """A split as files are called by it. Raises ConfigError for one that leads elsewhere."""
    if split in (".", "..") or PurePath(split).name != split or not split.isprintable():
        raise ConfigError(f"Expected a split by which files can be called, got {split!r}.")
    return split


def write_set(source: Path, out: Path, to: str, options: ConvertOptions) -> tuple[int, int]:
    """A set in any form in another one; how many pictures there are, and objects.

    Raises:
        ConfigError, InvalidInput: as the readers do, or what the form cannot hold.
    """
    split, first_pixel, images = options.get("split"), options.get("first_pixel"), options.get("images")
    if to == "ultralytics":
        raise ConfigError("Expected --annotations beside results to write as `ultralytics`, got none.")
    form = form_of(source)
    used = ["split"] * ({form, to} != {"coco"}) + ["first_pixel"] * ("voc" in (form, to))
    used += ["images"] * (form == "coco" != to)
    _check_used(options, used, f"a set of the form {form} as {to}")
    if to == "coco":
        annotations = load_set(source, split, first_pixel)
        say_remarks(source, annotations.remarks)
        write_annotations(annotations, out)
    else:
        written = _plain(split or "val")
        if images is None and form == "coco":
            raise ConfigError("Expected --images, the folder of the pictures of a COCO file, got none.")
        annotations, pictures = pictures_of(
            source, split, first_pixel, None if images is None else Path(images)
        )
        say_remarks(source, annotations.remarks)
        if to == "yolo":
            write_yolo_set(annotations, pictures, written, out)
        else:
            check_first_pixel(first_pixel)
            write_voc_set(annotations, pictures, written, out, 1 if first_pixel is None else first_pixel)
    return len(annotations), sum(map(len, annotations.truths))
