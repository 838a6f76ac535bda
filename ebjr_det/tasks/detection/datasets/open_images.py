"""Open Images as it is published: a table of boxes for each split, one of classes, pictures named by ImageID.

Where to get it (V4 to V7): https://storage.googleapis.com/openimages/web. The annotations are licensed by
Google LLC under CC BY 4.0, the pictures are listed as CC BY 2.0.

Convention: the id of an image is the number that the first 13 of its ImageID's 16 hexadecimal digits make, so
that the name of its file begins with `f"{id:013x}"`. All 16 are more than COCO's tools hold, 13 fit a float.
A category's id is its place among the described classes, from 1. Boxes were drawn on the pictures as they are
stored, whatever rotation their metadata asks for. A group (`IsGroupOf`) is a crowd. The quality of such a set
is COCO's AP of its boxes, not the Open Images Challenge's: classes have no hierarchy here, and one that was
not looked for in a picture counts as absent.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ebjr_det.core.errors import ConfigError, InvalidInput, check_known
from ebjr_det.core.types import FloatArray
from ebjr_det.io.notes import say, say_left_out
from ebjr_det.io.picture_folders import pictures_below
from ebjr_det.io.pictures import stored_size
from ebjr_det.tasks.detection.coco.annotations import Annotations, Truth
from ebjr_det.tasks.detection.coco.validate import check_located, existing_folder
from ebjr_det.tasks.detection.datasets.open_images_tables import (
    BoxRows,
    first_of_twins,
    read_boxes,
    read_classes,
    sound_corners,
)  # fmt: skip
from ebjr_det.tasks.detection.detections import to_sides

SOURCE = "https://storage.googleapis.com/openimages/web/download_v7.html"
DIGITS = 13  # of an ImageID, 52 bits
SPLITS = ("train", "validation", "test")
# Of the published names that are there the latest is taken.
BOX_FILES = ("oidv7-{}-annotations-bbox.csv", "oidv6-{}-annotations-bbox.csv", "{}-annotations-bbox.csv")
CLASS_FILES = (
    "oidv7-class-descriptions-boxable.csv",
    "oidv6-class-descriptions-boxable.csv",
    "class-descriptions-boxable.csv",
)
ALL_CLASS_FILES = ("oidv7-class-descriptions.csv", "oidv6-class-descriptions.csv", "class-descriptions.csv")
MANY_PICTURES = 5_000  # from which on a bar shows the progress


def load_open_images(
    root: str | None, split: str | None, annotations: str | None = None, images: str | None = None
) -> tuple[Annotations, Path]:
    """The pictures that are both in the folder and in the table of boxes, and that folder.

    What is left out is said on stderr. A picture whose header cannot be read has the size 0 and is named when
    it is loaded.

    Args:
        root, split: the published tables in `root`, the pictures in `root/<split>` or in folders below it.
        annotations, images: a table of boxes and a folder of pictures elsewhere. Without `root` the classes
            are beside the boxes.

    Raises:
        ConfigError: an unknown split, or too little to find the files.
        InvalidInput: missing or damaged files, none of their pictures, boxes that are none. Names the line.
    """
    path, folder = _paths(root, split, annotations, images)
    classes = load_classes(root, annotations)
    files = _files_below(folder)
    ids = sorted(files)
    rows = read_boxes(path, {image: n for n, image in enumerate(ids)}, {c: n for n, c in enumerate(classes)})
    absent = len(np.unique(np.array(rows.absent)))
    if not rows.seen:
        raise InvalidInput(
            f"Expected pictures of `{path.name}` in `{folder}`, named <ImageID>.jpg, got none of its "
            f"{absent:,} and {len(ids):,} others. Get them from {SOURCE}."
        )
    corners = sound_corners(rows, path)
    first = first_of_twins(rows, corners)
    counts = {
        f"pictures not in `{folder}`": absent,
        "pictures there without a row": len(ids) - len(rows.seen),
        "rows of Confidence 0": rows.negative,
        "rows that repeat another": int((~first).sum()),
    }
    say_left_out(Path(path.name), counts)
    names = [files[ids[n]] for n in sorted(rows.seen)]
    sizes = _sizes(folder, names)
    truths = _truths(rows, first, corners, sizes)
    category_ids, class_names = tuple(range(1, len(classes) + 1)), tuple(classes.values())
    return Annotations(_numbers(names), tuple(names), sizes, category_ids, class_names, truths), folder


def load_classes(root: str | None, annotations: str | None = None) -> dict[str, str]:
    """LabelName -> display name, in the order of the published table.

    Args:
        root: where the table is; without it beside `annotations`.

    Raises:
        ConfigError: neither is given.
        InvalidInput: no such table, or a faulty one.
    """
    if root is None and annotations is None:
        raise ConfigError("Expected `data.root`, the folder of Open Images' tables, got none.")
    folder = Path(root) if root is not None else Path(str(annotations)).parent
    path = _first_file(folder, (*CLASS_FILES, *ALL_CLASS_FILES), "classes")
    classes = read_classes(path)
    if path.name in ALL_CLASS_FILES:
        say(f"Took all {len(classes):,} classes of `{path.name}`; `{CLASS_FILES[0]}` has those with boxes.")
    return classes


def _paths(
    root: str | None, split: str | None, annotations: str | None, images: str | None
) -> tuple[Path, Path]:
    """The table of boxes and the folder of pictures."""
    if annotations is None or images is None:
        check_located(root, split)
        check_known(str(split), SPLITS, "a split of open_images")
    names = [name.format(split) for name in BOX_FILES]
    path = _first_file(Path(str(root)), names, "boxes") if annotations is None else Path(annotations)
    return path, existing_folder(Path(images or f"{root}/{split}"), SOURCE if images is None else None)


def _first_file(folder: Path, names: Sequence[str], content: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InvalidInput(
        f"Expected Open Images' {content} in `{folder}`, one of {', '.join(names)}, got none. "
        f"Get it from {SOURCE}."
    )


def _files_below(folder: Path) -> dict[str, str]:
    """Name without suffix -> path below the folder, of every picture."""
    files: dict[str, str] = {}
    for picture in sorted(pictures_below(folder)[0]):
        image, path = picture.stem, picture.relative_to(folder).as_posix()
        if files.setdefault(image, path) != path:
            raise InvalidInput(
                f"Expected one picture of each ImageID in `{folder}`, got `{files[image]}` and `{path}`."
            )
    return files


def _numbers(names: Sequence[str]) -> tuple[int, ...]:
    """The ids of the images in these files. Raises InvalidInput where two are the same, which is rare."""
    by_number: dict[int, str] = {}
    for name in names:
        number = int(os.path.basename(name)[:DIGITS], 16)
        if by_number.setdefault(number, name) != name:
            raise InvalidInput(
                f"Expected ImageIDs that differ in their first {DIGITS} digits, got `{by_number[number]}` "
                f"and `{name}`. Leave one out."
            )
    return tuple(by_number)


def _sizes(folder: Path, names: Sequence[str]) -> NDArray[np.intp]:
    """[n, 2] width and height as stored, from the headers; 0 where one cannot be read."""
    bar = tqdm(names, desc="reading sizes", unit="img", disable=len(names) < MANY_PICTURES)
    return np.array([stored_size(folder / name) for name in bar], dtype=np.intp).reshape(-1, 2)


def _truths(
    rows: BoxRows, first: NDArray[np.bool_], corners: FloatArray, sizes: NDArray[np.intp]
) -> tuple[Truth, ...]:
    """The objects of each picture in pixels, in the order of the table."""
    owners, labels, groups = (np.array(column)[first] for column in (rows.owners, rows.labels, rows.groups))
    owners = np.searchsorted(sorted(rows.seen), owners)
    order = np.argsort(owners, kind="stable")
    boxes = to_sides(corners[first][order][:, [0, 2, 1, 3]]) * np.tile(sizes[owners[order]], 2)
    cuts = np.searchsorted(owners[order], np.arange(1, len(sizes)))
    columns = (boxes, labels[order], boxes[:, 2] * boxes[:, 3], groups[order].astype(bool))
    return tuple(map(Truth, *(np.split(column, cuts) for column in columns)))
