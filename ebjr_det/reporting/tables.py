"""The tables of a report: models, operating points, scores, classes."""

from collections.abc import Mapping
from typing import Any

from ebjr_det.core.router import ABSTAINED
from ebjr_det.evaluation.bootstrap import METHOD
from ebjr_det.evaluation.report import Report, area_of
from ebjr_det.reporting.notation import (
    Shown,
    Unit,
    interval_text,
    milliseconds,
    number,
    plural,
    share,
    threshold_text,
)
from ebjr_det.reporting.single_models import HULL, margin_cells, margin_columns
from ebjr_det.reporting.table import Table

COIN_TO_ORACLE = "coin to oracle %"


def side_name(side: str, name: str) -> str:
    """What a single model is called in a table."""
    return side if side == name else f"{side} {name}"


def unit_of(report: Report) -> Unit:
    """The unit in which all multiply-adds of a report read well: that of its largest model."""
    return Unit.of(max([report.curve.cost.teacher_macs or 0, *(rival.macs or 0 for rival in report.rivals)]))


def tables(report: Report) -> list[Table]:
    """All tables but that of the classes, in reading order."""
    return [models_table(report), *further_tables(report), points_table(report), scores_table(report)]


def further_tables(report: Report) -> list[Table]:
    """What only some reports have: other single models, how a fitted router's threshold fares, batches."""
    return [*rival_tables(report), *drift_tables(report), *batch_tables(report)]


def rival_tables(report: Report) -> list[Table]:
    """The other single models, and the pair's margin over the hull of them all, where there are such."""
    return [table for table in (references_table(report), margins_table(report)) if table is not None]


def drift_tables(report: Report) -> list[Table]:
    """Shares asked at the fit of a router and got on these pictures, where its own score decides."""
    use = report.analysis.router
    if use is None or use.drift is None:
        return []
    drift = use.drift
    rows = [[share(a), share(g)] for a, g in zip(drift.asked, drift.got, strict=True)]
    caption = (
        f"{use.score}, fitted on {plural(use.fitted_on, 'other picture')}; its values here and there differ "
        f"by {drift.distance:.3f} (Kolmogorov-Smirnov); 95 of 100 samples that did not move stay under "
        f"{drift.expected:.3f}"
    )
    return [
        Table(
            "Does the threshold survive? Deferral rates", ["asked at the fit %", "got here %"], rows, caption
        )
    ]


def batch_tables(report: Report) -> list[Table]:
    """Latency by the size of a batch, where more than one was measured."""
    cost, rate = report.curve.cost, report.chosen.deferral_rate
    if len(cost.by_batch) < 2:
        return []
    rows = []
    for size in sorted(cost.by_batch):
        here = cost.at_batch(size)
        times = (here.student_ms, here.teacher_ms, here.latency_ms(rate))
        rows.append([str(size), *map(milliseconds, times)])
    columns = ["batch", "student ms", "teacher ms", "joint ms expected"]
    caption, load = "the pair at the chosen point", report.analysis.batch_load
    if load is not None:
        caption += f"; further sizes measured {load.in_words}"
    return [Table("Latency an image by the size of a batch", columns, rows, caption)]


def models_table(report: Report) -> Table:
    """Student, teacher and the pair, at the chosen point and at a few others."""
    sides = report.sides()
    latency = sides["student"]["latency"]
    show, unit = Shown.of(report.task.quality_name), unit_of(report)
    times = {"ms mean": "mean", "p50": "p50", "p90": "p90"} if latency else {}

    def cells(metrics: Mapping[str, float], macs: float | None, ms: Mapping[str, str]) -> list[str]:
        numbers = [show.value(metrics[metric]) for metric in report.task.table_metrics]
        return [*numbers, unit.value(macs), *(ms.get(key, "-") for key in times.values())]

    rows = []
    for side, row in sides.items():
        name = side if side == "joint" else side_name(side, row["name"])
        measured = {key: milliseconds(row["latency"][key]) for key in times.values() if row["latency"]}
        shares = (share(row.get("deferral_rate"), 2), number(row.get("gap_recovered"), 100, 1))
        rows.append([name, *cells(row["metrics"], row["macs"], measured), *shares])
    for point, metrics in report.further_points():
        expected = {"mean": f"~{milliseconds(point.latency_ms)}"}
        shares = (share(point.deferral_rate, 2), number(point.gap_recovered, 100, 1))
        name = f"joint at {share(point.deferral_rate, 0)} %"
        rows.append([name, *cells(metrics, point.macs, expected), *shares])
    caption = "G: share of the gap between student and teacher that is recovered"
    if latency:
        caption += (
            f"; ms an image measured at batch {latency['batch_size']} on {latency['device']}"
            f"{_beside(report)}, "
            "~ expected as student + deferral rate x teacher"
        )
    heads = [show.heading(metric.replace("_", " ")) for metric in report.task.table_metrics]
    title = f"Student, teacher and pair on {plural(len(report.run), 'image')}"
    return Table(title, ["model", *heads, unit.name, *times, "deferred %", "G %"], rows, caption)


