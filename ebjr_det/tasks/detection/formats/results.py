"""Result files of other tools as COCO's list of detections, which one reader then checks.

Which form a file has is told by what it is: a folder of text files (YOLO, or VOC's one a class), JSON of
COCO, Ultralytics, mmdetection or FiftyOne, a mapping from pictures to supervision's `Detections`. A picture
is known by its file's name first, a class by its name first, by numbers only where these have one meaning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shown
from typing import TypeVar

from ebjr_det.core.errors import ConfigError, InvalidInput, check_known
from ebjr_det.io.memory import Converted, InMemory, Source
from ebjr_det.io.notes import say
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.ids import Entry, Id, distinct, id_of
from ebjr_det.tasks.detection.coco.validate import load_json
from ebjr_det.tasks.detection.formats import fiftyone
from ebjr_det.tasks.detection.formats.class_ids import (
    COUNTED,
    READINGS,
    Decision,
    by_names,
    check_ordered,
    decide,
    of_numbers,
)
from ebjr_det.tasks.detection.formats.fiftyone import ids_by_file, image_of
from ebjr_det.tasks.detection.formats.in_memory import are_detections, entries_of
from ebjr_det.tasks.detection.formats.text_results import text_entries, voc_classes
from ebjr_det.tasks.detection.formats.voc import check_first_pixel

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".npy", ".joblib")
IMAGE_IDS = ("ids", "files")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Reading:
    """What nobody can tell from a file.

    Attributes:
        class_ids: how class numbers are read, see `class_ids`; None: as they can be meant.
        image_ids: whether numbers are `ids` of annotated images, or those in the names of their `files`.
        first_pixel: the number of the first pixel of VOC's boxes.
    """

    class_ids: str | None = None
    image_ids: str = "ids"
    first_pixel: int = 1

    def __post_init__(self) -> None:
        check_known(self.image_ids, IMAGE_IDS, "a way to read the numbers of images")
        check_first_pixel(self.first_pixel)


AS_THEY_ARE = Reading()


def as_cocos(source: Source, truth: Annotations | None, reading: Reading = AS_THEY_ARE) -> Source:
    """Results in any form as COCO's list of detections; what is one already stays as it is.

    Args:
        truth: the annotated images; None where there are none, which only COCO's own form does without.

    Raises:
        ConfigError: numbers of classes that can be meant in several ways.
        InvalidInput: a pickle, a form that is none, or a faulty line, which is named.
    """
    if isinstance(source, InMemory):
        if not are_detections(source.content):
            return source
        return Converted(str(source), entries_of(source, _needed(truth, source), reading.class_ids))
    if source.suffix.lower() in PICKLES:
        raise InvalidInput(
            f"Expected results as JSON or text, got `{source}`, a file that could run code when it is read. "
            "Of mmdetection: `--cfg-options test_evaluator.format_only=True "
            "test_evaluator.outfile_prefix=results` writes results.bbox.json."
        )
    path = _json_file(source)
    if path is None:
        return Converted(
            str(source), text_entries(source, _needed(truth, source), reading.class_ids, reading.first_pixel)
        )
    return Converted(str(path), _of_json(load_json(path, "COCO results"), path, truth, reading))


def _json_file(source: Path) -> Path | None:
    """The JSON file of results at a path; None for a folder of text files."""
    exported = next((source / name for name in fiftyone.FILES if (source / name).is_file()), None)
    return exported or (None if source.is_dir() else source)


def readings_of(source: Path, truth: Annotations) -> tuple[str, ...]:
    """What of a `Reading` the form of a file of results has a use for."""
    if (path := _json_file(source)) is None:
        return ("first_pixel",) if voc_classes(source.rglob("*.txt"), truth) else ("class_ids",)
    return ("class_ids", "image_ids") if isinstance(load_json(path, "COCO results"), list) else ()


def _needed(truth: Annotations | None, source: Source) -> Annotations:
    if truth is None:
        raise ConfigError(
            f"Expected --annotations or --pictures beside `{source}`, which tells neither classes nor sizes."
        )
    return truth


def _of_json(content: object, path: Path, truth: Annotations | None, reading: Reading) -> object:
    """What a JSON file has, with the annotated set's ids where it has others."""
    form = next(
        (convert for key, convert in FORMS.items() if isinstance(content, dict) and key in content), None
    )
    if form is not None and isinstance(content, dict):
        return form(content, _needed(truth, path), path)
    if (
        not isinstance(content, list)
        or truth is None
        or not all(isinstance(entry, dict) for entry in content)
    ):
        return content
    by_file, ids = ids_by_file(truth), [id_of(entry.get("image_id")) for entry in content]
    files = [entry.get("file_name") for entry in content]
    images = [id_of(image_of(file, None, by_file, path)) for file in files]
    if reading.image_ids == "files":
        images = [
            by_file.get(str(key)) if image is None else image for image, key in zip(images, ids, strict=True)
        ]
    elif all(image is None for image in images):
        _say_two_meanings(set(ids), truth, by_file, path)
    renumbered = any(files) or any(isinstance(key, str) for key in ids)
    decision = _decided(content, truth, path, reading, renumbered=renumbered)
    if all(image is None for image in images) and all(key == number for key, number in decision.ids.items()):
        return content
    return [_with_ids(entry, image, decision) for entry, image in zip(content, images, strict=True)]


