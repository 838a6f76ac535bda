"""A pair some of whose parts are objects in memory: what its settings say of them, and how they are checked.

A plain mapping has the keys of a configuration; `student` and `teacher` may be models, or have one as `model`
beside other settings; `data` may be a data set, or have one as `set` beside others, such as `labels: false`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

from ebjr_det.config import EvaluateConfig
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import Model, Output
from ebjr_det.tasks.adapted import Changed
from ebjr_det.tasks.contract import Classes, DataSet
from ebjr_det.tasks.settings import parse_config

IN_MEMORY = "<in memory>"
"""What settings say in place of a name where there was an object."""
SIDES = ("student", "teacher")


@runtime_checkable
class _DataSet(DataSet, Protocol):
    """A data set, as it is told from other objects."""


@dataclass(frozen=True)
class Objects:
    """The parts of a pair that are there already; None where the settings tell how to build one."""

    data: DataSet | None = None
    student: Model | None = None
    teacher: Model | None = None


NO_OBJECTS = Objects()


def told_apart(config: EvaluateConfig | Mapping[str, object]) -> tuple[EvaluateConfig, Objects]:
    """Settings, in which objects are called `IN_MEMORY`, and the objects.

    Raises:
        ConfigError: a fault in the settings, no settings, or an object that is no model or no data set.
    """
    if isinstance(config, EvaluateConfig):
        return config, NO_OBJECTS
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"Expected settings or a mapping of them, got {type(config).__name__}. Of a file: "
            "ebjr_det.load_config(path)."
        )
    settings, objects = dict(config), dict[str, Any]()
    for side in SIDES:
        section = settings.get(side)
        section = dict(section) if isinstance(section, Mapping) else {"model": section}
        if "model" in section:
            objects[side] = _model(section.pop("model"), side)
            settings[side] = {"arch": IN_MEMORY, "name": objects[side].name, **section}
    data = settings.get("data")
    section = dict(data) if isinstance(data, Mapping) else {"set": data}
    if "set" in section:
        objects["data"] = _data_set(section.pop("set"))
        settings["data"] = {"dataset": IN_MEMORY, **section}
    return parse_config(settings), Objects(**objects)


def _model(candidate: object, side: str) -> Model:
    if not isinstance(candidate, Model):
        raise ConfigError(
            f"Expected `{side}` as settings or as a model with `name`, `preprocess` and a call, got "
            f"{type(candidate).__name__}."
        )
    return candidate


def _data_set(candidate: object) -> DataSet:
    if not isinstance(candidate, _DataSet):
        raise ConfigError(
            f"Expected `data` as settings or as a data set, got {type(candidate).__name__}. Make one: "
            "ebjr_det.build_labelled or ebjr_det.build_annotated."
        )
    return candidate


def checked_model(model: Model, classes: Classes) -> Model:
    """A model in memory whose answers are looked at: they must be of these classes."""
    return Changed(model, partial(_checked, count=len(classes.class_names), name=model.name))


def _checked(output: Output, count: int, name: str) -> Output:
    """Somebody's own answers. Raises InvalidInput where their logits are not of so many classes.

    One logit a row is that of a box of which only its score is known.
    """
    width = output.logits.values.shape[2]
    if output.logits.valid.any() and width not in (1, count):
        raise InvalidInput(
            f"Expected `{name}` to give logits of the {count} classes of the data, got {width} a row."
        )
    return output


def check_not_in_memory(config: EvaluateConfig, origin: object) -> None:
    """Raises ConfigError where a run's pair was in memory, so that no settings can build it again."""
    parts = [*(getattr(config, side).arch for side in SIDES), getattr(config.data, "dataset", "")]
    if IN_MEMORY in parts:
        raise ConfigError(
            f"Expected a pair that settings can build, got the run `{origin}` of one that was in memory. In "
            "Python: JointModel(student, teacher, build_router(...), threshold)."
        )