def _beside(report: Report) -> str:
    """The load during the measurement, where a run knows it."""
    live = report.analysis.live
    return "" if live is None or live.load is None else f", {live.load.in_words}"


def points_table(report: Report) -> Table:
    """Operating points of the deciding score beside random and oracle deferral."""
    show, unit = Shown.of(report.task.quality_name), unit_of(report)
    quality, *lines = map(show.heading, (report.task.quality_name, "random", "oracle"))
    rows = []
    for point in report.table_points():
        index = round(point.deferral_rate * report.curve.images)
        rows.append(
            [
                share(point.deferral_rate, 2),
                threshold_text(point.threshold),
                show.value(point.quality),
                unit.value(point.macs),
                milliseconds(point.latency_ms),
                number(point.gap_recovered, 100, 1),
                show.value(report.curve.random[index]),
                show.value(report.curve.oracle[index]),
            ]
        )
    columns = ["deferred %", "threshold", quality, unit.name, "ms expected", "G %", *lines]
    abstains, caption = report.run.abstains, ""
    if abstains is not None and abstains.any():
        caption = (
            f"{plural(int(abstains.sum()), 'image')} handed on as other: {ABSTAINED:,.0f} is added to their "
            "scores, so that they go to the teacher first; a threshold of that order is above all others"
        )
    return Table(f"Operating points of {report.curve.score}", columns, rows, caption)


def scores_table(report: Report) -> Table:
    """Every score by its area, with bootstrap intervals."""
    reference = report.intervals.reference
    interval = f"{100 * report.intervals.confidence:g} % interval"
    areas = {name: curve.area() for name, curve in report.curves.items()}
    way = report.coin_to_oracle()
    rows = [
        [
            name,
            f"{areas[name]:.4f}",
            interval_text(report.intervals.area[name]),
            number(areas[name] - areas[reference], digits=4, sign="+"),
            interval_text(report.intervals.area_difference[name]),
            *(number(report.curves[name].gap_recovered_at(rate), 100, 1) for rate in (0.1, 0.3)),
            number(way[name], 100, 1),
        ]
        for name in sorted(areas, key=lambda name: -areas[name])
    ]
    return Table(
        f"Deferral scores by area under {report.task.quality_name} against deferral rate",
        ["score", "area", interval, f"minus {reference}", interval, "G % at .1", "G % at .3", COIN_TO_ORACLE],
        rows,
        f"random deferral {area_of(report.curve.random):.4f}, oracle {area_of(report.curve.oracle):.4f}; "
        f"intervals: {METHOD}, {plural(report.analysis.replicates, 'resample')}, of one score alone: the "
        "best of many leads by chance too",
    )


def references_table(report: Report) -> Table | None:
    """The models that the pair is compared with, and where their figures come from."""
    if not report.rivals:
        return None
    show, unit = Shown.of(report.task.quality_name), unit_of(report)
    rows = [
        [
            other.name,
            show.value(other.quality),
            unit.value(other.macs),
            milliseconds(other.latency_ms),
            f"published {other.source}".strip() if other.published else "measured on these images",
        ]
        for other in report.rivals
    ]
    columns = ["model", show.heading(report.task.quality_name), unit.name, "ms", "source"]
    published = any(other.published for other in report.rivals)
    caption = "published figures were not measured here: they stay the same on every resample"
    return Table("Single models to compare with", columns, rows, caption * published)


def margins_table(report: Report) -> Table | None:
    """The pair minus the hull of single models at equal cost, at the chosen point and at a few others."""
    if not report.margins:
        return None
    show, unit = Shown.of(report.task.quality_name), unit_of(report)
    rows = [
        [share(margin.deferral_rate, 2), *margin_cells(kind, margin, show, unit)]
        for kind, found in report.margins.items()
        for margin in found
    ]
    columns = ["deferred %", *margin_columns(report.task.quality_name, report.intervals.confidence)]
    caption = f"hull: {HULL}; the chosen point comes first; interval: from {_resamples(report)}"
    title = "Margin of the pair over single models mixed at random, their hull"
    return Table(title, columns, rows, caption, labels=2)


def classes_table(report: Report) -> Table | None:
    """The quality of every class at the chosen point, where classes have names and numbers."""
    if report.by_class is None or not report.analysis.class_names:
        return None
    name, show = report.task.quality_name, Shown.of(report.task.quality_name)
    rows = [
        [
            row["class"],
            *(show.value(row[side][name]) for side in report.metrics),
            show.difference(_gain(row, name)),
        ]
        for row in report.class_rows()
    ]
    return Table(
        f"{name} by class at the chosen point",
        ["class", *report.metrics, "joint minus student"],
        rows,
        "- : the images show no object of this class",
    )


def _resamples(report: Report) -> str:
    return f"{plural(report.analysis.replicates, 'resample')} of the images"


def _gain(row: Mapping[str, Any], name: str) -> float | None:
    joint, student = row["joint"][name], row["student"][name]
    return None if joint is None or student is None else joint - student
