"""PASCAL VOC's annotated sets: an XML file a picture, and lists of the pictures of each split.

VOC counts pixels from 1, and a box names its first and its last one: xmin, xmax = 1, 40 is all of a picture
40 pixels wide, here 0 to 40. Most tools that write the form name edges instead, 0 and 40: of them
`first_pixel` is 0. CVAT (datumaro) leaves a `labelmap.txt`, by which it is known and classes have an order.
An object that is `difficult` is neither missed nor found wrongly: COCO's crowd.
Source: the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf.
"""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from reprlib import repr as shown
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.core.errors import ConfigError, InvalidInput, did_you_mean, first_line
from ebjr_det.io.picture_folders import pictures_below
from ebjr_det.tasks.detection.coco.annotations import LONGEST_SIDE, NO_OBJECTS, Annotations
from ebjr_det.tasks.detection.formats.described import text_lines
from ebjr_det.tasks.detection.formats.objects import Object, annotated, truth_of, upright_sizes

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

LABELMAP = "labelmap.txt"
SIDES = ("xmin", "ymin", "xmax", "ymax")
MANY_FILES = 5_000  # from which on a bar shows the progress
DIFFICULT = "difficult objects, which count neither as found nor as missed"
NO_PICTURE = "XML files without a picture left out"
NO_FILE = "pictures without an XML file left out"
LISTED = "listed pictures without an XML file, taken to have no objects"
FROM_1 = "objects whose pixels count from 1, as the development kit has them; others need `first_pixel: 0`"


@dataclass(frozen=True)
class Layout:
    """Where the parts of a set are.

    Attributes:
        files: the folder of XML files; pictures: the folder of pictures, None where only XML files are here.
        listed: lines of the list of the split, None for all pictures.
        labelmap: CVAT's names of classes, None where there are none.
    """

    files: Path
    pictures: Path | None
    listed: tuple[str, ...] | None
    labelmap: Path | None

    @classmethod
    def of(
        cls, root: str | None, split: str | None, annotations: str | None = None, images: str | None = None
    ) -> "Layout":
        """The published layout below `root`, or two folders, which may be one.

        Args:
            root: has `Annotations`, `JPEGImages` and `ImageSets/Main/<split>.txt`.
            annotations, images: folders of XML files and of pictures elsewhere.

        Raises:
            ConfigError: too little to find the files.
            InvalidInput: they are not there.
        """
        if annotations is None and root is None:
            raise ConfigError(
                "Expected `data.root`, the folder of a VOC set, or `data.annotations`, got none."
            )
        base = Path(root or str(annotations))
        files = Path(annotations) if annotations is not None else base / "Annotations"
        if root is None and (files / "Annotations").is_dir():
            base, files = files, files / "Annotations"
        if not files.is_dir():
            raise InvalidInput(f"Expected a folder of VOC's XML files at `{files}`, got none.")
        published = base / "JPEGImages"
        nearest = published if published.is_dir() else files
        listed = None if split is None else _listed(base / "ImageSets" / "Main", split)
        labelmaps = (path for path in (base / LABELMAP, files.parent / LABELMAP) if path.is_file())
        return cls(files, Path(images) if images is not None else nearest, listed, next(labelmaps, None))

    @property
    def first_pixel(self) -> int:
        """The number of the first pixel, where nobody says it."""
        return 1 if self.labelmap is None else 0


def _listed(folder: Path, split: str) -> tuple[str, ...]:
    path = folder / f"{split}.txt"
    if not path.is_file():
        listed = sorted(file.stem for file in folder.glob("*.txt") if "_" not in file.stem)
        raise InvalidInput(
            f"Expected a list of the pictures of `{split}` at `{path}`, got none. "
            f"{did_you_mean(split, listed) if listed else 'Leave out the split for all pictures.'}"
        )
    stems = tuple(line.strip() for line in text_lines(path) if line.strip())
    if not stems or len(set(stems)) < len(stems):
        duplicate = next((stem for stem in stems if stems.count(stem) > 1), None)
        got = "an empty list" if duplicate is None else f"`{duplicate}` more than once"
        raise InvalidInput(f"Expected distinct pictures in `{path}`, got {got}.")
    return stems


