"""Answers as named tensors: what a task owes a server of the Open Inference Protocol."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ebjr_det.core.types import Array

Values: TypeAlias = Array | list[str]
"""Numbers, or texts."""


class TensorForm(NamedTuple):
    """A tensor by name, the protocol's datatype and shape, and what it means.

    Of a shape, -1 is a length that pictures decide.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    meaning: str = ""


class Tensors(Protocol):
    """The part that turns answers into tensors and says their forms."""

    REQUIRED: tuple[str, ...]
    """The tensors that `from_tensors` reads; a teacher on another server must offer these."""

    @property
    def check_tensors(self) -> Callable[[Mapping[str, Any], Any], None]:
        """(values, classes); raises InvalidInput for answers that are not of these classes."""

    @property
    def forms(self) -> Callable[[Any], Sequence[TensorForm]]:
        """The classes -> the tensors that `to_tensors` gives, in order."""

    @property
    def to_tensors(self) -> Callable[[Sequence[Any], Any], Mapping[str, Values]]:
        """(predictions, classes) -> values by the names of `forms`."""

    @property
    def from_tensors(self) -> Callable[[Mapping[str, Any]], list[Any]]:
        """Values by name -> the predictions again."""

    @property
    def agreement(self) -> Callable[[Any, Any], float]:
        """(prediction, prediction) -> how much two answers to one picture agree, from 0 to 1."""
