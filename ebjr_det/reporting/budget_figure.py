"""The figure of a report by budget: what is best at every cost, beside single models."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ebjr_det.core.cost import Cost
from ebjr_det.evaluation.hull import Hull
from ebjr_det.reporting.notation import Shown, Unit
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

Point: TypeAlias = tuple[float, float]
"""A cost and the quality there."""
RIVAL: Any = {"color": VERMILLION, "lw": 4.0, "alpha": 0.6}
NEW: Any = {"color": GREEN, "lw": 1.5, "ls": (0, (5, 2))}
BEST: Any = {"color": BLUE, "lw": 1.6}
"""Styles of lines: what there was before, what is asked about, and the best of both."""


class BudgetLine(NamedTuple):
    """What is best at every budget, in any order."""

    name: str
    points: Sequence[Point]
    style: Any


class BudgetFigure(NamedTuple):
    """Quality against a cost: a line for each kind of choice, a triangle for each single model, their hull.

    Attributes:
        title: what the figure shows; `subtitle`: of what it is.
    """

    kind: Cost
    unit: Unit
    quality_name: str
    title: str
    subtitle: str
    lines: Sequence[BudgetLine]
    singles: Mapping[str, Point]
    hull: Hull | None = None

    def write(self, stem: Path) -> Path:
        """Draw it to `stem` with `.png` and `.svg`; returns the latter's path."""
        show, labels = Shown.of(self.quality_name), []
        size, axis = (
            (self.unit.size, f"{self.unit.name} per image") if self.kind == "macs" else (1.0, "ms per image")
        )
        with draw_figure(stem, self.title, 4.5, self.subtitle) as (figure, axes):
            axes.set(xlabel=axis, ylabel=show.heading(self.quality_name))
            if self.hull is not None:
                x, y = self.hull.cost / size, show.height(self.hull.quality)
                axes.plot(x, y, color=INK, lw=1.0, zorder=2)
                labels += [Label("single models mixed\nat random (hull)", along(x, y))] * (len(x) > 1)
            for name, points, style in self.lines:
                if points:
                    x, y = np.array(sorted((cost / size, show.height(quality)) for cost, quality in points)).T
                    axes.plot(x, y, zorder=3, **style)
                    labels.append(Label(name, along(x, y), style["color"], "bold"))
            for name, (cost, quality) in self.singles.items():
                point = np.array([[cost / size, show.height(quality)]])
                axes.plot(*point[0], "^", ms=7, mfc=INK, mec="white", zorder=6, clip_on=False)
                labels.append(Label(f"{textwrap.fill(name, 30)} alone: {show.label(quality)}", point, GREY))
            place_labels(figure, axes, labels)
        return figure_paths(stem)[1]
