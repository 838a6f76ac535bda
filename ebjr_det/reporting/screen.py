"""Tables and sentences on stdout, in the terminal's own width."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from ebjr_det.reporting.findings import findings
from ebjr_det.reporting.notation import Unit, number
from ebjr_det.reporting.report import Report
from ebjr_det.reporting.table import Table
from ebjr_det.reporting.tables import tables


def print_report(report: Report) -> None:
    """Tables and findings."""
    console = _console()
    console.print(Text(report.analysis.title, style="bold"))
    for table in tables(report):
        print_table(table)
    for sentence in findings(report):
        console.print(f"- {sentence}", highlight=False, soft_wrap=True, markup=False)


def print_table(table: Table) -> None:
    """One table; cells that do not fit are folded."""
    drawn = _empty(table.title)
    drawn.caption = escape(table.caption) if table.caption else None
    for index, column in enumerate(table.columns):
        drawn.add_column(escape(column), justify="left" if index == 0 else "right", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(escape, row))
    _console().print(drawn)


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Words in columns, the first one never broken."""
    drawn = _empty(title)
    for index, column in enumerate(columns):
        drawn.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        drawn.add_row(*map(escape, row))
    _console().print(drawn)


def print_calibration(answer: Mapping[str, Any]) -> None:
    """A calibrated threshold: the target, and both sets of images side by side."""
    rows = []
    for part in ("calibration", "report"):
        row = answer[part]
        rows.append(
            [
                part,
                f"{row['images']:,}",
                number(row["deferral_rate"], 100),
                *(number(row[key], digits=4) for key in ("quality", "student_quality", "teacher_quality")),
                Unit("MMACs", 1e6).value(row["macs"]),
                number(row["latency_ms"]),
            ]
        )
    title = f"Threshold of {answer['score']} for {_target_text(answer['target'])}: {_threshold_text(answer)}"
    columns = ["images", "count", "deferred %", "quality", "student", "teacher", "MMACs", "ms expected"]
    print_table(Table(title, columns, rows))


def _threshold_text(answer: Mapping[str, Any]) -> str:
    """JSON has no infinity: an end threshold is None there, and the deferral rate tells which end."""
    if answer["threshold"] is not None:
        return str(answer["threshold"])
    return "inf (defer none)" if answer["calibration"]["deferral_rate"] == 0 else "-inf (defer all)"


def _target_text(target: Mapping[str, Any]) -> str:
    sure = f" with confidence {target['confidence']:g}" if target["confidence"] else ""
    return f"{target['kind']} {target['value']:g}{sure}"


def _empty(title: str) -> RichTable:
    return RichTable(
        title=Text(title),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        pad_edge=False,
    )


def _console() -> Console:
    """The terminal's own width; wide where the output is a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=132)
