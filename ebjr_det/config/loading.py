"""A configuration read, changed from the command line, checked and written.

Unknown keys are errors that offer the nearest.
"""

import os
import reprlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ebjr_det.config.faults import parse_section
from ebjr_det.config.sections import BaseSection, EvaluateConfig, RouterSection
from ebjr_det.config.tiers import stated
from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput, did_you_mean
from ebjr_det.io.files import existing_file, shipped
from ebjr_det.io.yaml import FlatDumper, FlatLoader


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
    marks |= {"tiers": "evaluate", "model": "train"}
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


def dump_config(config: BaseSection) -> str:
    """The resolved configuration as YAML, every default written out."""
    settings = stated(config) if isinstance(config, EvaluateConfig) else config.model_dump()
    return yaml.dump(settings, Dumper=FlatDumper, sort_keys=False)


def _apply(content: dict[str, object], change: str) -> None:
    name, equals, text = change.partition("=")
    keys = name.split(".")
    if not equals or not all(keys):
        raise ConfigError(f"Expected `--set a.b=value`, got `{change}`.")
    try:
        value = yaml.load(text, FlatLoader)  # noqa: S506, a SafeLoader
    except Exception as error:  # as above
        raise ConfigError(f"Expected a YAML value in `--set {change}`, got `{text}`.") from error
    content.update(_changed(content, keys, value, change))


def _changed(content: object, keys: list[str], value: object, change: str) -> Any:
    """A copy of a section, or of a list of sections, with another value at a place within it."""
    if not keys:
        return value
    key, *deeper = keys
    if isinstance(content, list):
        if not key.isdecimal() or int(key) >= len(content):
            raise ConfigError(f"Expected a place below {len(content)} in `--set {change}`, got `{key}`.")
        index = int(key)
        return [*content[:index], _changed(content[index], deeper, value, change), *content[index + 1 :]]
    section = content if isinstance(content, dict) else {}
    return {**section, key: _changed(section.get(key), deeper, value, change)}
