"""Settings checked: the first fault in one line, which offers the nearest name for an unknown one."""

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ebjr_det.config.sections import BaseSection
from ebjr_det.core.errors import ConfigError, did_you_mean

Section = TypeVar("Section", bound=BaseSection)


def parse_section(model: type[Section], content: Mapping[str, object]) -> Section:
    """Check the settings of one section. Raises ConfigError with the first fault in one line."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_first_fault(error, model)) from error


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
        model = next(kind for kind in _kinds(annotation) if _fields(kind))
    return list(_fields(model))


def _kinds(annotation: object) -> Iterator[Any]:
    """A type and all that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _fields(section: object) -> Mapping[str, Any]:
    """What a section may hold, be it a model or a dataclass; nothing of another type."""
    if is_dataclass(section):
        return {field.name: field for field in fields(section)}
    return getattr(section, "model_fields", {})
