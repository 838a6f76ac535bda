"""The folder of a placement report: page, tables, figures and summary, each file whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ebjr_det.core.cost import Cost
from ebjr_det.evaluation.placement.choice import Placement
from ebjr_det.evaluation.placement.report import PlacementReport
from ebjr_det.evaluation.run_folder import SUMMARY
from ebjr_det.io.files import to_json, write_text
from ebjr_det.reporting.notation import Shown
from ebjr_det.reporting.placement.tables import tables
from ebjr_det.reporting.placement.words import NAMES, judgement, sentences, unit_of, verdict
from ebjr_det.reporting.plain_page import PAGE, plain_markdown, plain_page
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

LINES: dict[Placement, dict[str, Any]] = {
    "behind": {"color": VERMILLION, "lw": 4.0, "alpha": 0.6},
    "front": {"color": GREEN, "lw": 1.5, "ls": (0, (5, 2))},
    "both": {"color": BLUE, "lw": 1.6},
}
ABOUT = (
    "At every budget the best thresholds of a router behind the student, in front of it and in both places, "
    "as chosen on other images; behind with a coin that sends a share straight to the teacher where that is "
    "better; triangles: student and teacher alone."
)


def write_figure(report: PlacementReport, kind: Cost, stem: Path) -> list[Path]:
    """Quality against a cost on the reported images, a line a placement."""
    show, unit, costs = Shown.of(report.task.quality_name), unit_of(report), report.analysis.costs[kind]
    size, axis = (unit.size, f"{unit.name} per image") if kind == "macs" else (1.0, "ms per image")
    labels = []
    with draw_figure(stem, judgement(report, kind), 4.5, report.analysis.title) as (figure, axes):
        axes.set(xlabel=axis, ylabel=show.heading(report.task.quality_name))
        for placement, style in LINES.items():
            line = [best[placement] for _, best in report.lines[kind] if placement in best]
            points = sorted((placed.cost(costs) / size, show.height(placed.quality)) for placed in line)
            if points:
                x, y = np.array(points).T
                axes.plot(x, y, zorder=3, **style)
                labels.append(Label(NAMES[placement], along(x, y), style["color"], "bold"))
        alone = (("student", report.student_quality), ("teacher", report.teacher_quality))
        for name, quality in alone:
            point = np.array([[getattr(costs, name) / size, show.height(quality)]])
            axes.plot(*point[0], "^", ms=7, mfc=INK, mec="white", zorder=6, clip_on=False)
            labels.append(Label(f"{name} alone: {show.label(quality)}", point, GREY))
        place_labels(figure, axes, labels)
    return figure_paths(stem)


def write_placement(report: PlacementReport, settings: Mapping[str, object], out: Path) -> dict[str, object]:
    """Write page, tables, figures and, last, the summary, which is returned."""
    title, lead, drawn = report.analysis.title, verdict(report), tables(report)
    figures = {
        kind: write_figure(report, kind, out / f"{report.task.quality_name}_by_{kind}")[1]
        for kind in report.table
    }
    write_text(out / "table.md", plain_markdown(title, lead, drawn, sentences(report)))
    text = yaml.safe_dump({"placement": dict(settings)}, sort_keys=False)
    write_text(out / PAGE, plain_page(title, lead, sentences(report), figures, ABOUT, drawn, text))
    summary = report.to_dict() | {"settings": dict(settings)}
    write_text(out / SUMMARY, to_json(summary))
    return summary
