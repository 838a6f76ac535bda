"""The tables of placements: by budget, the best quality of each, costs, scores."""

from ebjr_det.core.cost import Cost
from ebjr_det.evaluation.placement.report import PlacementReport
from ebjr_det.evaluation.units import cost_text
from ebjr_det.reporting.answer import CURRENCIES
from ebjr_det.reporting.notation import NONE, Shown, number, share, threshold_text
from ebjr_det.reporting.placement.words import NAMES, unit_of
from ebjr_det.reporting.table import Table


def budget_table(report: PlacementReport, kind: Cost) -> Table:
    """One row a budget: what was chosen, the quality of each placement, what the others are above behind."""
    show, unit = Shown.of(report.task.quality_name), unit_of(report)
    rows = []
    for row in report.table[kind]:
        cells = [cost_text(kind, row.budget, unit), NAMES[row.chosen]]
        cells += [show.value(row.best[p].quality) if p in row.best else NONE for p in NAMES]
        cells += [show.gain(row.gains[p]) if p in row.gains else NONE for p in NAMES if p != "behind"]
        rows.append([*cells, NONE if row.chosen == "behind" else show.gain(row.gain)])
    columns = ["at most", "chosen", *NAMES.values()]
    columns += ["in front - behind", "both - behind", "chosen, all at once"]
    caption = (
        f"{show.heading(report.task.quality_name)} of each placement at its own thresholds for the budget; "
        "differences to a router behind the student that costs as much on the reported images, with their "
        "own intervals, the last with those that hold for all budgets at once"
    )
    return Table(f"Placements by budget of {CURRENCIES[kind]}", columns, rows, caption, labels=2)


def points_table(report: PlacementReport, kind: Cost) -> Table:
    """One row a budget: of what was chosen thresholds, who sends which share, and the cost."""
    unit, costs = unit_of(report), report.analysis.costs[kind]
    rows = []
    for row in report.table[kind]:
        placed = row.best[row.chosen]
        limits = (placed.front_threshold, placed.threshold)
        rows.append(
            [
                cost_text(kind, row.budget, unit),
                NAMES[row.chosen],
                *(NONE if limit is None else threshold_text(limit) for limit in limits),
                share(placed.sent),
                share(placed.deferred),
                cost_text(kind, placed.cost(costs), unit),
            ]
        )
    caption = "beside a router behind the student alone, the front is a coin, which sends images on at random"
    columns = ["at most", "chosen", "front's threshold", "student's threshold"]
    columns += ["front sends %", "student %", "costs"]
    return Table(f"What was chosen by budget of {CURRENCIES[kind]}", columns, rows, caption, labels=2)


def peaks_table(report: PlacementReport) -> Table:
    """The best quality of each placement at any cost, beside the teacher's."""
    show = Shown.of(report.task.quality_name)
    rows = [
        [
            NAMES[placement],
            show.value(peak.placed.quality),
            share(peak.placed.sent + peak.placed.deferred),
            show.gain(peak.over_teacher),
        ]
        for placement, peak in report.peaks.items()
    ]
    caption = (
        f"the teacher alone: {show.text(report.teacher_quality)}; the intervals hold for all three at once"
    )
    columns = ["placement", show.heading(report.task.quality_name), "sent on %", "above the teacher alone"]
    return Table("The best quality at any cost", columns, rows, caption)


def parts_table(report: PlacementReport) -> Table:
    """What front, student and teacher cost and are worth alone."""
    show, unit, analysis = Shown.of(report.task.quality_name), unit_of(report), report.analysis
    macs, qualities = analysis.costs.get("macs"), (None, report.student_quality, report.teacher_quality)
    rows = []
    for index, (name, quality) in enumerate(zip(("front", "student", "teacher"), qualities, strict=True)):
        time = analysis.times.get(name)
        of_time = [NONE] * 2 if time is None else [number(time.mean), number(time.p50)]
        rows.append([name, unit.value(None if macs is None else macs[index]), *of_time, show.value(quality)])
    return Table(
        "The parts", ["", unit.name, "ms, mean", "ms, half", show.heading(report.task.quality_name)], rows
    )


def scores_table(report: PlacementReport) -> Table:
    """What the scores are worth on the reported images."""
    show = Shown.of(report.task.quality_name)
    rows = [
        [name, show.value(worth.area), NONE if worth.correlation is None else f"{worth.correlation:.3f}"]
        for name, worth in report.scores.items()
    ]
    caption = "area: mean quality over all shares sent on, whatever they cost"
    return Table("The scores", ["score", "area", "correlation with the gain"], rows, caption)


def tables(report: PlacementReport) -> list[Table]:
    """All of them, those that answer first."""
    by_budget = [make(report, kind) for kind in report.table for make in (budget_table, points_table)]
    return [*by_budget, peaks_table(report), parts_table(report), scores_table(report)]
