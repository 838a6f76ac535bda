"""A classifier around a network that a runtime runs; without torch, like what it is made of.

The network's only output is logits [classes] of each image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ebjr_det.runtimes import Column, Network, stacked
from ebjr_det.tasks.classification.data import ImageSet, collate
from ebjr_det.tasks.classification.preprocessing import Preprocessing
from ebjr_det.types import Logits, Output


@dataclass(frozen=True)
class Surroundings:
    """What a classifier does around its network, as plain numbers."""

    preprocessing: Preprocessing

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Surroundings":
        """What `to_dict` told. Raises KeyError, TypeError or ConfigError for anything else."""
        return cls(Preprocessing(**told["preprocessing"]))


class Classifier:
    """A classifier as the core sees it.

    Args:
        name: shown in tables.
        preprocess: one image of the data set -> one input.
        run: the network, by whatever runtime.
    """

    def __init__(self, name: str, preprocess: Callable[[Any], Any], run: Network) -> None:
        self.name, self.preprocess, self.run = name, preprocess, run

    @property
    def invariant(self) -> bool:
        """Whether a picture's answer is the same, to the bit, in any batch."""
        return self.run.invariant

    def batch(self, inputs: Sequence[Any]) -> Any:
        """The network's input [images, 3, h, w]. Raises InvalidInput where their sizes differ."""
        return inputs if hasattr(inputs, "shape") else collate(inputs)  # a loader stacks its own

    def __call__(self, inputs: Sequence[Any]) -> Output:
        """Logits of a batch, as predictions (one vector an image) and as one-row `Logits`."""
        return self.decode(self.forward(inputs), inputs)

    def forward(self, inputs: Sequence[Any]) -> tuple[Column, ...]:
        """The network's raw outputs."""
        return self.run(self.batch(inputs))

    def decode(self, raw: tuple[Column, ...], inputs: Sequence[Any]) -> Output:
        """Raw outputs as answers."""
        values = stacked(raw[0])
        return Output(list(values), Logits.one_row(values))


def build_served(name: str, told: Mapping[str, Any], run: Network) -> Classifier:
    """A classifier from what `Surroundings.to_dict` told of it and a network that runs."""
    return Classifier(name, Surroundings.from_dict(told).preprocessing, run)


def name_classes(classes: Mapping[int, str]) -> ImageSet:
    """The classes of the data, index -> name, as answers want them: a set without images."""
    return ImageSet((), np.zeros(0, dtype=np.intp), tuple(classes.values()), _no_image)


def _no_image(index: int) -> Any:
    raise IndexError(index)
