"""Settings of the commands, read and checked as their task has them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ebjr_det.config import EvaluateConfig, SpecializeConfig, TrainConfig, load_settings, parse_section
from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.tasks import TASKS, load_task
from ebjr_det.tasks.contract import TaskPlugin


def load_config(path: str | Path, changes: Iterable[str] = ()) -> EvaluateConfig:
    """Read the YAML file of an evaluation, apply `a.b=value` changes in order, check everything.

    Raises:
        InvalidInput: no such file, here or among the shipped ones.
        ConfigError: not YAML, the settings of another command, an unknown key (with the nearest), a value of
            another type or out of range.
    """
    return parse_config(load_settings(path, changes, "evaluate"))


def load_train_config(path: str | Path, changes: Iterable[str] = ()) -> TrainConfig:
    """Read, change and check the settings of a training. Raises as `load_config`."""
    return parse_train_config(load_settings(path, changes, "train"))


def load_specialize_config(path: str | Path, changes: Iterable[str] = ()) -> SpecializeConfig:
    """Read, change and check the settings of a specialisation. Raises as `load_config`."""
    settings = load_settings(path, changes, "specialize")
    task = _task_of(settings)
    if task.specialize_config is None:
        raise ConfigError(f"Expected a task that can be specialised, got `{task.name}`.")
    return parse_section(task.specialize_config, settings)


def parse_config(settings: Mapping[str, object]) -> EvaluateConfig:
    """Check the settings of an evaluation. Raises ConfigError with the first fault in one line."""
    return parse_section(_task_of(settings).evaluate_config, settings)


def parse_train_config(settings: Mapping[str, object]) -> TrainConfig:
    """Check the settings of a training. Raises ConfigError with the first fault in one line."""
    task = _task_of(settings)
    if task.train_config is None:
        raise ConfigError(f"Expected a task that can be trained, got `{task.name}`.")
    return parse_section(task.train_config, settings)


def _task_of(settings: Mapping[str, object]) -> TaskPlugin:
    """The task that settings name; without a name it is the first."""
    name = settings.get("task", next(iter(TASKS)))
    if not isinstance(name, str) or (name not in TASKS and ":" not in name):
        raise ConfigError(f"Expected a known `task`, got `{name}`. {did_you_mean(str(name), TASKS)}")
    return load_task(name)
