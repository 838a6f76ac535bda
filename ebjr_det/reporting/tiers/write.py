"""The folder of a replay of several tiers: page, tables, figures, fronts and summary, each file whole."""

from pathlib import Path
from typing import Any

from ebjr_det.core.cost import Cost
from ebjr_det.core.router import finite
from ebjr_det.evaluation.run_folder import CONFIG
from ebjr_det.evaluation.tiers.choice import alone
from ebjr_det.evaluation.tiers.front import TierPoints
from ebjr_det.evaluation.tiers.report import TieredReport
from ebjr_det.io.files import to_json, write_text
from ebjr_det.reporting.budget_figure import BEST, NEW, RIVAL, BudgetFigure, BudgetLine
from ebjr_det.reporting.plain_page import PlainPage
from ebjr_det.reporting.tiers.tables import tables
from ebjr_det.reporting.tiers.words import judgement, sentences, unit_of, verdict

LINES: dict[str, tuple[str, Any]] = {
    "longer": ("more than two tiers", NEW), "pair": ("best pair", RIVAL), "best": ("best of all", BEST),
}  # fmt: skip
"""Of `Winners`, in the order in which they are drawn."""
ABOUT = (
    "At every budget the best of all chains, the best of at most two tiers and the best of more, as chosen "
    "on other images; triangles: the tiers alone."
)


def write_figure(report: TieredReport, kind: Cost, stem: Path) -> Path:
    """Quality against a cost on the reported images: what is best at every budget."""
    costs, lines = report.analysis.costs[kind], []
    for winner, (name, style) in LINES.items():
        choices = [c for winners in report.lines[kind] if (c := getattr(winners, winner)) is not None]
        lines.append(BudgetLine(name, [(c.cost(costs), c.quality) for c in choices], style))
    singles = {name: (costs[name], quality) for name, quality in report.singles.items()}
    title, name, hull = judgement(report, kind), report.task.quality_name, report.hull(kind)
    return BudgetFigure(
        kind, unit_of(report), name, title, report.analysis.title, lines, singles, hull
    ).write(stem)


def write_tiers(report: TieredReport, run_dir: Path, out: Path) -> dict[str, object]:
    """Write page, tables, figures, fronts and, last, the summary, which is returned."""
    summary, name = report.to_dict() | {"run_dir": str(run_dir)}, report.task.quality_name
    figures = {kind: write_figure(report, kind, out / f"{name}_by_{kind}") for kind in report.table}
    write_text(out / "front.json", to_json(_fronts(report), pretty=False))
    text = (run_dir / CONFIG).read_text(encoding="utf-8")
    page = PlainPage(
        report.analysis.title, verdict(report), list(sentences(report)), figures, ABOUT, tables(report), text
    )
    return page.write(out, summary)


def _fronts(report: TieredReport) -> dict[str, object]:
    """Every chain's exact front on the images that choose, as columns."""

    def columns(points: TierPoints) -> dict[str, object]:
        costs = report.analysis.costs.items()
        return {
            "tiers": points.chain.tiers,
            "topology": points.chain.topology,
            "scores": points.chain.scores,
            "thresholds": [list(map(finite, row)) for row in points.thresholds.tolist()],
            "passed": points.passed.tolist(),
            "quality": points.quality.tolist(),
            **{kind: points.cost(alone(points.chain, column)).tolist() for kind, column in costs},
        }

    return {"images": report.calibrating, "fronts": list(map(columns, report.fronts))}
