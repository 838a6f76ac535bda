"""The tables of a report: summary, models, operating points, scores, classes."""

from collections.abc import Mapping
from typing import NamedTuple

from ebjr_det.core.cost import Cost
from ebjr_det.core.router import ABSTAINED
from ebjr_det.evaluation.bootstrap import METHOD
from ebjr_det.evaluation.hull import Margin
from ebjr_det.evaluation.report import Report, area_of, gap_recovered_at
from ebjr_det.reporting.notation import (
    NONE,
    Shown,
    Unit,
    interval_text,
    milliseconds,
    number,
    plural,
    share,
    threshold_text,
)
from ebjr_det.reporting.table import Table

COIN_TO_ORACLE = "coin to oracle %"
HULL = "what mixing single models at random reaches at that cost"
MIXED: dict[Cost, str] = {"macs": "MACs", "latency_ms": "ms"}


class Cells(NamedTuple):
    """How the numbers of one table are written: qualities by name, multiply-adds in one unit."""

    name: str
    show: Shown
    unit: Unit

    @classmethod
    def of(cls, report: Report) -> "Cells":
        """The unit is that in which all multiply-adds of a report read well: of its largest model."""
        return cls(report.task.quality_name, Shown.of(report.task.quality_name), unit_of(report))

    @property
    def heading(self) -> str:
        """The heading over qualities."""
        return self.show.heading(self.name)

    def costs(self, macs: float | None, ms: float | None) -> tuple[str, str]:
        """What an image costs, in two cells."""
        return self.unit.value(macs), milliseconds(ms)

    def margin(self, kind: Cost, margin: Margin) -> list[str]:
        """A margin: the cost, both qualities at it, their difference and its interval."""
        return [
            self.unit.text(margin.cost) if kind == "macs" else f"{milliseconds(margin.cost)} ms",
            *map(self.show.value, (margin.quality, margin.quality - margin.value)),
            self.show.difference(margin.value),
            self.show.interval(margin.interval),
        ]

    def margin_headings(self, confidence: float) -> list[str]:
        """The headings over the cells of `margin`."""
        names = map(self.show.heading, (self.name, "hull", "margin"))
        return ["at equal cost", *names, f"{100 * confidence:g} % interval"]


def unit_of(report: Report) -> Unit:
    """The unit in which all multiply-adds of a report read well: that of its largest model."""
    return Unit.of(max([report.curve.cost.teacher_macs or 0, *(rival.macs or 0 for rival in report.rivals)]))


def side_name(side: str, name: str) -> str:
    """What a single model is called in a table."""
    return side if side == name else f"{side} {name}"


def tables(report: Report) -> list[Table]:
    """All tables but that of the classes, in reading order."""
    return [models_table(report), *further_tables(report), points_table(report), scores_table(report)]


def further_tables(report: Report) -> list[Table]:
    """What only some reports have: other single models, how a fitted router's threshold fares, batches."""
    makers = references_table, margins_table, drift_table, batch_table
    return [table for table in (make(report) for make in makers) if table is not None]


def summary_table(report: Report) -> Table:
    """Single models, the pair, and what a coin or hindsight would make of the pair's deferral rate."""
    cells, curve, rate = Cells.of(report), report.curve, report.chosen.deferral_rate
    live, sides, index = report.analysis.live, report.sides(), round(rate * report.curve.images)
    spent = sides["joint"]["macs"], report.chosen.latency_ms if live is None else live.mean

    def row(name: str, quality: float, sent: float | None, macs: float | None, ms: float | None) -> list[str]:
        return [name, cells.show.value(quality), share(sent, 2), *cells.costs(macs, ms)]

    times = curve.cost.alone("latency_ms") or (None, None)
    student, teacher = (
        row(side_name(side, sides[side]["name"]), sides[side]["quality"], None, sides[side]["macs"], ms)
        for side, ms in zip(("student", "teacher"), times, strict=True)
    )
    rows = [student, row("pair", sides["joint"]["quality"], rate, *spent), teacher]
    for rival in report.rivals:
        name = f"{rival.name}{' (published)' * rival.published}"
        rows.append(row(name, rival.quality, None, rival.macs, rival.latency_ms))
    for kind, (margin, *_) in report.margins.items():
        name, cost = f"single models mixed, same {MIXED[kind]}", [margin.cost, None]
        rows.append(row(name, margin.quality - margin.value, None, *(cost if kind == "macs" else cost[::-1])))
    rows += [row("pair, EBJR's own score", p.quality, rate, *spent) for p, _ in report.published_points()]
    rows.append(row("pair, random deferral", float(curve.random[index]), rate, *spent))
    rows.append(row("pair, oracle deferral", float(curve.oracle[index]), rate, *spent))
    columns = ["model", cells.heading, "deferred %", cells.unit.name, "ms"]
    used = [i for i in range(len(columns)) if i < 2 or any(row[i] != NONE for row in rows)]
    title = f"{report.analysis.title}, on {plural(len(report.run), 'image')}"
    return Table(title, columns, rows, _decision_caption(report)).select(used)


