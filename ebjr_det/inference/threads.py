"""Threads that make calls for someone who waits for their futures. Knows nothing about what is called."""

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from itertools import count
from queue import Empty, PriorityQueue
from threading import Thread
from types import TracebackType
from typing import Any


class Crew:
    """Threads for calls, the urgent ones first; without threads each call is made at once by the caller.

    Args:
        failed: gets the first exception of any of its threads.
        waits: for a call that has begun, at the end.
    """

    def __init__(self, threads: int, failed: "Future[Any]", *, waits: bool = True) -> None:
        self.failed, self.waits = failed, waits
        self.jobs: PriorityQueue[tuple[int, int, Callable[[], Any], Future[Any]]] = PriorityQueue()
        self.numbers, self.busy, self.closed = count(), False, False
        self.threads = [Thread(target=self._work, name="ebjr-det", daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def do(
        self,
        call: Callable[..., Any],
        argument: Any,
        *,
        urgent: bool = False,
        done: "Future[Any] | None" = None,
    ) -> "Future[Any]":
        """The future of a call, which is `done` where that is given."""
        future: Future[Any] = Future() if done is None else done
        if self.threads:
            self.jobs.put((int(not urgent), next(self.numbers), partial(call, argument), future))
        else:
            future.set_result(call(argument))
        return future

    def _work(self) -> None:
        while True:
            _, _, call, done = self.jobs.get()
            self.busy = True
            if self.closed:
                done.cancel()
                return
            try:
                result = call()
            except BaseException as error:
                done.set_exception(error)
                self._fail(error)
            else:
                del call  # and with it the picture, before anybody learns that the call is over
                done.set_result(result)
                del result
            del done
            self.busy = False

    def _fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):  # another thread was first
            self.failed.set_exception(error)

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True
        while True:
            try:
                self.jobs.get_nowait()[3].cancel()  # a teacher's batch may wait for it
            except Empty:
                break
        for _ in self.threads:
            self.jobs.put((-1, next(self.numbers), _nothing, Future()))
        for thread in self.threads:
            if self.waits or not self.busy:
                thread.join()


def _nothing() -> None:
    """Wakes a thread that is to end."""
