"""Boxes drawn on pictures."""

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ebjr_det.types import FloatArray

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B2182B", "#5E3C99")
"""Okabe and Ito's, darkened where white text must be read on them; classes take them in turn."""
LEAST_SIDE = 480  # smaller pictures are enlarged, so that labels can be read


def draw_boxes(
    picture: Image.Image, boxes: FloatArray, texts: Sequence[str], colors: Sequence[str], *, side: int = 0
) -> Image.Image:
    """A copy of the picture with boxes x1, y1, x2, y2 [n, 4] in its pixels, the last one below the others.

    Args:
        texts, colors: one a box; an empty text has no label.
        side: of the result's longer side in pixels; by default that of the picture, at least 480.
    """
    scale = (side or max(LEAST_SIDE, *picture.size)) / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    drawn = picture.resize(size, Image.Resampling.BICUBIC) if size != picture.size else picture.copy()
    pen: Any = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(max(10, round(max(size) / 50)))
    width = max(2, round(max(size) / 300))
    for box, text, color in [*zip((boxes * scale).tolist(), texts, colors, strict=True)][::-1]:
        pen.rectangle(box, outline=color, width=width)
        if text:
            left, top, right, bottom = pen.textbbox((0, 0), text, font)
            x = min(max(0, box[0]), size[0] - (right - left) - 4)
            y = box[1] - (bottom - top) - 4 if box[1] > bottom - top + 4 else box[1]
            pen.rectangle((x, y, x + right - left + 4, y + bottom - top + 4), fill=color)
            pen.text((x + 2 - left, y + 2 - top), text, "white", font)
    return drawn
