"""What the page's slider walks through: operating points, each already written as tables write it.

The page's script computes none of this; it shows a column's entry, and moves the mark to x and y.
"""

from typing import Final, NamedTuple

import numpy as np

from ebjr_det.core.tradeoff import OperatingPoint
from ebjr_det.evaluation.report import Report
from ebjr_det.reporting.notation import Shown, known, milliseconds, percent, share, threshold_text
from ebjr_det.reporting.tables import unit_of
from ebjr_det.reporting.tradeoff_figure import Scale

MOST_STOPS: Final = 1001
"""Operating points that a page holds; of more every so-maniest is taken, the chosen one always."""
Column = list[str] | list[float]


class Slider(NamedTuple):
    """Operating points as columns of equal length, from the student alone to the teacher's answers on all.

    Attributes:
        columns: texts by what they tell, those that are known; `x` and `y`, where the mark stands; `ms`.
        chosen: index of the report's own point.
        points: how many operating points there are, of which the columns hold some or all.
    """

    columns: dict[str, Column]
    chosen: int
    points: int

    @classmethod
    def of(cls, report: Report, scale: Scale) -> "Slider":
        """The points of a report on the cost axis `scale` of its figure."""
        curve = report.curve
        chosen = int(np.searchsorted(curve.deferred, report.decision.defer.sum()))
        count = len(curve.deferred)
        even = np.linspace(0, count - 1, min(count, MOST_STOPS)).round().astype(int)
        indices = np.union1d(even, [chosen])
        points = [curve.point(index) for index in indices]
        points[(position := int(np.searchsorted(indices, chosen)))] = report.chosen
        live = report.analysis.live
        times = [point.latency_ms for point in points]
        if live is not None:
            times[position] = live.mean
        columns = _texts(report, points) | _times(report, times, position)
        height = Shown.of(report.task.quality_name).height
        columns["x"] = [round(scale.x(point.deferral_rate), 6) for point in points]
        columns["y"] = [round(height(point.quality), 6) for point in points]
        return cls(columns, position, count)


def _texts(report: Report, points: list[OperatingPoint]) -> dict[str, Column]:
    """What is known at every point but its time."""
    show, unit, cost = Shown.of(report.task.quality_name), unit_of(report), report.curve.cost
    teacher = report.curve.teacher_quality
    columns: dict[str, Column] = {
        "rate": [percent(point.deferral_rate) for point in points],
        "quality": [show.text(point.quality) for point in points],
        "threshold": [threshold_text(point.threshold) for point in points],
        "exact": [repr(point.threshold) for point in points],
    }
    if teacher > 0:
        columns["kept"] = [f"{share(point.quality / teacher)} %" for point in points]
    if cost.alone("macs") is not None:
        columns["macs"] = [unit.text(point.macs) for point in points]
        if cost.teacher_macs:
            shares = [(point.macs or 0) / cost.teacher_macs for point in points]
            columns["macs_share"] = [f"{share(part)} %" for part in shares]
    return columns


def _times(report: Report, times: list[float | None], measured: int) -> dict[str, Column]:
    """Milliseconds at every point: expected ones, and at the report's own point what was measured live."""
    teacher = report.curve.cost.teacher_ms
    values = [time for time in times if known(time)]
    if len(values) < len(times):
        return {}
    live = report.analysis.live is not None
    texts = [
        f"{'' if live and index == measured else '~'}{milliseconds(value)} ms"
        for index, value in enumerate(values)
    ]
    columns: dict[str, Column] = {"time": texts, "ms": values}
    if teacher:
        columns["time_share"] = [f"{share(value / teacher)} %" for value in values]
    return columns
