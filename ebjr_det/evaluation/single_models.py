"""The single models that a pair has to beat, and by how much it does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.tradeoff import Cost, OperatingPoint, TradeoffCurve
from ebjr_det.core.types import PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis, Reference
from ebjr_det.evaluation.hull import Margin, SingleModel, margins


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
