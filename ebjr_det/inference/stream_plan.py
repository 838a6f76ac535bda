"""How a stream is to go through the pair, and what comes out of it."""

import math
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import Opaque

Item = TypeVar("Item")
Image = TypeVar("Image")
SPAN = 4
"""Batches, the larger of student's and teacher's, for which a deferred picture may hold up the answers."""


@dataclass(frozen=True)
class Plan:
    """How a stream goes through the pair. None of it changes an answer, but `regroup=True` its last bits.

    Attributes:
        batch_size: pictures in a batch of the student.
        teacher_batch: most pictures in a batch of the teacher, where they are gathered.
        workers: threads that load and preprocess; 0 does both in the calling thread, one by one.
        patience_ms: how long a deferred picture waits for others at most, from the decision on; None for no
            bound.
        overlap: the teacher works in a thread of its own, while the student goes on.
        regroup: gather deferred pictures over several batches of the student. None: where no bit changes by
            it, which a teacher tells by a true attribute `invariant` (an image's answer does not depend on
            its batch). Without it the teacher sees the deferred pictures of each batch as `JointModel` does.

    Raises:
        ConfigError: a number that is out of range.
    """

    batch_size: int = 8
    teacher_batch: int = 8
    workers: int = 2
    patience_ms: float | None = None
    overlap: bool = False
    regroup: bool | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("teacher_batch", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"Expected `{name}` to be at least {least}, got {getattr(self, name)}.")
        if self.patience_ms is not None and not 0 <= self.patience_ms < math.inf:
            raise ConfigError(f"Expected `patience_ms` to be 0 or more, or none, got {self.patience_ms}.")

    @property
    def span(self) -> int:
        """How many pictures the student goes on at most behind a deferred one that waits for others."""
        return SPAN * max(self.batch_size, self.teacher_batch)

    @property
    def ahead(self) -> int:
        """How many pictures behind the student's next batch are loaded at most."""
        return max(self.batch_size, 2 * self.workers) if self.workers else 0

    @property
    def window(self) -> int:
        """Most pictures that are held at a time, however long the stream: span + batch_size + ahead."""
        return self.span + self.batch_size + self.ahead


class Answer(NamedTuple, Generic[Item, Image]):
    """What the pair says to one picture; `in_front`: a router in front of the student has sent it on."""

    item: Item
    image: Image
    prediction: Opaque
    score: float
    deferred: bool
    in_front: bool = False
