"""The figures of a report: what each shows, in its title, and which scores are worth a line."""

from typing import get_args

import numpy as np

from ebjr_det.core.cost import Budget
from ebjr_det.core.scores import ENERGY
from ebjr_det.core.tradeoff import TradeoffCurve
from ebjr_det.evaluation.report import Report
from ebjr_det.reporting.answer import figure_title
from ebjr_det.reporting.histogram_figure import Groups, HistogramFigure
from ebjr_det.reporting.notation import percent, plural
from ebjr_det.reporting.tradeoff_figure import TradeoffFigure


def known_costs(report: Report) -> list[Budget]:
    """The cost axes that there is something to draw on, the most telling one first."""
    cost = report.curve.cost
    costs = {"macs": cost.macs(0.0), "latency_ms": cost.latency_ms(0.0), "deferral_rate": 0.0}
    return sorted(
        (kind for kind in get_args(Budget) if costs[kind] is not None), key=lambda kind: [*costs].index(kind)
    )


def tradeoff_of(report: Report, kind: Budget) -> TradeoffFigure:
    """Quality against one cost."""
    analysis = report.analysis
    return TradeoffFigure(
        shown_curves(report),
        report.intervals,
        kind,
        report.chosen,
        report.task.quality_name,
        (analysis.student.name, analysis.teacher.name),
        figure_title(report, kind),
        analysis.live.mean if analysis.live and kind == "latency_ms" else None,
        report.rivals,
        analysis.title,
    )


def histogram_of(report: Report) -> HistogramFigure:
    """How the deciding score parts the images."""
    return HistogramFigure(
        report.decision.scores,
        groups_of(report),
        report.decision.threshold,
        report.curve.score,
        report.analysis.formula,
        _histogram_title(report),
        report.run.abstains,
        report.analysis.title,
    )


def _histogram_title(report: Report) -> str:
    """How often the teacher is needed on both sides of the threshold."""
    groups, defer = groups_of(report), report.decision.defer
    parts = [
        f"{percent(float(groups.needy[side].mean()))} of the {words.format(plural(int(side.sum()), 'image'))}"
        for side, words in ((defer, "{} sent to the teacher"), (~defer, "{} that the student keeps"))
        if side.any()
    ]
    return f"{groups.name[0].upper()}{groups.name[1:]} on {' and on '.join(parts)}"


def shown_curves(report: Report) -> list[TradeoffCurve]:
    """The deciding score and EBJR's own; where that one decides, the best other score that differs from it.

    The random score is drawn only where it decides: the random line is its expectation.
    """
    main = report.curve
    candidates = [curve for name, curve in report.curves.items() if name not in (main.score, "random")]
    published = [curve for curve in candidates if curve.score == ENERGY]
    ranked = published or sorted(candidates, key=lambda curve: -curve.area())
    return [main, *[curve for curve in ranked if not np.array_equal(curve.quality, main.quality)][:1]]


def groups_of(report: Report) -> Groups:
    """The images that need the teacher: those with a wrong answer, else those where its answer helps."""
    right = report.task.right(report.run.student)
    if right is not None:
        return Groups(~right, "student wrong", "student right")
    return Groups(report.reward > 0, "teacher helps", "teacher does not help")
