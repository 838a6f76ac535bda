"""A configuration read, changed from the command line, checked and written.

Unknown keys are errors that offer the nearest.
"""

import os
import reprlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ebjr_det.config.sections import BaseSection, RouterSection
from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput, did_you_mean
from ebjr_det.io.files import existing_file, shipped
from ebjr_det.io.yaml import FlatDumper, FlatLoader

Section = TypeVar("Section", bound=BaseSection)


def load_weights(path: str | Path) -> dict[str, float]:
    """Class weights by name from a YAML or JSON file.

    Raises:
        InvalidInput: no such file. ConfigError: no mapping of names to numbers.
    """
    content = _read(path, ())
    if not content or not all(
        isinstance(name, str) and type(weight) in (int, float) for name, weight in content.items()
    ):
        raise ConfigError(f"Expected class names with numbers in `{path}`, got {reprlib.repr(content)}.")
    return {name: float(weight) for name, weight in content.items()}


def load_score_settings(path: str | Path) -> RouterSection | None:
    """How logits became scores in a finished run, from its settings; None where routers were fitted on it.

    Raises:
        EbjrError: no such file, or no such settings.
    """
    content = _read(path, ())
    if "fit_router" in content:
        return None
    section = content if "replay" in content else content.get("router", {})
    names = ("options", "top_k", "aggregate", "other_logit")
    return parse_section(RouterSection, {name: section[name] for name in names if name in section})


def load_settings(path: str | Path, changes: Iterable[str], verb: str) -> dict[str, object]:
    """Read the settings of a command and apply `a.b=value` changes in order.

    Raises:
        InvalidInput: no such file, here or among the shipped ones.
        ConfigError: not YAML, or the settings of another command, which is named.
    """
    path = _find(Path(path))
    content = _read(path, ())
    command = verb_of(content)
    if command is not None and command != verb:
        raise ConfigError(
            f"Expected settings of `{verb}` in `{path}`, got {OTHERS[command].format(path=path)}"
        )
    apply_changes(content, changes)
    return content


OTHERS = {
    "evaluate": "those of a pair. Run `ebjr-det evaluate {path}`, or predict or demo.",
    "train": "those of a training. Run `ebjr-det train {path}`; a pair names the weights that it makes as "
    "`checkpoint`.",
    "specialize": "those of a specialisation. Run `ebjr-det specialize {path}`; its folder then holds "
    "`pair.yaml`, the pair.",
    "replay": "those of a replay, which has the outputs of two models and no models. Write a configuration "
    "with `student` and `teacher`, and give it the replay's threshold as --threshold.",
    "fit-router": "those of a report of fit-router. Give the router's file as --router beside the settings "
    "of a pair.",
}
"""What settings are, by the command that they belong to, and what to do with them."""


def verb_of(content: Mapping[str, object]) -> str | None:
    """The command whose settings these are, by the sections that only it has; None for none of them."""
    marks = {"fit_router": "fit-router", "replay": "replay", "choose": "specialize", "student": "evaluate"}
    marks |= {"model": "train"}
    return next((verb for mark, verb in marks.items() if mark in content), None)


def shipped_for(verb: str) -> list[str]:
    """Names of the configurations of a command that come with the package."""
    return [name for name, path in _shipped().items() if verb_of(_read(path, ())) == verb]


def _shipped() -> dict[str, Path]:
    return {file.stem: file for file in sorted(shipped("configs").glob("*.yaml"))}


def _find(path: Path) -> Path:
    """The file itself, or where there is none the shipped one of that name."""
    if os.path.exists(path):  # of a name that no file can have it says no
        return path
    names = _shipped()
    plain = path.parent.as_posix() in (".", "configs")
    file = names.get(path.name.removesuffix(".yaml")) if plain else None
    if file is None:
        hint = did_you_mean(path.stem, names)
        raise InvalidInput(
            f"Expected a configuration at `{path}`, got no such file, nor one of that name among those that "
            f"come with ebjr-det. {hint}"
        )
    print(f"Settings: `{path.name}` of those that come with ebjr-det, {file}.", file=sys.stderr)
    return file


def _read(path: str | Path, changes: Iterable[str]) -> dict[str, Any]:
    try:
        text = existing_file(Path(path), "a configuration").read_text(encoding="utf-8")
        content = yaml.load(text, FlatLoader)  # noqa: S506, a SafeLoader
    except EbjrError:
        raise
    except Exception as error:  # yaml's constructors raise whatever a strange value makes them raise
        reason = " ".join(str(error).split())
        raise ConfigError(f"Expected YAML in `{path}`, got: {reason}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"Expected a mapping of settings in `{path}`, got {reprlib.repr(content)}.")
    apply_changes(content, changes)
    return content


def apply_changes(content: dict[str, object], changes: Iterable[str]) -> None:
    """Put `a.b=value` changes into a mapping of settings, in order. Raises ConfigError for anything else."""
    for change in changes:
        _apply(content, change)


def parse_section(model: type[Section], content: Mapping[str, object]) -> Section:
    """Check the settings of one section. Raises ConfigError with the first fault in one line."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_first_fault(error, model)) from error


def dump_config(config: BaseSection) -> str:
    """The resolved configuration as YAML, every default written out."""
    return yaml.dump(config.model_dump(), Dumper=FlatDumper, sort_keys=False)


def _apply(content: dict[str, object], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"Expected `--set a.b=value`, got `{change}`.")
    *sections, last = key.split(".")
    section_values = content
    for section in sections:
        inner = section_values.get(section)
        section_values[section] = section_values = dict(inner) if isinstance(inner, dict) else {}
    try:
        section_values[last] = yaml.load(text, FlatLoader)  # noqa: S506, a SafeLoader
    except Exception as error:  # as above
        raise ConfigError(f"Expected a YAML value in `--set {change}`, got `{text}`.") from error


UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a setting that a model, or a dataclass, does not have."""


def _first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    # A misspelt key also counts as missing: the spelling is the cause, so it goes first.
    fault = min(error.errors(), key=lambda fault: fault["type"] not in UNKNOWN)
    setting = ".".join(str(part) for part in fault["loc"])
    if fault["type"] in UNKNOWN:
        *sections, key = (str(part) for part in fault["loc"])
        return f"Expected a known setting, got `{setting}`. {did_you_mean(key, _fields_at(sections, model))}"
    if fault["type"] == "missing":
        return f"Expected the setting `{setting}`, got none."
    message = fault["msg"].removeprefix("Value error, ")
    got = fault["input"]
    value = f", got {reprlib.repr(got)}" if not isinstance(got, dict) else ""
    return f"Expected `{setting}` to be right: {message[0].lower()}{message[1:]}{value}."


def _fields_at(sections: list[str], model: type[BaseModel]) -> list[str]:
    for section in (name for name in sections if not name.isdecimal()):  # a place in a list
        annotation = _fields(model)[section].annotation
        model = next(kind for kind in (annotation, *get_args(annotation)) if _fields(kind))
    return list(_fields(model))


def _fields(section: object) -> Mapping[str, Any]:
    """What a section may hold, be it a model or a dataclass; nothing of another type."""
    if is_dataclass(section):
        return {field.name: field for field in fields(section)}
    return getattr(section, "model_fields", {})
