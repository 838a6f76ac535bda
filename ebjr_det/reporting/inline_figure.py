"""A figure as a part of the page: SVG in the page's own colours, so that it is light or dark as the page is.

A wide form is for screens and paper, a narrow one for phones; the page shows the one that has room. Where
values lie in it is told beside, so that a script can move a mark over it.
"""

import re
from collections.abc import Callable
from io import StringIO
from typing import Final, NamedTuple

import matplotlib.style
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebjr_det.reporting.style import BLUE, GREEN, GREY, INK, STYLE, VERMILLION, new_figure

COLORS: Final = {
    BLUE: "blue", VERMILLION: "red", GREEN: "green", INK: "ink", GREY: "soft", "#eeeeee": "grid",
    "#cccccc": "line", "#ffffff": "page",
}  # fmt: skip
"""Colours of figures, and what the page calls its own in their place."""
SIZES: Final = {"wide": (6.4, 4.4), "narrow": (3.7, 4.5)}
"""Inches of both forms; a letter of 8 points is 12 pixels high where the page gives each its room."""

MARK: Final = Markup('<g class="mark" hidden><path class="guide"/><circle r="5.5"/></g>')
"""What the slider moves."""


class Frame(NamedTuple):
    """Where the axes lie in the units of an SVG, and which values are at their ends."""

    left: float
    bottom: float
    right: float
    top: float
    x_low: float
    y_low: float
    x_high: float
    y_high: float


class InlineFigure(NamedTuple):
    """An SVG element and the frame of its axes."""

    svg: Markup
    frame: Frame


class Words(NamedTuple):
    """What a figure is called and what is to be seen in it, for those who do not see it."""

    title: str
    about: str


def inline_figure(paint: Callable[[Figure, Axes], None], form: str, words: Words) -> InlineFigure:
    """What `paint` draws in one of `SIZES`, without a title; the same input gives the same text."""
    width, height = SIZES[form]
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = new_figure("", height, width)
        paint(figure, axes)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        (left, low), (right, high) = axes.bbox.get_points() * 72 / figure.dpi
        ends = axes.viewLim.get_points().ravel()
    places = (left, 72 * height - low, right, 72 * height - high, *ends)
    frame = Frame(*(round(float(value), 4) for value in places))
    return InlineFigure(svg_element(text.getvalue(), form, words, MARK), frame)


def svg_element(text: str, name: str, words: Words, inside: str = "") -> Markup:
    """A file that matplotlib wrote as an element of the page.

    Sizes, fonts, colours and names that nothing refers to give way to the page's own. Text in it is escaped
    as matplotlib has it.

    Args:
        name: by which the element's title is found in the page; `inside`: what is drawn over all else.
    """
    text = re.sub(r"<metadata>.*?</metadata>|<style [^>]*>.*?</style>", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#(\w+)', text))
    start, end = text.index(">", text.index("<svg ")) + 1, text.rindex("</svg>")
    root, inner = _own(text[text.index("<svg ") : start], used), text[start:end]
    drawn = Markup(re.sub(r"<[^<>]+>", lambda tag: _own(tag[0], used), inner))  # noqa: S704
    head = Markup('<svg role="img" aria-labelledby="title-{0}" aria-describedby="about-{0}" ').format(name)
    head += Markup(root.removeprefix("<svg "))  # noqa: S704
    head += Markup('<title id="title-{0}">{1}</title><desc id="about-{0}">{2}</desc>').format(name, *words)
    return head + drawn + inside + Markup("</svg>")


def _own(tag: str, used: set[str]) -> str:
    """One tag in the page's colours and font."""
    if tag.startswith("<svg "):
        tag = re.sub(r' (width|height|version|xmlns)="[^"]*"', "", tag)
    tag = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    for color, name in COLORS.items():
        tag = re.sub(color, f"var(--{name})", tag, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", tag)
