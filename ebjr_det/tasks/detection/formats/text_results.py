"""Results as text: YOLO's one file a picture, VOC's one file a class."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from reprlib import repr as shown

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.notes import say
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.ids import Entry, Id, positions_by_name
from ebjr_det.tasks.detection.formats.class_ids import FROM_0, SHOWN, check_ordered, ids_by_name, of_numbers
from ebjr_det.tasks.detection.formats.described import text_lines
from ebjr_det.tasks.detection.formats.yolo import in_pixels, numbers_in, parsed

COLUMNS = 6
"""Of a detection, in either form: YOLO's class, box and confidence, VOC's picture, confidence and corners."""


def text_entries(folder: Path, truth: Annotations, class_ids: str | None, first_pixel: int) -> list[Entry]:
    """The detections in a folder of text files as COCO's, in the order of the files.

    Args:
        class_ids: how YOLO's class numbers are read, see `class_ids`; by default as places from 0, which is
            said where the annotated classes have other ids. VOC's files end in the names of classes.
        first_pixel: the number of the first pixel of VOC's boxes.

    Raises:
        InvalidInput: no text files, two of one picture, or a faulty line, named with its file.
    """
    files = sorted(folder.rglob("*.txt"))
    if not files:
        raise InvalidInput(f"Expected text files of results in `{folder}`, got none.")
    by_name, by_id = _images_by_name(truth), _images_by_id(truth)
    if classes := voc_classes(files, truth):
        ids, listed = ids_by_name(truth, folder), list[Entry]()
        for file, name in classes.items():
            listed += _of_voc(file, ids[name], first_pixel)
        stems = [str(entry["image_id"]) for entry in listed]
        images = by_name if any(stem in by_name for stem in stems) else by_id
        return [
            entry | {"image_id": images.get(stem, _strange(stem))}
            for entry, stem in zip(listed, stems, strict=True)
        ]
    if class_ids is None:
        check_ordered(truth, folder)
    category_ids = of_numbers(truth, FROM_0 if class_ids is None else class_ids)
    if class_ids is None and truth.category_ids != tuple(range(len(truth.category_ids))):
        names = ", ".join(f"{index} {name}" for index, name in enumerate(truth.class_names[:SHOWN]))
        names += " ..." * (len(truth.class_names) > SHOWN)
        say(
            f"Note on `{folder}`: its class numbers are read as places among the annotated classes, {names}. "
            "Others: --class-ids and the data.yaml of the model."
        )
    position = {image: index for index, image in enumerate(truth.image_ids)}
    entries, file_of = list[Entry](), dict[Id, Path]()
    paths = {file: file.relative_to(folder).with_suffix("").as_posix() for file in files}
    images = by_name if any({path, file.stem} & by_name.keys() for file, path in paths.items()) else by_id
    for file, path in paths.items():
        image = images.get(path, images.get(file.stem, _strange(file.stem)))
        if file_of.setdefault(image, file) != file:
            raise InvalidInput(
                f"Expected one file of results a picture, got `{file_of[image]}` and `{file}`. Give the "
                "folder of one detector's results."
            )
        size = truth.sizes[position[image]].tolist() if image in position else [1, 1]
        if not all(size):
            raise InvalidInput(f"Expected the size of the picture of `{file}` in the annotations, got none.")
        entries += [entry | {"image_id": image} for entry in _of_yolo(file, size, category_ids)]
    return entries


def voc_classes(files: Iterable[Path], truth: Annotations) -> dict[Path, str]:
    """The class of each of VOC's files; none where one is called by no class, or by a picture."""
    pictures = _images_by_name(truth) | _images_by_id(truth)
    classes = dict[Path, str]()
    for file in files:
        name = _class_of(file.stem, truth.class_names)
        if not name or file.stem in pictures:
            return {}
        classes[file] = name
    return classes


def _images_by_id(truth: Annotations) -> dict[str, Id]:
    return {str(key): key for key in truth.image_ids}


def _images_by_name(truth: Annotations) -> dict[str, Id]:
    """The ids by whole names of files, those without folder and ending, and with folders before a `_`."""
    flat = ["_".join(PurePosixPath(name).with_suffix("").parts) for name in truth.file_names]
    names = positions_by_name(flat) | positions_by_name(truth.file_names)
    return {name: truth.image_ids[index] for name, index in names.items()}


def _strange(stem: str) -> str:
    """What stands for an unknown picture, lest the number in its name be taken for another one's id."""
    return f"{stem}.*"


def _class_of(stem: str, names: tuple[str, ...]) -> str | None:
    """The class that a file of VOC's results is of, such as `car` of comp4_det_val_car."""
    ends = [name for name in names if stem == name or stem.endswith(f"_{name}")]
    return max(ends, key=len, default=None)


def _of_yolo(file: Path, size: list[int], category_ids: Mapping[Id, int]) -> Iterator[Entry]:
    for number, line in enumerate(text_lines(file), start=1):
        columns, origin = line.split(), f"line {number} of `{file}`"
        if not columns:
            continue
        if len(columns) != COLUMNS:
            hints = {COLUMNS - 1: "Save confidences too: `save_conf=True`."}
            hint = hints.get(len(columns), "Oriented boxes and masks are out of scope.")
            raise InvalidInput(
                f"Expected `class x y width height confidence` in {origin}, got {len(columns)} columns. "
                f"{hint}"
            )
        label, *shares = parsed(columns[:-1], origin)
        if label not in category_ids:
            raise InvalidInput(
                f"Expected a class of the {len(category_ids)} that are annotated in {origin}, got "
                f"{columns[0]}."
            )
        box, score = in_pixels(shares, size, origin), numbers_in(columns[-1:], origin)[0]
        yield {"category_id": category_ids[int(label)], "bbox": list(box), "score": score}


def _of_voc(file: Path, category_id: int, first_pixel: int) -> Iterator[Entry]:
    for number, line in enumerate(text_lines(file), start=1):
        columns, origin = line.split(), f"line {number} of `{file}`"
        if not columns:
            continue
        if len(columns) != COLUMNS:
            raise InvalidInput(
                f"Expected `picture confidence xmin ymin xmax ymax` in {origin}, got {shown(line)}."
            )
        score, left, top, right, bottom = numbers_in(columns[1:], origin)
        left, top = left - first_pixel, top - first_pixel
        box = [left, top, right - left, bottom - top]
        yield {"image_id": columns[0], "category_id": category_id, "bbox": box, "score": score}
