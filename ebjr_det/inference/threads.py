"""Threads that make calls for someone who waits for their futures. Knows nothing about what is called."""

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from itertools import count
from queue import Empty, PriorityQueue
from threading import Thread
from types import TracebackType
from typing import Any, TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class WorkerPool:
    """Threads for calls, the urgent ones first; without threads each call is made at once by the caller.

    Args:
        failure: gets the first exception of any of its threads.
        waits: for a call that has begun, at the end.
    """

    def __init__(self, threads: int, failure: "Future[None]", *, waits: bool = True) -> None:
        self.failure, self.waits = failure, waits
        # Calls of equal urgency stay in order by their numbers, which also keep calls from being compared.
        self.calls: PriorityQueue[tuple[int, int, Callable[[], Any], Future[Any]]] = PriorityQueue()
        self.numbers, self.busy, self.closed = count(), False, False
        self.threads = [Thread(target=self._work, name="ebjr-det", daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def submit(
        self,
        call: Callable[[Argument], Result],
        argument: Argument,
        *,
        urgent: bool = False,
        future: "Future[Result] | None" = None,
    ) -> "Future[Result]":
        """The future of a call; `future` itself where one is given."""
        future = Future() if future is None else future
        if self.threads:
            self.calls.put((int(not urgent), next(self.numbers), partial(call, argument), future))
        else:
            future.set_result(call(argument))
        return future

    def _work(self) -> None:
        while True:
            _, _, call, future = self.calls.get()
            self.busy = True
            if self.closed:
                future.cancel()
                return
            try:
                result = call()
            except BaseException as error:
                with suppress(InvalidStateError):  # another thread failed first
                    self.failure.set_exception(error)
                future.set_exception(error)  # after it: whoever waits for this one finds the failure
            else:
                del call  # and with it the picture, before anybody learns that the call is over
                future.set_result(result)
                del result
            del future
            self.busy = False

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True
        with suppress(Empty):
            while True:
                self.calls.get_nowait()[3].cancel()  # a teacher's batch may wait for it
        for _ in self.threads:  # each is woken once by a call of nothing, sees `closed` and ends
            self.calls.put((-1, next(self.numbers), int, Future()))
        for thread in self.threads:
            if self.waits or not self.busy:
                thread.join()