def _decision_caption(report: Report) -> str:
    """How the pair decides, and where the times are from."""
    latency = report.sides()["student"]["latency"]
    decides = f"defers where {report.curve.score} > {threshold_text(report.decision.threshold)}"
    if not report.curve.cost.alone("latency_ms"):
        return decides
    expected = "" if report.analysis.live is not None else ", of the pair student + deferral rate x teacher"
    source = "as given" if latency is None else f"at batch {latency['batch_size']} on {latency['device']}"
    return f"{decides}; ms: mean an image, {source}{expected}"


def models_table(report: Report) -> Table:
    """Student, teacher and the pair, at the chosen point and at a few others."""
    sides, cells = report.sides(), Cells.of(report)
    latency, metrics = sides["student"]["latency"], report.task.table_metrics
    times = {"ms mean": "mean", "p50": "p50", "p90": "p90"} if latency else {}

    def row(
        name: str, values: Mapping[str, float], macs: float | None, ms: Mapping[str, str],
        rate: float | None, gap: float | None,
    ) -> list[str]:  # fmt: skip
        qualities = [cells.show.value(values[metric]) for metric in metrics]
        costs = [cells.unit.value(macs), *(ms.get(key, NONE) for key in times.values())]
        return [name, *qualities, *costs, share(rate, 2), number(gap, 100, 1)]

    rows = []
    for side, facts in sides.items():
        name = side if side == "joint" else side_name(side, facts["name"])
        measured = {key: milliseconds(facts["latency"][key]) for key in times.values() if facts["latency"]}
        shares = facts.get("deferral_rate"), facts.get("gap_recovered")
        rows.append(row(name, facts["metrics"], facts["macs"], measured, *shares))
    points = [("joint, EBJR's own score", *entry) for entry in report.published_points()]
    points += [
        (f"joint at {share(entry[0].deferral_rate, 0)} %", *entry) for entry in report.further_points()
    ]
    for name, point, values in points:
        ms = {"mean": f"~{milliseconds(point.latency_ms)}"}
        rows.append(row(name, values, point.macs, ms, point.deferral_rate, point.gap_recovered))
    caption = "G: share of the gap between student and teacher that is recovered"
    if latency:
        live = report.analysis.live
        load = "" if live is None or live.load is None else f", {live.load.in_words}"
        caption += (
            f"; ms an image measured at batch {latency['batch_size']} on {latency['device']}{load}, "
            "~ expected as student + deferral rate x teacher"
        )
    headings = [cells.show.heading(metric.replace("_", " ")) for metric in metrics]
    title = f"Student, teacher and pair on {plural(len(report.run), 'image')}"
    return Table(title, ["model", *headings, cells.unit.name, *times, "deferred %", "G %"], rows, caption)


def points_table(report: Report) -> Table:
    """Operating points of the deciding score beside random and oracle deferral."""
    cells, curve, rows = Cells.of(report), report.curve, []
    for point in report.table_points():
        index = round(point.deferral_rate * curve.images)
        rows.append(
            [
                share(point.deferral_rate, 2),
                threshold_text(point.threshold),
                cells.show.value(point.quality),
                *cells.costs(point.macs, point.latency_ms),
                number(point.gap_recovered, 100, 1),
                *map(cells.show.value, (curve.random[index], curve.oracle[index])),
            ]
        )
    quality, *lines = map(cells.show.heading, (cells.name, "random", "oracle"))
    columns = ["deferred %", "threshold", quality, cells.unit.name, "ms expected", "G %", *lines]
    abstains, caption = report.run.abstains, ""
    if abstains is not None and abstains.any():
        caption = (
            f"{plural(int(abstains.sum()), 'image')} handed on as other: {ABSTAINED:,.0f} is added to their "
            "scores, so that they go to the teacher first; a threshold of that order is above all others"
        )
    return Table(f"Operating points of {curve.score}", columns, rows, caption)


