"""Result files of other tools as COCO's list of detections, which one reader then checks.

Which form a file has is told by what it is: a folder of text files (YOLO, or VOC's one a class), JSON of
COCO, Ultralytics, mmdetection or FiftyOne, a mapping from pictures to supervision's `Detections`. A picture
is known by its file's name first, a class by its name first, by numbers only where these have one meaning.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from reprlib import repr as shown
from typing import TypeVar

from ebjr_det.core.errors import ConfigError, InvalidInput, check_known
from ebjr_det.io.memory import Converted, InMemory, Source
from ebjr_det.io.notes import say
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.ids import Entry, Id, distinct, id_of, positions_by_name
from ebjr_det.tasks.detection.coco.validate import kind_of, load_json
from ebjr_det.tasks.detection.formats.class_ids import Decision, by_names, check_ordered, decide, of_numbers
from ebjr_det.tasks.detection.formats.in_memory import are_detections, entries_of
from ebjr_det.tasks.detection.formats.objects import DECIMALS
from ebjr_det.tasks.detection.formats.text_results import text_entries

PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".npy", ".joblib")
FIFTYONE = ("samples.json", "labels.json")
"""Files of FiftyOne's exports, by which their folders are known."""
IMAGE_IDS = ("ids", "files")
MOST_SHARE = 2
"""Of a picture, what a box in shares may have; a larger number is a pixel."""
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
    exported = next((source / name for name in FIFTYONE if (source / name).is_file()), None)
    if source.is_dir() and exported is None:
        return Converted(
            str(source), text_entries(source, _needed(truth, source), reading.class_ids, reading.first_pixel)
        )
    path = source if exported is None else exported
    return Converted(str(path), _of_json(load_json(path, "COCO results"), path, truth, reading))


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
    by_file, ids = _by_file(truth), [id_of(entry.get("image_id")) for entry in content]
    files = [entry.get("file_name") for entry in content]
    images = [by_file.get(file) if isinstance(file, str) else None for file in files]
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
    if beyond := numbers - ids.keys():
        raise InvalidInput(
            f"Expected class numbers {reading.class_ids} of {len(truth.category_ids)} classes in `{path}`, "
            f"got {min(beyond, key=str)}."
        )
    return Decision(ids)


def _by_file(truth: Annotations) -> dict[str, Id]:
    return {name: truth.image_ids[at] for name, at in positions_by_name(truth.file_names).items()}


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
    by_file = _by_file(truth)
    image_ids = {
        key: _image_of(entry.get("file_name"), key, by_file)
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


def _image_of(file: object, key: object, by_file: Mapping[str, Id]) -> object:
    """The id of the annotated image of a file, known by its whole name or the last part of it.

    An unknown file keeps its name, lest its number be taken for another picture's; `key` stands where there
    are no names.
    """
    if not isinstance(file, str) or not file or not by_file:
        return key
    path = PurePosixPath(file)
    return next((by_file[name] for name in (str(path), path.name, path.stem) if name in by_file), file)


def _fiftyone(content: Mapping[str, object], truth: Annotations, path: Path) -> object:
    """FiftyOne's own export: samples with a field of detections, boxes in shares of the picture."""
    samples = content["samples"]
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise InvalidInput(f"Expected a list of samples in `{path}`, got {kind_of(samples)}.")
    fields = {
        field
        for sample in samples
        for field, value in sample.items()
        if isinstance(value, dict)
        and any(entry.get("confidence") is not None for entry in _detections(sample, field))
    }
    if len(fields) != 1:
        raise InvalidInput(
            f"Expected one field of detections with confidences in `{path}`, got {len(fields)}"
            f"{': ' * bool(fields)}{', '.join(sorted(fields))}. Export that of one model, as "
            "`dataset.select_fields(field)` leaves it."
        )
    field, by_file, entries = fields.pop(), _by_file(truth), list[Entry]()
    position = {key: at for at, key in enumerate(truth.image_ids)}
    labels = {str(e.get("label")) for sample in samples for e in _detections(sample, field)}
    category_ids = dict(zip(sorted(labels), by_names(truth, sorted(labels), path), strict=True))
    for sample in samples:
        image = _image_of(sample.get("filepath"), sample.get("filepath"), by_file)
        size = truth.sizes[position[image]].tolist() if image in position else [1, 1]
        for entry in _detections(sample, field):
            box = entry.get("bounding_box")
            entries.append(
                {
                    "image_id": image,
                    "category_id": category_ids[str(entry.get("label"))],
                    "bbox": _scaled(box, size, path) if isinstance(box, list) else box,
                    "score": entry.get("confidence"),
                }
            )
    return entries


def _fiftyone_detections(content: Mapping[str, object], truth: Annotations, path: Path) -> object:
    """FiftyOne's export of one field, a `FiftyOneImageDetectionDataset`: by stem of the picture's file."""
    classes, labels = content.get("classes"), content["labels"]
    if not isinstance(classes, list) or not isinstance(labels, dict):
        raise InvalidInput(f"Expected `classes` and `labels` of pictures in `{path}`, got others.")
    samples = []
    for stem, entries in labels.items():
        listed = [entry for entry in entries or () if isinstance(entry, dict)]
        if strange := [
            e for e in listed if type(e.get("label")) is int and not 0 <= e["label"] < len(classes)
        ]:
            raise InvalidInput(
                f"Expected classes from 0 to {len(classes) - 1} in `{path}`, got {strange[0]['label']}."
            )
        named = [e | {"label": classes[e["label"]]} if type(e.get("label")) is int else e for e in listed]
        samples.append({"filepath": stem, "detections": {"detections": named}})
    return _fiftyone({"samples": samples}, truth, path)


def _detections(sample: Entry, field: str) -> list[Entry]:
    value = sample.get(field)
    entries = value.get("detections") if isinstance(value, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _scaled(box: Sequence[object], size: Sequence[int], path: Path) -> list[object]:
    """A box in shares as one in pixels; what is no number stays, to be refused.

    Raises InvalidInput for pixels.
    """
    shares = [share for share in box if isinstance(share, int | float)]
    if max(shares, default=0) > MOST_SHARE:
        raise InvalidInput(
            f"Expected boxes in shares of the picture in `{path}`, got {max(shares):g}. Divide pixels by the "
            "picture's width and height."
        )
    sides = (*size, *size)
    if len(shares) != len(box) or len(box) != len(sides):
        return [*box]
    return [round(share * side, DECIMALS) for share, side in zip(shares, sides, strict=True)]


FORMS: Mapping[str, Callable[[Mapping[str, object], Annotations, Path], object]] = {
    "samples": _fiftyone,
    "labels": _fiftyone_detections,
    "annotations": _own_set,
}
