"""The classes that a specialised student tells apart, and how its classes and all classes map to each other.

Convention: a specialised student of N popular classes has N + 1 outputs. Output i < N is the i-th popular
class in the order of all classes, output N is "other", every class that is not popular. Knows only numbers
and names.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ebjr_det.core.errors import ConfigError, did_you_mean

OTHER = "other"


def check_known(name: str, all_names: Collection[str]) -> None:
    """Raises ConfigError where no class is called so, with the nearest, or where several are."""
    if name not in all_names:
        raise ConfigError(f"Expected a class of the data, got `{name}`. {did_you_mean(name, all_names)}")
    if (count := list(all_names).count(name)) > 1:
        raise ConfigError(
            f"Expected the name of one class, got `{name}` of {count}. Give its index, or rename the classes."
        )


def known_as(name: str) -> str:
    """A class's name as names are compared: case, underscores and hyphens say nothing."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


@dataclass(frozen=True)
class Popular:
    """N popular classes among all.

    Attributes:
        classes: their indices, ascending.
        all_names: of all classes, by index.

    Raises:
        ConfigError: no class, all of them, one twice, or one that is not there.
    """

    classes: tuple[int, ...]
    all_names: tuple[str, ...]

    def __post_init__(self) -> None:
        total = len(self.all_names)
        if not 0 < len(self.classes) < total:
            raise ConfigError(
                f"Expected 1 to {total - 1} popular classes among {total}, got {len(self.classes)}."
            )
        if not all(0 <= index < total for index in self.classes):
            raise ConfigError(f"Expected class indices in 0..{total - 1}, got {list(self.classes)}.")
        if any(first >= second for first, second in zip(self.classes, self.classes[1:], strict=False)):
            raise ConfigError(f"Expected each popular class once, in order, got {list(self.classes)}.")

    @classmethod
    def of(cls, chosen: Sequence[str | int], all_names: Sequence[str]) -> "Popular":
        """From names or indices in any order. Raises ConfigError for an unknown class, or one twice.

        >>> Popular.of(["cat", "ant"], ["ant", "bee", "cat"]).classes
        (0, 2)
        """
        positions = {name: index for index, name in enumerate(all_names)}
        classes: list[int] = []
        for name in chosen:
            if isinstance(name, str):
                check_known(name, all_names)
            classes.append(positions[name] if isinstance(name, str) else name)
        if len(set(classes)) != len(classes):
            repeated = next(n for n, index in zip(chosen, classes, strict=True) if classes.count(index) > 1)
            raise ConfigError(f"Expected each popular class once, got `{repeated}` more than once.")
        return cls(tuple(sorted(classes)), tuple(all_names))

    @classmethod
    def top(cls, count: int, counts: ArrayLike, all_names: Sequence[str]) -> "Popular":
        """The classes with the largest counts [classes], in any unit; among equals the first.

        Raises ConfigError where so many are not there, or one of them was never seen.

        >>> Popular.top(2, [3, 9, 5], ["ant", "bee", "cat"]).classes
        (1, 2)
        """
        if not 0 < count < len(all_names):
            raise ConfigError(
                f"Expected the top 1 to {len(all_names) - 1} of {len(all_names)} classes, got top {count}."
            )
        seen = np.asarray(counts, dtype=np.float64)
        order = np.argsort(-seen, kind="stable")[:count]
        empty = next((index for index in order if seen[index] <= 0), None)
        if empty is not None:
            raise ConfigError(
                f"Expected popular classes that were seen, got `{all_names[empty]}` with none. "
                f"Only {int((seen > 0).sum())} classes were seen."
            )
        return cls(tuple(sorted(order.tolist())), tuple(all_names))

    @property
    def unpopular(self) -> list[int]:
        """Indices of all other classes, ascending."""
        return sorted(set(range(len(self.all_names))) - set(self.classes))

    @property
    def other(self) -> int:
        """The output "other", which is N."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the popular classes."""
        return tuple(self.all_names[index] for index in self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the student's N + 1 outputs."""
        return (*self.names, OTHER)

    def narrow(self, labels: ArrayLike) -> NDArray[np.intp]:
        """Indices among all classes -> the student's outputs.

        >>> Popular((0, 2), ("ant", "bee", "cat")).narrow([0, 1, 2]).tolist()
        [0, 2, 1]
        """
        outputs = np.full(len(self.all_names), self.other, dtype=np.intp)
        outputs[list(self.classes)] = np.arange(self.other)
        return np.asarray(outputs[np.asarray(labels, dtype=np.intp)])

    def weights(self, share: float, labels: NDArray[np.intp]) -> NDArray[np.float64]:
        """[images] how often to draw each so that a popular class is drawn with probability `share`.

        Raises ConfigError where all or none of the `labels` [images], student's outputs, are popular.
        """
        popular = labels < self.other
        if popular.all() or not popular.any():
            raise ConfigError(
                f"Expected images of popular and of other classes, got {int(popular.sum())} and "
                f"{int((~popular).sum())}."
            )
        return np.asarray(np.where(popular, share / popular.sum(), (1 - share) / (~popular).sum()))
