"""The single models that a pair has to beat, with their quality on a run's images."""

from dataclasses import dataclass

from ebjr_det.config import Reference
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis


@dataclass(frozen=True)
class SingleModel(Reference):
    """A reference with a quality: on the run's images, or as it was `published`."""

    quality: float
    published: bool = True


def single_models(run: PairedRun, task: Task, analysis: Analysis) -> list[SingleModel]:
    """The analysis's references with their quality on the run's images, or as published.

    Raises:
        InvalidInput: a reference has neither a published quality nor records in the run.
    """
    models = []
    for reference in analysis.references:
        quality = reference.quality
        if quality is None:
            if reference.name not in run.others:
                raise InvalidInput(
                    f"Expected records or a published quality of `{reference.name}` in the run, got neither."
                )
            quality = task.metrics(run.others[reference.name])[task.quality_name]
        costs, published = (reference.macs, reference.latency_ms), reference.quality is not None
        models.append(SingleModel(reference.name, quality, *costs, reference.source, published))
    return models
