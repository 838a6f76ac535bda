"""The histogram figure: how a deferral score parts the images that need the teacher from the others."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import FloatArray
from ebjr_det.reporting.notation import plural
from ebjr_det.reporting.style import BLUE, INK, VERMILLION, Label, draw_figure, figure_paths, place_labels


class Groups(NamedTuple):
    """The images that need the teacher, [images], and the names of these and of their counterpart."""

    needy: NDArray[np.bool_]
    name: str
    counterpart: str


@dataclass(frozen=True)
class HistogramFigure:
    """Deferral scores of the images that need the teacher, and of the others.

    Each group's bars add up to 100 % of that group, so that a few such images show as well as many others;
    the counts stand beside. Where one bar would hide the rest the axis is a square root.

    Attributes:
        values: [images] deferral scores; an infinite one counts in the outermost bin on its side.
        groups: which images need the teacher.
        threshold: scores strictly above it go to the teacher; outside all bins it is told in words.
        score, formula: what `values` are; both name the x axis.
        handed_on: [images] which a specialised student hands on, far above the others: they are told in words
            and not drawn, unless there are no others.
        title: what the figure shows; `subtitle`: of what it is.

    Raises:
        InvalidInput: no images, a NaN, or lengths that differ.
    """

    values: FloatArray
    groups: Groups
    threshold: float
    score: str
    formula: str
    title: str
    handed_on: NDArray[np.bool_] | None = None
    subtitle: str = ""

    def __post_init__(self) -> None:
        values, needy, threshold = self.values, self.groups.needy, self.threshold
        if not len(values) or values.shape != needy.shape or np.isnan([*values, threshold]).any():
            raise InvalidInput(
                "Expected `values` and `groups` of one length above 0, and no NaN, got shapes "
                f"{list(values.shape)} and {list(needy.shape)}, threshold {threshold}."
            )

    def write(self, stem: Path) -> list[Path]:
        """Draw it to `stem` with `.png` and `.svg`; returns both paths."""
        with draw_figure(stem, self.title, 4.1, self.subtitle, 34) as (figure, axes):
            self.paint(figure, axes)
        return figure_paths(stem)

    def paint(self, figure: Figure, axes: Axes) -> None:
        """Draw all of it."""
        handed_on = self.handed_on
        if handed_on is None or handed_on.all():
            handed_on = np.zeros(len(self.values), dtype=bool)
        axes.set_xlabel(textwrap.fill(f"{self.score} = {self.formula}   (higher: more doubt)", 100))
        labels = self._draw_groups(axes, ~handed_on)
        labels.insert(0, self._draw_threshold(axes, handed_on))
        self._write_sides(axes, handed_on)
        place_labels(figure, axes, labels)

    def _draw_groups(self, axes: Axes, drawn: NDArray[np.bool_]) -> list[Label]:
        """Histograms of both groups on shared bins; sets the limits."""
        values, needy = self.values[drawn], self.groups.needy[drawn]
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
        if high - low <= 1e-9 * abs(high):
            low, high = low - 0.5 * max(1.0, abs(low)), low + 0.5 * max(1.0, abs(low))
        edges, peak, labels = np.linspace(low, high, 51), 0.0, []
        for part, color, name in (
            (~needy, BLUE, self.groups.counterpart),
            (needy, VERMILLION, self.groups.name),
        ):
            # Negated, because a bin must hold its right end: a score at the threshold is the student's.
            counts = np.histogram(-np.clip(values[part], low, high), -edges[::-1])[0][::-1]
            if counts.any():
                share = 100 * counts / counts.sum()
                axes.stairs(share, edges, fill=True, color=color, alpha=0.25, lw=0, zorder=2)
                axes.stairs(np.where(counts, share, np.nan), edges, color=color, lw=1.3, zorder=3)
                tall, peak = np.argsort(-share, kind="stable")[:12], max(peak, share.max())
                tops = np.column_stack([(edges[tall] + edges[tall + 1]) / 2, share[tall]])[counts[tall] > 0]
                labels.append(Label(f"{name}\n{plural(int(part.sum()), 'image')}", tops, color, "bold"))
        axes.set_ylabel("% of the group, per bin")
        if peak > 40:
            axes.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
            axes.set_ylabel("% of the group, per bin (square-root scale)")
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.set(xlim=(low - 0.01 * (high - low), high + 0.01 * (high - low)), ylim=(0, 1.25 * peak))
        return labels

    def _draw_threshold(self, axes: Axes, handed_on: NDArray[np.bool_]) -> Label:
        """The threshold where it is in sight, else words for where it is."""
        threshold, defer = self.threshold, self.values > self.threshold
        low, high = axes.get_xlim()
        text = f"threshold {threshold:.4g}".replace("-", "\u2212").replace("inf", "\u221e")
        x = (low + high) / 2
        if low < threshold < high:
            x = threshold
            axes.axvspan(threshold, high, color=VERMILLION, alpha=0.06, lw=0, zorder=0)
            axes.axvline(threshold, color=INK, lw=1.2, zorder=5)
        elif handed_on.any() and defer.any() and not (defer & ~handed_on).any():
            text = "threshold above all of these"
        elif 0 < defer.sum() < len(defer):
            text += ", out of sight"
        else:
            text += f": every image {'goes to the teacher' if defer.all() else 'stays with the student'}"
        heights = np.linspace(0.95, 0.6, 12) * axes.get_ylim()[1]
        return Label(text, np.column_stack([np.full(12, x), heights]))

    def _write_sides(self, axes: Axes, handed_on: NDArray[np.bool_]) -> None:
        """Above the axes, how many images each model answers."""
        defer = self.values > self.threshold
        for words, part, end, side in (
            ("\u2190 stays with the student{}", ~defer, 0, "left"),
            ("sent to the teacher{} \u2192", defer, 1, "right"),
        ):
            hidden = (part & handed_on).sum()
            text = words.format(f", {hidden:,} of them as other, not drawn" if hidden else "")
            text += f"\n{plural(int(part.sum()), 'image')} ({100 * part.mean():.1f} %)"
            text += f", {self.groups.name} on {(part & self.groups.needy).sum():,}" if part.any() else ""
            axes.text(end, 1.02, text, ha=side, va="bottom", transform=axes.transAxes, linespacing=1.4)
