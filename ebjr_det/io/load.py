"""What other processes took of the CPUs during a measurement, so that a doubtful time is known as one.

CPU time that the CPUs of this process spent at work, less its own and that of children that have ended; time
that a hypervisor gave to other machines (steal) counts as work of others. Source: proc_stat(5).
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeVar, TypeVarTuple

from ebjr_det.io.threads import allowed_cpus

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")
SHORTEST = 0.5
"""Seconds below which the system's clock ticks of 10 ms tell nothing about the load."""


NOISY = 0.2
"""CPUs that others take, on average, from which a measurement is called noisy."""


@dataclass(frozen=True)
class Load:
    """Mean load of the CPUs over a measurement, in CPUs.

    Attributes:
        others: what other processes took; None where the system does not tell, or after too short a time.
        own: what this process took.
        cpus: on how many CPUs it may run.
    """

    others: float | None
    own: float
    cpus: int
    seconds: float

    @property
    def noisy(self) -> bool:
        """Whether others took so much that times are doubtful: more than `NOISY` CPUs.

        >>> Load(1.3, 0.7, 2, 60.0).noisy
        True
        """
        return self.others is not None and self.others > NOISY

    @property
    def in_words(self) -> str:
        """To stand behind "measured".

        >>> Load(1.3, 0.7, 2, 60.0).in_words
        'beside a load of 1.30 of 2 CPUs: noisy'
        """
        if self.others is None:
            return "beside an unknown load"
        return f"beside a load of {self.others:.2f} of {self.cpus} CPUs" + ": noisy" * self.noisy

    def to_dict(self) -> dict[str, float | int | bool | None]:
        """Plain values, the verdict among them."""
        return asdict(self) | {"noisy": self.noisy}


class Reading(NamedTuple):
    """Seconds: a clock's, those that CPUs spent at work (None where unknown), and this process's of them."""

    clock: float
    busy: float | None
    own: float


def read_cpus(root: Path = Path("/")) -> Reading:
    """The counters now, of the CPUs on which this process may run; `root`: where `proc` is."""
    return Reading(perf_counter(), _busy_seconds(root), sum(os.times()[:4]))


def _busy_seconds(root: Path) -> float | None:
    try:
        lines = (root / "proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    # user, nice, system, idle, iowait, irq, softirq, steal; guests' time behind them is in user already
    rows = [list(map(int, line.split()[1:9])) for line in lines if line.split(" ", 1)[0] in names]
    return sum(sum(row) - sum(row[3:5]) for row in rows) / os.sysconf("SC_CLK_TCK") if rows else None


@dataclass
class Meter:
    """Tells the load since it was made or last asked.

    >>> times = iter([Reading(0.0, 5.0, 1.0), Reading(10.0, 20.0, 3.0)])
    >>> Meter(lambda: next(times)).lap().others
    1.3
    """

    read: Callable[[], Reading] = read_cpus
    last: Reading = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.read()

    def lap(self) -> Load:
        """The load since the last time."""
        before, self.last = self.last, self.read()
        seconds = self.last.clock - before.clock
        own, others = self.last.own - before.own, None
        if before.busy is not None and self.last.busy is not None and seconds >= SHORTEST:
            busy = self.last.busy - before.busy
            if busy >= own / 2:  # a sandbox may count nothing, not even this process
                others = max(0.0, busy - own) / seconds
        return Load(others, own / max(seconds, 1e-9), allowed_cpus(), seconds)


@dataclass
class Stopwatch:
    """Wall time of calls by name, in seconds, summed until it is read.

    >>> times = iter([1.0, 3.5])
    >>> watch = Stopwatch(lambda: next(times))
    >>> watch.time("halving", lambda value: value / 2, 3.0), watch.read(), watch.read()
    (1.5, {'halving': 2.5}, {})
    """

    clock: Callable[[], float] = perf_counter
    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, name: str, call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """What the call returns; its time goes to the name."""
        start = self.clock()
        result = call(*arguments)
        self.seconds[name] = self.seconds.get(name, 0.0) + (self.clock() - start)
        return result

    def read(self) -> dict[str, float]:
        """The times so far, which begin anew."""
        seconds, self.seconds = self.seconds, {}
        return seconds
