"""The tables and sentences of pairs under traffic."""

from collections.abc import Sequence

from ebjr_det.evaluation.bootstrap import CONFIDENCE
from ebjr_det.evaluation.traffic.equal_cost import EqualCost
from ebjr_det.evaluation.traffic.report import JudgedRun, TrafficReport
from ebjr_det.reporting.notation import NONE, Shown, Unit, milliseconds, number, plural, share
from ebjr_det.reporting.table import Table

CLOSE = 0.002
"""Shares closer than this are written as one."""
EXPECTED = "ms: student + deferral rate x teacher"


def traffic_tables(report: TrafficReport) -> list[Table]:
    """All tables, in reading order."""
    optional = (other_table(report), margins_table(report))
    return [models_table(report), *filter(None, optional), shares_table(report)]


def summary_table(report: TrafficReport) -> Table:
    """The few columns to see first: what student, teacher and pair of each run are worth under the mix."""
    table = models_table(report)

    def first(cells: Sequence[str]) -> list[str]:
        return [*cells[:3], *cells[-3:]]  # run, model and quality; deferral rate and costs

    return table._replace(columns=first(table.columns), rows=list(map(first, table.rows)), caption="")


def models_table(report: TrafficReport) -> Table:
    """Student, teacher and pair of each run under the stated mix."""
    show, unit, name = Shown.of(report.quality_name), unit_of(report), report.quality_name
    keys = ["overall", "popular", "rest", *(["mean"] * (not report.mean)), "unweighted"]
    headings = [show.heading(name if key == "overall" else f"{key} {name}") for key in keys]
    rows = [cells for run in report.runs for cells in _model_rows(run, show, unit, keys)]
    return Table(
        f"{name} of {plural(report.images, 'image')} weighted to {report.title}",
        ["run", "model", *headings, "deferred %", unit.name, "ms"],
        rows,
        _caption(report),
        labels=2,
    )


def _model_rows(run: JudgedRun, show: Shown, unit: Unit, keys: list[str]) -> list[list[str]]:
    sides = run.sides()
    return [
        [
            run.name,
            "pair" if side == "joint" else side,
            *(show.value(sides[side][key]) for key in keys),
            share(run.at.deferral_rate, 2) if side == "joint" else NONE,
            unit.value(sides[side]["macs"]),
            milliseconds(sides[side]["latency_ms"]),
        ]
        for side in ("student", "teacher", "joint")
    ]


def _caption(report: TrafficReport) -> str:
    popular = report.composition.popular
    pairs = (f"{run.name}: {run.analysis.student.name} + {run.analysis.teacher.name}" for run in report.runs)
    text = f"{'; '.join(pairs)}; {int(popular.sum())} of {len(popular)} classes are popular"
    if not report.mean:
        text += f"; {report.quality_name}: classes weigh their share of the traffic; popular, rest and mean: "
        text += "these classes all alike"
    return f"{text}; unweighted: of the images as they are; {EXPECTED}"


def other_table(report: TrafficReport) -> Table | None:
    """How well students know what is not theirs, where any hands pictures on."""
    rows = [
        [run.name, *(share(value, 2) for value in vars(run.other).values())]
        for run in report.runs
        if run.other is not None
    ]
    if not rows:
        return None
    objects = "that shows" if report.composition.single else "that shows any object of"
    caption = f"other: a picture {objects} a class that is not popular; by weight in the traffic"
    columns = ["run", "recall %", "precision %", "F1 %", "popular pictures handed on %"]
    return Table("Pictures that a specialised student hands on as other", columns, rows, caption)


def margins_table(report: TrafficReport) -> Table | None:
    """The first pair minus each other one at its own multiply-adds, with intervals."""
    show, unit = Shown.of(report.quality_name), unit_of(report)
    first, *rivals = report.runs
    rows = [
        [
            title,
            run.name,
            unit.value(pair.macs),
            show.value(pair.quality),
            show.value(pair.other_quality) + "*" * misses(pair),
            show.difference(pair.margin),
            show.interval((pair.low or 0.0, pair.high or 0.0)),
        ]
        for title, pairs in report.margins.items()
        for run, pair in zip(rivals, pairs, strict=False)
    ]
    if not rows:
        return None
    columns = ["traffic", "other run", unit.name, show.heading(first.name), show.heading("other"), "margin"]
    within = "within each class" if report.composition.single else "over all of them"
    caption = (
        f"the other run's curve is read at the multiply-adds of {first.name}; interval: from "
        f"{plural(report.replicates, 'resample')} of images {within}"
    )
    if any(misses(pair) for pairs in report.margins.values() for pair in pairs):
        caption += "; * it cannot cost that: the nearest that it can"
    title = f"Margin of {first.name} at equal multiply-adds"
    return Table(title, [*columns, f"{100 * CONFIDENCE:g} % interval"], rows, caption, labels=2)


