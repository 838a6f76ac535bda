"""`convert`: an annotated set, or a detector's results, from the form that they have into another one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Unpack

from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.io.files import writable_folder
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import ConvertOptions


@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote: where, how many pictures, and how many objects or detections."""

    path: Path
    pictures: int
    boxes: int


def convert(source: str | Path, out: str | Path, to: str, **options: Unpack[ConvertOptions]) -> Conversion:
    """Write an annotated set of detection, or results, in another form, whole or not at all.

    Boxes keep their bits where the form can hold them. Pictures of a set in YOLO's or VOC's form are linked,
    or copied where the disk cannot link.

    Args:
        source: a set (COCO's JSON, YOLO's data.yaml, VOC's folder) or, beside `annotations`, results in any
            form that `replay` reads.
        out: a JSON file (`coco`, `ultralytics`) or a folder (`yolo`, `voc`), which must not be there yet.
        to: the form; `ultralytics`, its predictions.json, of results alone.

    Raises:
        ConfigError: an unknown form or option, one without use, `out` exists, or the pictures are not told.
        InvalidInput: whatever is wrong with the files.

    Example:
        >>> import ebjr_det
        >>> ebjr_det.convert("data.yaml", "truth.json", "coco", split="val").pictures  # doctest: +SKIP
        128
    """
    forms, path = load_task("detection").forms, Path(out)
    check_known(to, forms.endings, "a form to write")
    for option in options:
        check_known(option, ConvertOptions.__annotations__, "an option of `convert`")
    if path.exists():
        raise ConfigError(f"Expected a new path to write to, got `{path}`, which exists. Name another one.")
    if (ends := forms.endings[to]) and not path.name.endswith(ends):
        raise ConfigError(f"Expected a {' or '.join(ends)} for the form `{to}`, got `{path}`.")
    write = forms.write_results if "annotations" in options else forms.write_set
    with _whole(path) as temporary:
        pictures, boxes = write(Path(source), temporary, to, options)
    return Conversion(path, pictures, boxes)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Yield a path beside `out` that takes its name when the block ends well, and goes otherwise."""
    temporary = writable_folder(out.parent) / f".{token_hex(4)}-{out.name}"
    try:
        yield temporary
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
