"""Figures: quality against cost, and how a deferral score parts right answers from wrong ones.

Convention: a figure is written twice, as PNG (200 dpi) and as SVG with its text as text; the same input
gives the same bytes. Colours are Okabe and Ito's, told apart by colour-blind readers. Knows no model, no
data and no `pyplot`: each figure is an object of its own, and the user's matplotlib settings do not matter.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ebjr_det.errors import ConfigError, InvalidInput, did_you_mean
from ebjr_det.files import atomic_write
from ebjr_det.tradeoff import Budget, Intervals, OperatingPoint, TradeoffCurve
from ebjr_det.types import FloatArray

BLUE, VERMILLION, INK, GREY = "#0072B2", "#D55E00", "#222222", "#777777"
OTHERS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
STYLE: Any = {
    "figure.dpi": 100, "savefig.dpi": 200, "savefig.facecolor": "white", "text.parse_math": False,
    "font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.linewidth": 0.8,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": GREY, "ytick.color": GREY,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.axisbelow": True, "axes.grid": True,
    "grid.color": "#eeeeee", "grid.linewidth": 0.6, "axes.formatter.useoffset": False,
    "svg.fonttype": "none", "svg.hashsalt": "ebjr_det",
}  # fmt: skip
SIDES = [side for side in product((1, -1, 0), repeat=2) if side != (0, 0)]
CORNERS = np.array([-1.0, -1.0, 1.0, 1.0])  # outwards, of a box (left, bottom, right, top)


def write_tradeoff_figure(
    stem: Path,
    curves: Sequence[TradeoffCurve],
    intervals: Intervals | None,
    *,
    kind: Budget,
    chosen: OperatingPoint | None,
    measured_ms: float | None = None,
    quality_name: str,
    names: tuple[str, str],
    title: str,
) -> list[Path]:
    """Quality against cost per image: the curves, student and teacher alone, random and oracle deferral.

    The teacher alone stands at its own cost: only in the pair does the student's come on top. An oracle
    that would flatten all other lines leaves the picture at the top; its label then says how high it goes.

    Args:
        stem: the files' path without `.png` and `.svg`; its folder exists.
        curves: one or more of one pair on the same images; the first is drawn strong, the others thin.
        intervals: for the first curve's band, or None for no band.
        kind: the cost axis: deferral rate in %, MACs or ms per image.
        chosen: the operating point to mark.
        measured_ms: ms per image of the live pair at `chosen`; marked where `kind` is `latency_ms`.
        quality_name: the y axis; an accuracy is shown in %, any other quality as the number it is.
        names: of the student and the teacher.

    Returns:
        The two files: PNG, SVG.

    Raises:
        ConfigError: no curve, an unknown kind or cost, a measurement without an operating point, or
            intervals that lack the first curve's score.
    """
    if not curves:
        raise ConfigError("Expected at least one trade-off curve, got none.")
    if measured_ms is not None and (chosen is None or not 0 <= measured_ms < np.inf):
        raise ConfigError(
            f"Expected `measured_ms` of at least 0 and a `chosen` point, got {measured_ms}, {chosen}."
        )
    main = curves[0]
    if intervals is not None and main.score not in intervals.low:
        known = did_you_mean(main.score, intervals.low)
        raise ConfigError(f"Expected intervals of the first curve's score, `{main.score}`. {known}")
    scale = _Scale.of(kind, quality_name, main)
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = _figure(title, 7.2, 4.3)
        axes.set(xlabel=scale.x_name, ylabel=scale.y_name)
        _limit_quality(axes, curves, intervals, chosen, scale)
        labels = _draw_points(axes, main, chosen, measured_ms, names, scale)
        labels += _draw_curves(figure, axes, curves, intervals, scale)
        labels += _draw_references(axes, main, scale)
        _place(figure, axes, labels)
        return _save(figure, stem, title)


def write_histogram_figure(
    stem: Path,
    values: FloatArray,
    right: NDArray[np.bool_],
    threshold: float,
    *,
    score: str,
    formula: str,
    title: str,
) -> list[Path]:
    """Deferral scores of the images that the student gets right and of those that it gets wrong.

    Each group's bars add up to 100 % of that group, so that a few wrong answers are as visible as many
    right ones; the counts stand beside. Where one bar would hide the rest the axis is a square root.

    Args:
        stem: the files' path without `.png` and `.svg`; its folder exists.
        values: [images] deferral scores; an infinite one counts in the outermost bin on its side.
        right: [images] whether the student alone is right.
        threshold: scores strictly above it go to the teacher; outside all bins it is told in words.
        score, formula: what `values` are; both name the x axis.

    Returns:
        The two files: PNG, SVG.

    Raises:
        InvalidInput: no images, a NaN, or lengths that differ.
    """
    if not len(values) or values.shape != right.shape or np.isnan([*values, threshold]).any():
        raise InvalidInput(
            "Expected `values` and `right` of one length above 0 and a threshold, without NaN, "
            f"got shapes {list(values.shape)} and {list(right.shape)}, threshold {threshold}."
        )
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = _figure(title, 7.2, 3.8)
        axes.set_xlabel(f"{score} = {formula}   (higher: more doubt)")
        labels = _draw_groups(axes, values, right)
        low, high = axes.get_xlim()
        if low < threshold < high:
            axes.axvspan(threshold, high, color=VERMILLION, alpha=0.06, lw=0, zorder=0)
            axes.axvline(threshold, color=INK, lw=1.2, zorder=5)
            text, heights = f"threshold {threshold:.4g}", np.linspace(0.97, 0.5, 12)
        else:
            text = f"threshold {threshold:.4g}: {'above' if threshold >= high else 'below'} all scores"
            heights = np.array([0.97])
        at = axes.transAxes.transform(np.column_stack([0.5 + 0 * heights, heights]))
        at = axes.transData.inverted().transform(at)
        if low < threshold < high:
            at[:, 0] = threshold
        labels.insert(0, _Label(text, at))
        for words, part, x, side in (
            ("\N{LEFTWARDS ARROW} stays with the student", values <= threshold, 0, "left"),
            ("sent to the teacher \N{RIGHTWARDS ARROW}", values > threshold, 1, "right"),
        ):
            share, good = part.mean(), right[part].mean() if part.any() else 0
            numbers = f"{share:.1%} of the images" + (f", student right on {good:.1%}" if share else "")
            axes.annotate(
                f"{words}\n{numbers.replace('%', ' %')}", (x, 1), (0, 5), "axes fraction",
                "offset points", ha=side, va="bottom", linespacing=1.4,
            )  # fmt: skip
        _place(figure, axes, labels)
        return _save(figure, stem, title)


@dataclass(frozen=True)
class _Label:
    """A text and the points [A, 2] in data units beside any of which it may stand."""

    text: str
    anchors: FloatArray
    color: str = INK
    weight: str = "normal"


@dataclass(frozen=True)
class _Scale:
    """Units and names of the two axes of a trade-off figure."""

    kind: Budget
    unit: float
    x_name: str
    percent: bool
    y_name: str

    @classmethod
    def of(cls, kind: Budget, quality_name: str, curve: TradeoffCurve) -> "_Scale":
        largest = curve.costs(kind)[-1]
        unit, name = 0.01, "deferral rate (% of the images)"
        if kind == "latency_ms":
            unit, name = 1.0, "expected latency (ms per image)"
        if kind == "macs":
            units = (("G", 1e9), ("M", 1e6), ("k", 1e3))
            prefix, unit = next((u for u in units if largest >= u[1]), ("", 1.0))
            name = f"{prefix}MACs per image"
        percent = "accuracy" in quality_name
        return cls(kind, unit, name, percent, f"{quality_name} (%)" if percent else quality_name)

    def x(self, curve: TradeoffCurve, rate: Any) -> Any:
        """Cost of the pair at a deferral rate, on the axis."""
        costs = {"macs": curve.cost.macs, "latency_ms": curve.cost.latency_ms}
        return costs.get(self.kind, lambda p: p)(rate) / self.unit

    def y(self, quality: Any) -> Any:
        """Quality on the axis."""
        return quality * 100 if self.percent else quality

    def text(self, quality: float) -> str:
        """Quality in words."""
        return f"{100 * quality:.1f} %" if self.percent else f"{quality:.3f}"


def _figure(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(textwrap.fill(title, 84), x=0.012, ha="left", fontsize=10.5, weight="bold")
    axes = figure.add_subplot()
    axes.tick_params(length=3, width=0.8)
    return figure, axes


def _limit_quality(
    axes: Axes,
    curves: Sequence[TradeoffCurve],
    intervals: Intervals | None,
    chosen: OperatingPoint | None,
    scale: _Scale,
) -> None:
    """Show every curve and the band, and the oracle while it leaves half the height to them."""
    main = curves[0]
    shown = [main.random, *(curve.quality for curve in curves)]
    if intervals is not None:
        shown += [intervals.low[main.score], intervals.high[main.score]]
    if chosen is not None:
        shown.append(np.array([chosen.quality]))
    low, high = float(np.concatenate(shown).min()), float(np.concatenate(shown).max())
    peak = float(main.oracle.max())
    high = max(high, peak if high == low or peak - low <= 2 * (high - low) else high + 0.4 * (high - low))
    margin = 0.08 * (high - low) or 0.01
    bottom, top = scale.y(low - margin), scale.y(high + margin)
    ticks = MaxNLocator(6).tick_values(bottom, top)
    most = 100 * (1 + 1e-9) if scale.percent else np.inf
    axes.set_yticks(ticks[(ticks >= bottom) & (ticks <= min(top, most))])
    axes.set_ylim(bottom, top)


def _draw_points(
    axes: Axes,
    main: TradeoffCurve,
    chosen: OperatingPoint | None,
    measured_ms: float | None,
    names: tuple[str, str],
    scale: _Scale,
) -> list[_Label]:
    """Mark the chosen point, the live measurement and each model alone, the teacher at its own cost."""
    student, both = scale.x(main, 0.0), scale.x(main, 1.0)
    qualities = main.student_quality, main.teacher_quality
    marks = [
        (f"{role} alone: {scale.text(q)}\n{textwrap.fill(name, 30)}", x, q, marker, INK, "white")
        for role, name, x, q, marker in zip(
            ("teacher", "student"), names[::-1], (both - student, student), qualities[::-1], "so", strict=True
        )
    ]  # fmt: skip
    if chosen is not None:
        x, quality = scale.x(main, chosen.deferral_rate), chosen.quality
        if measured_ms is not None and scale.kind == "latency_ms":
            text = f"measured live: {measured_ms:.3g} ms"
            marks.insert(0, (text, measured_ms, quality, "D", "white", BLUE))
        text = f"{100 * chosen.deferral_rate:.1f} % deferred: {scale.text(quality)}"
        marks.insert(0, (text, x, quality, "D", BLUE, "white"))
    axes.axhline(scale.y(main.teacher_quality), color="#cccccc", lw=0.8, zorder=1)
    labels = []
    for text, x, quality, marker, face, edge in marks:
        style = {"ms": 7, "mfc": face, "mec": edge, "mew": 1.3, "zorder": 6, "clip_on": False}
        axes.plot(x, scale.y(quality), marker, **style)
        color = INK if face == INK else BLUE
        weight = "bold" if face == BLUE else "normal"
        labels.append(_Label(text, np.array([[x, scale.y(quality)]]), color, weight))
    return labels


def _draw_curves(
    figure: Figure,
    axes: Axes,
    curves: Sequence[TradeoffCurve],
    intervals: Intervals | None,
    scale: _Scale,
) -> list[_Label]:
    """The first curve and its band, the others, and their names: beside a single one, else in a list."""
    main, others = curves[0], sorted(curves[1:], key=lambda curve: -curve.area())
    x, y = scale.x(main, main.deferral_rate), scale.y(main.quality)
    few = {"marker": "o", "ms": 3} if len(y) <= 12 else {}
    lines: list[Any] = axes.plot(x, y, color=BLUE, lw=2.2, zorder=4, **few)
    name = main.score
    if intervals is not None:
        low, high = scale.y(intervals.low[name]), scale.y(intervals.high[name])
        band = scale.x(main, intervals.rate)
        axes.fill_between(band, low, high, color=BLUE, alpha=0.16, lw=0, zorder=2)
        lines = [(Patch(color=BLUE, alpha=0.16, lw=0), lines[0])]
        name += f"\n{100 * intervals.confidence:.4g} % interval"
    if not others:
        return [_Label(name, _along(x, y), BLUE, "bold")]
    for index, curve in enumerate(others):
        muted = 0.75 * np.array(to_rgb(OTHERS[index % 5])) + 0.25
        dash = ("-", (0, (7, 1.5, 1.5, 1.5)), (0, (2, 1)))[index // 5 % 3]
        x, y = scale.x(curve, curve.deferral_rate), scale.y(curve.quality)
        lines += axes.plot(x, y, color=tuple(muted), lw=1.1, ls=dash, zorder=3)
    texts = figure.legend(
        lines, [name, *(curve.score for curve in others)], loc="outside right upper", frameon=False,
        title="deferral score", alignment="left", handlelength=1.8, fontsize=8, title_fontsize=8,
    ).get_texts()  # fmt: skip
    texts[0].set(color=BLUE, weight="bold")
    return []


def _draw_references(axes: Axes, main: TradeoffCurve, scale: _Scale) -> list[_Label]:
    """Random and oracle deferral, above the curves so that they show where they coincide."""
    x = scale.x(main, np.linspace(0.0, 1.0, main.images + 1))
    axes.plot(x, scale.y(main.random), color=GREY, lw=1.2, ls=(0, (4, 3)), zorder=5)
    axes.plot(x, scale.y(main.oracle), color=GREY, lw=1.4, ls=(0, (1, 1.6)), zorder=5)
    visible = scale.y(main.oracle) <= axes.get_ylim()[1]
    peak = "" if visible.all() else f" (up to {scale.text(main.oracle.max())})"
    return [
        _Label(f"oracle{peak}", _along(x[visible], scale.y(main.oracle[visible])), GREY),
        _Label("random deferral", _along(x, scale.y(main.random)), GREY),
    ]


def _draw_groups(axes: Axes, values: FloatArray, right: NDArray[np.bool_]) -> list[_Label]:
    """One histogram a group on shared bins, and the axis limits."""
    finite = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 51)
    labels, peak = [], 0.0
    for part, color, word in ((right, BLUE, "right"), (~right, VERMILLION, "wrong")):
        counts = np.histogram(np.clip(values[part], low, high), edges)[0]
        share = 100 * counts / max(len(values[part]), 1)
        axes.stairs(share, edges, fill=True, color=color, alpha=0.25, lw=0, zorder=2)
        axes.stairs(share, edges, color=color, lw=1.4, zorder=3)
        peak = max(peak, float(share.max()))
        if counts.any():
            tall = np.argsort(-share)[:12]
            middle = (edges[tall] + edges[tall + 1]) / 2
            at = np.column_stack([middle, share[tall]])
            labels.append(_Label(f"student {word}\n{counts.sum():,} images", at, color, "bold"))
    root = peak > 40
    if root:
        axes.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
    axes.set_ylabel("% of the group, per bin" + (" (square-root scale)" if root else ""))
    axes.set_xlim(low - 0.01 * (high - low), high + 0.01 * (high - low))
    axes.set_ylim(0, 1.3 * peak)
    return labels


def _along(x: FloatArray, y: FloatArray) -> FloatArray:
    """Points [12, 2] along the middle of a line, where its name may stand."""
    at = np.linspace(0.85 * x[0] + 0.15 * x[-1], 0.15 * x[0] + 0.85 * x[-1], 12)
    return np.column_stack([at, np.interp(at, x, y)])


def _dots(artist: Any) -> FloatArray:
    """Where a line or patch has ink: pixels [D, 2], one every 3 along it."""
    path = artist.get_transform().transform(artist.get_path().vertices)
    path = path[np.isfinite(path).all(axis=1)]
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.arange(0.0, length[-1] + 1, 3)
    return np.column_stack([np.interp(at, length, path[:, 0]), np.interp(at, length, path[:, 1])])


def _place(figure: Figure, axes: Axes, labels: Sequence[_Label]) -> None:
    """Write each label where it hides least: inside, off lines and other labels, near its anchor."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    ink = np.concatenate([_dots(artist) for artist in (*axes.lines, *axes.patches)])
    frame, to_pixels, point = np.array(axes.bbox.extents), axes.transData.transform, figure.dpi / 72
    taken = [np.tile(to_pixels(a.anchors[0]), 2) + 7 * CORNERS for a in labels if len(a.anchors) == 1]
    for label in labels:
        style: Any = {"color": label.color, "weight": label.weight, "fontsize": 8.5}
        probe = figure.text(0, 0, label.text, **style)
        size = np.array(probe.get_window_extent().size)
        probe.remove()
        best: Any = (np.inf,)
        for anchor, side, far in product(label.anchors, SIDES, (6, 12, 20, 32, 48)):
            offset = far * np.array(side) / np.hypot(*side)
            low = to_pixels(anchor) + offset * point + (np.array(side) - 1) / 2 * size
            box = np.concatenate([low, low + size]) + 2 * CORNERS
            outside = np.maximum((frame - box) * CORNERS * -1, 0).sum()
            hidden = ((ink > box[:2]) & (ink < box[2:])).all(axis=1).sum()
            shared = sum(
                np.maximum(np.minimum(box[2:], t[2:]) - np.maximum(box[:2], t[:2]), 0).prod() for t in taken
            )
            cost = 20 * outside + 3 * hidden + shared + 0.4 * far
            if cost < best[0]:
                best = cost, anchor, offset, side, far, box
        _, anchor, offset, (across, up), far, box = best
        taken.append(box)
        axes.annotate(
            label.text, anchor, offset, textcoords="offset points", annotation_clip=False, zorder=7,
            ha=("right", "center", "left")[across + 1], va=("top", "center", "bottom")[up + 1],
            bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.8},
            arrowprops={"arrowstyle": "-", "lw": 0.6 * (far > 12), "color": label.color, "shrinkB": 4},
            **style,
        )  # fmt: skip


def _save(figure: Figure, stem: Path, title: str) -> list[Path]:
    """Write PNG and SVG, each whole or not at all."""
    files = []
    for kind, metadata in (("png", {"Title": title}), ("svg", {"Title": title, "Date": None})):
        files.append(stem.with_name(f"{stem.name}.{kind}"))
        with atomic_write(files[-1]) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata)
    return files
