"""The tasks by name. A task is a folder, or anybody's class, with a plugin as `contract` asks for."""

from functools import cache

from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.io.third_party import import_callable
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
    plugin = import_callable(TASKS.get(name, name))()
    if not isinstance(plugin, TaskPlugin) or plugin.name != name:
        raise ConfigError(f"Expected a `TaskPlugin` whose `name` is `{name}`, got {plugin!r}.")
    return plugin