def load_voc(
    layout: Layout,
    classes: Sequence[str] | None = None,
    first_pixel: int | None = None,
    *,
    objects_too: bool = True,
) -> tuple[Annotations, Path]:
    """The pictures of a split with their objects, and the folder that their names are relative to.

    Args:
        classes: names in order; by default those of `class_names`.
        first_pixel: the number of the first pixel, 1 or 0; by default that of `Layout`.

    Raises:
        ConfigError: another first pixel.
        InvalidInput: no XML files, or a faulty one: an unknown class, a pixel before the first.
    """
    check_first_pixel(first_pixel)
    documents = {path.stem: path for path in sorted(layout.files.glob("*.xml"))}
    names = list(classes) if classes is not None else class_names(layout)
    pictures, remarks = _pictures(layout), Counter[str]()
    stems = tuple(documents) if layout.listed is None else _stems(layout.listed, documents | pictures)
    if absent := [stem for stem in stems if stem not in documents and stem not in pictures]:
        raise InvalidInput(
            f"Expected an XML file of each picture of the split in `{layout.files}`, got none of "
            f"`{absent[0]}` and {len(absent) - 1} others."
        )
    if pictures and layout.listed is None:
        remarks[NO_PICTURE] = sum(stem not in pictures for stem in stems)
        stems = tuple(stem for stem in stems if stem in pictures)
        remarks[NO_FILE] = sum(map(len, pictures.values())) - len(stems)
    remarks[LISTED] = sum(stem not in documents for stem in stems)
    labels = {name: index for index, name in enumerate(names)}
    reader = Documents(labels, layout.first_pixel if first_pixel is None else first_pixel, remarks)
    bar = tqdm(stems, desc="reading XML", unit="file", disable=len(stems) < MANY_FILES)
    parsed = [reader.read(documents.get(stem), objects_too=objects_too) for stem in bar]
    named = zip(stems, (name for name, _, _ in parsed), strict=True)
    files = [PurePath(_picture(stem, name, pictures.get(stem, [name]))) for stem, name in named]
    folder = layout.pictures or layout.files
    sizes = np.array([size for _, size, _ in parsed], dtype=np.intp).reshape(-1, 2)
    unknown = (sizes == 0).any(axis=1)
    sizes[unknown] = upright_sizes(folder / files[index] for index in np.flatnonzero(unknown))
    truths = [truth_of(objects) if objects else NO_OBJECTS for _, _, objects in parsed]
    if first_pixel is None and layout.labelmap is None:
        remarks[FROM_1] = sum(map(len, truths))
    loaded = annotated(files, sizes, dict(enumerate(names, start=1)), truths, remarks)
    return replace(loaded, ordered=classes is not None or layout.labelmap is not None), folder


def check_first_pixel(number: int | None) -> None:
    """Raises ConfigError for another number of the first pixel than 0, 1 or none."""
    if number not in (None, 0, 1):
        raise ConfigError(
            f"Expected the number of the first pixel of VOC's boxes to be 0 or 1, got {number}."
        )


def _stems(listed: Sequence[str], stems: Container[str]) -> tuple[str, ...]:
    """The pictures of a list; of one class's list without the number that ends a line."""
    return tuple(line if line in stems else line.rsplit(maxsplit=1)[0] for line in listed)


def class_names(layout: Layout) -> list[str]:
    """The names of the classes: CVAT's, or of all objects in the folder, by alphabet.

    Those of objects in whatever split, so that every split has one order. Raises InvalidInput for none.
    """
    if layout.labelmap is not None:
        lines = (line.strip() for line in text_lines(layout.labelmap))
        labels = [line.split(":")[0].strip() for line in lines if line and not line.startswith("#")]
        if duplicates := [label for label in labels if labels.count(label) > 1]:
            raise InvalidInput(
                f"Expected distinct classes in `{layout.labelmap}`, got `{duplicates[0]}` more than once."
            )
        return [label for label in labels if label != "background"]
    paths = sorted(layout.files.glob("*.xml"))
    if not paths:
        raise InvalidInput(f"Expected one data.yaml or VOC's XML files in `{layout.files}`, got neither.")
    bar = tqdm(paths, desc="reading names", unit="file", disable=len(paths) < MANY_FILES)
    names = {_text(entry, "name", path) for path in bar for entry in _document(path).iter("object")}
    if not names:
        raise InvalidInput(f"Expected objects with names in the XML files of `{layout.files}`, got none.")
    return sorted(names)


