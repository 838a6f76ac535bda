"""The tasks by name. A task is a folder with the same files as the others and one entry here.

Every task folder has the rooms `metric` (a `types.Task`), `data` (`build_data`, `collate`) and `model`
(`build_model`); they are imported when they are first used.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.core.types import Task

TASKS: dict[str, str] = {"classification": "Accuracy", "detection": "AveragePrecision"}
"""Task name, which is its folder's, -> the class in its `metric` that judges."""


def room(task: str, name: str) -> ModuleType:
    """The module `name` of a task. Raises ConfigError for an unknown task, with the nearest name."""
    if task not in TASKS:
        raise ConfigError(f"Expected a known task, got `{task}`. {did_you_mean(task, TASKS)}")
    return import_module(f"ebjr_det.tasks.{task}.{name}")


def has_room(task: str, name: str) -> bool:
    """Whether a task has a room that not every task needs."""
    return find_spec(f"ebjr_det.tasks.{task}.{name}") is not None


def build_task(name: str) -> Task:
    """The judge of a task."""
    judge: Callable[[], Task] = getattr(room(name, "metric"), TASKS[name])
    return judge()
