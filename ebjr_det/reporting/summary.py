"""The one small table that stands under a report's verdict."""

from ebjr_det.evaluation.report import Report
from ebjr_det.reporting.notation import NONE, Shown, milliseconds, plural, share, threshold_text
from ebjr_det.reporting.table import Table
from ebjr_det.reporting.tables import side_name, unit_of

MIXED = {"macs": "MACs", "latency_ms": "ms"}


def summary_table(report: Report) -> Table:
    """Single models, the pair, and what a coin or hindsight would make of the pair's deferral rate."""
    show, unit = Shown.of(report.task.quality_name), unit_of(report)
    sides, curve, rate = report.sides(), report.curve, report.chosen.deferral_rate
    joint, index = sides["joint"], round(rate * curve.images)

    def row(name: str, quality: float, sent: float | None, macs: float | None, ms: float | None) -> list[str]:
        return [name, show.value(quality), share(sent, 2), unit.value(macs), milliseconds(ms)]

    def single(side: str) -> list[str]:
        facts = sides[side]
        times = dict(zip(("student", "teacher"), curve.cost.alone("latency_ms") or (None, None), strict=True))
        return row(side_name(side, facts["name"]), facts["quality"], None, facts["macs"], times[side])

    spent = joint["macs"], _pair_ms(report)
    rows = [single("student"), row("pair", joint["quality"], rate, *spent), single("teacher")]
    for rival in report.rivals:
        name = f"{rival.name}{' (published)' * rival.published}"
        rows.append(row(name, rival.quality, None, rival.macs, rival.latency_ms))
    for kind, (margin, *_) in report.margins.items():
        cost = (margin.cost, None) if kind == "macs" else (None, margin.cost)
        rows.append(
            row(f"single models mixed, same {MIXED[kind]}", margin.quality - margin.value, None, *cost)
        )
    rows.append(row("pair, random deferral", float(curve.random[index]), rate, *spent))
    rows.append(row("pair, oracle deferral", float(curve.oracle[index]), rate, *spent))
    columns = ["model", show.heading(report.task.quality_name), "deferred %", unit.name, "ms"]
    used = [i for i in range(len(columns)) if i < 2 or any(cells[i] != NONE for cells in rows)]
    rows = [[cells[i] for i in used] for cells in rows]
    title = f"{report.analysis.title}, on {plural(len(report.run), 'image')}"
    return Table(title, [columns[i] for i in used], rows, _caption(report))


def _caption(report: Report) -> str:
    """How the pair decides, and where the times are from."""
    latency, live = report.sides()["student"]["latency"], report.analysis.live
    decides = f"defers where {report.curve.score} > {threshold_text(report.decision.threshold)}"
    expected = "" if live is not None else ", of the pair student + deferral rate x teacher"
    if not report.curve.cost.alone("latency_ms"):
        return decides
    where = "as given" if latency is None else f"at batch {latency['batch_size']} on {latency['device']}"
    return f"{decides}; ms: mean an image, {where}{expected}"


def _pair_ms(report: Report) -> float | None:
    live = report.analysis.live
    return report.chosen.latency_ms if live is None else live.mean