def _pictures(layout: Layout) -> dict[str, list[str]]:
    """Stem -> names below the folder of the pictures there."""
    if layout.pictures is None or not layout.pictures.is_dir():
        raise InvalidInput(f"Expected a folder of pictures at `{layout.pictures}`, got none.")
    paths = sorted(pictures_below(layout.pictures)[0])
    names: dict[str, list[str]] = {}
    for path in paths:
        names.setdefault(path.stem, []).append(path.relative_to(layout.pictures).as_posix())
    return names


def _picture(stem: str, name: str, pictures: Sequence[str]) -> str:
    """The picture of a stem; of several the one that the XML file names. Raises InvalidInput for none."""
    named = [picture for picture in pictures if name in (picture, PurePath(picture).name)]
    chosen = named if len(pictures) > 1 else pictures
    if len(chosen) != 1:
        raise InvalidInput(
            f"Expected one picture of `{stem}`, or its `filename` in the XML file, got {', '.join(pictures)}."
        )
    return chosen[0]


@dataclass(frozen=True)
class Documents:
    """A reader of XML files; `labels`: name -> class index; remarks: gets counts of what is unusual."""

    labels: dict[str, int]
    first_pixel: int
    remarks: Counter[str]

    def read(self, path: Path | None, *, objects_too: bool) -> tuple[str, tuple[int, int], list[Object]]:
        """Name, width and height (0 where unstated), and the objects of a picture; of no file nothing."""
        if path is None:
            return "", (0, 0), []
        document = _document(path)
        entries = list(document.iter("object")) if objects_too else []
        name = document.findtext("filename") or f"{path.stem}.jpg"
        sides = [document.findtext(f"size/{side}") or "0" for side in ("width", "height")]
        if not all(side.strip().isdecimal() and len(side) < 9 for side in sides) or (
            max(map(int, sides)) > LONGEST_SIDE
        ):
            raise InvalidInput(
                f"Expected whole numbers up to {LONGEST_SIDE:,} as size in `{path}`, got {shown(sides)}."
            )
        return name.strip(), (int(sides[0]), int(sides[1])), [self._object(entry, path) for entry in entries]

    def _object(self, entry: "Element", path: Path) -> Object:
        name = _text(entry, "name", path)
        if name not in self.labels:
            raise InvalidInput(
                f"Expected one of the {len(self.labels)} classes in `{path}`, got `{name}`. "
                f"{did_you_mean(name, self.labels)} List it in `data.classes`."
            )
        left, top, right, bottom = self._corners(entry, path)
        crowd = (entry.findtext("difficult") or "0").strip() == "1"
        self.remarks[DIFFICULT] += crowd
        return Object(self.labels[name], (left, top, right - left, bottom - top), crowd)

    def _corners(self, entry: "Element", path: Path) -> tuple[float, float, float, float]:
        """The box x1, y1, x2, y2, from 0."""
        texts = [entry.findtext(f"bndbox/{side}") or "" for side in SIDES]
        try:
            left, top, right, bottom = map(float, texts)
        except ValueError:
            left = top = right = bottom = np.nan
        if not np.isfinite([left, top, right, bottom]).all():
            raise InvalidInput(f"Expected numbers in {', '.join(SIDES)} of `{path}`, got {', '.join(texts)}.")
        if min(left, top) < self.first_pixel:
            fix = "Set `first_pixel` to 0." * (self.first_pixel == 1 and min(left, top) >= 0)
            raise InvalidInput(
                f"Expected pixels from {self.first_pixel} in `{path}`, got {min(left, top):g}. {fix}".rstrip()
            )
        left, top = left - self.first_pixel, top - self.first_pixel
        if right < left or bottom < top:
            raise InvalidInput(f"Expected xmin <= xmax and ymin <= ymax in `{path}`, got {', '.join(texts)}.")
        return left, top, right, bottom


def _document(path: Path) -> "Element":
    """An XML file, read without entities. Raises InvalidInput for a damaged one, or one of another kind."""
    from defusedxml.ElementTree import parse

    try:
        document: Element | None = parse(path, forbid_dtd=True).getroot()
    except Exception as error:  # a damaged file can raise anything
        raise InvalidInput(
            f"Expected VOC's XML in `{path}`, got: {first_line(error) or type(error).__name__}."
        ) from error
    if document is None or document.tag != "annotation":
        raise InvalidInput(f"Expected `annotation` as the outermost element of `{path}`, got another.")
    return document


def _text(entry: "Element", key: str, path: Path) -> str:
    text = (entry.findtext(key) or "").strip()
    if not text:
        raise InvalidInput(f"Expected every object of `{path}` to have a {key}, got none.")
    return text
