"""The tables and sentences of pairs under traffic."""

from ebjr_det.evaluation.hull import CONFIDENCE
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
    whole = models_table(report)
    kept = [0, 1, 2, *range(len(whole.columns) - 3, len(whole.columns))]
    rows = [[row[index] for index in kept] for row in whole.rows]
    return whole._replace(columns=[whole.columns[index] for index in kept], rows=rows, caption="")


def models_table(report: TrafficReport) -> Table:
    """Student, teacher and pair of each run under the stated mix."""
    show, unit = Shown.of(report.quality_name), unit_of(report)
    name = report.quality_name
    means = [] if report.mean else [f"mean {name}"]
    columns = ["run", "model", name, f"popular {name}", f"rest {name}", *means, f"unweighted {name}"]
    rows = [cells for run in report.runs for cells in _model_rows(run, show, unit, with_mean=not report.mean)]
    return Table(
        f"{name} of {plural(report.images, 'image')} weighted to {report.said}",
        [*columns[:2], *map(show.heading, columns[2:]), "deferred %", unit.name, "ms"],
        rows,
        _caption(report),
        labels=2,
    )


def _model_rows(run: JudgedRun, show: Shown, unit: Unit, *, with_mean: bool) -> list[list[str]]:
    row = run.to_dict()
    keys = ("overall", "popular", "rest", *(("mean",) * with_mean), "unweighted")
    return [
        [
            run.name,
            "pair" if side == "joint" else side,
            *(show.value(row[side][key]) for key in keys),
            share(run.at.deferral_rate, 2) if side == "joint" else NONE,
            unit.value(row[side]["macs"]),
            milliseconds(row[side]["latency_ms"]),
        ]
        for side in ("student", "teacher", "joint")
    ]


def _caption(report: TrafficReport) -> str:
    shown = report.composition
    pairs = (f"{run.name}: {run.analysis.student.name} + {run.analysis.teacher.name}" for run in report.runs)
    classes = f"{'; '.join(pairs)}; {int(shown.popular.sum())} of {len(shown.names)} classes are popular"
    if report.mean:
        return f"{classes}; unweighted: of the images as they are; {EXPECTED}"
    means = "classes weigh their share of the traffic; popular, rest and mean: these classes all alike"
    return f"{classes}; {report.quality_name}: {means}; unweighted: of the images as they are; {EXPECTED}"


def other_table(report: TrafficReport) -> Table | None:
    """How well students know what is not theirs, where any hands pictures on."""
    rows = [
        [run.name, *(share(value, 2) for value in vars(run.other).values())]
        for run in report.runs
        if run.other is not None
    ]
    if not rows:
        return None
    one = "that shows" if report.composition.single else "that shows any object of"
    caption = f"other: a picture {one} a class that is not popular; by weight in the traffic"
    columns = ["run", "recall %", "precision %", "F1 %", "popular pictures handed on %"]
    return Table("Pictures that a specialised student hands on as other", columns, rows, caption)


def margins_table(report: TrafficReport) -> Table | None:
    """The first pair minus each other one at its own multiply-adds, with intervals."""
    show, unit = Shown.of(report.quality_name), unit_of(report)
    rows = [
        [
            name,
            other.name,
            unit.value(one.macs),
            show.value(one.quality),
            show.value(one.other_quality) + "*" * misses(one),
            show.difference(one.margin),
            show.interval((one.low or 0.0, one.high or 0.0)),
        ]
        for name, found in report.margins
        for other, one in zip(report.runs[1:], found, strict=False)
    ]
    if not rows:
        return None
    first = report.runs[0].name
    columns = ["traffic", "other run", unit.name, show.heading(first), show.heading("other"), "margin"]
    within = "within each class" if report.composition.single else "over all of them"
    caption = (
        f"the other run's curve is read at the multiply-adds of {first}; interval: from "
        f"{plural(report.replicates, 'resample')} of images {within}"
    )
    if any(misses(one) for _, found in report.margins for one in found):
        caption += "; * it cannot cost that: the nearest that it can"
    interval = f"{100 * CONFIDENCE:g} % interval"
    title = f"Margin of {first} at equal multiply-adds"
    return Table(title, [*columns, interval], rows, caption, labels=2)


