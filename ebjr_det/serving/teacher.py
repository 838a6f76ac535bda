"""Whom the desk asks for deferred pictures: the protocol of a teacher, and the one in this process."""

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

from ebjr_det.core.joint import JointModel
from ebjr_det.core.types import Opaque
from ebjr_det.serving.batcher import Batched, Batcher
from ebjr_det.serving.fault import Unavailable
from ebjr_det.serving.protocol import Source

if TYPE_CHECKING:
    from PIL.Image import Image

Result = TypeVar("Result")
FIRST_SIZES = (1, 2)
"""Pictures of the batches that are answered before any request."""


@dataclass(frozen=True)
class Deferred:
    """Pictures for the teacher: as they came, which is how they travel, and decoded.

    Attributes:
        scores: the deferral score of each.
        left: seconds within which somebody waits for the answer.
    """

    sources: Sequence[Source]
    pictures: "Sequence[Image]"
    scores: Sequence[float]
    left: float = math.inf

    def those(self, indices: Sequence[int]) -> "Deferred":
        """The pictures at these indices."""
        return Deferred(
            [self.sources[index] for index in indices],
            [self.pictures[index] for index in indices],
            [self.scores[index] for index in indices],
        )


class Teacher(Protocol):
    """What the desk asks. A local one is below; one of another process is a `guard.Guarded` link."""

    @property
    def waiting(self) -> int:
        """Pictures that it has been asked for and has not answered."""

    @property
    def breaker_state(self) -> float:
        """Whether it is asked: 0 yes, 1 not at all, 2 by a probe."""

    @property
    def patience_seconds(self) -> float:
        """How long an answer is waited for now, at most."""

    def expected_seconds(self, count: int) -> float:
        """How long so many more pictures would take, those before them included; 0 where nobody knows."""

    def warm(self, deferred: Deferred) -> Sequence[Opaque]:
        """The predictions of first pictures, before any request; none where it is not there yet.

        Raises InvalidInput for pictures that it cannot take. Blocks, and is called in no event loop.
        """

    async def answer(self, deferred: Deferred, left: float) -> Batched[Opaque]:
        """A prediction of every picture within so many seconds, infinity for any number.

        Raises:
            Unavailable: there is none, and why; the student's answers then stand.
            InvalidInput: a picture that is wrong.
        """

    def close(self) -> None:
        """End its threads and connections when nobody waits for them any more."""


class LocalTeacher:
    """A pair's teacher in this process, which answers in batches; `readers`: threads that preprocess."""

    breaker_state, patience_seconds = 0.0, math.inf

    def __init__(self, joint: JointModel, largest: int, readers: Executor) -> None:
        self.joint, self.readers, self.asked = joint, readers, 0
        self.batcher: Batcher[Opaque, Opaque] = Batcher(joint.teach, largest, "ebjr-det teacher")

    @property
    def waiting(self) -> int:
        """Pictures it was asked for, or works on though nobody waits for them any more."""
        return max(self.asked, self.batcher.waiting)

    def expected_seconds(self, count: int) -> float:
        """By the running mean of seconds a picture."""
        return (self.waiting + count) * self.batcher.seconds_each

    def warm(self, deferred: Deferred) -> Sequence[Opaque]:
        """The predictions, made in this thread; then those of larger batches, which are left out."""
        inputs = self._inputs(deferred)
        batches = [self.joint.teach(inputs * count) for count in FIRST_SIZES[: self.batcher.largest]]
        return batches[0]

    async def answer(self, deferred: Deferred, left: float) -> Batched[Opaque]:
        """Raises Unavailable where the deadline is nearer than the answer."""
        if self.expected_seconds(len(deferred.pictures)) > left:
            raise Unavailable("deadline")
        started = monotonic()
        self.asked += len(deferred.pictures)
        try:
            inputs = await in_time(self.readers.submit(self._inputs, deferred), left)
            return await in_time(self.batcher.submit(inputs), left - (monotonic() - started))
        except TimeoutError as error:
            raise Unavailable("deadline") from error
        finally:
            self.asked -= len(deferred.pictures)

    def close(self) -> None:
        """End the thread when its queue is empty."""
        self.batcher.close()

    def _inputs(self, deferred: Deferred) -> list[Opaque]:
        return list(map(self.joint.teacher_input, deferred.pictures, deferred.scores))


async def in_time(future: "Future[Result]", left: float) -> Result:
    """A thread's result. Raises TimeoutError where it does not come; what has not begun is then left out."""
    return await asyncio.wait_for(asyncio.wrap_future(future), None if left == math.inf else max(left, 0.0))
