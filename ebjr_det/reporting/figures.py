"""Figures: quality against cost, and how a deferral score parts right answers from wrong ones.

Convention: a figure is written as PNG (200 dpi) and as SVG with its text as text; the same input gives
the same bytes. Colours are Okabe and Ito's, told apart by colour-blind readers. Knows no model, no data
and no `pyplot`: each figure is an object of its own, and the user's matplotlib settings do not matter.
"""

import textwrap
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ebjr_det.errors import ConfigError, InvalidInput, did_you_mean
from ebjr_det.files import atomic_write
from ebjr_det.tradeoff import Budget, Intervals, OperatingPoint, TradeoffCurve
from ebjr_det.types import FloatArray

BLUE, VERMILLION, INK, GREY = "#0072B2", "#D55E00", "#222222", "#707070"
MUTED = ("#ECB540", "#40B595", "#D99ABD", "#80C6EE", "#E08640")  # Okabe and Ito's, a quarter white
STYLE: Any = {
    "figure.dpi": 100, "savefig.dpi": 200, "svg.fonttype": "none", "svg.hashsalt": "ebjr_det",
    "font.size": 8, "axes.labelsize": 9, "text.parse_math": False, "text.color": INK,
    "axes.edgecolor": GREY, "axes.labelcolor": INK, "xtick.color": GREY, "ytick.color": GREY,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.formatter.useoffset": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True,
    "grid.color": "#eeeeee", "grid.linewidth": 0.6,
}  # fmt: skip
LEADER = 12  # points; a label further from its anchor has a line to it


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
    """Quality against cost: the curves, each model alone, random and oracle deferral.

    The teacher alone stands at its own cost: only in the pair does the student's come on top. An oracle
    that would flatten all other lines leaves at the top; its label then says how high it goes.
    Returns the paths of the PNG and the SVG.

    Args:
        stem: the files' path without `.png` and `.svg`; its folder exists.
        curves: of one pair on the same images; the first is drawn strong, the others thin.
        intervals: for the first curve's band, or None for no band.
        kind: the cost axis: deferral rate in %, MACs or ms per image.
        chosen: the operating point to mark.
        measured_ms: ms per image of the live pair at `chosen`; shown where `kind` is `latency_ms`.
        quality_name: the y axis; an accuracy is shown in %, any other quality as the number it is.
        names: of the student and the teacher.

    Raises:
        ConfigError: no curve, an unknown kind or cost, a measurement without an operating point, or
            intervals that lack the first curve's score.
    """
    if not curves:
        raise ConfigError("Expected at least one trade-off curve, got none.")
    if measured_ms is not None and (chosen is None or not 0 <= measured_ms < np.inf):
        raise ConfigError(f"Expected `measured_ms` of at least 0 and `chosen`, got {measured_ms}, {chosen}.")
    main = curves[0]
    if intervals is not None and main.score not in intervals.low:
        known = did_you_mean(main.score, intervals.low)
        raise ConfigError(f"Expected intervals of the first curve, `{main.score}`. {known}")
    scale = _Scale.of(main, kind, percent="accuracy" in quality_name)
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = _figure(title, 4.3)
        axes.set(xlabel=scale.name, ylabel=quality_name + " (%)" * scale.percent)
        live = measured_ms if kind == "latency_ms" else None
        labels = _draw_points(axes, main, chosen, live, names, scale)
        labels += _draw_curves(axes, curves, intervals, scale)
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

    Each group's bars add up to 100 % of that group, so that a few wrong answers show as well as many
    right ones; the counts stand beside. Where one bar would hide the rest the axis is a square root.
    Returns the paths of the PNG and the SVG.

    Args:
        stem: the files' path without `.png` and `.svg`; its folder exists.
        values: [images] deferral scores; an infinite one counts in the outermost bin on its side.
        right: [images] whether the student alone is right.
        threshold: scores strictly above it go to the teacher; outside all bins it is told in words.
        score, formula: what `values` are; both name the x axis.

    Raises:
        InvalidInput: no images, a NaN, or lengths that differ.
    """
    if not len(values) or values.shape != right.shape or np.isnan([*values, threshold]).any():
        raise InvalidInput(
            "Expected `values` and `right` of one length above 0, and no NaN, got shapes "
            f"{list(values.shape)} and {list(right.shape)}, threshold {threshold}."
        )
    defer = values > threshold
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = _figure(title, 3.8)
        axes.set_xlabel(f"{score} = {formula}   (higher: more doubt)")
        labels = _draw_groups(axes, values, right)
        low, high = axes.get_xlim()
        text = f"threshold {threshold:.4g}".replace("-", "\u2212").replace("inf", "\u221e")
        if low < threshold < high:
            axes.axvspan(threshold, high, color=VERMILLION, alpha=0.06, lw=0, zorder=0)
            axes.axvline(threshold, color=INK, lw=1.2, zorder=5)
        else:
            place = "goes to the teacher" if defer.all() else "stays with the student"
            text += ", out of sight" if 0 < defer.sum() < len(defer) else f": every image {place}"
        x = np.full(12, threshold if low < threshold < high else (low + high) / 2)
        labels.insert(0, _Label(text, np.column_stack([x, np.linspace(0.95, 0.6, 12) * axes.get_ylim()[1]])))
        for words, part, end, side in (
            ("\u2190 stays with the student", ~defer, 0, "left"),
            ("sent to the teacher \u2192", defer, 1, "right"),
        ):
            words += f"\n{_images(part)} ({100 * part.mean():.1f} %)"
            words += f", student wrong on {(part & ~right).sum():,}" if part.any() else ""
            axes.text(end, 1.02, words, ha=side, va="bottom", transform=axes.transAxes, linespacing=1.4)
        _place(figure, axes, labels)
        return _save(figure, stem, title)


def _images(part: NDArray[np.bool_]) -> str:
    return "1 image" if part.sum() == 1 else f"{part.sum():,} images"


class _Label(NamedTuple):
    """A text, and the points [A, 2] in data units beside any of which it may stand."""

    text: str
    anchors: FloatArray
    color: str = INK
    weight: str = "normal"


class _Scale(NamedTuple):
    """The axes of a trade-off figure: what each model costs alone, in the unit of the x axis's name."""

    student: float
    teacher: float
    name: str
    percent: bool

    @classmethod
    def of(cls, curve: TradeoffCurve, kind: Budget, percent: bool) -> "_Scale":
        start, end = curve.costs(kind)[[0, -1]]
        unit, name = 1.0, "expected latency (ms per image)"
        if kind == "deferral_rate":
            unit, name = 0.01, "deferral rate (% of the images)"
        elif kind == "macs":
            prefix, unit = next((u for u in (("G", 1e9), ("M", 1e6)) if end >= u[1]), ("", 1.0))
            name = f"{prefix}MACs per image"
        return cls(start / unit, (end - start) / unit, name, percent)

    def x(self, rate: Any) -> Any:
        """Cost of the pair at a deferral rate: student + p * teacher."""
        return self.student + rate * self.teacher

    def y(self, quality: Any) -> Any:
        return 100 * quality if self.percent else quality

    def text(self, quality: float) -> str:
        return f"{100 * quality:.1f} %" if self.percent else f"{quality:.3f}"


