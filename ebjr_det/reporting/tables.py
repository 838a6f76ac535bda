"""The same tables for the screen and for Markdown: models, operating points, scores, and what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ebjr_det.reporting.notation import Shown, Unit, interval_text, number, percent
from ebjr_det.reporting.report import ENERGY, GAP_FRACTIONS, Report


def tables(report: Report) -> list[Table]:
    """All tables of a report, in reading order."""
    return [_models(report), _points(report), _scores(report)]


def findings(report: Report) -> list[str]:
    """What the numbers say, in sentences: the pair, the price of quality, and how energy fares."""
    return [
        _pair_finding(report),
        *_flops_finding(report),
        _gap_finding(report),
        _energy_finding(report),
    ]


def print_report(report: Report) -> None:
    """Tables and findings on stdout."""
    console = _console()
    console.print(Text(report.title, style="bold"))
    for table in tables(report):
        console.print(table)
    for sentence in findings(report):
        console.print(f"- {sentence}", highlight=False, soft_wrap=True, markup=False)


def to_markdown(report: Report) -> str:
    """The same as a Markdown page."""
    lines = [f"# {report.title}", ""]
    for table in tables(report):
        lines += [f"## {table.title}", "", markdown_table(table), ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in findings(report)), ""])


def markdown_table(table: Table) -> str:
    """A rich table as Markdown text."""
    buffer = StringIO()
    caption, table.title, table.caption = table.caption, None, None
    table.box, table.pad_edge = box.MARKDOWN, True
    Console(file=buffer, width=400, no_color=True).print(table)
    lines = [line.rstrip() for line in buffer.getvalue().splitlines() if line.strip()]
    return "\n".join([*lines, *(["", str(caption)] if caption else [])])


def _models(report: Report) -> Table:
    data = _summary(report)
    show, unit = Shown.of(report.task.quality_name), Unit.of(report.curve.cost.teacher_macs)
    metrics = [show.heading(name.replace("_", " ")) for name in report.task.table_metrics]
    latency = data["student"]["latency"]
    table = _table(
        f"Student, teacher and pair on {len(report.run):,} images",
        ["model", *metrics, "deferred %", unit.name, "ms mean", "p50", "p90", "p99", "G %"],
    )
    for side in ("student", "teacher", "joint"):
        row = data[side]
        times = row["latency"] or {}
        table.add_row(
            side if side in ("joint", row["name"]) else escape(f"{side} {row['name']}"),
            *(show.value(row["metrics"][metric]) for metric in report.task.table_metrics),
            number(row.get("deferral_rate"), 100),
            unit.value(row["macs"]),
            *(number(times.get(key)) for key in ("mean", "p50", "p90", "p99")),
            number(row.get("gap_recovered"), 100, 1),
        )
    caption = "G: share of the gap between student and teacher that is recovered"
    if latency:
        caption += f"; ms an image measured at batch {latency['batch_size']} on {latency['device']}"
    table.caption = caption
    return table


def _points(report: Report) -> Table:
    show, unit = Shown.of(report.task.quality_name), Unit.of(report.curve.cost.teacher_macs)
    quality, *lines = map(show.heading, (report.task.quality_name, "random", "oracle"))
    table = _table(
        f"Operating points of {report.curve.score}",
        ["deferred %", "threshold", quality, unit.name, "ms expected", "G %", *lines],
    )
    for point in report.table_points():
        index = round(point.deferral_rate * report.curve.images)
        table.add_row(
            number(point.deferral_rate, 100),
            f"{point.threshold:.6f}",
            show.value(point.quality),
            unit.value(point.macs),
            number(point.latency_ms),
            number(point.gap_recovered, 100, 1),
            show.value(report.curve.random[index]),
            show.value(report.curve.oracle[index]),
        )
    return table


def _scores(report: Report) -> Table:
    interval = f"{100 * report.intervals.confidence:g} % interval"
    table = _table(
        f"Deferral scores by area under {report.task.quality_name} against deferral rate",
        [
            "score",
            "area",
            interval,
            f"minus {report.intervals.reference}",
            interval,
            "G % at .1",
            "G % at .3",
        ],
    )
    areas = {name: curve.area() for name, curve in report.curves.items()}
    base = areas[report.intervals.reference]
    for name in sorted(areas, key=lambda name: -areas[name]):
        curve = report.curves[name]
        table.add_row(
            name,
            f"{areas[name]:.4f}",
            interval_text(report.intervals.area[name]),
            f"{areas[name] - base:+.4f}",
            interval_text(report.intervals.area_difference[name]),
            *(number(curve.gap_recovered_at(rate), 100, 1) for rate in (0.1, 0.3)),
        )
    data = _summary(report)
    table.caption = f"random deferral {data['random_area']:.4f}, oracle {data['oracle_area']:.4f}"
    return table


def _summary(report: Report) -> dict[str, Any]:
    return replace(report, printed=[], stats=report.stats[:0]).to_dict()


def _pair_finding(report: Report) -> str:
    data = _summary(report)
    joint, teacher, student = data["joint"], data["teacher"], data["student"]
    name, show = report.task.quality_name, Shown.of(report.task.quality_name)
    text = (
        f"At a deferral rate of {percent(joint['deferral_rate'])} the pair's {name} is "
        f"{show.text(joint['quality'])} (student {show.text(student['quality'])}, "
        f"teacher {show.text(teacher['quality'])})"
    )
    if joint["macs"] and teacher["macs"]:
        text += f" at {joint['macs'] / teacher['macs']:.2f} x the teacher's multiply-adds"
    if joint["latency_ms"] and teacher["latency_ms"]:
        text += (
            f" and {joint['latency_ms'] / teacher['latency_ms']:.2f} x its latency "
            f"(measured {joint['latency_ms']:.2f} ms, expected {joint['expected_latency_ms']:.2f} ms)"
        )
    return text + "."


def _flops_finding(report: Report) -> list[str]:
    data = _summary(report)
    flops = [data[side].get("ebjr_flops") for side in ("student", "teacher", "joint")]
    if None in flops:
        return []
    student, teacher, joint = (f"{count:.8g}" for count in flops)
    return [f"FLOPs as EBJR's code counts them: student {student}, teacher {teacher}, pair {joint}."]


def _gap_finding(report: Report) -> str:
    curve = report.curve
    if curve.gap_recovered(curve.student_quality) is None:
        return "The teacher is no better than the student here: there is no gap to recover."
    shares = [(f, curve.rate_for_gap(f)) for f in GAP_FRACTIONS]
    parts = ", ".join(f"{100 * f:g} % at {percent(rate)}" for f, rate in shares)
    return f"Share of the gap recovered by {curve.score}, at the least deferral rate: {parts}."


def _energy_finding(report: Report) -> str:
    if ENERGY not in report.curves or len(report.curves) < 2:
        return "Only one score was computed, so there is nothing to compare it with."
    areas = {name: curve.area() for name, curve in report.curves.items()}
    best = max(areas, key=lambda name: areas[name])
    if best == ENERGY:
        return f"{ENERGY} has the largest area of all scores, {areas[best]:.4f}."
    low, high = report.intervals.area_difference[best]
    verdict = "more than" if low > 0 or high < 0 else "within"
    return (
        f"{ENERGY} (area {areas[ENERGY]:.4f}) is not the best score: {best} has {areas[best]:.4f}, "
        f"a difference of {areas[best] - areas[ENERGY]:.4f} [{low:.4f}, {high:.4f}], {verdict} chance."
    )


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(
        title=Text(title),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        pad_edge=False,
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _console() -> Console:
    """The terminal's own width; wide where the output is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Plain rows of text as a table on stdout, the first column never broken."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    _console().print(table)


