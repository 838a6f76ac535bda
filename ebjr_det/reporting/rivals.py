"""The single models that a pair has to beat, and by how much it does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ebjr_det.errors import InvalidInput
from ebjr_det.margin import Margin, SingleModel, margins
from ebjr_det.reporting.analysis import Analysis, Reference
from ebjr_det.reporting.notation import Shown, Unit, milliseconds
from ebjr_det.tradeoff import Cost, OperatingPoint, TradeoffCurve
from ebjr_det.types import PairedRun, Task

HULL = "what mixing single models at random reaches at that cost"


def single_models(run: PairedRun, task: Task, analysis: Analysis) -> list[SingleModel]:
    """The analysis's references with their quality on the run's images, or as published.

    Raises:
        InvalidInput: a reference has neither a published quality nor records in the run.
    """
    return [_single_model(run, task, reference) for reference in analysis.references]


def _single_model(run: PairedRun, task: Task, reference: Reference) -> SingleModel:
    quality, records = reference.quality, None
    if quality is None:
        records = run.others.get(reference.name)
        if records is None:
            raise InvalidInput(
                f"Expected records or a published quality of `{reference.name}` in the run, got neither."
            )
        quality = task.metrics(records)[task.quality_name]
    costs = reference.macs, reference.latency_ms
    return SingleModel(reference.name, quality, *costs, reference.source, records)


def margins_of(
    run: PairedRun,
    task: Task,
    analysis: Analysis,
    curve: TradeoffCurve,
    rivals: Sequence[SingleModel],
    points: Sequence[OperatingPoint],
) -> dict[Cost, list[Margin]]:
    """`margin.margins` with the analysis's bootstrap; the first point costs what was timed live, if so."""
    first, *others = points
    if analysis.live is not None:
        first = replace(first, latency_ms=analysis.live.mean)
    return margins(
        run, task, curve, [first, *others], rivals, replicates=analysis.replicates, seed=analysis.seed
    )


def margin_numbers(found: Mapping[Cost, Margin]) -> dict[str, Any]:
    """The JSON values of the margins at one point, at equal MACs and at equal ms, None where unknown."""
    numbers: dict[str, Any] = {}
    names: dict[Cost, str] = {"macs": "margin_over_hull", "latency_ms": "margin_over_hull_ms"}
    for kind, name in names.items():
        margin = found.get(kind)
        numbers[name] = None if margin is None else margin.value
        numbers[f"{name}_interval"] = None if margin is None else list(margin.interval)
    return numbers


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
