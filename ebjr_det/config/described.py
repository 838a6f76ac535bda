"""What settings mean, for people: each by its whole name, and a configuration as YAML with comments.

All of it comes from the JSON schema of a section, which pydantic makes of types, defaults and meanings.
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import yaml
from pydantic.json_schema import JsonSchemaValue

from ebjr_det.config.sections import BaseSection
from ebjr_det.io.yaml import FlatDumper

Values: TypeAlias = Mapping[str, object]
WIDTH = 100
"""Columns of a comment."""


class Setting(NamedTuple):
    """A setting as it is listed.

    Attributes:
        name: with the sections that it is in, `router.threshold`; one of a list is in `references[]`.
        kind: type and limits in words; `settings` of a section.
        default: as YAML; None where it must be stated.
    """

    name: str
    kind: str
    default: str | None
    meaning: str


def describe(section: type[BaseSection]) -> Iterator[Setting]:
    """Every setting of a section and of those in it, in their order."""
    schema = section.model_json_schema()
    return _settings(schema, schema["$defs"], "")


def _settings(schema: JsonSchemaValue, sections: JsonSchemaValue, prefix: str) -> Iterator[Setting]:
    for name, content in schema["properties"].items():
        inner, suffix = _section_of(content, sections)
        default = None if name in schema.get("required", ()) else _as_yaml(content["default"])
        meaning = " ".join(content["description"].split())
        path = prefix + name
        yield Setting(path, _in_words(content), "" if inner and default != "null" else default, meaning)
        if inner is not None:
            yield from _settings(inner, sections, f"{path}{suffix}.")


def _section_of(content: JsonSchemaValue, sections: JsonSchemaValue) -> tuple[JsonSchemaValue | None, str]:
    """The section that a setting holds, one or, with the suffix `[]`, a list of them; or None."""
    if "$ref" in content:
        return sections[content["$ref"].rpartition("/")[2]], ""
    if "$ref" in content.get("items", {}):
        return _section_of(content["items"], sections)[0], "[]"
    for choice in content.get("anyOf", ()):
        if "$ref" in choice:
            return _section_of(choice, sections)
    return None, ""


NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
}
LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _in_words(content: JsonSchemaValue) -> str:
    """The type of a setting and its limits."""
    if "anyOf" in content:
        return " or ".join(map(_in_words, content["anyOf"]))
    if "$ref" in content:
        return "settings"
    if "const" in content:
        return f"`{content['const']}`"
    if "enum" in content:
        return " or ".join(f"`{name}`" for name in content["enum"])
    if content.get("type") == "array":
        count = f" of {content['minItems']}" if "minItems" in content else ""
        return f"list{count} ({_in_words(content['items'])})"
    limits = [f"{words} {content[key]:,}" for key, words in LIMITS.items() if key in content]
    return ", ".join([NAMES[content["type"]], *limits])


def commented(section: type[BaseSection], values: Values, *, defaults: bool = False) -> str:
    """A configuration as YAML, the meaning of each setting above it.

    Args:
        values: the settings to write, sections as mappings.
        defaults: write the other settings, too, as comments `#name: default`.
    """
    schema = section.model_json_schema()
    return "\n".join(_Lines(schema["$defs"], defaults).of(schema, values, "")) + "\n"


class _Lines:
    """The lines of a configuration; what a section's settings mean is said the first time that it comes."""

    def __init__(self, sections: JsonSchemaValue, defaults: bool) -> None:
        self.sections, self.defaults = sections, defaults
        self.explained: list[JsonSchemaValue] = []

    def of(self, schema: JsonSchemaValue, values: Values, indent: str) -> Iterator[str]:
        explained = schema in self.explained
        self.explained.append(schema)
        for name, content in schema["properties"].items():
            if name not in values and (explained or not self.defaults):
                continue
            inner, _ = _section_of(content, self.sections)
            if not explained:
                yield from [""] if inner and not indent else []
                yield from _comment(content["description"], indent)
            key = f"{indent}{'' if name in values else '#'}{name}:"
            value = values.get(name, content.get("default"))
            if isinstance(value, Mapping) and inner is not None:
                yield key
                yield from self.of(inner, value if name in values else {}, indent + "  ")
            else:
                yield f"{key} {_as_yaml(value)}"


def _comment(meaning: str, indent: str) -> list[str]:
    return textwrap.wrap(
        " ".join(meaning.split()), WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
    )


def _as_yaml(value: object) -> str:
    """A value on one line."""
    text = yaml.dump(
        value, Dumper=FlatDumper, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")
