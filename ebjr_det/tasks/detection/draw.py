"""Boxes drawn on pictures, their labels where they can be read."""

from collections.abc import Iterator, Sequence
from itertools import product

from PIL import Image, ImageColor, ImageDraw, ImageFont

from ebjr_det.core.types import FloatArray
from ebjr_det.io.lettering import ELLIPSIS, drawable, legible, letters, shortened
from ebjr_det.tasks.detection.detections import overlap

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B2182B", "#5E3C99")
"""Okabe and Ito's and two dark ones; classes take them in turn."""
LONGEST_NAME = 24
BRIGHT = 140  # of 255, from which on black is read better than white

Area = tuple[float, float, float, float]


def label(name: str, score: float | None = None) -> str:
    """The text of a box: its class, shortened where it is long, and its score.

    >>> label("person", 0.987), label("7", 0.4), label("an animal of a kind that has no short name", 0.5)
    ('person: 0.99', '7: 0.40', 'an animal of a kind that\u2026: 0.50')
    """
    name = " ".join(name.split())
    short = name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME].rstrip() + ELLIPSIS
    return short if score is None else f"{short}: {score:.2f}"


def draw_boxes(
    picture: Image.Image, boxes: FloatArray, texts: Sequence[str], colors: Sequence[str], *, side: int = 0
) -> Image.Image:
    """A copy of the picture with boxes x1, y1, x2, y2 [n, 4] in its pixels, the last one below the others.

    Labels lie above all boxes; one that would cover an earlier one goes to another edge of its box.

    Args:
        texts, colors: one a box; an empty text has no label.
        side: of the result's longer side in pixels; by default that of the picture, at least 480.
    """
    canvas = legible(picture, side)
    canvas = picture.copy() if canvas is picture else canvas
    pen, font = ImageDraw.Draw(canvas), letters(max(10, round(max(canvas.size) / 50)))
    width = max(2, round(max(canvas.size) / 300))
    scaled = (boxes * (max(canvas.size) / max(picture.size))).tolist()
    for box, color in [*zip(scaled, colors, strict=True)][::-1]:
        pen.rectangle(box, outline=color, width=width)
    areas: list[Area] = []
    for box, text, color in zip(scaled, texts, colors, strict=True):
        if text:
            areas.append(_write_label(pen, canvas.size, box, text, color, font, areas))
    return canvas


def _write_label(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Sequence[float],
    text: str,
    color: str,
    font: ImageFont.FreeTypeFont,
    areas: list[Area],
) -> Area:
    """Where the label of a box is drawn: at its first position that covers none of `areas`, or the least."""
    margin = max(2, round(font.size / 5))
    text = shortened(drawable(text), font, size[0] - 2 * margin)
    width, height = font.getlength(text) + 2 * margin, sum(font.getmetrics()) + margin
    positions = [
        (max(0.0, min(x, size[0] - width)), max(0.0, min(y, size[1] - height)))
        for x, y in _corners(box, width, height)
    ]
    candidates = [(x, y, x + width, y + height) for x, y in positions]
    area = min(candidates, key=lambda candidate: sum(_shared(candidate, other) for other in areas))
    pen.rectangle(area, fill=color)
    ink = "black" if _brightness(color) >= BRIGHT else "white"
    pen.text((area[0] + margin, (area[1] + area[3]) / 2), text, ink, font, anchor="lm")
    return area


def _corners(box: Sequence[float], width: float, height: float) -> Iterator[tuple[float, float]]:
    """Left upper corners of a label, the usual one first: on the upper edge, inside, below, beside."""
    left, top, right, bottom = box
    yield left, top - height if top >= height else top
    yield from product((left, right - width), (top - height, bottom, top, bottom - height))
    yield from product((right, left - width), (top, bottom - height))
    for step in range(1, 4):  # boxes of one position have theirs in a column
        yield left, top + step * height


def _shared(first: Area, second: Area) -> float:
    width, height = overlap(first, second)
    return float(max(0, width) * max(0, height))


def _brightness(color: str) -> float:
    red, green, blue = ImageColor.getrgb(color)[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue
