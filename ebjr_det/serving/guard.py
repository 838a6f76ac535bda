"""A teacher of another process as the desk asks it: with patience, behind a breaker.

The student's answer is at hand all the while, so a teacher that is slow, stopped or dead costs quality and
never an answer. An open breaker is probed with the pictures of a request that does not wait for the probe.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Protocol

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Opaque
from ebjr_det.io.notes import say
from ebjr_det.serving.batcher import WEIGHT, Batched
from ebjr_det.serving.breaker import LEAST, Breaker, Patience
from ebjr_det.serving.fault import Unavailable
from ebjr_det.serving.settings import LONGEST
from ebjr_det.serving.teacher import Deferred

FAULTS = ("timeout", "died")


class Link(Protocol):
    """The way to a teacher of another process."""

    def warm(self, deferred: Deferred) -> Sequence[Opaque]:
        """The predictions of first pictures, before any request; blocks.

        Raises:
            Unavailable: it is not there yet.
            InvalidInput: pictures that it cannot take.
            ConfigError: a teacher that is not this pair's.
        """

    async def ask(self, deferred: Deferred) -> Batched[Opaque]:
        """A prediction of every picture; cancelled when nobody waits for it any more.

        Raises:
            Unavailable: `busy` where it has enough to do, `timeout` where it gives up itself, `died` for a
                fault of its machine.
            InvalidInput: a picture that is wrong.
        """

    def close(self) -> None:
        """End its connections."""


class Guarded:
    """A `teacher.Teacher` at the other end of a link.

    Faults of the tier (no answer in time, `died`) count for the breaker; a full queue, a deadline of the
    client's and a wrong picture do not.

    Args:
        least: seconds that every answer is waited for, see `breaker.Patience`.
    """

    def __init__(self, link: Link, least: float = LEAST) -> None:
        self.link, self.breaker, self.patience = link, Breaker(), Patience(least)
        self.waiting, self.seconds_each = 0, 0.0
        self.probes = set[asyncio.Task[None]]()

    def expected_seconds(self, count: int) -> float:
        """By the running mean of seconds a picture, by those that were waiting beside it."""
        return (self.waiting + count) * self.seconds_each

    def warm(self, deferred: Deferred) -> Sequence[Opaque]:
        """The predictions; none, and an open breaker, where the teacher is not there yet."""
        try:
            self.link.warm(deferred)
            started = monotonic()  # the first answer took the longer for being the first
            predictions = self.link.warm(deferred)
        except Unavailable as fault:
            self.breaker.open()
            say(f"Note: no teacher yet, so the student answers all and says so. {fault.__cause__ or fault}")
            return []
        self.patience.add(monotonic() - started, len(predictions))
        return predictions

    async def answer(self, deferred: Deferred, left: float) -> Batched[Opaque]:
        """Raises Unavailable: `breaker` at once where it is open, `timeout` when patience ends."""
        count = len(deferred.sources)
        patience = self.patience.seconds(count)
        if self.breaker.is_open:
            self._probe(deferred)
            raise Unavailable("breaker", self.breaker.pause)
        if self.waiting and self.expected_seconds(count) > left:
            raise Unavailable("deadline")
        self.waiting += count
        waiting, started = self.waiting, monotonic()
        limit = min(left, patience, LONGEST)
        try:
            taught = await asyncio.wait_for(self.link.ask(replace(deferred, left=limit)), limit)
        except (TimeoutError, Unavailable) as error:
            reason = error.reason if isinstance(error, Unavailable) else "timeout"
            reason = "deadline" if reason == "timeout" and limit == left else reason
            if reason in FAULTS:
                self._fault(reason)
            raise Unavailable(reason) from error
        finally:
            self.waiting -= count
        self.breaker.count(fault=False)
        self.patience.add(seconds := monotonic() - started, count)
        self.seconds_each += (WEIGHT if self.seconds_each else 1.0) * (seconds / waiting - self.seconds_each)
        return taught

    def _fault(self, reason: str) -> None:
        was_open = self.breaker.is_open
        self.breaker.count(fault=True)
        if self.breaker.is_open and not was_open:
            say(f"Note: no answers of the teacher ({reason}), so the student answers all and says so.")

    def _probe(self, deferred: Deferred) -> None:
        if self.breaker.begin_probe():
            task = asyncio.get_running_loop().create_task(self._probed(deferred))
            self.probes.add(task)
            task.add_done_callback(self.probes.discard)

    async def _probed(self, deferred: Deferred) -> None:
        """Ask with more patience. A late answer closes nothing, but is remembered like any other.

        So a teacher that has become slower for good is believed after some probes, and one that never was
        there at its first. What a new connection takes does not count.
        """
        count, fault = len(deferred.sources), True
        patience = self.patience.seconds(count)
        try:
            taught = await asyncio.wait_for(self.link.ask(replace(deferred, left=LONGEST)), LONGEST)
            self.patience.add(taught.took, count)
            fault = taught.took > patience
        except (Unavailable, TimeoutError):
            return
        except InvalidInput:  # it answers, if only to refuse
            fault = False
        finally:
            self.breaker.end_probe(fault)
            if not fault:
                say("Note: the teacher answers again.")

    @property
    def breaker_state(self) -> float:
        """0 closed, 1 open, 2 probing."""
        return 0.0 if not self.breaker.is_open else 2.0 if self.breaker.probing else 1.0

    @property
    def patience_seconds(self) -> float:
        """How long the answer to one picture is waited for now; infinity before the first."""
        return self.patience.seconds(1)

    def close(self) -> None:
        """End the link's connections."""
        self.link.close()
