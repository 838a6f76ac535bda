"""`schema`: the JSON schema of a configuration, by which editors complete and check it."""

from collections.abc import Iterable, Mapping

from ebjr_det.api import names
from ebjr_det.config.sections import BaseSection
from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.tasks import TASKS, load_task


def verb_of(kind: str) -> str:
    """The command that takes this kind of configuration."""
    return "evaluate" if kind in TASKS else kind


def section_of(kind: str, task: str | None = None) -> type[BaseSection]:
    """The settings of a kind of configuration; `task` is that of a training, by default detection.

    Raises:
        ConfigError: no such kind or task, or a task beside the kind that is one.

    >>> section_of("train", "classification").__name__
    'ClassificationTrainConfig'
    """
    check_known(kind, names.kinds(), "a kind of configuration")
    if kind in TASKS:
        if task not in (None, kind):
            raise ConfigError(f"Expected no other task beside `{kind}`, got `{task}`.")
        return load_task(kind).evaluate_config
    plugin = load_task(task or "detection")
    section = plugin.train_config if kind == "train" else plugin.specialize_config
    if section is None:
        raise ConfigError(f"Expected a task with settings of `{kind}`, got `{plugin.name}`.")
    return section


def schema(kind: str, task: str | None = None) -> dict[str, object]:
    """A JSON schema (draft 2020-12) of all settings: types, limits, defaults, meanings, known names.

    Raises:
        ConfigError: see `section_of`.

    >>> schema("detection")["$defs"]["DetectorSection"]["properties"]["image_size"]["anyOf"][0]["minimum"]
    32
    """
    section = section_of(kind, task)
    content = section.model_json_schema()
    if kind in TASKS and "tiers" in content["properties"]:
        pair = {"student", "teacher"}
        content["required"] = [name for name in content["required"] if name not in pair]
        content["anyOf"] = [{"required": sorted(pair)}, {"required": ["tiers"]}]
    of_task = task or (kind if kind in TASKS else "detection")
    for definition in content["$defs"].values():
        for name, valid in _known(of_task).items():
            if name in definition["properties"]:
                definition["properties"][name]["examples"] = list(valid)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | content


def _known(task: str) -> Mapping[str, Iterable[str]]:
    """Names by the setting that takes them."""
    return {
        "score": names.deciding_scores(task),
        "runtime": names.runtimes(),
        "device": names.devices(),
    }
