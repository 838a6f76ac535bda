"""A classifier around a network that a runtime runs; without torch, like what it is made of.

The network's only output is logits [classes] of each image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Logits, Opaque, Output
from ebjr_det.runtimes.registry import Column, Network, Networked, stacked
from ebjr_det.tasks.classification.data import collate
from ebjr_det.tasks.classification.networks.preprocessing import Preprocessing

LARGEST = 8192
"""Pixels of a side at most."""


@dataclass(frozen=True)
class Surroundings:
    """What a classifier does around its network, as plain numbers."""

    preprocessing: Preprocessing

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Surroundings":
        """What `to_dict` gave. Raises KeyError, TypeError or ConfigError for anything else."""
        prep = Preprocessing(**fields["preprocessing"])
        largest = max(
            max(side) if isinstance(side, tuple) else side or 1 for side in (prep.resize, prep.crop)
        )
        if len(prep.mean) != len(prep.std) or len(prep.mean) not in (1, 3) or largest > LARGEST:
            raise InvalidInput(f"Expected statistics of 1 or 3 channels and sides to {LARGEST}, got others.")
        return cls(prep)


class Classifier(Networked):
    """A classifier as the core sees it.

    Args:
        name: shown in tables.
        preprocess: one image of the data set -> one input.
        run: the network, by whatever runtime.

    Attributes:
        shape: (channels, height, width) that every input must have, where it is known. A network that pools
            at its end answers pictures of any size, but was taught those of one.
    """

    shape: tuple[int, ...] | None = None

    def __init__(self, name: str, preprocess: Callable[[Opaque], Opaque], run: Network) -> None:
        self.name, self.preprocess, self.run = name, preprocess, run

    def batch(self, inputs: Sequence[Opaque]) -> Opaque:
        """The network's input [images, 3, h, w]. Raises InvalidInput where their sizes differ."""
        batch = inputs if hasattr(inputs, "shape") else collate(inputs)  # a loader stacks its own
        if self.shape is not None and tuple(batch.shape[1:]) != self.shape:
            got, expected = (" x ".join(map(str, shape)) for shape in (batch.shape[1:], self.shape))
            raise InvalidInput(
                f"Expected pictures that are {expected} (channels, height, width) after the preprocessing of "
                f"`{self.name}`, as those of its data are, got {got}. Resize them, or set "
                "`preprocessing.resize` and `preprocessing.crop`."
            )
        return batch

    def decode(self, raw: tuple[Column, ...], inputs: Sequence[Opaque]) -> Output:
        """Logits of a batch, as predictions (one vector an image) and as one-row `Logits`."""
        values = stacked(raw[0])
        return Output(list(values), Logits.one_row(values))
