"""Letters drawn on pictures: one font, texts that it can draw, cut to a width."""

import sys
import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ebjr_det.core.errors import ConfigError, first_line

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont


ELLIPSIS = "\u2026"
SPELLED = {ELLIPSIS: "...", "\u2264": "<=", "\u2212": "-", "\u2013": "-", "\u221e": "inf"}
"""What stands for a sign of ours where the font lacks it."""
WITHOUT_WIDTH = ("Cc", "Cf")
PADDING, LEAST_SIDE = 6, 480
NO_SIGN = "\uffff"
"""No font has it, so it looks as every sign does that a font lacks."""


@cache
def letters(size: int, bold: bool = False) -> "FreeTypeFont":
    """DejaVu Sans, which comes with matplotlib; its digits are all of one width. Pillow's own without it."""
    from PIL import ImageFont

    package = find_spec("matplotlib")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / name
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return cast("FreeTypeFont", ImageFont.load_default(size))  # of a given size it is no other kind


def check_letters() -> None:
    """Raises ConfigError where Pillow cannot write on pictures."""
    try:
        letters.__wrapped__(12)
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"Expected Pillow with FreeType, which writes on pictures, got: {first_line(error)}. "
            "Run: pip install --force-reinstall pillow."
        ) from error


def drawable(text: str) -> str:
    """The text in one line, without what has no width, and every sign that the font lacks by its number.

    A sign that is replaced so is told once on stderr.
    """
    one_line = "".join(" " if sign.isspace() else sign for sign in text)
    return "".join(_drawable(sign) for sign in one_line if unicodedata.category(sign) not in WITHOUT_WIDTH)


@cache
def _drawable(sign: str) -> str:
    if unicodedata.category(sign) != "Cs" and _look(sign) != _look(NO_SIGN):
        return sign
    number = SPELLED.get(sign, f"U+{ord(sign):04X}")
    name = unicodedata.name(sign, "no name")
    sys.stderr.write(f"Drawn as `{number}`: the font of pictures lacks {sign!a} ({name.lower()}).\n")
    return number


def _look(sign: str) -> tuple[tuple[int, int], bytes]:
    mask = letters(16).getmask(sign)
    return mask.size, bytes(mask)


def shortened(text: str, font: "FreeTypeFont", width: float) -> str:
    """The text, cut to a width in pixels."""
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip() + drawable(ELLIPSIS) if len(text) > 2 else ""
    return text


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
    titled = Image.new("RGB", (picture.width, picture.height + height), color)
    titled.paste(picture, (0, height))
    ImageDraw.Draw(titled).text((PADDING, height / 2), text, "white", font, anchor="lm")
    return titled
