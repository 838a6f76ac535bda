"""The two figures of pairs under traffic: quality against MACs, and quality over the popular share."""

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from ebjr_det.core.cost import Rate
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.bootstrap import CONFIDENCE
from ebjr_det.evaluation.traffic.mix import popular_text
from ebjr_det.evaluation.traffic.report import SURE_SHARES, JudgedRun, TrafficReport
from ebjr_det.reporting.notation import Shown
from ebjr_det.reporting.style import COLORS, GREY, INK, Label, along, draw_figure, figure_paths, place_labels
from ebjr_det.reporting.traffic.tables import unit_of

MARK: Any = {"mec": "white", "ms": 7, "mew": 1.2, "clip_on": False}
EQUAL = (0, (1.2, 1.2))


class _Scale(NamedTuple):
    """Costs and qualities in the units of the axes; costs are deferral rates where some MACs are unknown."""

    unit: float
    name: str
    macs: bool
    show: Shown

    @classmethod
    def of(cls, report: TrafficReport) -> "_Scale":
        show = Shown.of(report.quality_name)
        if any(run.pair.cost.alone("macs") is None for run in report.runs):
            return cls(0.01, "deferral rate (% of the traffic)", False, show)
        unit = unit_of(report)
        return cls(unit.size, f"{unit.name} per image", True, show)

    def x(self, run: JudgedRun, rate: Rate) -> Rate:
        """Place of a pair at a deferral rate."""
        cost = run.pair.cost.macs(rate) if self.macs else rate
        return rate if cost is None else cost / self.unit

    def alone(self, run: JudgedRun, side: int) -> float:
        return ((run.pair.cost.alone("macs") or (0.0, 0.0))[side] if self.macs else side) / self.unit


def write_cost_figure(report: TrafficReport, stem: Path) -> list[Path]:
    """Quality against MACs under the stated mix: every run's curve, its chosen point, its models alone.

    Random and oracle deferral are those of the first run. Returns the paths of the PNG and the SVG.
    """
    scale, title = _Scale.of(report), _title(report)
    with draw_figure(stem, title, 4.3) as (figure, axes):
        axes.set(xlabel=scale.name, ylabel=_ylabel(report))
        labels = []
        for index, run in enumerate(report.runs):
            labels += _draw_run(axes, run, index, scale)
        labels += _draw_teachers(axes, report, scale)
        of = f" of {report.runs[0].name}" if len(report.runs) > 1 else ""
        labels += _draw_lines(axes, report.runs[0], scale, of)
        place_labels(figure, axes, labels)
    return figure_paths(stem)


def _draw_run(axes: Axes, run: JudgedRun, index: int, scale: _Scale) -> list[Label]:
    """A pair's curve, its student and its chosen point."""
    color, curve = COLORS[index % len(COLORS)], run.curve
    x, y = scale.x(run, curve.deferral_rate), scale.show.height(curve.quality)
    axes.plot(x, y, color=color, lw=1.6 if index else 2.2, zorder=4 - 0.1 * index)
    student, chosen = (x[0], y[0]), (scale.x(run, run.at.deferral_rate), scale.show.height(run.at.joint))
    axes.plot(*student, "o", color=color, zorder=6, **MARK)
    axes.plot(*chosen, "D", color=color, zorder=7, **MARK)
    deferred = f"{100 * run.at.deferral_rate:.1f} % deferred"
    return [
        Label(textwrap.fill(run.name, 30), along(x, y), color, "bold"),
        Label(f"{deferred}: {scale.show.label(run.at.joint)}", np.array([chosen]), color),
        Label(f"student alone: {scale.show.label(run.at.student)}", np.array([student]), color),
    ]


def _draw_teachers(axes: Axes, report: TrafficReport, scale: _Scale) -> list[Label]:
    """Each teacher once, at its own cost."""
    labels = {}
    for index, run in enumerate(report.runs):
        x, y = scale.alone(run, 1), scale.show.height(run.at.teacher)
        teachers = [[scale.alone(r, 1), scale.show.height(r.at.teacher)] for r in report.runs]
        color = INK if np.isclose([x, y], teachers).all() else COLORS[index % len(COLORS)]
        text = f"teacher alone: {scale.show.label(run.at.teacher)}"
        if (text, x) not in labels:
            axes.plot(x, y, "s", color=color, zorder=6, **MARK)
            labels[text, x] = Label(text, np.array([[x, y]]), color)
    return list(labels.values())


def _draw_lines(axes: Axes, run: JudgedRun, scale: _Scale, of: str) -> list[Label]:
    """Random and oracle deferral of a run; an oracle that would flatten all else leaves at the top."""
    low, high = (float(end) for end in axes.dataLim.intervaly)
    labels = []
    for name, (rates, quality), dash in (
        ("random deferral", (run.curve.random_rate, run.curve.random), (0, (4, 3))),
        ("oracle", (run.curve.oracle_rate, run.curve.oracle), (0, (1, 1.6))),
    ):
        x, y = scale.x(run, rates), scale.show.height(quality)
        axes.plot(x, y, color=GREY, lw=1.2, ls=dash, zorder=3)
        cut = y.max() - low > 2 * (high - low) > 0
        top = high + 0.4 * (high - low) if cut else max(high, y.max())
        inside = y <= top
        peak = f" (up to {scale.show.label(float(quality.max()))})" if cut else ""
        labels.append(Label(f"{name}{of}{peak}", along(x[inside], y[inside]), GREY))
    margin = 0.08 * (top - low) or scale.show.height(0.01)
    axes.set_ylim(low - 2 * margin, top + margin)
    return labels


def write_share_figure(report: TrafficReport, stem: Path) -> list[Path]:
    """Quality over the popular share: each pair at its own threshold and at the first one's MACs.

    Where the first one gets ahead at equal MACs is marked. Bars are the intervals of its margins, put on the
    other run's line: where a bar does not reach the first one's line, the margin is more than chance. Returns
    the paths of the PNG and the SVG.
    """
    scale, title = _Scale.of(report), f"Over the popular share of the traffic {_classes(report)}"
    with draw_figure(stem, title, 4.3) as (figure, axes):
        axes.set(xlabel=_shares_label(report), ylabel=_ylabel(report))
        x = 100 * np.array([row.share for row in report.shares])
        labels, turns = [], range(len(report.runs))
        for index in turns:
            labels += _draw_pair(axes, report, index, x, scale)
        for index in turns[:-1] if report.shares[0].equal else ():
            labels += _draw_equal(axes, report, index, x, scale)
        low, high = axes.dataLim.intervaly
        room, lowest = (
            high - low or scale.show.height(0.01),
            min(_over(report, i, "student").min() for i in turns),
        )
        bottom = max(low - 0.7 * room, min(low, scale.show.height(lowest)) - 0.15 * room)
        axes.set_ylim(bottom, high + 0.15 * room)
        for index in turns:
            labels += _draw_student(axes, report, index, x, scale)
        place_labels(figure, axes, labels)
    return figure_paths(stem)


def _draw_pair(axes: Axes, report: TrafficReport, index: int, x: FloatArray, scale: _Scale) -> list[Label]:
    """A pair at its own threshold and, once each, its teacher alone."""
    color, name = COLORS[index % len(COLORS)], report.runs[index].name
    joint, teacher = (scale.show.height(_over(report, index, side)) for side in ("joint", "teacher"))
    axes.plot(x, joint, color=color, lw=1.3 if index else 2.4, zorder=5 - 0.1 * index)
    threshold = "\nat its own threshold" if index else ""
    labels = [Label(textwrap.fill(name, 30) + threshold, along(x, joint), color, "bold")]
    teachers = [_over(report, run, "teacher") for run in range(len(report.runs))]
    if not any(np.allclose(line, teachers[index], atol=1e-12) for line in teachers[:index]):
        single = all(np.allclose(line, teachers[0], atol=1e-12) for line in teachers)
        axes.plot(x, teacher, color=INK, lw=0.8, zorder=3)
        text = "teacher alone" if single else f"teacher of {name} alone"
        labels.append(Label(text, along(x, teacher), INK))
    return labels


def _draw_student(axes: Axes, report: TrafficReport, index: int, x: FloatArray, scale: _Scale) -> list[Label]:
    """A student alone, as far as it is not so low that it would flatten all else."""
    color, y = COLORS[index % len(COLORS)], scale.show.height(_over(report, index, "student"))
    axes.plot(x, y, color=color, lw=0.8, ls=(0, (5, 2)), zorder=3, scaley=False)
    inside = y >= axes.get_ylim()[0]
    if not inside.any():
        return []
    return [Label(f"student of {report.runs[index].name} alone", along(x[inside], y[inside]), color)]


def _over(report: TrafficReport, index: int, side: str) -> FloatArray:
    """The quality of a run's side at each popular share."""
    return np.array([getattr(row.runs[index], side) for row in report.shares])


def _draw_equal(axes: Axes, report: TrafficReport, index: int, x: FloatArray, scale: _Scale) -> list[Label]:
    """Another run at the first one's MACs, the intervals of the margins, and where the first gets ahead."""
    color, (first, name) = COLORS[(index + 1) % len(COLORS)], (report.runs[i].name for i in (0, index + 1))
    y = scale.show.height(np.array([row.equal[index].other_quality for row in report.shares]))
    axes.plot(x, y, color=color, lw=2.0, ls=EQUAL, zorder=4.5)
    text = f"{name}\nat the MACs of {first}\n(bars: {100 * CONFIDENCE:g} % interval of the margin)"
    labels = [Label(text, along(x, y), color, "bold")]
    for share in SURE_SHARES:
        pair = report.margins[popular_text(share)][index]
        if pair.low is not None and pair.high is not None:
            ends = [scale.show.height(pair.quality - pair.high), scale.show.height(pair.quality - pair.low)]
            axes.plot([100 * share] * 2, ends, color=color, lw=4, alpha=0.35, solid_capstyle="butt", zorder=4)
    start = report.ahead_from(index)
    if start is not None and start > report.shares[0].share:
        crossing = 100 * start, float(np.interp(100 * start, x, y))
        axes.plot(*crossing, "o", color=color, mfc="white", ms=8, mew=1.6, zorder=8)
        labels.append(Label(f"ahead from {100 * start:.0f} % on", np.array([crossing]), INK, "bold"))
    return labels


def _title(report: TrafficReport) -> str:
    return f"Traffic: {report.title} {_classes(report)}"


def _classes(report: TrafficReport) -> str:
    popular = report.composition.popular
    return f"(popular: {int(popular.sum())} of {len(popular)} classes)"


def _shares_label(report: TrafficReport) -> str:
    """Images of several classes cannot show every mix: then the label tells what they show."""
    if report.composition.single:
        return "popular classes (% of the traffic)"
    low, high = (report.shares[end].shown for end in (0, -1))
    return f"popular classes (% of the traffic asked for; images show {100 * low:.0f} to {100 * high:.0f} %)"


def _ylabel(report: TrafficReport) -> str:
    return f"{report.quality_name} under the traffic" + " (%)" * Shown.of(report.quality_name).percent
