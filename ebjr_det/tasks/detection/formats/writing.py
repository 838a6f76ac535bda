"""Annotated sets as YOLO's and VOC's folders, and results as their text files or Ultralytics' JSON."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import yaml

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.notes import say
from ebjr_det.tasks.detection.coco.annotations import Annotations, Results, Truth
from ebjr_det.tasks.detection.coco.file_names import check_file_names
from ebjr_det.tasks.detection.coco.ids import DIGITS, Entry, Id
from ebjr_det.tasks.detection.formats.yolo import SLACK

Row = tuple[int, Sequence[float]]
"""A class index and x, y, width and height in pixels."""


def write_yolo_set(annotations: Annotations, pictures: Path, split: str, folder: Path) -> None:
    """`data.yaml`, `labels/<split>` and `images/<split>`, hard links to the pictures or copies of them.

    A crowd is no object in YOLO's form; such are left out and counted on stderr. Raises InvalidInput where a
    picture is missing or its size is unknown, and as `_check_names` does.
    """
    _check_names(annotations)
    for name, lines in _label_files(annotations):
        _written(folder / "labels" / split / PurePosixPath(name).with_suffix(".txt"), lines)
        _link(pictures / name, folder / "images" / split / name)
    crowds = sum(int(truth.crowd.sum()) for truth in annotations.truths)
    if crowds:
        say(f"Note: crowds, which YOLO's form does not have, left out: {crowds:,}.")
    content = {
        "path": ".",
        "train": f"images/{split}",
        "val": f"images/{split}",
        "names": dict(enumerate(annotations.class_names)),
    }
    (folder / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def write_yolo_results(annotations: Annotations, results: Sequence[Results], folder: Path) -> None:
    """A text file for each picture with detections: `class x y width height confidence`.

    Raises InvalidInput where a file would lie outside the folder, two be one, or a box outside its picture.
    """
    _check_files(annotations)
    for name, size, part in zip(annotations.file_names, annotations.sizes.tolist(), results, strict=True):
        rows = zip(part.labels.tolist(), part.boxes.tolist(), strict=True)
        lines = [
            f"{_line(row, size, name)} {score!r}"
            for row, score in zip(rows, part.scores.tolist(), strict=True)
        ]
        if lines:
            _written(folder / PurePosixPath(name).with_suffix(".txt"), lines)


def write_voc_results(
    annotations: Annotations, results: Sequence[Results], folder: Path, split: str, first_pixel: int
) -> None:
    """VOC's text file of each class: `picture confidence xmin ymin xmax ymax`, comp4_det_<split>_<class>.

    Raises InvalidInput for pictures of one stem or of one with a blank, which columns cannot hold, and for
    names of classes that no file can have.
    """
    stems = _stems(annotations)
    if blank := [stem for stem in stems if len(stem.split()) != 1]:
        raise InvalidInput(f"Expected names of pictures without blanks for VOC's results, got `{blank[0]}`.")
    lines = {name: list[str]() for name in annotations.class_names}
    for stem, part in zip(stems, results, strict=True):
        columns = part.labels.tolist(), part.scores.tolist(), part.boxes.tolist()
        for label, score, (x, y, width, height) in zip(*columns, strict=True):
            corners = (x + first_pixel, y + first_pixel, x + width, y + height)
            lines[annotations.class_names[label]].append(" ".join([stem, repr(score), *map(repr, corners)]))
    for name, rows in lines.items():
        if PurePosixPath(name).name != name:
            raise InvalidInput(f"Expected names of classes that a file can have, got `{name}`.")
        _written(folder / f"comp4_det_{split}_{name}.txt", rows)


def ultralytics_entries(annotations: Annotations, results: Sequence[Results]) -> Iterator[Entry]:
    """Results as Ultralytics' predictions.json has them: names of files, classes as places from 1.

    Raises InvalidInput for two pictures that it would give one `image_id`.
    """
    files = [PurePosixPath(name) for name in annotations.file_names]
    stems = [file.stem for file in files]
    images: list[Id] = [int(stem) if stem.isdecimal() and len(stem) < DIGITS else stem for stem in stems]
    if len(set(images)) < len(images):
        duplicate = next(image for image, count in Counter(images).items() if count > 1)
        raise InvalidInput(
            f"Expected pictures of distinct names for Ultralytics' form, got two of `{duplicate}`."
        )
    for file, image, part in zip(files, images, results, strict=True):
        columns = part.labels.tolist(), part.boxes.tolist(), part.scores.tolist()
        for label, box, score in zip(*columns, strict=True):
            ids: Entry = {"image_id": image, "file_name": file.name, "category_id": label + 1}
            yield ids | {"bbox": box, "score": score}


def _stems(annotations: Annotations) -> list[str]:
    """The name of each picture without its ending, for VOC's form. Raises InvalidInput as `_check_names`."""
    _check_names(annotations)
    if len(set(annotations.class_names)) < len(annotations.class_names):
        raise InvalidInput("Expected classes of distinct names for VOC's form, got two of one name.")
    stems = [PurePosixPath(name).stem for name in annotations.file_names]
    if len(set(stems)) < len(stems):
        raise InvalidInput("Expected pictures of distinct names for VOC's form, got two of one name.")
    return stems


