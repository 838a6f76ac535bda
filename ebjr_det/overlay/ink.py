"""Colours, letters and numbers of the overlay. Colours are Okabe and Ito's, as in every figure here."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import ImageFont

STUDENT, TEACHER = "#0072B2", "#D55E00"
INK, GREY, RULE, PAPER, EMPTY = "#222222", "#6b6b6b", "#dddddd", "#ffffff", "#ececec"
UNKNOWN = "\u2013"


@cache
def letters(size: int, bold: bool = False) -> Any:
    """DejaVu Sans, which comes with matplotlib; its digits are all of one width."""
    found = find_spec("matplotlib")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / name
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def shortened(text: str, font: Any, width: float) -> str:
    """The text, cut to a width in pixels."""
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip() + "\u2026" if len(text) > 2 else ""
    return text


def number(value: float, digits: int) -> str:
    """A number with a true minus sign and this many decimals, or in powers of ten where it would be long.

    >>> number(-0.5, 2), number(float("inf"), 2), number(-1e9, 1), number(2.5e-7, 9)
    ('\u22120.50', '\u221e', '\u22121e+09', '2.5e\u221207')
    """
    if abs(value) == float("inf"):
        text = f"{'-' if value < 0 else ''}\u221e"
    else:
        text = f"{value:.{digits}f}" if abs(value) < 1e6 and digits < 6 else f"{value:.2g}"
    return text.replace("-", "\u2212")


def significant(value: float | None) -> str:
    """A positive number with three significant digits.

    >>> significant(0.53219), significant(31.04), significant(1530.2), significant(None)
    ('0.532', '31.0', '1,530', '\u2013')
    """
    if value is None:
        return UNKNOWN
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"