def _with_ids(entry: Entry, image: Id | None, decision: Decision) -> Entry:
    """An entry with the annotated set's ids, as far as they are known."""
    key = id_of(entry.get("category_id"))
    ids: Entry = {} if key is None else {"category_id": decision.ids.get(key, key)}
    return entry | ids | ({} if image is None else {"image_id": image})


def _decided(
    entries: Sequence[Entry], truth: Annotations, path: Path, reading: Reading, *, renumbered: bool
) -> Decision:
    values = (id_of(entry.get("category_id")) for entry in entries)
    numbers = {value for value in values if value is not None}
    if reading.class_ids is None:
        if numbers:
            check_ordered(truth, path)
        decision = decide(truth, numbers, path, renumbered=renumbered) if numbers else Decision({})
        if decision.note:
            say(decision.note)
        return decision
    ids = of_numbers(truth, reading.class_ids)
    is_file = reading.class_ids not in READINGS
    counted = f"Where they count from 1: --class-ids {COUNTED}{reading.class_ids}." * is_file
    if beyond := numbers - ids.keys():
        raise InvalidInput(
            f"Expected class numbers {reading.class_ids} of {len(ids)} classes in `{path}`, "
            f"got {min(beyond, key=str)}. {counted}".rstrip()
        )
    if is_file and renumbered and numbers and 0 not in numbers and COUNTED not in reading.class_ids:
        say(f"Note on `{path}`: its class numbers, which have no 0, are read from 0. {counted}")
    return Decision(ids)


def _say_two_meanings(ids: set[Id | None], truth: Annotations, by_file: Mapping[str, Id], path: Path) -> None:
    """Tell where numbers are both ids of images and in the names of other images' files."""
    doubtful = [key for key in ids & {*truth.image_ids} if by_file.get(str(key), key) != key]
    if doubtful:
        say(
            f"Note on `{path}`: `image_id` {doubtful[0]} is taken as the id of a picture, not as the number "
            f"in the name of `{by_file[str(doubtful[0])]}`'s file. The other way: --image-ids files."
        )


def _own_set(content: Mapping[str, object], truth: Annotations, path: Path) -> object:
    """A COCO file with scores, which has images and categories of its own; they are known by their names."""
    images, categories, entries = (content.get(key) for key in ("images", "categories", "annotations"))
    lists = [part for part in (images, categories, entries) if isinstance(part, list)]
    if len(lists) < 3 or not all(isinstance(entry, dict) for part in lists for entry in part):
        return content
    if not all("score" in entry for entry in lists[2]):
        raise InvalidInput(
            f"Expected a list of detections (COCO results) in `{path}`, got an object. Give a detector's "
            "results, not the ground truth."
        )
    by_file = ids_by_file(truth)
    image_ids = {
        key: image_of(entry.get("file_name"), key, by_file, path)
        for key, entry in distinct(lists[0], "image", path)[1].items()
    }
    _, classes = distinct(lists[1], "category", path)
    names = by_names(truth, [str(entry.get("name")) for entry in classes.values()], path)
    category_ids = dict(zip(classes, names, strict=True))
    return [
        entry
        | {
            "image_id": _own_id(entry, "image_id", image_ids, path),
            "category_id": _own_id(entry, "category_id", category_ids, path),
        }
        for entry in lists[2]
    ]


def _own_id(entry: Entry, key: str, ids: Mapping[Id, Value], path: Path) -> Value:
    """What stands for an id of the file's own images or categories."""
    number = id_of(entry.get(key))
    if number is None or number not in ids:
        raise InvalidInput(
            f"Expected every `{key}` in `{path}` to be one of the file's own, got {shown(entry.get(key))}."
        )
    return ids[number]


FORMS: Mapping[str, Callable[[Mapping[str, object], Annotations, Path], object]] = {
    "samples": fiftyone.of_samples,
    "labels": fiftyone.of_labels,
    "annotations": _own_set,
}
