"""What every figure shares: its style, its file formats, and labels that find their own place.

Convention: a figure is written as PNG (200 dpi) and as SVG with its text as text; the same input gives
the same bytes. Colours are Okabe and Ito's, told apart by colour-blind readers. No `pyplot`: each figure
is an object of its own, and the user's matplotlib settings do not matter.
"""

import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ebjr_det.core.types import FloatArray
from ebjr_det.io.files import atomic_write

BLUE, VERMILLION, GREEN, INK, GREY = "#0072B2", "#D55E00", "#00805E", "#222222", "#707070"
COLORS = (BLUE, VERMILLION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE: Any = {
    "figure.dpi": 100, "savefig.dpi": 200, "svg.fonttype": "none", "svg.hashsalt": "ebjr_det",
    "font.size": 8, "axes.labelsize": 9, "text.parse_math": False, "text.color": INK,
    "axes.edgecolor": GREY, "axes.labelcolor": INK, "xtick.color": GREY, "ytick.color": GREY,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.formatter.useoffset": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True,
    "grid.color": "#eeeeee", "grid.linewidth": 0.6,
}  # fmt: skip
MISSING = r"Glyph (\d+) .* missing from font"
warnings.filterwarnings("ignore", MISSING)  # `save_figure` tells it once, in one line
FORMATS = ("png", "svg")
LEADER = 12  # points; a label further from its anchor has a line to it


class Label(NamedTuple):
    """A text, and the points [A, 2] in data units beside any of which it may stand."""

    text: str
    anchors: FloatArray
    color: str = INK
    weight: str = "normal"


@contextmanager
def draw_figure(
    stem: Path, title: str, height: float, subtitle: str = "", above: float = 8
) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the common style; written to `figure_paths(stem)` unless drawing raises.

    Args:
        title: what the figure shows; `subtitle`: of what it is, so many points `above` the axes.
    """
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = new_figure(title, height)
        if subtitle:
            axes.set_title(textwrap.fill(subtitle, 100), loc="left", fontsize=8, color=GREY, pad=above)
        yield figure, axes
        save_figure(figure, stem, title)


def figure_paths(stem: Path) -> list[Path]:
    """The PNG and the SVG of a figure: `stem` with their suffixes."""
    return [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]


def new_figure(title: str, height: float, width: float = 7.2) -> tuple[Figure, Axes]:
    """An empty figure of `width` and `height` inches, under its title; use within `STYLE`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        title = re.sub(r"(?<=\d) (?=%)", "\u00a0", title)  # in one line with its number
        figure.suptitle(textwrap.fill(title, 75), x=0.012, ha="left", fontsize=10, weight="bold")
    return figure, figure.add_subplot()


def along(x: FloatArray, y: FloatArray) -> FloatArray:
    """Points [12, 2] along the middle of a line, where its name may stand."""
    at = np.linspace(0.85 * x[0] + 0.15 * x[-1], 0.15 * x[0] + 0.85 * x[-1], 12)
    return np.column_stack([at, np.interp(at, x, y)])


def place_labels(figure: Figure, axes: Axes, labels: Sequence[Label]) -> None:
    """Write each label near its anchor, inside the axes, off lines, marks, other labels and their leaders."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    ink = np.concatenate([*map(_ink, axes.lines), *map(_ink, axes.patches)])
    ink = np.unique((ink / 3).round(), axis=0) * 3
    marks = axes.transData.transform([a.anchors[0] for a in labels if len(a.anchors) == 1] or [(0, 0)])
    spots = [_spots(figure, axes, label, ink, marks) for label in labels]
    turns = range(len(spots))
    crossings = cache(partial(_crossings, spots))  # the same again in every order
    _, picked = min(_settle(spots, [*turns[first:], *turns[:first]], crossings) for first in turns)
    for label, spot, pick in zip(labels, spots, picked, strict=True):
        box, anchor = spot.boxes[pick], spot.anchors[pick]
        center = (box[:2] + box[2:]) / 2 - axes.transData.transform(anchor)
        width = 0.6 * np.ptp(spot.leaders[pick], axis=0).any()
        axes.annotate(
            label.text, anchor, center * 72 / figure.dpi, textcoords="offset points",
            color=label.color, weight=label.weight, ha="center", va="center", zorder=7,
            multialignment="right" if center[0] < -10 else "left" if center[0] > 10 else "center",
            arrowprops={"arrowstyle": "-", "lw": width, "color": GREY, "shrinkB": 4}, annotation_clip=False,
            bbox={"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.65},  # over the grid
        )  # fmt: skip


class _Spots(NamedTuple):
    """Where a label could stand: cost [C], box [C, 4] and leader [C, 12, 2] in pixels, anchor [C, 2]."""

    cost: FloatArray
    boxes: FloatArray
    leaders: FloatArray
    anchors: FloatArray


def _spots(figure: Figure, axes: Axes, label: Label, ink: FloatArray, marks: FloatArray) -> _Spots:
    """Sixteen directions and seven distances round each anchor; ink, marks and the frame's edge cost."""
    probe = figure.text(0, 0, label.text, weight=label.weight)
    size = np.array(probe.get_window_extent().size)
    probe.remove()
    turn, far = (a.ravel() for a in np.meshgrid(np.arange(16) * np.pi / 8, (6, 9, 14, 22, 32, 48, 70)))
    anchors, far = np.repeat(label.anchors, len(far), axis=0), np.tile(far, len(label.anchors))
    side = np.tile(np.column_stack([np.cos(turn), np.sin(turn)]), (len(label.anchors), 1))
    pixels = axes.transData.transform(anchors)
    center = pixels + far[:, None] * side * figure.dpi / 72 + np.clip(1.5 * side, -1, 1) * size / 2
    boxes = np.hstack([center - size / 2 - (5, 2), center + size / 2 + (5, 2)])
    frame = np.array(axes.bbox.extents)
    outside = np.maximum(frame[:2] - boxes[:, :2], 0) + np.maximum(boxes[:, 2:] - frame[2:], 0)
    cost = 1e3 * outside.sum(axis=1) + 12.0 * _inside(ink, boxes) + 0.4 * far
    reach = (far > LEADER)[:, None, None] * np.linspace(0, 1, 12)[:, None]
    leaders = pixels[:, None] + reach * (center - pixels)[:, None]
    for mark in marks[np.hypot(*(marks - pixels[0]).T) > 3] if len(label.anchors) == 1 else ():
        cost += 100 * _inside(leaders, np.hstack([mark - 7, mark + 7]))
    return _Spots(cost, boxes, leaders, anchors)


def _crossings(
    spots: Sequence[_Spots], moving: int, index: int, pick: int
) -> tuple[FloatArray, NDArray[np.intp]]:
    """What boxes [C] and leaders [C] of a label cost beside another label at one of its spots.

    A label may cover no other label, no other's leader, and its leader no other label.
    """
    _, boxes, leaders, _ = spots[moving]
    box, leader = spots[index].boxes[pick], spots[index].leaders[pick]
    overlap = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    covered: FloatArray = 1e3 * (overlap > 0).all(axis=1) + np.maximum(overlap, 0).prod(axis=1)
    return covered, 100 * (_inside(leaders, box) + _inside(leader, boxes))


def _settle(
    spots: Sequence[_Spots],
    order: Sequence[int],
    crossings: Callable[[int, int, int], tuple[FloatArray, NDArray[np.intp]]],
) -> tuple[float, list[int]]:
    """Start every label at its best spot, then let each in turn move to the best among the others' spots."""
    picked = [int(np.argmin(spot.cost)) for spot in spots]
    for _ in range(4):
        earlier, total = list(picked), 0.0
        for moving in order:
            cost = spots[moving].cost.copy()
            for index in (index for index in order if index != moving):
                for part in crossings(moving, index, picked[index]):
                    cost += part
            picked[moving] = int(np.argmin(cost))
            total += cost[picked[moving]]
        if picked == earlier:
            break
    return total, picked


def _ink(artist: Line2D | Patch) -> FloatArray:
    """Pixels [D, 2] that a line, mark or patch covers: one every 3 along its path, a square for a mark."""
    path = artist.get_transform().transform(artist.get_path().vertices)
    path = path[np.isfinite(path).all(axis=1)]
    if len(path) == 1:
        return np.asarray(path + list(product(range(-6, 7, 3), repeat=2)))
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.arange(0.0, length[-1] + 1, 3)
    return np.column_stack([np.interp(at, length, path[:, 0]), np.interp(at, length, path[:, 1])])


def _inside(dots: FloatArray, boxes: FloatArray) -> NDArray[np.intp]:
    """How many of the dots [..., D, 2] lie in each box [..., 4]."""
    x, y = dots[..., 0], dots[..., 1]
    left, low, right, high = np.moveaxis(boxes[..., None], -2, 0)
    return np.asarray(((x > left) & (x < right) & (y > low) & (y < high)).sum(axis=-1))


def save_figure(figure: Figure, stem: Path, title: str) -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg`, each whole; returns their paths."""
    files = figure_paths(stem)
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", MISSING)
        for file, metadata in zip(files, ({"Title": title}, {"Title": title, "Date": None}), strict=True):
            with atomic_write(file) as temporary:
                figure.savefig(temporary, format=file.suffix[1:], metadata=metadata)
    missing = ""
    for warning in caught:
        if code := re.match(MISSING, str(warning.message)):
            missing += chr(int(code[1]))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if missing:
        _tell_missing("".join(sorted(set(missing))))
    return files


@cache
def _tell_missing(characters: str) -> None:
    """One line, however many figures lack the same characters."""
    printable = "".join(character if character.isprintable() else "?" for character in characters)
    print(f"Note: the figures' font lacks {printable}; boxes stand for them.", file=sys.stderr)