def scores_table(report: Report) -> Table:
    """Every score by its area, with bootstrap intervals."""
    intervals, curves, shares = report.intervals, report.curves, report.coin_to_oracle()
    areas, reference = {name: curve.area() for name, curve in curves.items()}, intervals.reference
    rows = [
        [
            name,
            f"{area:.4f}",
            interval_text(intervals.area[name]),
            number(area - areas[reference], digits=4, sign="+"),
            interval_text(intervals.area_difference[name]),
            *(number(gap_recovered_at(curves[name], rate), 100, 1) for rate in (0.1, 0.3)),
            number(shares[name], 100, 1),
        ]
        for name, area in sorted(areas.items(), key=lambda item: -item[1])
    ]
    level = f"{100 * intervals.confidence:g} % interval"
    return Table(
        f"Deferral scores by area under {report.task.quality_name} against deferral rate",
        ["score", "area", level, f"minus {reference}", level, "G % at .1", "G % at .3", COIN_TO_ORACLE],
        rows,
        f"random deferral {area_of(report.curve.random):.4f}, oracle {area_of(report.curve.oracle):.4f}; "
        f"intervals: {METHOD}, {plural(report.analysis.replicates, 'resample')}, of one score alone: the "
        "best of many leads by chance too",
    )


def references_table(report: Report) -> Table | None:
    """The models that the pair is compared with, and where their figures come from."""
    cells = Cells.of(report)
    rows = [
        [
            model.name,
            cells.show.value(model.quality),
            *cells.costs(model.macs, model.latency_ms),
            f"published {model.source}".strip() if model.published else "measured on these images",
        ]
        for model in report.rivals
    ]
    columns = ["model", cells.heading, cells.unit.name, "ms", "source"]
    published = any(model.published for model in report.rivals)
    caption = "published figures were not measured here: they stay the same on every resample"
    return Table("Single models to compare with", columns, rows, caption * published) if rows else None


def margins_table(report: Report) -> Table | None:
    """The pair minus the hull of single models at equal cost, at the chosen point and at a few others."""
    cells = Cells.of(report)
    rows = [
        [share(margin.deferral_rate, 2), *cells.margin(kind, margin)]
        for kind, margins in report.margins.items()
        for margin in margins
    ]
    resamples = plural(report.analysis.replicates, "resample")
    caption = f"hull: {HULL}; the chosen point comes first; interval: from {resamples} of the images"
    columns = ["deferred %", *cells.margin_headings(report.intervals.confidence)]
    title = "Margin of the pair over single models mixed at random, their hull"
    return Table(title, columns, rows, caption, labels=2) if rows else None


def drift_table(report: Report) -> Table | None:
    """Shares asked at the fit of a router and got on these pictures, where its own score decides."""
    use = report.analysis.router
    if use is None or use.drift is None:
        return None
    drift = use.drift
    rows = [list(map(share, shares)) for shares in zip(drift.asked, drift.got, strict=True)]
    caption = (
        f"{use.score}, fitted on {plural(use.fitted_on, 'other picture')}; its values here and there differ "
        f"by {drift.distance:.3f} (Kolmogorov-Smirnov); 95 of 100 samples that did not move stay under "
        f"{drift.expected:.3f}"
    )
    title = "Does the threshold survive? Deferral rates"
    return Table(title, ["asked at the fit %", "got here %"], rows, caption)


def batch_table(report: Report) -> Table | None:
    """Latency by the size of a batch, where more than one was measured."""
    cost, rate, load = report.curve.cost, report.chosen.deferral_rate, report.analysis.batch_load
    rows = []
    for size in sorted(cost.by_batch):
        batch = cost.at_batch(size)
        times = batch.student_ms, batch.teacher_ms, batch.latency_ms(rate)
        rows.append([str(size), *map(milliseconds, times)])
    columns = ["batch", "student ms", "teacher ms", "joint ms expected"]
    caption = "the pair at the chosen point"
    if load is not None:
        caption += f"; further sizes measured {load.in_words}"
    return Table("Latency an image by the size of a batch", columns, rows, caption) if len(rows) > 1 else None


def classes_table(report: Report) -> Table | None:
    """The quality of every class at the chosen point, where classes have names and numbers."""
    if report.by_class is None or not report.analysis.class_names:
        return None
    name, show = report.task.quality_name, Shown.of(report.task.quality_name)
    rows = []
    for row in report.class_rows():
        values = {side: row[side][name] for side in report.metrics}
        joint, student = values["joint"], values["student"]
        gain = None if joint is None or student is None else joint - student
        rows.append([row["class"], *map(show.value, values.values()), show.difference(gain)])
    return Table(
        f"{name} by class at the chosen point",
        ["class", *report.metrics, "joint minus student"],
        rows,
        "- : the images show no object of this class",
    )
