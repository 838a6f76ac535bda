"""Files that name classes: a list of popular ones, or a share of each."""

import json
from pathlib import Path
from typing import Any

import yaml

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.io.files import existing_file
from ebjr_det.io.yaml import FlatLoader

SUFFIXES = (".yaml", ".yml", ".json", ".txt")


def load_classes(text: str) -> list[str | int]:
    """Popular classes as the command line takes them: `A,B,C`, or a file with a list of them.

    Raises:
        InvalidInput: a file that is none, or holds something else.

    >>> load_classes("cat, dog")
    ['cat', 'dog']
    """
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        return [name.strip() for name in text.split(",")]
    if path.suffix.lower() == ".txt":
        existing_file(path, "a list of classes")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    content = yaml_content(path, "a list of classes")
    content = content.get("popular") if isinstance(content, dict) else content  # what `specialize` writes
    if not isinstance(content, list) or not all(type(name) in (str, int) for name in content):
        raise InvalidInput(f"Expected a list of names of classes in `{path}`, got something else.")
    return content


def listed_classes(classes: list[str] | str | None) -> list[str] | None:
    """Names of classes that settings list, or a file that they name does; None where they do neither.

    Raises:
        ConfigError: no name, one twice, or one that is none.
    """
    if classes is None:
        return None
    names = load_classes(classes) if isinstance(classes, str) else list(classes)
    if not names or len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"Expected `classes` as a list of distinct names, got {names}.")
    return [str(name) for name in names]


def load_histogram(path: Path) -> dict[str, float]:
    """A share of each class, from a YAML or JSON file. Raises InvalidInput for anything else."""
    content = yaml_content(path, "a share of each class")
    kinds = isinstance(content, dict) and {type(share) for share in content.values()}
    if not kinds or not kinds <= {int, float}:
        raise InvalidInput(f"Expected `class: share` of each class in `{path}`, got something else.")
    return {str(name): float(share) for name, share in content.items()}


def yaml_content(path: Path, kind: str) -> Any:
    """What a YAML or JSON file holds, as `kind` in the error. Raises InvalidInput, also for a key twice."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            raise ValueError(f"the key `{next(key for key in keys if keys.count(key) > 1)}` twice")
        return dict(pairs)

    existing_file(path, kind)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=once)
        return yaml.load(text, Loader=FlatLoader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(f"Expected {kind} in `{path}`, got: {first_line(error)}.") from error
