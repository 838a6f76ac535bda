"""Names that settings and options take: for help, completion, the schema and the reference."""

from typing import get_args

from ebjr_det.config import shipped_for
from ebjr_det.config.sections import AUTO, PUBLISHED, RouterSection
from ebjr_det.core.scores import SCORES
from ebjr_det.io.checkpoints.finding import manifest
from ebjr_det.io.download import DATASETS
from ebjr_det.runtimes.registry import RUNTIMES
from ebjr_det.tasks import TASKS, load_task
from ebjr_det.tasks.routing import Routing

DEVICES = (AUTO, "cpu", "cuda", "cuda:1")


def tasks() -> list[str]:
    """The tasks that come with the package."""
    return list(TASKS)


def kinds() -> list[str]:
    """Kinds of configuration: a pair of a task, the training of one model, that of a specialised student."""
    return [*reversed(TASKS), "train", "specialize"]


def scores(task: str | None = None) -> list[str]:
    """Deferral scores of a task, or of all."""
    return _unique([*SCORES, *(name for routing in _routings(task) for name in routing.SCORES)])


def fitted_scores(task: str | None = None) -> list[str]:
    """What a fit may save: the best, or a score."""
    return [AUTO, *scores(task)]


def deciding_scores(task: str | None = None) -> list[str]:
    """What may decide: a chosen score, EBJR's, or one by its name."""
    return [AUTO, PUBLISHED, *scores(task)]


def rescalings(task: str | None = None) -> list[str]:
    """Maps of the student's scores, after the word for one that is chosen."""
    return _unique([AUTO, *(name for routing in _routings(task) for name in routing.RESCALINGS)])


def _routings(task: str | None) -> list[Routing]:
    return [load_task(name).routing for name in (TASKS if task is None else [task])]


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def aggregates() -> list[str]:
    """How the scores of an image's boxes become one."""
    return list(get_args(RouterSection.model_fields["aggregate"].annotation))


def runtimes() -> list[str]:
    """What runs a network, after the word for the fastest."""
    return [AUTO, *RUNTIMES]


def devices() -> list[str]:
    """Where networks run; a further GPU goes by its number."""
    return list(DEVICES)


def configurations(verb: str) -> list[str]:
    """Configurations of a command that come with the package."""
    return shipped_for(verb)


def downloads() -> list[str]:
    """Data sets and weights that `download` fetches."""
    return [*DATASETS, *(name for name, entry in manifest().items() if entry.url)]
