"""The folder of a replay of several tiers: page, tables, figures, fronts and summary, each file whole."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ebjr_det.core.cost import Cost
from ebjr_det.evaluation.run_folder import CONFIG, SUMMARY
from ebjr_det.evaluation.tiers.choice import alone, finite
from ebjr_det.evaluation.tiers.front import TierPoints
from ebjr_det.evaluation.tiers.report import TieredReport
from ebjr_det.io.files import to_json, write_text
from ebjr_det.reporting.notation import Shown
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
from ebjr_det.reporting.tiers.tables import tables
from ebjr_det.reporting.tiers.words import judgement, sentences, unit_of, verdict

LINES: dict[str, tuple[str, Any]] = {
    "longer": ("more than two tiers", {"color": GREEN, "lw": 1.5, "ls": (0, (5, 2))}),
    "pair": ("best pair", {"color": VERMILLION, "lw": 4.0, "alpha": 0.6}),
    "best": ("best of all", {"color": BLUE, "lw": 1.6}),
}
"""Of `Winners`, in the order in which they are drawn."""


def write_figure(report: TieredReport, kind: Cost, stem: Path) -> list[Path]:
    """Quality against a cost on the reported images: what is best at every budget."""
    show, unit, costs = Shown.of(report.task.quality_name), unit_of(report), report.analysis.costs[kind]
    size, axis = (unit.size, f"{unit.name} per image") if kind == "macs" else (1.0, "ms per image")
    labels, line, hull = [], report.lines[kind], report.hull(kind)
    title = judgement(report, kind)
    with draw_figure(stem, title, 4.5, report.analysis.title) as (figure, axes):
        axes.set(xlabel=axis, ylabel=show.heading(report.task.quality_name))
        axes.plot(hull.cost / size, show.height(hull.quality), color=INK, lw=1.0, zorder=2)
        if len(hull.cost) > 1:
            points = along(hull.cost / size, show.height(hull.quality))
            labels.append(Label("single models mixed\nat random (hull)", points))
        for winner, (name, style) in LINES.items():
            choices = [getattr(winners, winner) for winners in line]
            places = [(c.cost(costs) / size, show.height(c.quality)) for c in choices if c is not None]
            if places:
                x, y = np.array(sorted(places)).T
                axes.plot(x, y, zorder=3, **style)
                labels.append(Label(name, along(x, y), style["color"], "bold"))
        for name, quality in report.singles.items():
            point = np.array([[costs[name] / size, show.height(quality)]])
            axes.plot(*point[0], "^", ms=7, mfc=INK, mec="white", zorder=6, clip_on=False)
            labels.append(Label(f"{textwrap.fill(name, 30)} alone: {show.label(quality)}", point, GREY))
        place_labels(figure, axes, labels)
    return figure_paths(stem)


def write_tiers(report: TieredReport, run_dir: Path, out: Path) -> dict[str, object]:
    """Write page, tables, figures, fronts and, last, the summary, which is returned."""
    summary = report.to_dict() | {"run_dir": str(run_dir)}
    figures = {}
    for kind in report.table:
        _, figures[kind] = write_figure(report, kind, out / f"{report.task.quality_name}_by_{kind}")
    write_text(out / "front.json", to_json(_fronts(report), pretty=False))
    write_text(
        out / "table.md",
        plain_markdown(report.analysis.title, verdict(report), tables(report), sentences(report)),
    )
    write_text(out / PAGE, _page(report, figures, (run_dir / CONFIG).read_text(encoding="utf-8")))
    write_text(out / SUMMARY, to_json(summary))
    return summary


def _fronts(report: TieredReport) -> dict[str, object]:
    """Every chain's exact front on the images that choose, as columns."""

    def columns(points: TierPoints) -> dict[str, object]:
        return {
            "tiers": points.chain.tiers,
            "topology": points.chain.topology,
            "scores": points.chain.scores,
            "thresholds": [list(map(finite, row)) for row in points.thresholds.tolist()],
            "passed": points.passed.tolist(),
            "quality": points.quality.tolist(),
            **{
                kind: points.cost(alone(points.chain, c)).tolist()
                for kind, c in report.analysis.costs.items()
            },
        }

    return {"images": report.calibrating, "fronts": list(map(columns, report.fronts))}


def _page(report: TieredReport, figures: Mapping[Cost, Path], settings: str) -> str:
    about = (
        "At every budget the best of all chains, the best of at most two tiers and the best of more, as "
        "chosen on other images; triangles: the tiers alone."
    )
    return plain_page(
        report.analysis.title, verdict(report), sentences(report), figures, about, tables(report), settings
    )