def shares_table(report: TrafficReport) -> Table:
    """Every run over the popular share, at its own threshold and at the first one's multiply-adds."""
    show, unit = Shown.of(report.quality_name), unit_of(report)
    first, *others = report.runs
    inexact = not report.composition.single
    columns = ["popular %", *(["shown %"] * inexact), "deferred %", unit.name, show.heading(first.name)]
    for other in others:
        columns += [show.heading(other.name), *(["at equal MACs", "margin"] * bool(report.shares[0].equal))]
    rows = []
    for row in report.shares:
        own, *rest = row.runs
        cells = [number(row.share, 100, 0), *([share(row.shown)] * inexact)]
        cells += [share(own.deferral_rate, 2), unit.value(own.macs), show.value(own.joint)]
        for index, at in enumerate(rest):
            cells.append(show.value(at.joint))
            for one in row.equal[index : index + 1]:
                cells += [show.value(one.other_quality) + "*" * misses(one), show.difference(one.margin)]
        rows.append(cells)
    caption = "every pair at its own threshold" + "; * its curve does not reach these multiply-adds" * any(
        misses(one) for row in report.shares for one in row.equal
    )
    return Table(f"{report.quality_name} of the pairs over the popular share", columns, rows, caption)


def traffic_findings(report: TrafficReport) -> list[str]:
    """What the tables say, in sentences."""
    first, *others = report.runs
    low, high = report.shares[0].share, report.shares[-1].share
    found = []
    for index, other in enumerate(others):
        if not report.shares[0].equal:
            found.append(f"At equal multiply-adds {first.name} and {other.name} cannot be compared: not all "
                         "runs know theirs.")  # fmt: skip
            continue
        start = report.ahead_from(index)
        where = "at no popular share" if start is None else f"from a popular share of {100 * start:.0f} % on"
        if start == low:
            where = f"at every popular share from {100 * low:.0f} %"
        found.append(
            f"At equal multiply-adds {first.name} is ahead of {other.name} {where} ({100 * low:.0f} to "
            f"{100 * high:.0f} % were tried). {_sure_words(report, index)}"
        )
    asked = float(report.traffic.mix.shares[report.composition.popular].sum())
    if abs(report.shown_share - asked) > CLOSE:
        found.append(
            f"The weighted images show {100 * report.shown_share:.1f} % popular objects where "
            f"{100 * asked:.1f} % were asked for: images of several classes cannot show every mix."
        )
    absent = [
        name
        for name, share, own in zip(
            report.composition.names, report.composition.share, report.composition.popular, strict=True
        )
        if own and share == 0
    ]
    if absent:
        found.append(f"No image shows the popular {', '.join(absent)}: it has no part in any share.")
    return found


def _sure_words(report: TrafficReport, index: int) -> str:
    """Where the first run's margin over the so many-th other one has an interval without 0."""
    level = f"{100 * CONFIDENCE:g} % interval, {plural(report.replicates, 'resample')}"
    ends = {name: (rows[index].low or 0.0, rows[index].high or 0.0) for name, rows in report.margins}
    sides = {"ahead": [name for name, (low, _) in ends.items() if low > 0]}
    sides["behind"] = [name for name, (_, high) in ends.items() if high < 0]
    parts = [f"{side} at {', '.join(names)}" for side, names in sides.items() if names]
    if not parts:
        return f"It may be chance: the margin's interval ({level}) includes 0 wherever it was computed."
    return f"The margin's interval ({level}) excludes 0: {'; '.join(parts)}."


def misses(one: EqualCost) -> bool:
    """Whether the other pair cannot cost what the first does."""
    return abs(one.other_macs - one.macs) > 1e-9 * one.macs


def unit_of(report: TrafficReport) -> Unit:
    """The unit in which all multiply-adds read well."""
    return Unit.of(max(run.pair.cost.teacher_macs or 0 for run in report.runs))