def _figure(title: str, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    title = textwrap.fill(title, 75)
    figure.suptitle(title, x=0.012, ha="left", fontsize=10, weight="bold")
    return figure, figure.add_subplot()


def _draw_points(
    axes: Axes,
    main: TradeoffCurve,
    chosen: OperatingPoint | None,
    live: float | None,
    names: tuple[str, str],
    scale: _Scale,
) -> list[_Label]:
    """Mark each model alone, the teacher at its own cost, the chosen point and the live measurement."""
    low, high = main.student_quality, main.teacher_quality
    marks = [("student", names[0], scale.student, low, "o"), ("teacher", names[1], scale.teacher, high, "s")]
    axes.axhline(scale.y(high), color="#cccccc", lw=0.8, zorder=1)
    style: Any = {"ms": 7, "mew": 1.3, "clip_on": False}
    labels = []
    if chosen is not None:
        x, y = scale.x(chosen.deferral_rate), scale.y(chosen.quality)
        text = f"{100 * chosen.deferral_rate:.1f} % deferred: {scale.text(chosen.quality)}"
        if live is not None:
            text += f"\n\u25c7 measured live: {live:.3g} ms"
            axes.plot(live, y, "D", mfc="white", mec=BLUE, zorder=6, **style)
        axes.plot(x, y, "D", mfc=BLUE, mec="white", zorder=8, **style)
        labels.append(_Label(text, np.array([[x, y]]), BLUE, "bold"))
    for role, name, x, quality, marker in marks:
        axes.plot(x, scale.y(quality), marker, mfc=INK, mec="white", zorder=7, **style)
        text = f"{role} alone: {scale.text(quality)}\n{textwrap.fill(name, 30)}"
        labels.append(_Label(text, np.array([[x, scale.y(quality)]])))
    return labels


def _draw_curves(
    axes: Axes, curves: Sequence[TradeoffCurve], intervals: Intervals | None, scale: _Scale
) -> list[_Label]:
    """The first curve with its band, then the others; named beside a single curve, else in a list."""
    main, others = curves[0], sorted(curves[1:], key=lambda curve: -curve.area())
    x, y, name = scale.x(main.deferral_rate), scale.y(main.quality), main.score
    handles: list[Any] = axes.plot(x, y, color=BLUE, lw=2.2, zorder=4)
    if len(x) <= 12:
        axes.plot(x, y, "o", color=BLUE, ms=4, zorder=4)
    if intervals is not None:
        low, high = scale.y(intervals.low[name]), scale.y(intervals.high[name])
        axes.fill_between(scale.x(intervals.rate), low, high, color=BLUE, alpha=0.15, lw=0, zorder=2)
        handles = [(Patch(color=BLUE, alpha=0.15, lw=0), handles[0])]
        name += f"\n{100 * intervals.confidence:.4g} % interval"
    if not others:
        return [_Label(name, _along(x, y), BLUE, "bold")]
    for index, curve in enumerate(others):
        color, dash = MUTED[index % 5], ("-", (0, (7, 1.5, 1.5, 1.5)), (0, (2, 1)))[index // 5 % 3]
        x, y = scale.x(curve.deferral_rate), scale.y(curve.quality)
        handles += axes.plot(x, y, color=color, lw=1.1, ls=dash, zorder=3)
    style: Any = {"frameon": False, "alignment": "left", "handlelength": 1.8, "borderaxespad": 0}
    named = [name, *(curve.score for curve in others)]
    legend = axes.legend(
        handles, named, title="deferral score", loc="upper left", bbox_to_anchor=(1.02, 1), **style
    )
    legend.get_texts()[0].set(color=BLUE, weight="bold")
    return []


def _draw_references(axes: Axes, main: TradeoffCurve, scale: _Scale) -> list[_Label]:
    """Random and oracle deferral over all that is drawn, and limits that keep it half the height."""
    x = scale.x(np.linspace(0.0, 1.0, main.images + 1))
    random, oracle = scale.y(main.random), scale.y(main.oracle)
    axes.plot(x, random, color=GREY, lw=1.2, ls=(0, (4, 3)), zorder=5)
    low, high = (float(end) for end in axes.dataLim.intervaly)
    cut = high > low and oracle.max() - low > 2 * (high - low)
    high = max(high, high + 0.4 * (high - low) if cut else oracle.max())
    margin = 0.08 * (high - low) or scale.y(0.01)
    axes.plot(x, oracle, color=GREY, lw=1.4, ls=(0, (1, 1.6)), zorder=5)
    locator = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
    ticks = np.asarray(locator.tick_values(low - 2 * margin, high + margin))
    axes.set_yticks(ticks[(ticks >= 0) & (ticks <= 100)] if scale.percent else ticks)
    axes.set_ylim(low - 2 * margin, high + margin)
    shown = oracle <= high + margin
    peak = f" (up to {scale.text(float(main.oracle.max()))})" if cut else ""
    return [
        _Label(f"oracle{peak}", _along(x[shown], oracle[shown]), GREY),
        _Label("random deferral", _along(x, random), GREY),
    ]


def _draw_groups(axes: Axes, values: FloatArray, right: NDArray[np.bool_]) -> list[_Label]:
    """Histograms of both groups on shared bins; sets the limits."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    if high - low <= 1e-9 * abs(high):
        low, high = low - 0.5 * max(1.0, abs(low)), low + 0.5 * max(1.0, abs(low))
    edges, peak, labels = np.linspace(low, high, 51), 0.0, []
    for part, color, word in ((right, BLUE, "right"), (~right, VERMILLION, "wrong")):
        # Negated, because a bin must hold its right end: a score at the threshold is the student's.
        counts = np.histogram(-np.clip(values[part], low, high), -edges[::-1])[0][::-1]
        if counts.any():
            share = 100 * counts / counts.sum()
            axes.stairs(share, edges, fill=True, color=color, alpha=0.25, lw=0, zorder=2)
            axes.stairs(np.where(counts, share, np.nan), edges, color=color, lw=1.3, zorder=3)
            tall, peak = np.argsort(-share, kind="stable")[:12], max(peak, share.max())
            at = np.column_stack([(edges[tall] + edges[tall + 1]) / 2, share[tall]])[counts[tall] > 0]
            labels.append(_Label(f"student {word}\n{_images(part)}", at, color, "bold"))
    axes.set_ylabel("% of the group, per bin")
    if peak > 40:
        axes.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
        axes.set_ylabel("% of the group, per bin (square-root scale)")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set(xlim=(low - 0.01 * (high - low), high + 0.01 * (high - low)), ylim=(0, 1.25 * peak))
    return labels


def _along(x: FloatArray, y: FloatArray) -> FloatArray:
    """Points [12, 2] along the middle of a line, where its name may stand."""
    at = np.linspace(0.85 * x[0] + 0.15 * x[-1], 0.15 * x[0] + 0.85 * x[-1], 12)
    return np.column_stack([at, np.interp(at, x, y)])


def _place(figure: Figure, axes: Axes, labels: Sequence[_Label]) -> None:
    """Write each label near its anchor, inside the axes, off lines, marks, other labels and their leaders."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    ink = np.concatenate([_ink(artist) for artist in (*axes.lines, *axes.patches)])
    ink = np.unique((ink / 3).round(), axis=0) * 3
    marks = axes.transData.transform([a.anchors[0] for a in labels if len(a.anchors) == 1] or [(0, 0)])
    spots = [_spots(figure, axes, label, ink, marks) for label in labels]
    turns = range(len(spots))
    _, picked = min(_settle(spots, [*turns[first:], *turns[:first]]) for first in turns)
    for label, (_, boxes, leaders, anchors), pick in zip(labels, spots, picked, strict=True):
        center = (boxes[pick, :2] + boxes[pick, 2:]) / 2 - axes.transData.transform(anchors[pick])
        width = 0.6 * np.ptp(leaders[pick], axis=0).any()
        axes.annotate(
            label.text, anchors[pick], center * 72 / figure.dpi, textcoords="offset points",
            color=label.color, weight=label.weight, ha="center", va="center", zorder=7,
            multialignment="right" if center[0] < -10 else "left" if center[0] > 10 else "center",
            arrowprops={"arrowstyle": "-", "lw": width, "color": GREY, "shrinkB": 4}, annotation_clip=False,
        )  # fmt: skip


def _spots(figure: Figure, axes: Axes, label: _Label, ink: FloatArray, marks: FloatArray) -> tuple[Any, ...]:
    """All places for a label: cost [C], box [C, 4] and leader [C, 12, 2] in pixels, and how to get there."""
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
    return cost, boxes, leaders, anchors


def _settle(spots: Sequence[tuple[Any, ...]], order: Sequence[int]) -> tuple[float, list[int]]:
    """Start every label at its own best place, then let each in turn move to the best given the others."""
    picked = [int(np.argmin(cost)) for cost, *_ in spots]
    for _ in range(4):
        total = 0.0
        for mine in order:
            cost, boxes, leaders, _ = spots[mine]
            cost = cost.copy()
            for box, leader in ((spots[i][1][picked[i]], spots[i][2][picked[i]]) for i in order if i != mine):
                overlap = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
                cost += 1e3 * (overlap > 0).all(axis=1) + np.maximum(overlap, 0).prod(axis=1)
                cost += 100.0 * (_inside(leaders, box) + _inside(leader, boxes))
            picked[mine] = int(np.argmin(cost))
            total += cost[picked[mine]]
    return total, picked


def _ink(artist: Any) -> FloatArray:
    """Pixels [D, 2] that a line, mark or patch covers: one every 3 along its path, a square for a mark."""
    path = artist.get_transform().transform(artist.get_path().vertices)
    path = path[np.isfinite(path).all(axis=1)]
    if len(path) == 1:
        return np.asarray(path + list(product(range(-6, 7, 3), repeat=2)))
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.arange(0.0, length[-1] + 1, 3)
    return np.column_stack([np.interp(at, length, path[:, 0]), np.interp(at, length, path[:, 1])])


def _inside(dots: FloatArray, boxes: FloatArray) -> Any:
    """How many of the dots [..., D, 2] lie in each box [..., 4]."""
    boxes = boxes[..., None, :]
    return ((dots > boxes[..., :2]) & (dots < boxes[..., 2:])).all(axis=-1).sum(axis=-1)


def _save(figure: Figure, stem: Path, title: str) -> list[Path]:
    files = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    for file, metadata in zip(files, ({"Title": title}, {"Title": title, "Date": None}), strict=True):
        with atomic_write(file) as temporary:
            figure.savefig(temporary, format=file.suffix[1:], metadata=metadata)
    return files
