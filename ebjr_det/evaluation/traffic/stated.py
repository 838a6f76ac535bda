"""Mixes of classes as people state them: in a configuration, on the command line, in files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.evaluation.traffic.mix import Composition, Mix, check_share
from ebjr_det.evaluation.traffic.report import popular_text
from ebjr_det.io.files import existing_file
from ebjr_det.io.yaml import FlatLoader
from ebjr_det.tasks.popular import check_known

FILES = (".yaml", ".yml", ".json", ".txt")
ONE = "Expected exactly one of a share of the popular classes, a histogram and an exponent of Zipf's law"


@dataclass(frozen=True)
class AskedMix:
    """A mix of classes as people state it; exactly one of `share`, `histogram` and `zipf`.

    Attributes:
        popular: names or indices of the popular classes, most popular first; by default those of the runs.
        share: of the popular classes in the traffic; inside both groups classes are as in the data.
        histogram: share of each class, 0 of those that it leaves out.
        zipf: exponent of Zipf's law over the popular classes, then the others in the order of the data.

    Raises:
        ConfigError: none or several of them, or numbers that cannot be.
    """

    popular: Sequence[str | int] | None = None
    share: float | None = None
    histogram: Mapping[str, float] | None = None
    zipf: float | None = None

    def __post_init__(self) -> None:
        given = [one for one in (self.share, self.histogram, self.zipf) if one is not None]
        if len(given) != 1:
            raise ConfigError(f"{ONE}, got {len(given) or 'none'}.")
        if self.share is not None:
            check_share(self.share)
        if self.histogram is not None:
            Mix(np.array(list(self.histogram.values()), dtype=np.float64))
        if self.zipf is not None:
            Mix.of_zipf(self.zipf, [0])

    def check_classes(self, names: Sequence[str]) -> None:
        """Raises ConfigError where the histogram names a class that is none of these."""
        for name in self.histogram or {}:
            check_known(name, names)

    def mix(self, composition: Composition, ranks: Sequence[int]) -> tuple[Mix, str]:
        """The mix of a composition's classes, and its words.

        Args:
            ranks: the classes, most frequent first, for Zipf's law.

        Raises:
            ConfigError: the histogram names an unknown class.
            InvalidInput: the images show no class of a group that has a share.
        """
        if self.share is not None:
            return Mix.of_popular(self.share, composition), popular_text(self.share)
        if self.zipf is not None:
            return Mix.of_zipf(self.zipf, ranks), f"Zipf's law with exponent {self.zipf:g}"
        self.check_classes(composition.names)
        place = {name: index for index, name in enumerate(composition.names)}
        shares = np.zeros(len(place))
        for name, share in (self.histogram or {}).items():
            shares[place[name]] = share
        return Mix(shares), f"a stated share of each of {np.count_nonzero(shares)} classes"


def load_classes(given: str) -> list[str | int]:
    """Popular classes as the command line takes them: `A,B,C`, or a file with a list of them.

    Raises:
        InvalidInput: a file that is none, or holds something else.

    >>> load_classes("cat, dog")
    ['cat', 'dog']
    """
    path = Path(given)
    if path.suffix.lower() not in FILES:
        return [name.strip() for name in given.split(",")]
    if path.suffix.lower() == ".txt":
        existing_file(path, "a list of classes")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    content = _content(path, "a list of classes")
    content = content.get("popular") if isinstance(content, dict) else content  # what `specialize` writes
    if not isinstance(content, list) or not all(type(one) in (str, int) for one in content):
        raise InvalidInput(f"Expected a list of names of classes in `{path}`, got something else.")
    return content


def load_histogram(path: Path) -> dict[str, float]:
    """A share of each class, from a YAML or JSON file. Raises InvalidInput for anything else."""
    content = _content(path, "a share of each class")
    kinds = isinstance(content, dict) and {type(share) for share in content.values()}
    if not kinds or not kinds <= {int, float}:
        raise InvalidInput(f"Expected `class: share` of each class in `{path}`, got something else.")
    return {str(name): float(share) for name, share in content.items()}


def _content(path: Path, what: str) -> Any:
    """What a YAML or JSON file holds; a key twice is refused."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            raise ValueError(f"the key `{next(key for key in keys if keys.count(key) > 1)}` twice")
        return dict(pairs)

    existing_file(path, what)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=once)
        return yaml.load(text, Loader=FlatLoader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidInput(f"Expected {what} in `{path}`, got: {first_line(error)}.") from error