def print_calibration(answer: Mapping[str, Any]) -> None:
    """A calibrated threshold: the target, and both sets of images side by side."""
    table = _table(
        f"Threshold of {answer['score']} for {_target_text(answer['target'])}: {_threshold_text(answer)}",
        ["images", "count", "deferred %", "quality", "student", "teacher", "MMACs", "ms expected"],
    )
    for part in ("calibration", "report"):
        row = answer[part]
        table.add_row(
            part,
            f"{row['images']:,}",
            number(row["deferral_rate"], 100),
            *(number(row[key], digits=4) for key in ("quality", "student_quality", "teacher_quality")),
            Unit("MMACs", 1e6).value(row["macs"]),
            number(row["latency_ms"]),
        )
    _console().print(table)


def _threshold_text(answer: Mapping[str, Any]) -> str:
    """JSON has no infinity: an end threshold is None there, and the deferral rate tells which end."""
    if answer["threshold"] is not None:
        return str(answer["threshold"])
    return "inf (defer none)" if answer["calibration"]["deferral_rate"] == 0 else "-inf (defer all)"


def _target_text(target: Mapping[str, Any]) -> str:
    sure = f" with confidence {target['confidence']:g}" if target["confidence"] else ""
    return f"{target['kind']} {target['value']:g}{sure}"
