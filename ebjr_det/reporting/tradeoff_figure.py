"""The trade-off figure: quality against cost, single models and their hull, random and oracle deferral."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.core.tradeoff import Budget, OperatingPoint, TradeoffCurve
from ebjr_det.evaluation.bootstrap import Intervals
from ebjr_det.evaluation.hull import Hull, SingleModel
from ebjr_det.reporting.notation import Shown
from ebjr_det.reporting.style import (
    BLUE,
    GREY,
    INK,
    STYLE,
    Label,
    along,
    new_figure,
    place_labels,
    save_figure,
)

PUBLISHED, MEASURED = "published figure,\nnot measured here", "single model,\nmeasured here"
SOLID = {"marker": "^", "mfc": INK, "mec": "white"}
MUTED = ("#ECB540", "#40B595", "#D99ABD", "#80C6EE", "#E08640")  # Okabe and Ito's, a quarter white


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
    references: Sequence[SingleModel] = (),
) -> list[Path]:
    """Quality against cost: the curves, single models and their hull, random and oracle deferral.

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
        references: other single models whose cost of this kind is known; published ones are drawn hollow.

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
    scale = _Scale.of(main, kind, percent=Shown.of(quality_name).percent)
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = new_figure(title, 4.3)
        axes.set(xlabel=scale.name, ylabel=quality_name + " (%)" * scale.percent)
        live = measured_ms if kind == "latency_ms" else None
        labels = _draw_points(axes, main, chosen, live, names, scale)
        entries = _draw_curves(axes, curves, intervals, scale)
        if kind != "deferral_rate":
            labels += _draw_singles(axes, main, [(r, getattr(r, kind)) for r in references], scale, entries)
        labels += _draw_lines(axes, main, scale)
        if len(curves) == 1:
            line = along(scale.x(main.deferral_rate), scale.y(main.quality))
            labels.append(Label(entries.pop(0)[0], line, BLUE, "bold"))
        _draw_legend(axes, entries, bold=len(curves) > 1)
        place_labels(figure, axes, labels)
        return save_figure(figure, stem, title)


class _Scale(NamedTuple):
    """The axes of a trade-off figure: what each model costs alone, in the unit of the x axis's name."""

    student: float
    teacher: float
    unit: float
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
        return cls(start / unit, (end - start) / unit, unit, name, percent)

    def x(self, rate: Any) -> Any:
        """Cost of the pair at a deferral rate: student + p * teacher."""
        return self.student + rate * self.teacher

    def y(self, quality: Any) -> Any:
        return 100 * quality if self.percent else quality

    def text(self, quality: float) -> str:
        return f"{100 * quality:.1f} %" if self.percent else f"{quality:.3f}"


def _draw_points(
    axes: Axes,
    main: TradeoffCurve,
    chosen: OperatingPoint | None,
    live: float | None,
    names: tuple[str, str],
    scale: _Scale,
) -> list[Label]:
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
        labels.append(Label(text, np.array([[x, y]]), BLUE, "bold"))
    for role, name, x, quality, marker in marks:
        axes.plot(x, scale.y(quality), marker, mfc=INK, mec="white", zorder=7, **style)
        text = f"{role} alone: {scale.text(quality)}\n{textwrap.fill(name, 30)}"
        labels.append(Label(text, np.array([[x, scale.y(quality)]])))
    return labels


def _draw_curves(
    axes: Axes, curves: Sequence[TradeoffCurve], intervals: Intervals | None, scale: _Scale
) -> list[tuple[str, Any]]:
    """The first curve with its band, then the others by area; their names with what draws them."""
    main, others = curves[0], sorted(curves[1:], key=lambda curve: -curve.area())
    x, y, name = scale.x(main.deferral_rate), scale.y(main.quality), main.score
    (handle,) = axes.plot(x, y, color=BLUE, lw=2.2, zorder=4)
    entries: list[tuple[str, Any]] = [(name, handle)]
    if len(x) <= 12:
        axes.plot(x, y, "o", color=BLUE, ms=4, zorder=4)
    if intervals is not None:
        low, high = scale.y(intervals.low[name]), scale.y(intervals.high[name])
        axes.fill_between(scale.x(intervals.rate), low, high, color=BLUE, alpha=0.15, lw=0, zorder=2)
        band = Patch(color=BLUE, alpha=0.15, lw=0)
        entries = [(f"{name}\n{100 * intervals.confidence:.4g} % interval", (band, handle))]
    for index, curve in enumerate(others):
        color, dash = MUTED[index % 5], ("-", (0, (7, 1.5, 1.5, 1.5)), (0, (2, 1)))[index // 5 % 3]
        x, y = scale.x(curve.deferral_rate), scale.y(curve.quality)
        entries += [(curve.score, axes.plot(x, y, color=color, lw=1.1, ls=dash, zorder=3)[0])]
    return entries


def _draw_singles(
    axes: Axes,
    main: TradeoffCurve,
    references: Sequence[tuple[SingleModel, float | None]],
    scale: _Scale,
    entries: list[tuple[str, Any]],
) -> list[Label]:
    """Further models as marks with their names, published ones hollow, and the hull of all single models."""
    known = [(other, cost / scale.unit) for other, cost in references if cost is not None]
    labels, marks = [], {}
    for other, x in known:
        style: Any = {"marker": "o", "mfc": "white", "mec": INK} if other.published else SOLID
        (mark,) = axes.plot(x, scale.y(other.quality), ls="", ms=7, mew=1.1, zorder=6, **style)
        marks[PUBLISHED if other.published else MEASURED] = mark
        labels.append(Label(other.name, np.array([[x, scale.y(other.quality)]]), GREY))
    entries += marks.items()
    pair = [(scale.student, main.student_quality), (scale.teacher, main.teacher_quality)]
    hull = Hull.of(pair + [(x, other.quality) for other, x in known])
    axes.plot(hull.cost, scale.y(hull.quality), color=INK, lw=0.8, zorder=3)
    if len(hull.cost) > 1:
        labels.append(Label("hull of single models", along(hull.cost, scale.y(hull.quality)), INK))
    return labels


def _draw_legend(axes: Axes, entries: Sequence[tuple[str, Any]], bold: bool) -> None:
    """The list beside the figure, if anything is in it; where scores are, the first of them decides."""
    if not entries:
        return
    style: Any = {"frameon": False, "alignment": "left", "handlelength": 1.8, "borderaxespad": 0}
    legend = axes.legend(
        [handle for _, handle in entries],
        [name for name, _ in entries],
        title="deferral score" if bold else None,
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        **style,
    )
    if bold:
        legend.get_texts()[0].set(color=BLUE, weight="bold")


def _draw_lines(axes: Axes, main: TradeoffCurve, scale: _Scale) -> list[Label]:
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
        Label(f"oracle{peak}", along(x[shown], oracle[shown]), GREY),
        Label("random deferral", along(x, random), GREY),
    ]
