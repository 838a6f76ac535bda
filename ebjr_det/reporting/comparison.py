"""Several runs side by side: one table, one figure, one JSON object. Runs of one task only."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ebjr_det.core.cost import Budget, Cost
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.tradeoff import OperatingPoint, TradeoffCurve, sweep
from ebjr_det.core.types import PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.bootstrap import CONFIDENCE, METHOD
from ebjr_det.evaluation.hull import Margin, margin_numbers, margins_of
from ebjr_det.evaluation.report import decided
from ebjr_det.evaluation.single_models import SingleModel, single_models
from ebjr_det.evaluation.units import cost_text
from ebjr_det.reporting.answer import CURRENCIES, side_of
from ebjr_det.reporting.notation import Shown, Unit, number, plural, share
from ebjr_det.reporting.sentences import hull_names
from ebjr_det.reporting.style import (
    BLUE,
    GREEN,
    INK,
    VERMILLION,
    Label,
    draw_figure,
    figure_paths,
    place_labels,
)
from ebjr_det.reporting.table import Table, markdown_text
from ebjr_det.reporting.tables import HULL, Cells

STRONG = (
    (BLUE, "-", "D"),
    (VERMILLION, (0, (7, 2, 1.5, 2)), "s"),
    (GREEN, (0, (9, 3)), "^"),
    (INK, (0, (2, 1.2)), "v"),
)
"""Colour, dashes and mark of the runs that are drawn strong: told apart in grey, too."""


@dataclass(frozen=True)
class ComparedRun:
    """One run by the curve of its deciding score, its chosen point on it, and that point's margins."""

    name: str
    analysis: Analysis
    image_ids: frozenset[str]
    curve: TradeoffCurve
    chosen: OperatingPoint
    rivals: Sequence[SingleModel]
    margins: Mapping[Cost, Margin]

    @classmethod
    def of(cls, name: str, run: PairedRun, task: Task, analysis: Analysis) -> "ComparedRun":
        """A saved run as its own report has it."""
        reported, decision = decided(run, task, analysis)
        curve = sweep(reported, task, analysis.score, analysis.cost)
        chosen, rivals = curve.of_decision(decision), single_models(reported, task, analysis)
        margins_at = margins_of(reported, task, analysis, curve, rivals, [chosen])
        margins = {kind: margin for kind, (margin,) in margins_at.items()}
        return cls(name, analysis, frozenset(reported.image_ids), curve, chosen, rivals, margins)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; latency is measured where the live pair was, else expected."""
        live = self.analysis.live
        return {
            "run": self.name,
            "student": self.analysis.student.name,
            "teacher": self.analysis.teacher.name,
            "score": self.analysis.score,
            "images": self.curve.images,
            "student_quality": self.curve.student_quality,
            "teacher_quality": self.curve.teacher_quality,
            **self.chosen.to_dict(),
            "latency_ms": self.chosen.latency_ms if live is None else live.mean,
            **margin_numbers(self.margins),
        }


@dataclass(frozen=True)
class Comparison:
    """Runs of one task in the order given. Raises ConfigError: fewer than two runs, or one twice."""

    quality_name: str
    runs: Sequence[ComparedRun]

    def __post_init__(self) -> None:
        names = [run.name for run in self.runs]
        if len(set(names)) < max(2, len(names)):
            raise ConfigError(f"Expected at least two different runs, got {', '.join(names)}.")

    @property
    def same_images(self) -> bool:
        """Whether all runs report on the same images."""
        return len({run.image_ids for run in self.runs}) == 1

    @property
    def axis(self) -> Budget:
        """The cost that all runs know: `macs`, else `deferral_rate`."""
        return "macs" if all(run.curve.cost.macs(0.0) is not None for run in self.runs) else "deferral_rate"

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line."""
        return {
            "quality_name": self.quality_name,
            "same_images": self.same_images,
            "axis": self.axis,
            "interval_method": METHOD,
            "runs": [run.to_dict() for run in self.runs],
        }

    @property
    def cells(self) -> Cells:
        """How numbers are written; all multiply-adds in one unit."""
        unit = Unit.of(max(run.curve.cost.teacher_macs or 0 for run in self.runs))
        return Cells(self.quality_name, Shown.of(self.quality_name), unit)

    def table(self) -> Table:
        """One row a run."""
        rows, cells, show = [run.to_dict() for run in self.runs], self.cells, self.cells.show
        columns = ["run", "student", "teacher", "score", "images", *map(show.heading, ("S", "T", "joint"))]
        columns += ["deferred %", cells.unit.name, "ms", "G %", "over hull"]
        texts = [
            [
                *(row[key] for key in ("run", "student", "teacher", "score")),
                f"{row['images']:,}",
                *(show.value(row[key]) for key in ("student_quality", "teacher_quality", "quality")),
                number(row["deferral_rate"], 100),
                *cells.costs(row["macs"], row["latency_ms"]),
                number(row["gap_recovered"], 100, 1),
                show.difference(row["margin_over_hull"]),
            ]
            for row in rows
        ]
        images = "all on the same images" if self.same_images else "NOT all on the same images"
        caption = (
            f"{images}; S, T: student and teacher alone; over hull: above mixing single models at random"
        )
        return Table(f"{self.quality_name} of {len(rows)} runs", columns, texts, caption)

    def summary_table(self) -> Table:
        """The few columns to see first: one row a run."""
        cells, rows = self.cells, []
        for row in (run.to_dict() for run in self.runs):
            qualities = (row[key] for key in ("student_quality", "quality", "teacher_quality"))
            costs = cells.costs(row["macs"], row["latency_ms"])
            rows.append(
                [row["run"], *map(cells.show.value, qualities), share(row["deferral_rate"], 2), *costs]
            )
        headings = map(cells.show.heading, ("student", "pair", "teacher"))
        columns = ["run", *headings, "deferred %", cells.unit.name, "ms"]
        return Table(f"{self.quality_name} of {plural(len(rows), 'run')}", columns, rows)

    def margins_table(self) -> Table | None:
        """How far each run's pair is above the hull of its single models; None where no cost is known."""
        rows = [
            [run.name, *self.cells.margin(kind, margin), hull_names(run.rivals)]
            for run in self.runs
            for kind, margin in run.margins.items()
        ]
        columns = ["run", *self.cells.margin_headings(CONFIDENCE), "single models"]
        title = "Margin of each pair over its single models mixed at random, their hull"
        return Table(title, columns, rows, f"hull: {HULL}", labels=2) if rows else None

    def tables(self) -> list[Table]:
        """All tables of the comparison."""
        return [self.table(), *filter(None, [self.margins_table()])]

    def verdict(self, *, short: bool = False) -> str:
        """One sentence: which pair is best and which cheapest, or why that cannot be said."""
        if not self.same_images:
            name = self.quality_name
            return f"The runs are judged on different images, so that their {name} cannot be compared."
        best = max(self.runs, key=lambda run: run.chosen.quality)
        cheapest = min(self.runs, key=lambda run: getattr(run.chosen, self.axis))

        def title(run: ComparedRun) -> str:
            return self.short_name(run) if short else run.name

        def words(run: ComparedRun) -> str:
            cost = cost_text(self.axis, getattr(run.chosen, self.axis), self.cells.unit)
            quality = f"{self.quality_name} {self.cells.show.text(run.chosen.quality)}"
            return f"{quality} at {cost}{' deferred' * (self.axis != 'macs')}"

        if best.chosen.quality == cheapest.chosen.quality:
            return f"No run is better than {title(cheapest)}, which costs least: {words(cheapest)}."
        return f"{title(best)} is best: {words(best)}. {title(cheapest)} costs least: {words(cheapest)}."

    def sentences(self) -> list[str]:
        """Which pairs pay: see `answer.verdict`."""
        sentences, claims = [], {1: "pays", 0: "not shown", -1: "does not pay"}
        for kind, currency in CURRENCIES.items():
            sides = {run.name: side_of(run.margins[kind]) for run in self.runs if kind in run.margins}
            parts = [
                f"{claim}: {', '.join(name for name in sides if sides[name] == side)}"
                for side, claim in claims.items()
                if side in sides.values()
            ]
            if parts:
                sentences.append(
                    f"Against single models mixed at random, at equal {currency}, {100 * CONFIDENCE:g} % "
                    f"intervals: {'; '.join(parts)}."
                )
        return sentences

    def markdown(self) -> str:
        """All of it as one document."""
        main, *details = self.tables()
        texts = [
            f"# {markdown_text(main.title)}\n",
            f"{markdown_text(self.verdict())}\n",
            f"{main.markdown()}\n",
        ]
        texts += [f"## {markdown_text(table.title)}\n\n{table.markdown()}\n" for table in details]
        return "\n".join([*texts, *(f"- {markdown_text(sentence)}\n" for sentence in self.sentences())])

    def write_figure(self, stem: Path) -> list[Path]:
        """Quality against `axis`: every run's curve, its chosen point by name, its student alone.

        The runs of the best chosen points are drawn strong, up to four; the others are grey.
        """
        show, unit = self.cells.show, self.cells.unit
        scale, label = (unit.size, f"{unit.name} per image")
        if self.axis == "deferral_rate":
            scale, label = 0.01, "deferral rate (% of the images)"
        ranked = sorted(self.runs, key=lambda run: -run.chosen.quality)
        styles = dict(zip([run.name for run in ranked], STRONG, strict=False))
        labels, subtitle = [], f"{self.table().title}: chosen points by name, students alone as dots"
        with draw_figure(stem, self.verdict(short=True), 4.5, subtitle) as (figure, axes):
            axes.set(xlabel=label, ylabel=show.heading(self.quality_name))
            for run in ranked[::-1]:
                color, dash, marker = styles.get(run.name, ("#b5b5b5", "-", "."))
                style: Any = {"color": color, "mec": "white", "zorder": 4 + (run.name in styles)}
                x, y = run.curve.costs(self.axis) / scale, show.height(run.curve.quality)
                axes.plot(x, y, ls=dash, lw=1.8, **style)
                axes.plot(x[0], y[0], "o", ms=6, **style)
                point = np.array([getattr(run.chosen, self.axis) / scale, show.height(run.chosen.quality)])
                axes.plot(*point, marker, ms=9, **style)
                if run.name in styles:
                    text = f"{self.short_name(run)}: {show.label(run.chosen.quality)}"
                    labels.append(Label(textwrap.fill(text, 36), point[None], color, "bold"))
            place_labels(figure, axes, labels)
        return figure_paths(stem)

    def short_name(self, run: ComparedRun) -> str:
        """The last part of a run's path, where it tells the run from the others."""
        names = [Path(compared.name).name for compared in self.runs]
        name = Path(run.name).name
        return name if names.count(name) == 1 else run.name
