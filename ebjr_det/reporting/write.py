"""The run folder's report: curves, routes, tables, figures, page and summary, each file whole."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import get_args

from ebjr_det.core.cost import Budget
from ebjr_det.core.tradeoff import TradeoffCurve, score_of
from ebjr_det.evaluation.report import Report
from ebjr_det.evaluation.run_folder import CONFIG, ENVIRONMENT, SUMMARY
from ebjr_det.io.files import atomic_write, to_json, write_text
from ebjr_det.reporting.page import PAGE, Origin, draw_page
from ebjr_det.reporting.report_figures import histogram_of, known_costs, tradeoff_of
from ebjr_det.reporting.sentences import findings
from ebjr_det.reporting.style import FORMATS
from ebjr_det.reporting.table import document
from ebjr_det.reporting.tables import tables

CURVE = "curve.json"
EARLIER = re.compile(rb'\{"score": "[^"]+", "quality_name": "(\w+)", "images": \d+, "cost": ')
"""How a curve begins, which is written before all that hangs on it; and the quality in its figures' names."""
MOST_HEAD = 1000


def write_report(report: Report, run_dir: Path, out: Path) -> dict[str, object]:
    """Write everything that follows from records and analysis; the summary last.

    Args:
        run_dir: the run's folder, which also tells the page how the run was made.
        out: where to write, usually `run_dir`.

    Returns:
        the summary, the JSON object of the command line.
    """
    summary = report.to_dict() | {"run_dir": str(run_dir)}
    _clear_optional(out)
    origin = Origin.of(run_dir, CONFIG, ENVIRONMENT)
    write_text(out / CURVE, to_json(_curves(report), pretty=False))
    _write_csv(out / "routes.csv", _routes(report))
    if report.by_class is not None:
        _write_csv(out / "per_class.csv", _classes(report))
    verdict, *sentences = findings(report)
    write_text(out / "table.md", document(report.analysis.title, tables(report), sentences, verdict))
    figures = write_figures(report, out)
    write_text(out / PAGE, draw_page(report, figures, run_dir, origin))
    write_text(out / SUMMARY, to_json(summary))
    return summary


def _clear_optional(out: Path) -> None:
    """Files that not every report has: one of an earlier report would be taken for this one's.

    Where no curve tells of an earlier report, files of such names are somebody else's.
    """
    curve = out / CURVE
    if not curve.is_file():
        return
    with curve.open("rb") as opened:
        head = opened.read(MOST_HEAD)
    if earlier := EARLIER.match(head):
        name = earlier[1].decode()
        figures = (f"{name}_by_{kind}.{suffix}" for kind in get_args(Budget) for suffix in FORMATS)
        for file in ("per_class.csv", *figures):
            (out / file).unlink(missing_ok=True)


def _curves(report: Report) -> dict[str, object]:
    """Every operating point of every score as columns, with the lines to compare with."""
    main = report.curve
    return {
        "score": main.score,
        "quality_name": report.task.quality_name,
        "images": main.images,
        "cost": main.cost.__dict__,
        "curves": {name: _columns(curve) for name, curve in report.curves.items()},
        "random": main.random.tolist(),
        "oracle": main.oracle.tolist(),
        "band": {
            "confidence": report.intervals.confidence,
            "deferral_rate": report.intervals.rate.tolist(),
            "low": report.intervals.low[main.score].tolist(),
            "high": report.intervals.high[main.score].tolist(),
        },
    }


def _columns(curve: TradeoffCurve) -> dict[str, object]:
    points = [point.to_dict() for point in curve.points()]
    columns = {key: [point[key] for point in points] for key in points[0]}
    return {"area": curve.area(), **columns}


def _routes(report: Report) -> Iterable[Iterable[object]]:
    """Every reported image: its scores, who answered, and what the teacher's answer adds."""
    run = report.run
    columns: dict[str, Sequence[object]] = {"image_id": run.image_ids}
    columns |= {name: score_of(run, name).tolist() for name in run.scores}
    columns["deferred"] = report.decision.defer.astype(int).tolist()
    for side in ("student", "teacher"):
        right = report.task.right(getattr(run, side))
        if right is not None:
            columns[f"{side}_correct"] = right.astype(int).tolist()
    columns["reward"] = report.reward.tolist()
    return [list(columns), *zip(*columns.values(), strict=True)]


def _classes(report: Report) -> Iterator[list[object]]:
    """Every class with all numbers of student, teacher and joint; empty where there is no such object."""
    yield ["class", *(f"{side}_{name}" for side, numbers in report.metrics.items() for name in numbers)]
    for row in report.class_rows():
        yield [row["class"], *(value for side in report.metrics for value in row[side].values())]


def _write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows(rows)


def write_figures(report: Report, out: Path) -> dict[str, Path]:
    """The figures by what they show: a cost that is known, or `histogram`; the path of each SVG."""
    name = report.task.quality_name
    figures: dict[str, Path] = {}
    for kind in known_costs(report):
        _, figures[kind] = tradeoff_of(report, kind).write(out / f"{name}_by_{kind}")
    _, figures["histogram"] = histogram_of(report).write(out / "score_histogram")
    return figures
