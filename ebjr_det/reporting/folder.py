"""The run folder: resolved config, environment, run, curves, routes, tables and figures, each file whole."""

import csv
import json
from pathlib import Path
from typing import Any

from ebjr_det.files import atomic_write, write_text
from ebjr_det.reporting.figures import write_tradeoff_figure
from ebjr_det.reporting.histogram import write_histogram_figure
from ebjr_det.reporting.report import Report
from ebjr_det.reporting.tables import to_markdown
from ebjr_det.tradeoff import TradeoffCurve

SUMMARY = "summary.json"
RUN = "run.npz"
CONFIG = "config.yaml"
PARTS = "parts"


def to_json(content: Any, *, pretty: bool = True) -> str:
    """JSON without infinities or NaN. Raises ValueError for them: they must have been given a name."""
    return json.dumps(content, allow_nan=False, indent=2 if pretty else None)


def write_report(report: Report, folder: Path, formula: str) -> dict[str, Any]:
    """Write everything but config and environment; returns the JSON object, `run_dir` included."""
    summary = report.to_dict() | {"run_dir": str(folder)}
    write_text(folder / "curve.json", to_json(_curves(report), pretty=False))
    _write_routes(report, folder / "routes.csv")
    write_text(folder / "table.md", to_markdown(report))
    _write_figures(report, folder, formula)
    write_text(folder / SUMMARY, to_json(summary))
    return summary


def _curves(report: Report) -> dict[str, Any]:
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


def _columns(curve: TradeoffCurve) -> dict[str, Any]:
    points = [point.to_dict() for point in curve.points()]
    columns = {key: [point[key] for point in points] for key in points[0]}
    return {"area": curve.area(), **columns}


def _write_routes(report: Report, path: Path) -> None:
    run = report.run
    right = {side: report.task.right(getattr(run, side)) for side in ("student", "teacher")}
    columns: dict[str, Any] = {"image_id": run.image_ids}
    columns |= {name: values.tolist() for name, values in run.scores.items()}
    columns["deferred"] = report.decision.defer.astype(int).tolist()
    for side, flags in right.items():
        if flags is not None:
            columns[f"{side}_correct"] = flags.astype(int).tolist()
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_figures(report: Report, folder: Path, formula: str) -> None:
    # The random score is drawn only where it decides: the random line is its expectation.
    curves = [
        report.curve,
        *(c for c in report.curves.values() if c.score not in ("random", report.curve.score)),
    ]
    known = {"deferral_rate": True, "macs": curves[0].cost.macs(0.0) is not None}
    known["latency_ms"] = curves[0].cost.latency_ms(0.0) is not None
    for kind, available in known.items():
        if available:
            write_tradeoff_figure(
                folder / f"{report.task.quality_name}_by_{kind}",
                curves,
                report.intervals,
                kind=kind,  # type: ignore[arg-type]
                chosen=report.chosen,
                measured_ms=report.live.mean if report.live and kind == "latency_ms" else None,
                quality_name=report.task.quality_name,
                names=(report.student.name, report.teacher.name),
                title=report.title,
            )
    right = report.task.right(report.run.student)
    if right is not None:
        write_histogram_figure(
            folder / "score_histogram",
            report.decision.scores,
            right,
            report.decision.threshold,
            score=report.curve.score,
            formula=formula,
            title=report.title,
        )
