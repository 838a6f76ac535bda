"""The same tables for the screen and for Markdown: models, operating points, scores, and what they say."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from ebjr_det.reporting.report import ENERGY, Report

NONE = "-"


def tables(report: Report) -> list[Table]:
    """All tables of a report, in reading order."""
    return [_models(report), _points(report), _scores(report)]


def findings(report: Report) -> list[str]:
    """What the numbers say, in sentences: the pair, the price of quality, and how energy fares."""
    return [_pair_finding(report), _gap_finding(report), _energy_finding(report)]


def print_report(report: Report) -> None:
    """Tables and findings on stdout."""
    console = Console()
    for table in tables(report):
        console.print(table)
    for sentence in findings(report):
        console.print(f"- {sentence}", highlight=False, soft_wrap=True)


def to_markdown(report: Report) -> str:
    """The same as a Markdown page."""
    lines = [f"# {report.title}", ""]
    for table in tables(report):
        heading, table.title, table.box = table.title, None, box.MARKDOWN
        lines += [f"## {heading}", "", markdown_table(table), ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in findings(report)), ""])


def markdown_table(table: Table) -> str:
    """A rich table as Markdown text."""
    buffer = StringIO()
    table.box = box.MARKDOWN
    Console(file=buffer, width=400, no_color=True).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines() if line.strip())


def _models(report: Report) -> Table:
    data = report.to_dict() if report.printed is not None else _without_points(report)
    table = _table(
        f"{report.title or 'Models'}: {len(report.run):,} images",
        ["model", *report.metrics["joint"], "deferred", "MMACs", "ms mean", "p50", "p90", "p99", "G"],
    )
    for side in ("student", "teacher", "joint"):
        row = data[side]
        latency = row["latency"] or {}
        table.add_row(
            f"{side}: {row['name']}",
            *(_percent(value) for value in row["metrics"].values()),
            _percent(row.get("deferral_rate")),
            _number(row["macs"], 1e-6, 2),
            *(_number(latency.get(key), 1, 2) for key in ("mean", "p50", "p90", "p99")),
            _percent(row.get("gap_recovered")),
        )
    latency = data["student"]["latency"]
    if latency:
        table.caption = f"ms an image, batch {latency['batch_size']}, {latency['device']}; G = share of the gap"
    return table


def _without_points(report: Report) -> dict:  # type: ignore[type-arg]
    from dataclasses import replace

    return replace(report, printed=[]).to_dict()


def _points(report: Report) -> Table:
    table = _table(
        f"Operating points of {report.curve.score}",
        ["deferred", "threshold", report.task.quality_name, "MMACs", "ms", "G", "random", "oracle"],
    )
    count = report.curve.images
    for point in report.table_points():
        index = round(point.deferral_rate * count)
        table.add_row(
            _percent(point.deferral_rate),
            _number(point.to_dict()["threshold"], 1, 4),
            _percent(point.quality),
            _number(point.macs, 1e-6, 2),
            _number(point.latency_ms, 1, 2),
            _percent(point.gap_recovered),
            _percent(report.curve.random[index]),
            _percent(report.curve.oracle[index]),
        )
    return table


def _scores(report: Report) -> Table:
    percent = f"{100 * report.intervals.confidence:g} %"
    table = _table(
        "Deferral scores by area under quality against deferral rate",
        ["score", "area", percent, f"minus {report.intervals.reference}", percent, "G at .1", "G at .3"],
    )
    areas = {name: curve.area() for name, curve in report.curves.items()}
    base = areas[report.intervals.reference]
    for name in sorted(areas, key=lambda name: -areas[name]):
        curve = report.curves[name]
        table.add_row(
            name,
            f"{areas[name]:.4f}",
            _interval(report.intervals.area[name]),
            f"{areas[name] - base:+.4f}",
            _interval(report.intervals.area_difference[name]),
            *(_percent(curve.gap_recovered_at(rate)) for rate in (0.1, 0.3)),
        )
    return table


def _pair_finding(report: Report) -> str:
    data = _without_points(report)
    joint, teacher, student = data["joint"], data["teacher"], data["student"]
    name = report.task.quality_name
    text = (
        f"At a deferral rate of {_percent(joint['deferral_rate'])} the pair's {name} is "
        f"{_percent(joint['quality'])} (student {_percent(student['quality'])}, "
        f"teacher {_percent(teacher['quality'])})"
    )
    if joint["macs"] and teacher["macs"]:
        text += f" at {joint['macs'] / teacher['macs']:.2f} x the teacher's multiply-adds"
    if joint["latency_ms"] and teacher["latency_ms"]:
        text += (
            f" and {joint['latency_ms'] / teacher['latency_ms']:.2f} x its latency "
            f"(measured {joint['latency_ms']:.2f} ms, expected {joint['expected_latency_ms']:.2f} ms)"
        )
    return text + "."


def _gap_finding(report: Report) -> str:
    curve = report.curve
    if curve.gap_recovered(curve.student_quality) is None:
        return "The teacher is no better than the student here: there is no gap to recover."
    shares = [(f, curve.rate_for_gap(f)) for f in (0.5, 0.8, 0.9, 0.95)]
    parts = ", ".join(f"{100 * f:g} % at {_percent(rate)}" for f, rate in shares)
    return f"Share of the gap recovered by {curve.score}, at the least deferral rate: {parts}."


def _energy_finding(report: Report) -> str:
    if ENERGY not in report.curves or len(report.curves) < 2:
        return "Only one score was computed, so there is nothing to compare it with."
    areas = {name: curve.area() for name, curve in report.curves.items()}
    best = max(areas, key=lambda name: areas[name])
    if best == ENERGY:
        return f"{ENERGY} has the largest area of all scores, {areas[best]:.4f}."
    low, high = report.intervals.area_difference[best]
    verdict = "outside" if low > 0 or high < 0 else "within"
    return (
        f"{ENERGY} (area {areas[ENERGY]:.4f}) is not the best score: {best} has {areas[best]:.4f}, a difference "
        f"of {areas[best] - areas[ENERGY]:.4f} [{low:.4f}, {high:.4f}], {verdict} chance."
    )


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0)
    return table


def _percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f} %"


def _number(value: float | None, scale: float, digits: int) -> str:
    return NONE if value is None else f"{value * scale:.{digits}f}"


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.4f}, {ends[1]:.4f}]"


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Plain rows of text as a table on stdout."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)


def print_calibration(answer: Mapping[str, Any]) -> None:
    """A calibrated threshold: the target, and both sets of images side by side."""
    table = _table(
        f"Threshold of {answer['score']} for {_target_text(answer['target'])}: {answer['threshold']}",
        ["images", "count", "deferred", "quality", "student", "teacher", "MMACs", "ms"],
    )
    for part in ("calibration", "report"):
        row = answer[part]
        table.add_row(
            part,
            f"{row['images']:,}",
            _percent(row["deferral_rate"]),
            _percent(row["quality"]),
            _percent(row["student_quality"]),
            _percent(row["teacher_quality"]),
            _number(row["macs"], 1e-6, 2),
            _number(row["latency_ms"], 1, 2),
        )
    Console().print(table)


def _target_text(target: Mapping[str, Any]) -> str:
    sure = f" with confidence {target['confidence']:g}" if target["confidence"] else ""
    return f"{target['kind']} {target['value']:g}{sure}"
