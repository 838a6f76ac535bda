"""Boxes drawn on pictures, their labels where they can be read."""

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image, ImageColor, ImageDraw

from ebjr_det.core.types import FloatArray
from ebjr_det.io.lettering import ELLIPSIS, drawable, legible, letters, shortened

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
    drawn = legible(picture, side)
    drawn = picture.copy() if drawn is picture else drawn
    size, scale = drawn.size, max(drawn.size) / max(picture.size)
    pen: Any = ImageDraw.Draw(drawn)
    font = letters(max(10, round(max(size) / 50)))
    width = max(2, round(max(size) / 300))
    scaled = (boxes * scale).tolist()
    for box, color in [*zip(scaled, colors, strict=True)][::-1]:
        pen.rectangle(box, outline=color, width=width)
    areas: list[Area] = []
    for box, text, color in zip(scaled, texts, colors, strict=True):
        if text:
            areas.append(_write_label(pen, size, box, text, color, font, areas))
    return drawn


def _write_label(
    pen: Any, size: tuple[int, int], box: Sequence[float], text: str, color: str, font: Any, taken: list[Area]
) -> Area:
    """Where the label of a box is drawn: at the first of its places that covers no other, or the least."""
    room = max(2, round(font.size / 5))
    text = shortened(drawable(text), font, size[0] - 2 * room)
    wide, high = font.getlength(text) + 2 * room, sum(font.getmetrics()) + room
    places = [
        (
            max(0.0, min(x, size[0] - wide)),
            max(0.0, min(y, size[1] - high)),
        )
        for x, y in _places(box, wide, high)
    ]
    areas = [(x, y, x + wide, y + high) for x, y in places]
    area = min(areas, key=lambda each: sum(_shared(each, other) for other in taken))
    pen.rectangle(area, fill=color)
    ink = "black" if _brightness(color) >= BRIGHT else "white"
    pen.text((area[0] + room, (area[1] + area[3]) / 2), text, ink, font, anchor="lm")
    return area


def _places(box: Sequence[float], wide: float, high: float) -> Iterator[tuple[float, float]]:
    """Left upper corners of a label, the usual one first: on the upper edge, inside, below, beside."""
    left, top, right, bottom = box
    yield left, top - high if top >= high else top
    for x in (left, right - wide):
        for y in (top - high, bottom, top, bottom - high):
            yield x, y
    for x in (right, left - wide):
        for y in (top, bottom - high):
            yield x, y
    for step in range(1, 4):  # boxes of one place have theirs in a column
        yield left, top + step * high


def _shared(first: Area, second: Area) -> float:
    """Square pixels that two areas share."""
    wide = min(first[2], second[2]) - max(first[0], second[0])
    high = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, wide) * max(0.0, high)


def _brightness(color: str) -> float:
    red, green, blue = ImageColor.getrgb(color)[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue
