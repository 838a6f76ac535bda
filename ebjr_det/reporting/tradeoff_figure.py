"""The trade-off figure: quality against cost, single models and their hull, random and oracle deferral."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ebjr_det.core.cost import Budget
from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.core.scores import ENERGY
from ebjr_det.core.tradeoff import OperatingPoint, TradeoffCurve
from ebjr_det.evaluation.bootstrap import Intervals
from ebjr_det.evaluation.hull import Hull
from ebjr_det.evaluation.single_models import SingleModel
from ebjr_det.reporting.notation import Number, Shown
from ebjr_det.reporting.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    VERMILLION,
    Label,
    along,
    draw_figure,
    figure_paths,
    place_labels,
)

SOLID: Any = {"marker": "^", "mfc": INK, "mec": "white"}
HOLLOW: Any = {"marker": "o", "mfc": "white", "mec": INK}
MARK: dict[str, Any] = {"ms": 7, "mew": 1.3, "clip_on": False}
OTHERS: Any = ({"color": VERMILLION, "ls": (0, (7, 2, 1.5, 2))}, {"color": GREEN, "ls": (0, (9, 3))})
"""Lines of scores beside the deciding one: told apart by their dashes, where a print has no colours."""


class Line(NamedTuple):
    """A line's name, where its label may stand, and what draws it in a legend."""

    label: Label
    handle: Artist | tuple[Artist, ...]


class Scale(NamedTuple):
    """The x axis: what each model costs alone, in the unit of the axis's name."""

    student: float
    teacher: float
    unit: float
    name: str

    @classmethod
    def of(cls, curve: TradeoffCurve, kind: Budget) -> "Scale":
        """The axis of a kind of cost. Raises ConfigError for an unknown one."""
        start, end = curve.costs(kind)[[0, -1]]
        unit, name = 1.0, "expected latency (ms per image)"
        if kind == "deferral_rate":
            unit, name = 0.01, "deferral rate (% of the images)"
        elif kind == "macs":
            prefix, unit = next((u for u in (("G", 1e9), ("M", 1e6)) if end >= u[1]), ("", 1.0))
            name = f"{prefix}MACs per image"
        return cls(start / unit, (end - start) / unit, unit, name)

    def x(self, rate: Number) -> Number:
        """Cost of the pair at a deferral rate: student + p * teacher."""
        return self.student + rate * self.teacher


@dataclass(frozen=True)
class TradeoffFigure:
    """Quality against cost: the curves, single models and their hull, random and oracle deferral.

    The teacher alone stands at its own cost: only in the pair does the student's come on top. An oracle
    that would flatten all other lines leaves at the top; its label then says how high it goes.

    Attributes:
        curves: of one pair on the same images; the first is drawn strong, up to two others thinner.
        intervals: for the first curve's band, or None for no band.
        kind: the cost axis: deferral rate in %, MACs or ms per image.
        chosen: the operating point to mark.
        quality_name: the y axis; an accuracy is shown in %, any other quality as the number it is.
        names: of the student and the teacher.
        title: what the figure shows; `subtitle`: of what it is.
        measured_ms: ms per image of the live pair at `chosen`; shown where `kind` is `latency_ms`.
        references: other single models, drawn where their cost of this kind is known, published ones hollow.

    Raises:
        ConfigError: no curve, a measurement without an operating point, or intervals that lack the first
            curve's score.
    """

    curves: Sequence[TradeoffCurve]
    intervals: Intervals | None
    kind: Budget
    chosen: OperatingPoint | None
    quality_name: str
    names: tuple[str, str]
    title: str
    measured_ms: float | None = None
    references: Sequence[SingleModel] = ()
    subtitle: str = ""

    def __post_init__(self) -> None:
        measured, chosen = self.measured_ms, self.chosen
        if not 1 <= len(self.curves) <= 1 + len(OTHERS):
            raise ConfigError(f"Expected one to three trade-off curves, got {len(self.curves)}.")
        if measured is not None and (chosen is None or not 0 <= measured < np.inf):
            raise ConfigError(f"Expected `measured_ms` of at least 0 and `chosen`, got {measured}, {chosen}.")
        score = self.curves[0].score
        if self.intervals is not None and score not in self.intervals.low:
            hint = did_you_mean(score, self.intervals.low)
            raise ConfigError(f"Expected intervals of the first curve, `{score}`. {hint}")

    @property
    def show(self) -> Shown:
        """How qualities are written."""
        return Shown.of(self.quality_name)

    def write(self, stem: Path) -> list[Path]:
        """Draw it to `stem` with `.png` and `.svg`; returns both paths.

        Raises:
            ConfigError: an unknown kind or cost.
        """
        scale = self.scale
        with draw_figure(stem, self.title, 4.5, self.subtitle) as (figure, axes):
            self.paint(figure, axes, scale)
        return figure_paths(stem)

    @property
    def scale(self) -> Scale:
        """The cost axis. Raises ConfigError for an unknown kind or cost."""
        return Scale.of(self.curves[0], self.kind)

    def paint(self, figure: Figure, axes: Axes, scale: Scale, *, narrow: bool = False) -> None:
        """Draw all of it; where the figure is narrow, lines are named below it and not beside themselves."""
        axes.set(xlabel=scale.name, ylabel=self.quality_name + " (%)" * self.show.percent)
        labels = self._draw_points(axes, scale, narrow)
        lines = self._draw_curves(axes, scale)
        if self.kind != "deferral_rate":
            labels += self._draw_singles(axes, scale)
            lines += self._draw_hull(axes, scale)
        lines += self._draw_limits(axes, scale)
        if narrow:
            _draw_legend(figure, lines)
        else:
            labels += [line.label for line in lines]
        place_labels(figure, axes, labels)

    def _draw_points(self, axes: Axes, scale: Scale, narrow: bool) -> list[Label]:
        """Mark each model alone, the teacher at its own cost, the chosen point and the live measurement."""
        main, chosen, show, labels = self.curves[0], self.chosen, self.show, []
        axes.axhline(show.height(main.teacher_quality), color="#cccccc", lw=0.8, zorder=1)
        if chosen is not None:
            x, y = scale.x(chosen.deferral_rate), show.height(chosen.quality)
            text = f"{100 * chosen.deferral_rate:.1f} % deferred: {show.label(chosen.quality)}"
            if self.measured_ms is not None and self.kind == "latency_ms":
                text += f"\n\u25c7 measured live: {self.measured_ms:.3g} ms"
                axes.plot(self.measured_ms, y, "D", mfc="white", mec=BLUE, zorder=6, **MARK)
            axes.plot(x, y, "D", mfc=BLUE, mec="white", zorder=8, **MARK)
            labels.append(Label(text, np.array([[x, y]]), BLUE, "bold"))
        for role, name, x, quality, marker in (
            ("student", self.names[0], scale.student, main.student_quality, "o"),
            ("teacher", self.names[1], scale.teacher, main.teacher_quality, "s"),
        ):
            axes.plot(x, show.height(quality), marker, mfc=INK, mec="white", zorder=7, **MARK)
            text = f"{role} alone: {show.label(quality)}"
            text += "" if narrow or name == role else f"\n{textwrap.fill(name, 30)}"
            labels.append(Label(text, np.array([[x, show.height(quality)]])))
        return labels

    def _draw_curves(self, axes: Axes, scale: Scale) -> list[Line]:
        """The first curve with its band, then the others."""
        main, height, intervals = self.curves[0], self.show.height, self.intervals
        x, name = scale.x(main.deferral_rate), main.score
        handle: Artist | tuple[Artist, ...]
        (handle,) = axes.plot(x, height(main.quality), color=BLUE, lw=2.4, zorder=4)
        if len(x) <= 12:
            axes.plot(x, height(main.quality), "o", color=BLUE, ms=4, zorder=4)
        if intervals is not None:
            low, high = height(intervals.low[name]), height(intervals.high[name])
            axes.fill_between(scale.x(intervals.rate), low, high, color=BLUE, alpha=0.15, lw=0, zorder=2)
            handle = Patch(color=BLUE, alpha=0.15, lw=0), handle
            name += f"\n{100 * intervals.confidence:.4g} % interval"
        lines = [Line(Label(name, along(x, height(main.quality)), BLUE, "bold"), handle)]
        for curve, style in zip(self.curves[1:], OTHERS, strict=False):
            x, y = scale.x(curve.deferral_rate), height(curve.quality)
            (handle,) = axes.plot(x, y, lw=1.5, zorder=3, **style)
            name = f"EBJR's own score:\n{ENERGY}" if curve.score == ENERGY else curve.score
            lines.append(Line(Label(name, along(x, y), style["color"]), handle))
        return lines

    def _draw_singles(self, axes: Axes, scale: Scale) -> list[Label]:
        """Further models as marks with their names, published ones hollow."""
        labels = []
        for model, x in self._singles(scale):
            y = self.show.height(model.quality)
            axes.plot(x, y, ls="", ms=7, mew=1.1, zorder=6, **(HOLLOW if model.published else SOLID))
            text = f"{model.name} (published)" if model.published else model.name
            labels.append(Label(text, np.array([[x, y]]), GREY))
        return labels

    def _singles(self, scale: Scale) -> list[tuple[SingleModel, float]]:
        """Further models with their cost, where it is known."""
        costs = [(model, getattr(model, self.kind)) for model in self.references]
        return [(model, cost / scale.unit) for model, cost in costs if cost is not None]

    def _draw_hull(self, axes: Axes, scale: Scale) -> list[Line]:
        """What mixing the single models at random reaches; nothing where one model alone is best."""
        main, height = self.curves[0], self.show.height
        pair = [(scale.student, main.student_quality), (scale.teacher, main.teacher_quality)]
        hull = Hull.of(pair + [(x, model.quality) for model, x in self._singles(scale)])
        (handle,) = axes.plot(hull.cost, height(hull.quality), color=INK, lw=1.0, zorder=3)
        label = Label("single models mixed\nat random (hull)", along(hull.cost, height(hull.quality)), INK)
        return [Line(label, handle)] if len(hull.cost) > 1 else []

    def _draw_limits(self, axes: Axes, scale: Scale) -> list[Line]:
        """Random and oracle deferral over all that is drawn, and limits that keep it half the height."""
        main, show = self.curves[0], self.show
        x = scale.x(np.linspace(0.0, 1.0, main.images + 1))
        random, oracle = show.height(main.random), show.height(main.oracle)
        (coin,) = axes.plot(x, random, color=GREY, lw=1.1, ls=(0, (4, 3)), zorder=5)
        low, high = (float(end) for end in axes.dataLim.intervaly)
        cut = high > low and oracle.max() - low > 2 * (high - low)
        high = max(high, high + 0.4 * (high - low) if cut else oracle.max())
        margin = 0.08 * (high - low) or show.height(0.01)
        (best,) = axes.plot(x, oracle, color=GREY, lw=1.4, ls=(0, (1, 1.6)), zorder=5)
        locator = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])
        ticks = np.asarray(locator.tick_values(low - 2 * margin, high + margin))
        axes.set_yticks(ticks[(ticks >= 0) & (ticks <= 100)] if show.percent else ticks)
        axes.set_ylim(low - 2 * margin, high + margin)
        inside = oracle <= high + margin
        peak = f" (up to {show.label(float(main.oracle.max()))})" if cut else ""
        return [
            Line(Label(f"oracle{peak}", along(x[inside], oracle[inside]), GREY), best),
            Line(Label("random deferral", along(x, random), GREY), coin),
        ]


def _draw_legend(figure: Figure, lines: Sequence[Line]) -> None:
    """The lines by name, below a narrow figure."""
    names = [line.label.text.replace("\n", " ") for line in lines]
    handles: Any = [line.handle for line in lines]  # a pair of artists is one handle
    options: Any = {"frameon": False, "alignment": "left", "handlelength": 2.6}
    figure.legend(handles, names, loc="outside lower left", **options)
