"""One thread that owns a model, and answers what is waiting in batches. Knows nothing about what it calls."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread
from time import monotonic
from typing import Generic, Protocol, TypeVar

from ebjr_det.core.errors import InvalidInput

Input = TypeVar("Input")
Single = TypeVar("Single", covariant=True)
Result = TypeVar("Result")
WEIGHT = 0.1
"""Of the newest batch in the running mean of seconds a picture."""


class Inputs(Protocol[Single]):
    """What one request brings: so many, made when the thread first looks at them or before."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Single]: ...


@dataclass(frozen=True)
class Batched(Generic[Result]):
    """The results of a request's inputs, and the seconds that these waited and that their batch took."""

    results: Sequence[Result]
    waited: float
    took: float


class Sizes:
    """How many batches of each size several threads have done, and the seconds that they took together."""

    def __init__(self) -> None:
        self._counts: dict[int, tuple[int, float]] = {}
        self._lock = Lock()

    def add(self, size: int, seconds: float) -> None:
        """Count a batch."""
        with self._lock:
            batches, earlier = self._counts.get(size, (0, 0.0))
            self._counts[size] = batches + 1, earlier + seconds

    def counts(self) -> dict[int, tuple[int, float]]:
        """The counts of batches so far, in order of size."""
        with self._lock:
            return dict(sorted(self._counts.items()))


@dataclass(eq=False)
class _Unit(Generic[Input, Result]):
    """One request's inputs, which stay together."""

    inputs: Inputs[Input]
    arrived: float = field(default_factory=monotonic)
    future: "Future[Batched[Result]]" = field(default_factory=Future)


class Batcher(Generic[Input, Result]):
    """A queue before a function of batches, worked on by one thread.

    Whenever the thread is free it takes what is waiting, whole requests up to `largest` inputs; nobody waits
    for a batch to fill. So a lone request is a batch of its own and has the bits of a plain call. A batch
    that raises InvalidInput is done again request by request, so that one bad request spoils no other.

    Args:
        call: inputs -> as many results.
        largest: inputs in a batch; a request of more is a batch of its own.

    Attributes:
        sizes: of its batches; after a reload also of those of the pair before.
    """

    def __init__(self, call: Callable[[Sequence[Input]], Sequence[Result]], largest: int, name: str) -> None:
        self.call, self.largest = call, largest
        self.queue: deque[_Unit[Input, Result]] = deque()
        self.waiting, self.seconds_each = 0, 0.0
        self.sizes = Sizes()
        self._changed, self._closed = Condition(), False
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, inputs: Inputs[Input]) -> "Future[Batched[Result]]":
        """The results, later; one that is cancelled before its turn is left out."""
        unit: _Unit[Input, Result] = _Unit(inputs)
        with self._changed:
            self.queue.append(unit)
            self.waiting += len(inputs)
            self._changed.notify()
        return unit.future

    def answer_here(self, inputs: Inputs[Input]) -> Batched[Result]:
        """The results, made in the caller's thread, which is that of `submit`; only while nothing waits."""
        unit: _Unit[Input, Result] = _Unit(inputs)
        with self._changed:
            self.waiting += len(inputs)
        self._run([unit])
        return unit.future.result()

    def close(self) -> None:
        """End the thread when the queue is empty; does not wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _work(self) -> None:
        while batch := self._take():
            active = list[_Unit[Input, Result]]()
            for unit in batch:
                if unit.future.set_running_or_notify_cancel():
                    active.append(unit)
                else:
                    self._leave(unit)
            if active:
                self._run(active)

    def _run(self, units: Sequence[_Unit[Input, Result]]) -> None:
        """Answer a batch, and note how long that took."""
        started = monotonic()
        self._answer(units)
        size, seconds = sum(len(unit.inputs) for unit in units), monotonic() - started
        with self._changed:  # who is answered may answer the next one itself, before this is noted
            weight = WEIGHT if self.seconds_each else 1.0
            self.seconds_each += weight * (seconds / size - self.seconds_each)
        self.sizes.add(size, seconds)

    def _leave(self, unit: _Unit[Input, Result]) -> None:
        """Count a request out before its future is set, so that who asks again finds the place free."""
        with self._changed:
            self.waiting -= len(unit.inputs)

    def _take(self) -> list[_Unit[Input, Result]]:
        """The next batch; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self.queue or self._closed)
            batch: list[_Unit[Input, Result]] = []
            count = 0
            while self.queue and (not batch or count + len(self.queue[0].inputs) <= self.largest):
                batch.append(self.queue.popleft())
                count += len(batch[-1].inputs)
            return batch

    def _answer(self, units: Sequence[_Unit[Input, Result]]) -> None:
        started = monotonic()
        try:
            results = self.call([item for unit in units for item in unit.inputs])
        except InvalidInput as error:
            if len(units) == 1:
                self._leave(units[0])
                units[0].future.set_exception(error)
            else:
                for unit in units:
                    self._answer([unit])
            return
        except BaseException as error:  # the thread lives on: whoever waits learns of it
            for unit in units:
                self._leave(unit)
                unit.future.set_exception(error)
            return
        took, start = monotonic() - started, 0
        for unit in units:
            stop = start + len(unit.inputs)
            self._leave(unit)
            unit.future.set_result(Batched(results[start:stop], started - unit.arrived, took))
            start = stop
