"""How fast callables answer, after the scenarios of MLPerf inference: single stream, offline, server.

Knows callables and numbers only. Single stream and offline are closed loops (the next query when the last is
answered) of one image or of many; the server's requests come at times of their own, and a latency counts from
its arrival. All subjects take turns, each time another one first, so that what changes the machine's speed
changes it for all. Source: Reddi et al., MLPerf Inference Benchmark, ISCA 2020, arXiv:1911.02549.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import numpy as np

from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.core.types import FloatArray, Opaque

Entry = TypeVar("Entry")
Images = Sequence[Opaque]
MOST = 100_000
"""Rounds of a loop, and requests to a server, at most."""
QUANTILES = (50, 90, 99)


@dataclass(frozen=True)
class Subject:
    """What is timed.

    Attributes:
        call: takes some images and returns, when all their answers are there, how many a teacher gave.
    """

    name: str
    call: Callable[[Images], int]


@dataclass(frozen=True)
class Pace:
    """How long to go on, and by which clock.

    Attributes:
        seconds: for each subject.
        least: rounds or requests that are made however long they take.
        warmup: untimed calls of each subject before.
        tick: is told how many seconds have gone by since it was last told.
    """

    seconds: float
    least: int = 8
    warmup: int = 3
    clock: Callable[[], float] = perf_counter
    sleep: Callable[[float], None] = lambda seconds: None
    tick: Callable[[float], None] = lambda seconds: None

    def rounds(self, subjects: int) -> Iterator[int]:
        """0, 1, ... until the time of all subjects is over."""
        start = last = self.clock()
        for index in range(MOST):
            moment = self.clock()
            self.tick(moment - last)
            last = moment
            if index >= self.least and moment - start >= self.seconds * subjects:
                return
            yield index


@dataclass(frozen=True)
class Calls:
    """One subject's queries, one after the other.

    Attributes:
        images: of each query.
        ms: wall time of each query.
        deferred: how many of its images went to the teacher.
    """

    images: int
    ms: tuple[float, ...]
    deferred: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.images < 1 or not self.ms or len(self.ms) != len(self.deferred):
            raise InvalidInput(
                "Expected queries of at least one image, each with a time and what it deferred."
            )
        if not all(0 <= time < np.inf for time in self.ms):
            raise InvalidInput("Expected finite times of at least 0 ms.")

    @property
    def per_image(self) -> FloatArray:
        """Time an image of each query, ms."""
        return np.asarray(self.ms) / self.images

    @property
    def mean(self) -> float:
        """Mean ms an image."""
        return float(self.per_image.mean())

    @property
    def throughput(self) -> float:
        """Images a second: all images over all time."""
        return self.images * len(self.ms) / max(sum(self.ms) / 1e3, 1e-12)

    @property
    def deferral_rate(self) -> float:
        """Share of the images that went to the teacher."""
        return sum(self.deferred) / (self.images * len(self.ms))

    @property
    def drift(self) -> float:
        """Median of the second half over that of the first, minus 1."""
        first, second = np.array_split(self.per_image, 2)
        return float(np.median(second) / max(np.median(first), 1e-12) - 1) if len(second) else 0.0


def cycled(sample: Sequence[Entry], first: int, count: int) -> list[Entry]:
    """`count` entries of a sample that is gone through over and over, from the index `first` on.

    >>> cycled("abc", 2, 3)
    ['c', 'a', 'b']
    """
    return [sample[index % len(sample)] for index in range(first, first + count)]


def closed_loop(subjects: Sequence[Subject], images: Images, size: int, pace: Pace) -> dict[str, Calls]:
    """Queries of `size` images, each when the last is answered: single stream with 1, offline with many.

    In a round all subjects get the same images; the next round has the next ones.

    Raises:
        InvalidInput: no subjects or no images. ConfigError: a size below 1.
    """
    _check(subjects, images, size)
    warm_up(subjects, cycled(images, 0, size), pace.warmup)
    ms: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    deferred: dict[str, list[int]] = {subject.name: [] for subject in subjects}
    for index in pace.rounds(len(subjects)):
        query = cycled(images, index * size, size)
        for subject in cycled(subjects, index, len(subjects)):
            start = pace.clock()
            count = subject.call(query)
            ms[subject.name].append((pace.clock() - start) * 1e3)
            deferred[subject.name].append(count)
    return {name: Calls(size, tuple(ms[name]), tuple(deferred[name])) for name in ms}


def warm_up(subjects: Sequence[Subject], query: Images, count: int) -> None:
    """So many untimed calls of each subject, one subject after the other."""
    for subject in subjects:
        for _ in range(count):
            subject.call(query)


def poisson_arrivals(rate: float, seconds: float, seed: int, least: int = 1) -> FloatArray:
    """Times of requests that come independently of each other, `rate` a second: exponential gaps.

    At least `least`, however long that takes, and at most 100,000.

    Raises:
        ConfigError: a rate or time that is no number above 0, or a seed below 0.
    """
    check_seed(seed)
    for name, value in (("arrival rate", rate), ("seconds", seconds)):
        if not 0 < value < np.inf:
            raise ConfigError(f"Expected `{name}` to be a number above 0, got {value:g}.")
    expected = min(rate * seconds, MOST)
    draws = min(int(expected + 6 * expected**0.5) + least + 10, MOST)
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, draws))
    return times[: max(int(np.searchsorted(times, seconds)), least)]


@dataclass(frozen=True)
class Requests:
    """One subject's requests under a load.

    Attributes:
        latency_ms: from arrival to answer, in the order of arrival; None of a request that was not answered
            by the end.
        batches: how many requests were answered together, call after call.
        deferred: how many of the answered images went to the teacher.
    """

    latency_ms: tuple[float | None, ...]
    batches: tuple[int, ...]
    deferred: int

    def __post_init__(self) -> None:
        if not self.latency_ms or len(self.answered) != sum(self.batches):
            raise InvalidInput("Expected at least one request, and as many answers as batches hold.")
        if not (np.isfinite(self.answered) & (self.answered >= 0)).all():
            raise InvalidInput("Expected finite latencies of at least 0 ms.")

    @property
    def answered(self) -> FloatArray:
        """Latencies of the answered requests."""
        return np.array([ms for ms in self.latency_ms if ms is not None], dtype=np.float64)

    def quantile(self, percent: float) -> float | None:
        """Latency that so many requests do not exceed; None where it is that of one without an answer."""
        if None not in self.latency_ms:
            return float(np.percentile(self.answered, percent))
        times = [np.inf if ms is None else ms for ms in self.latency_ms]
        latency = float(np.percentile(times, percent, method="inverted_cdf"))
        return latency if latency < np.inf else None

    def inside(self, bound_ms: float) -> float:
        """Share of all requests that were answered within the bound."""
        return float((self.answered <= bound_ms).sum() / len(self.latency_ms))

    @property
    def deferral_rate(self) -> float | None:
        """Share of the answered images that went to the teacher."""
        return self.deferred / sum(self.batches) if self.batches else None


@dataclass
class _Queue:
    """One subject behind its queue. It can be interrupted: its own clock stands still meanwhile."""

    subject: Subject
    images: Images
    arrivals: FloatArray
    batch_size: int
    pace: Pace
    elapsed: float = 0.0
    latency: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    deferred: int = 0

    def advance(self, until: float) -> None:
        """Answer in the order of arrival until its clock shows that time or all is answered."""
        clock, start = self.pace.clock, self.pace.clock() - self.elapsed
        while len(self.latency) < len(self.arrivals) and self.elapsed < until:
            done = len(self.latency)
            due = float(self.arrivals[done])
            moment = max(clock() - start, self.elapsed)
            if due > moment:  # nobody waits: sleep until the next one comes, or until the turn is over
                self.pace.sleep(min(due, until) - moment)
                moment = max(clock() - start, min(due, until))
            self.elapsed = moment
            if due > moment:
                return
            waiting = int(np.searchsorted(self.arrivals, moment, side="right")) - done
            count = min(waiting, self.batch_size)
            self.deferred += self.subject.call(cycled(self.images, done, count))
            self.elapsed = max(clock() - start, moment)  # a call that has begun is finished beyond `until`
            self.latency += [float(self.elapsed - at) * 1e3 for at in self.arrivals[done : done + count]]
            self.batches.append(count)

    def requests(self) -> Requests:
        unanswered = [None] * (len(self.arrivals) - len(self.latency))
        return Requests((*self.latency, *unanswered), tuple(self.batches), self.deferred)


def server(
    subjects: Sequence[Subject],
    images: Images,
    arrivals: FloatArray,
    batch_size: int,
    pace: Pace,
    slices: int = 10,
) -> dict[str, Requests]:
    """Requests at the same arrival times to every subject: one server, first come, first served.

    A free server takes what waits, at most `batch_size`. Subjects take turns in slices of time; a queue
    lasts over the pauses, which do not count. Who is too slow for the load has as much time again as the
    last arrival took, and then leaves requests without an answer.

    Raises:
        InvalidInput: no subjects, images or arrivals. ConfigError: a batch size below 1.
    """
    _check(subjects, images, batch_size)
    if not len(arrivals) or not (np.diff(arrivals, prepend=0.0) >= 0).all() or not arrivals[-1] > 0:
        raise InvalidInput("Expected times of arrival from 0 on, in order, the last one above 0.")
    for subject in subjects if pace.warmup else ():
        for size in (batch_size, 1):
            subject.call(cycled(images, 0, size))
    queues = [_Queue(subject, images, arrivals, batch_size, pace) for subject in subjects]
    end, last = 2 * float(arrivals[-1]), pace.clock()
    for index in range(2 * slices):
        for queue in cycled(queues, index, len(queues)):
            queue.advance(end * (index + 1) / (2 * slices))
            moment = pace.clock()
            pace.tick(moment - last)
            last = moment
    return {queue.subject.name: queue.requests() for queue in queues}


def _check(subjects: Sequence[Subject], images: Images, size: int) -> None:
    if not subjects or not len(images):
        raise InvalidInput("Expected at least one subject and one image, got none.")
    if size < 1:
        raise ConfigError(f"Expected a batch of at least 1 image, got {size}.")
