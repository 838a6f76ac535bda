"""What placements of a router come to, in sentences: does one in front pay, and how sure is that."""

from collections.abc import Iterator, Sequence

from ebjr_det.core.cost import Cost
from ebjr_det.evaluation.bootstrap import CONFIDENCE
from ebjr_det.evaluation.placement.choice import Placement
from ebjr_det.evaluation.placement.report import PlacementReport, Row
from ebjr_det.evaluation.units import cost_text
from ebjr_det.reporting.answer import CURRENCIES
from ebjr_det.reporting.notation import Shown, Unit, plural, share
from ebjr_det.routing.file import FRONT

NAMES: dict[Placement, str] = {"behind": "behind", "front": "in front", "both": "both"}


def unit_of(report: PlacementReport) -> Unit:
    """The unit in which all multiply-adds of a report read well."""
    return Unit.of(report.analysis.costs["macs"].teacher if "macs" in report.analysis.costs else None)


def verdict(report: PlacementReport) -> str:
    """In each currency, whether a router in front of the student pays, alone or beside the one behind it.

    It does at a budget where that placement was chosen and better by more than chance, all budgets at once.
    """
    paying = [kind for kind, rows in report.table.items() if any(row.pays for row in rows)]
    vain = [kind for kind in report.table if kind not in paying]
    parts = [judgement(report, kind) for kind in paying]
    return " ".join([*parts, *([_vain(report, vain)] if vain else [])])


def judgement(report: PlacementReport, kind: Cost) -> str:
    """The verdict in one currency."""
    rows, unit, show = report.table[kind], unit_of(report), Shown.of(report.task.quality_name)
    paying = [row for row in rows if row.pays]
    if not paying:
        return _vain(report, [kind])
    best = max(paying, key=lambda row: row.gain.value)
    gained = f"{show.points(best.gain.value)} {show.interval(best.gain.interval)}"
    subject = "a router in both places" if best.chosen == "both" else "one in front"
    return (
        f"A router in front of the student pays in {CURRENCIES[kind]} at {len(paying)} of "
        f"{plural(len(rows), 'budget')}: {subject} is {gained} above one behind the student at "
        f"{cost_text(kind, best.budget, unit)}."
    )


def _vain(report: PlacementReport, kinds: Sequence[Cost]) -> str:
    """That a front pays in none of some currencies."""
    currencies = " or ".join(CURRENCIES[kind] for kind in kinds)
    return (
        f"A router in front of the student does not pay here in {currencies}: at none of "
        f"{plural(len(report.table[kinds[0]]), 'budget')} is it, alone or in both places, above one behind "
        "the student by more than chance."
    )


def sentences(report: PlacementReport) -> Iterator[str]:
    """What each part costs, how well the front predicts, what was chosen, and how far it is to be trusted."""
    analysis, unit, show = report.analysis, unit_of(report), Shown.of(report.task.quality_name)
    for kind, costs in analysis.costs.items():
        texts = [cost_text(kind, cost, unit) for cost in costs]
        saved = (costs.student - costs.front) / costs.teacher
        yield (
            f"The front costs {texts[0]} an image, {share(costs.front / costs.student)} % of the student's "
            f"{texts[1]}; the teacher {texts[2]}. "
            + (
                f"All that it can save is the student, {share(saved)} % of the teacher's cost where every "
                "image is sent on."
                if saved > 0
                else "It costs no less than the student that it could save."
            )
        )
    front, behind = report.scores[FRONT], report.scores[analysis.score]
    yield (
        f"It predicts what the teacher adds with a correlation of {front.correlation:.2f}, the student's "
        f"{analysis.score} with {behind.correlation:.2f}."
    )
    for kind, ceiling in report.ceilings.items():
        yield (
            f"A front that scored as well as {analysis.score} does would add "
            f"{show.difference(ceiling)} in {CURRENCIES[kind]} at the best budget."
            if ceiling > 0
            else f"Not even a front that scored as well as {analysis.score} does would add anything in "
            f"{CURRENCIES[kind]}."
        )
    for kind, rows in report.table.items():
        yield f"Chosen in {CURRENCIES[kind]}: {_counted(rows)}."
    passing = [NAMES[placement] for placement, peak in report.peaks.items() if peak.over_teacher.low > 0]
    best = max(report.peaks.values(), key=lambda peak: peak.over_teacher.value)
    yield (
        f"Above the teacher alone by more than chance: {', '.join(passing) or 'none'}; the best is "
        f"{NAMES[best.placed.placement]}, {show.gain(best.over_teacher)}."
    )
    choosing = plural(report.calibrating, "image")
    yield (
        f"The front was fitted on {plural(analysis.fitted_on, 'image')}, of which {analysis.left_out} of "
        f"this run were left out; placements and thresholds were chosen on {choosing}; "
        f"every number is of {plural(report.images, 'other image')}, in brackets {100 * CONFIDENCE:g} % "
        f"intervals from {plural(analysis.replicates, 'resample')} of them."
    )
    loads = [latency.load for latency in analysis.times.values() if latency.load is not None]
    if loads:
        yield f"Times were measured side by side {loads[0].in_words}."


def _counted(rows: Sequence[Row]) -> str:
    names = [NAMES[row.chosen] for row in rows]
    return ", ".join(f"{name} at {names.count(name)}" for name in dict.fromkeys(names))
