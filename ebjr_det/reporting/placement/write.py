"""The folder of a placement report: page, tables, figures and summary, each file whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ebjr_det.core.cost import Cost
from ebjr_det.evaluation.placement.choice import Placement
from ebjr_det.evaluation.placement.report import PlacementReport
from ebjr_det.reporting.budget_figure import BEST, NEW, RIVAL, BudgetFigure, BudgetLine
from ebjr_det.reporting.placement.tables import tables
from ebjr_det.reporting.placement.words import NAMES, judgement, sentences, unit_of, verdict
from ebjr_det.reporting.plain_page import PlainPage

STYLES: dict[Placement, Any] = {"behind": RIVAL, "front": NEW, "both": BEST}
ABOUT = (
    "At every budget the best thresholds of a router behind the student, in front of it and in both places, "
    "as chosen on other images; behind with a coin that sends a share straight to the teacher where that is "
    "better; triangles: student and teacher alone."
)


def write_figure(report: PlacementReport, kind: Cost, stem: Path) -> Path:
    """Quality against a cost on the reported images, a line a placement."""
    costs, lines = report.analysis.costs[kind], []
    for placement, style in STYLES.items():
        placed = [best[placement] for _, best in report.lines[kind] if placement in best]
        lines.append(BudgetLine(NAMES[placement], [(p.cost(costs), p.quality) for p in placed], style))
    singles = {
        "student": (costs.student, report.student_quality),
        "teacher": (costs.teacher, report.teacher_quality),
    }
    title, name = judgement(report, kind), report.task.quality_name
    return BudgetFigure(kind, unit_of(report), name, title, report.analysis.title, lines, singles).write(stem)


def write_placement(report: PlacementReport, settings: Mapping[str, object], out: Path) -> dict[str, object]:
    """Write page, tables, figures and, last, the summary, which is returned."""
    name = report.task.quality_name
    figures = {kind: write_figure(report, kind, out / f"{name}_by_{kind}") for kind in report.table}
    text = yaml.safe_dump({"placement": dict(settings)}, sort_keys=False)
    page = PlainPage(
        report.analysis.title, verdict(report), list(sentences(report)), figures, ABOUT, tables(report), text
    )
    return page.write(out, report.to_dict() | {"settings": dict(settings)})
