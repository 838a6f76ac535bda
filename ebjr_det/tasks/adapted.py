"""A model whose answers pass through a function: a rescaled or specialised student is one like any other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ebjr_det.core.types import Model, Opaque, Output


@dataclass(frozen=True)
class Changed:
    """`model`, every answer of which goes through `change`; everything else is the model's own."""

    model: Model
    change: Callable[[Output], Output]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    def preprocess(self, image: Opaque) -> Opaque:
        """One input, as the model makes it."""
        return self.model.preprocess(image)

    def __call__(self, inputs: Sequence[object]) -> Output:
        """The model's answers, changed."""
        return self.change(self.model(inputs))

    def __getattr__(self, name: str) -> object:
        if name == "model":  # while a copy is being made
            raise AttributeError(name)
        member = getattr(self.model, name)
        if name == "decode":  # the second half of the model's call, where it has two
            return lambda raw, inputs: self.change(member(raw, inputs))
        return member


def plain(model: object) -> Any:
    """A model without what changes its answers."""
    return plain(model.model) if isinstance(model, Changed) else model