def _check_names(annotations: Annotations) -> None:
    """Raises InvalidInput as `_check_files` does, and for classes that no reader would know."""
    _check_files(annotations)
    for name in annotations.class_names:
        if not name.strip() or not name.isprintable():
            raise InvalidInput(f"Expected printable names of classes, got {name!r}.")


def _check_files(annotations: Annotations) -> None:
    """Raises InvalidInput for a name that leaves the folder, or two that one text file would stand for."""
    check_file_names(annotations, Path("the annotations"))
    stems = [PurePosixPath(name).with_suffix("") for name in annotations.file_names]
    if len(set(stems)) < len(stems):
        duplicate = next(stem for stem, count in Counter(stems).items() if count > 1)
        raise InvalidInput(
            f"Expected pictures whose names differ beside their endings, got two of `{duplicate}`. "
            "One text file cannot tell of both."
        )


def _label_files(annotations: Annotations) -> Iterator[tuple[str, list[str]]]:
    columns = annotations.file_names, annotations.sizes.tolist(), annotations.truths
    for name, size, truth in zip(*columns, strict=True):
        rows = zip(truth.labels.tolist(), truth.boxes.tolist(), truth.crowd.tolist(), strict=True)
        yield name, [_line((label, box), size, name) for label, box, crowd in rows if not crowd]


def _line(row: Row, size: Sequence[int], name: str) -> str:
    label, (x, y, width, height) = row
    if not all(size):
        raise InvalidInput(f"Expected the size of `{name}` in the annotations, got none.")
    shares = ((x + width / 2) / size[0], (y + height / 2) / size[1], width / size[0], height / size[1])
    if not -SLACK <= min(shares) <= max(shares) <= 1 + SLACK:
        raise InvalidInput(
            f"Expected boxes within their pictures, as YOLO's form has them, got {[x, y, width, height]} in "
            f"`{name}`. Clip or leave out such boxes."
        )
    return " ".join([str(label), *map(repr, shares)])


def _written(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_voc_set(
    annotations: Annotations, pictures: Path, split: str, folder: Path, first_pixel: int = 1
) -> None:
    """`Annotations`, `ImageSets/Main/<split>.txt` and `JPEGImages`, hard links to pictures or copies of them.

    A crowd is a difficult object. Raises InvalidInput where a picture is missing, or two have one stem, for
    classes of one name and boxes that begin outside their picture.
    """
    stems = _stems(annotations)
    (folder / "Annotations").mkdir(parents=True)
    for index, (name, stem) in enumerate(zip(annotations.file_names, stems, strict=True)):
        document = _document(annotations, index, first_pixel)
        indent(document)
        ElementTree(document).write(folder / "Annotations" / f"{stem}.xml", encoding="utf-8")
        _link(pictures / name, folder / "JPEGImages" / PurePosixPath(name).name)
    _written(folder / "ImageSets" / "Main" / f"{split}.txt", stems)


def _document(annotations: Annotations, index: int, first_pixel: int) -> Element:
    document, truth = Element("annotation"), annotations.truths[index]
    SubElement(document, "filename").text = PurePosixPath(annotations.file_names[index]).name
    size = SubElement(document, "size")
    for side, length in zip(("width", "height"), annotations.sizes[index].tolist(), strict=True):
        SubElement(size, side).text = str(length)
    SubElement(size, "depth").text = "3"
    for label, corners, crowd in _objects(truth, first_pixel):
        entry = SubElement(document, "object")
        SubElement(entry, "name").text = annotations.class_names[label]
        SubElement(entry, "difficult").text = str(int(crowd))
        box = SubElement(entry, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            SubElement(box, side).text = repr(int(value) if value.is_integer() else value)
    return document


def _objects(truth: Truth, first_pixel: int) -> Iterator[tuple[int, tuple[float, ...], bool]]:
    columns = truth.labels.tolist(), truth.boxes.tolist(), truth.crowd.tolist()
    for label, (x, y, width, height), crowd in zip(*columns, strict=True):
        if min(x, y) < 0:
            raise InvalidInput(
                f"Expected boxes that begin in their pictures, as VOC's form has them, got "
                f"{[x, y, width, height]}. Clip or leave out such boxes."
            )
        yield label, (x + first_pixel, y + first_pixel, x + width, y + height), crowd


def _link(picture: Path, path: Path) -> None:
    if not picture.is_file():
        raise InvalidInput(f"Expected a picture at `{picture}`, got none.")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(picture.resolve(), path)
    except OSError:  # another disk, or one without links
        shutil.copy2(picture, path)