def shares_table(report: TrafficReport) -> Table:
    """Every run over the popular share, at its own threshold and at the first one's multiply-adds."""
    show, unit = Shown.of(report.quality_name), unit_of(report)
    names = [show.heading(run.name) for run in report.runs]
    inexact, equal = not report.composition.single, bool(report.shares[0].equal)
    columns = ["popular %", *(["shown %"] * inexact), "deferred %", unit.name, names[0]]
    for name in names[1:]:
        columns += [name, *(["at equal MACs", "margin"] * equal)]
    rows = []
    for row in report.shares:
        first = row.runs[0]
        cells = [number(row.share, 100, 0), *([share(row.shown)] * inexact)]
        cells += [share(first.deferral_rate, 2), unit.value(first.macs), show.value(first.joint)]
        for index, at in enumerate(row.runs[1:]):
            cells.append(show.value(at.joint))
            for pair in row.equal[index : index + 1]:
                cells += [show.value(pair.other_quality) + "*" * misses(pair), show.difference(pair.margin)]
        rows.append(cells)
    caption = "every pair at its own threshold"
    if any(misses(pair) for row in report.shares for pair in row.equal):
        caption += "; * its curve does not reach these multiply-adds"
    return Table(f"{report.quality_name} of the pairs over the popular share", columns, rows, caption)


def traffic_findings(report: TrafficReport) -> list[str]:
    """What the tables say, in sentences."""
    findings = [_ahead_words(report, index) for index in range(len(report.runs) - 1)]
    composition = report.composition
    stated = composition.popular_share(report.mix)
    if abs(report.shown_share - stated) > CLOSE:
        findings.append(
            f"The weighted images show {100 * report.shown_share:.1f} % popular objects where "
            f"{100 * stated:.1f} % were asked for: images of several classes cannot show every mix."
        )
    unseen = composition.popular & (composition.share == 0)
    if unseen.any():
        names = ", ".join(composition.names[index] for index in unseen.nonzero()[0])
        findings.append(f"No image shows the popular {names}: it has no part in any share.")
    return findings


def _ahead_words(report: TrafficReport, index: int) -> str:
    """From which popular share on the first run is ahead of an other one, and how sure that is."""
    first, rival = report.runs[0].name, report.runs[index + 1].name
    if not report.shares[0].equal:
        return f"At equal multiply-adds {first} and {rival} cannot be compared: not all runs know theirs."
    low, high, start = report.shares[0].share, report.shares[-1].share, report.ahead_from(index)
    begins = "at no popular share" if start is None else f"from a popular share of {100 * start:.0f} % on"
    if start == low:
        begins = f"at every popular share from {100 * low:.0f} %"
    level = f"{100 * CONFIDENCE:g} % interval, {plural(report.replicates, 'resample')}"
    pairs = {title: row[index] for title, row in report.margins.items()}
    sides = {"ahead": [title for title, pair in pairs.items() if (pair.low or 0) > 0]}
    sides["behind"] = [title for title, pair in pairs.items() if (pair.high or 0) < 0]
    parts = "; ".join(f"{side} at {', '.join(titles)}" for side, titles in sides.items() if titles)
    chance = f"It may be chance: the margin's interval ({level}) includes 0 wherever it was computed."
    return (
        f"At equal multiply-adds {first} is ahead of {rival} {begins} ({100 * low:.0f} to {100 * high:.0f} % "
        f"were tried). " + (f"The margin's interval ({level}) excludes 0: {parts}." if parts else chance)
    )


def misses(pair: EqualCost) -> bool:
    """Whether the other pair cannot cost what the first does."""
    return abs(pair.other_macs - pair.macs) > 1e-9 * pair.macs


def unit_of(report: TrafficReport) -> Unit:
    """The unit in which all multiply-adds read well."""
    return Unit.of(max(run.pair.cost.teacher_macs or 0 for run in report.runs))
