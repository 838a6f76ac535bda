"""Pictures on disk: found by name, folder or pattern, opened as RGB, written with a strip of text above.

Knows nothing about what is in them.
"""

import glob
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebjr_det.errors import InvalidInput, first_line
from ebjr_det.lettering import drawable, letters, shortened

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
PADDING = 6
LEAST_SIDE = 480


def find_pictures(names: Sequence[str]) -> list[Path]:
    """The files behind names, folders (all pictures below them) and patterns such as `*.jpg`, each file once.

    Raises:
        InvalidInput: a name behind which there is no picture.
    """
    found: dict[str, Path] = {}
    for name in names:
        try:
            here = _pictures_at(name)
        except (OSError, ValueError):  # a name that no file can have
            here = []
        if not here:
            raise InvalidInput(f"Expected pictures at `{name}`, a file, a folder or a pattern, got none.")
        for path in here:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _pictures_at(name: str) -> list[Path]:
    path = Path(name)
    if path.is_file():
        return [path]
    if name and path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in map(Path, glob.glob(name, recursive=True)) if p.is_file())


def open_picture(path: Path, size: tuple[int, int] = (0, 0)) -> "Image.Image":
    """A picture as RGB, whatever its mode, turned as its camera says.

    Args:
        size: width and height of the annotated picture, 0 where unknown. A picture that has them without
            being turned stays as it is: its boxes were drawn so.

    Raises:
        InvalidInput: it cannot be decoded, is suspiciously large, or has another size either way.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # odd metadata
            with Image.open(path) as opened:
                turned = opened if opened.size == size else ImageOps.exif_transpose(opened)
                if turned.mode.startswith("I"):  # 16 bits a pixel, of which Pillow would clip all above 255
                    turned = turned.convert("I").point(lambda level: level / 256)
                picture = turned.convert("RGB")
    except Exception as error:  # a damaged picture can raise anything
        raise InvalidInput(f"Expected a readable picture, got `{path}`: {first_line(error)}.") from error
    if all(size) and picture.size != size:
        raise InvalidInput(
            f"Expected `{path}` to have the annotated size {size[0]} x {size[1]}, got {picture.width} x "
            f"{picture.height}."
        )
    return picture


def legible(picture: "Image.Image", side: int = 0) -> "Image.Image":
    """The picture with its longer side this long; by default as it is, or enlarged to 480 for its letters."""
    from PIL import Image

    scale = (side or max(LEAST_SIDE, *picture.size)) / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def with_strip(picture: "Image.Image", text: str, color: str) -> "Image.Image":
    """The picture under a strip of `color` with white text, which is shortened to fit."""
    from PIL import Image, ImageDraw

    size = max(11, round(picture.width / 45))
    font, height = letters(size), size + 2 * PADDING
    text = shortened(drawable(text), font, picture.width - 2 * PADDING)
    whole = Image.new("RGB", (picture.width, picture.height + height), color)
    whole.paste(picture, (0, height))
    ImageDraw.Draw(whole).text((PADDING, height / 2), text, "white", font, anchor="lm")
    return whole
