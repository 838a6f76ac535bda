"""FiftyOne's exports of detections as COCO's list: a whole data set's samples, or one field's labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from reprlib import repr as shown

from ebjr_det.core.errors import InvalidInput
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.ids import Entry, Id, positions_by_name
from ebjr_det.tasks.detection.coco.validate import kind_of
from ebjr_det.tasks.detection.formats.class_ids import by_names
from ebjr_det.tasks.detection.formats.objects import DECIMALS

FILES = ("samples.json", "labels.json")
"""By which the folders of its exports are known."""
MOST_SHARE = 2
"""Of a picture, what a box in shares may have; a larger number is a pixel."""


def ids_by_file(truth: Annotations) -> dict[str, Id]:
    """The ids of annotated images by the names of their files, see `positions_by_name`."""
    return {name: truth.image_ids[at] for name, at in positions_by_name(truth.file_names).items()}


def image_of(file: object, key: object, by_file: Mapping[str, Id], origin: Path) -> object:
    """The id of the annotated image of a file, known by its whole name or the last part of it.

    An unknown file keeps its name, lest its number be taken for another picture's; `key` stands where there
    are no names. Raises InvalidInput for a name that is no text.
    """
    if not isinstance(file, str | None):
        raise InvalidInput(f"Expected names of files in `{origin}` to be texts, got {kind_of(file)}.")
    if not file or not by_file:
        return key
    path = PurePosixPath(file)
    return next((by_file[name] for name in (str(path), path.name, path.stem) if name in by_file), file)


def of_samples(content: Mapping[str, object], truth: Annotations, path: Path) -> object:
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
    field, by_file, entries = fields.pop(), ids_by_file(truth), list[Entry]()
    position = {key: at for at, key in enumerate(truth.image_ids)}
    labels = {str(e.get("label")) for sample in samples for e in _detections(sample, field)}
    category_ids = dict(zip(sorted(labels), by_names(truth, sorted(labels), path), strict=True))
    for sample in samples:
        image = image_of(sample.get("filepath"), sample.get("filepath"), by_file, path)
        size = truth.sizes[position[image]].tolist() if image in position else [1, 1]
        detections = _detections(sample, field)
        if detections and not all(size):
            raise InvalidInput(f"Expected the size of {shown(image)} in the annotations, got none.")
        for entry in detections:
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


def of_labels(content: Mapping[str, object], truth: Annotations, path: Path) -> object:
    """FiftyOne's export of one field, a `FiftyOneImageDetectionDataset`: by stem of the picture's file."""
    classes, labels = content.get("classes"), content["labels"]
    if not isinstance(classes, list) or not isinstance(labels, dict):
        raise InvalidInput(f"Expected `classes` and `labels` of pictures in `{path}`, got others.")
    samples = []
    for stem, entries in labels.items():
        if not isinstance(entries, list | None):
            raise InvalidInput(
                f"Expected a list of detections of `{shown(stem)}` in `{path}`, got {kind_of(entries)}."
            )
        listed = [entry for entry in entries or () if isinstance(entry, dict)]
        if strange := [
            e for e in listed if type(e.get("label")) is int and not 0 <= e["label"] < len(classes)
        ]:
            raise InvalidInput(
                f"Expected classes from 0 to {len(classes) - 1} in `{path}`, got {strange[0]['label']}."
            )
        named = [e | {"label": classes[e["label"]]} if type(e.get("label")) is int else e for e in listed]
        samples.append({"filepath": stem, "detections": {"detections": named}})
    return of_samples({"samples": samples}, truth, path)


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
