"""A pair of which another machine runs one model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from ebjr_det.core.types import Opaque

SIDES = ("student", "teacher")


@dataclass(frozen=True)
class AbsentModel:
    """A model that has a name here, and its weights and answers elsewhere."""

    name: str

    def preprocess(self, image: Opaque) -> NoReturn:
        """Nobody asks here."""
        raise NotImplementedError(f"`{self.name}` is not loaded in this process")

    def __call__(self, inputs: Sequence[Opaque]) -> NoReturn:
        """Nobody asks here."""
        self.preprocess(None)
