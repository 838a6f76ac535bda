"""PASCAL VOC's annotated sets: an XML file a picture, and lists of the pictures of each split.

VOC counts pixels from 1, and a box names its first and its last one: xmin, xmax = 1, 40 is all of a picture
40 pixels wide, here 0 to 40. Tools that count from 0 (datumaro, and so CVAT) name edges instead, 0 and 40: of
them `first_pixel` is 0. An object that is `difficult` is neither missed nor found wrongly: COCO's crowd.
Source: the VOC2012 development kit, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from reprlib import repr as shown
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.core.errors import ConfigError, InvalidInput, did_you_mean, first_line
from ebjr_det.io.pictures import pictures_below
from ebjr_det.tasks.detection.coco.annotations import LONGEST_SIDE, NO_OBJECTS, Annotations
from ebjr_det.tasks.detection.formats.objects import Object, annotated, truth_of, upright_sizes
from ebjr_det.tasks.detection.formats.yolo import text_lines

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SIDES = ("xmin", "ymin", "xmax", "ymax")
MANY_FILES = 5_000  # from which on a bar shows the progress
DIFFICULT = "difficult objects, which count neither as found nor as missed"
NO_PICTURE = "XML files without a picture left out"
NO_FILE = "pictures without an XML file left out"


@dataclass(frozen=True)
class Layout:
    """Where the parts of a set are.

    Attributes:
        files: the folder of XML files; pictures: the folder of pictures, None where only XML files are here.
        stems: of the pictures of the split, None for all.
    """

    files: Path
    pictures: Path | None
    stems: tuple[str, ...] | None

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
        stems = None if split is None else _stems(base / "ImageSets" / "Main", split)
        return cls(files, Path(images) if images is not None else nearest, stems)


def _stems(folder: Path, split: str) -> tuple[str, ...]:
    path = folder / f"{split}.txt"
    if not path.is_file():
        listed = sorted(file.stem for file in folder.glob("*.txt") if "_" not in file.stem)
        raise InvalidInput(
            f"Expected a list of the pictures of `{split}` at `{path}`, got none. "
            f"{did_you_mean(split, listed) if listed else 'Leave out the split for all pictures.'}"
        )
    stems = tuple(line.split()[0] for line in text_lines(path) if line.strip())
    if not stems or len(set(stems)) < len(stems):
        duplicate = next((stem for stem in stems if stems.count(stem) > 1), None)
        got = "an empty list" if duplicate is None else f"`{duplicate}` more than once"
        raise InvalidInput(f"Expected distinct pictures in `{path}`, got {got}.")
    return stems


def load_voc(
    layout: Layout, classes: Sequence[str] | None = None, first_pixel: int = 1, *, objects_too: bool = True
) -> tuple[Annotations, Path]:
    """The pictures of a split with their objects, and the folder that their names are relative to.

    Args:
        classes: names in order; by default all that occur in the folder, in whatever split, by alphabet.
        first_pixel: the number of the first pixel, 1 or 0.

    Raises:
        InvalidInput: no XML files, or a faulty one: an unknown class, a pixel before the first.
    """
    documents = {path.stem: path for path in sorted(layout.files.glob("*.xml"))}
    if not documents:
        raise InvalidInput(f"Expected VOC's XML files in `{layout.files}`, got none.")
    names = list(classes) if classes is not None else class_names(layout)
    stems = tuple(documents) if layout.stems is None else layout.stems
    if absent := [stem for stem in stems if stem not in documents]:
        raise InvalidInput(
            f"Expected an XML file of each picture of the split in `{layout.files}`, got none of "
            f"`{absent[0]}` and {len(absent) - 1} others."
        )
    pictures, remarks = _pictures(layout), Counter[str]()
    if pictures and layout.stems is None:
        remarks[NO_PICTURE] = sum(stem not in pictures for stem in stems)
        remarks[NO_FILE] = len(pictures.keys() - documents.keys())
        stems = tuple(stem for stem in stems if stem in pictures)
    reader = Documents({name: index for index, name in enumerate(names)}, first_pixel, remarks)
    bar = tqdm(stems, desc="reading XML", unit="file", disable=len(stems) < MANY_FILES)
    parsed = [reader.read(documents[stem], objects_too=objects_too) for stem in bar]
    files = [PurePath(pictures.get(stem, name)) for stem, (name, _, _) in zip(stems, parsed, strict=True)]
    folder = layout.pictures or layout.files
    sizes = np.array([size for _, size, _ in parsed], dtype=np.intp).reshape(-1, 2)
    unknown = (sizes == 0).any(axis=1)
    sizes[unknown] = upright_sizes(folder / files[index] for index in np.flatnonzero(unknown))
    truths = [truth_of(objects) if objects else NO_OBJECTS for _, _, objects in parsed]
    return annotated(files, sizes, dict(enumerate(names, start=1)), truths, remarks), folder


def class_names(layout: Layout) -> list[str]:
    """All names of objects in a folder of XML files, by alphabet, so that every split has one order."""
    paths = sorted(layout.files.glob("*.xml"))
    bar = tqdm(paths, desc="reading names", unit="file", disable=len(paths) < MANY_FILES)
    names = {_text(entry, "name", path) for path in bar for entry in _document(path).iter("object")}
    if not names:
        raise InvalidInput(f"Expected objects with names in the XML files of `{layout.files}`, got none.")
    return sorted(names)


def _pictures(layout: Layout) -> dict[str, str]:
    """Stem -> name below the folder of each picture there."""
    if layout.pictures is None or not layout.pictures.is_dir():
        raise InvalidInput(f"Expected a folder of pictures at `{layout.pictures}`, got none.")
    paths = sorted(pictures_below(layout.pictures)[0])
    return {path.stem: path.relative_to(layout.pictures).as_posix() for path in paths}


@dataclass(frozen=True)
class Documents:
    """A reader of XML files.

    Attributes:
        labels: name -> class index; remarks: gets counts of what is unusual.
    """

    labels: dict[str, int]
    first_pixel: int
    remarks: Counter[str]

    def read(self, path: Path, *, objects_too: bool) -> tuple[str, tuple[int, int], list[Object]]:
        """Name, width and height (0 where unstated), and the objects of a picture."""
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
