"""How the single models that a pair has to beat are called, and margins over them in tables."""

from collections.abc import Sequence

from ebjr_det.core.tradeoff import Cost
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.hull import Margin, SingleModel
from ebjr_det.reporting.notation import Shown, Unit, milliseconds

HULL = "what mixing single models at random reaches at that cost"


def margin_columns(quality_name: str, confidence: float) -> list[str]:
    """The headings over `margin_cells`."""
    names = map(Shown.of(quality_name).heading, (quality_name, "hull", "margin"))
    return ["at equal cost", *names, f"{100 * confidence:g} % interval"]


def margin_cells(kind: Cost, margin: Margin, show: Shown, unit: Unit) -> list[str]:
    """A margin in a table: the cost, both qualities at it, their difference and its interval."""
    return [
        unit.text(margin.cost) if kind == "macs" else f"{milliseconds(margin.cost)} ms",
        show.value(margin.quality),
        show.value(margin.quality - margin.value),
        show.difference(margin.value),
        show.interval(margin.interval),
    ]


def hull_names(rivals: Sequence[SingleModel]) -> str:
    """The single models of the hull, those that were published and not measured at the end.

    >>> hull_names([SingleModel("D1", 0.4), SingleModel("D2", 0.43)])
    'student, teacher; D1, D2 published'
    """
    measured = ", ".join(["student", "teacher", *(one.name for one in rivals if not one.published)])
    published = ", ".join(one.name for one in rivals if one.published)
    return f"{measured}; {published} published" if published else measured


def latency_name(analysis: Analysis) -> str:
    """What the pair's latency is at its chosen point."""
    return "expected latency" if analysis.live is None else "measured latency"
