"""The tasks by name. A task is a folder, or anybody's class, with a plugin as `contract` asks for."""

from functools import cache

from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.io.third_party import foreign_errors, import_callable
from ebjr_det.tasks.contract import TaskPlugin

TASKS = {
    "classification": "ebjr_det.tasks.classification.plugin:Classification",
    "detection": "ebjr_det.tasks.detection.plugin:Detection",
}
"""Name -> class of the plugin. A configuration may name a class of one's own in the same way."""


@cache
def load_task(name: str) -> TaskPlugin:
    """The plugin of a task, loaded once.

    Args:
        name: a key of `TASKS`, or `package.module:Class`.

    Raises:
        ConfigError: an unknown task, with the nearest name; or a class that is no plugin of that name.
    """
    if name not in TASKS and ":" not in name:
        raise ConfigError(f"Expected a known task, got `{name}`. {did_you_mean(name, TASKS)}")
    kind = import_callable(TASKS.get(name, name))
    # Looked at before it is called: a run's records name their task, and may be anybody's.
    if not (isinstance(kind, type) and issubclass(kind, TaskPlugin)) or getattr(kind, "name", "") != name:
        raise ConfigError(f"Expected a `TaskPlugin` whose `name` is `{name}`, got {kind!r}.")
    with foreign_errors(f"a task `{name}` that can be made without arguments"):
        return kind()
