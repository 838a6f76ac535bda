"""Threads of the libraries that compute: how many there are, and that they soon sleep while they wait.

Torch's OpenMP and numpy's BLAS keep their threads awake for long after a piece of work, in case more
follows. Beside another busy process that takes the core from the thread that is waited for, so that all is 10
to 40 times slower. Threads that sleep at once must be woken for each piece, which makes small networks
up to 4 times slower where nothing else runs. Between the two lies a short wait, as measured by
`eval/benchmarks/neighbours.py`. Both libraries read their settings once, when they are loaded:
`ebjr_det/__init__` calls `prepare` first.
"""

import math
import os
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from threading import Lock
from typing import Any, ParamSpec, TypeVar

COUNT, POLICY, SPINS = "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
WAITING = {
    # libgomp of torch and scikit-learn: look so often before sleeping, some 20 us, instead of 300,000 times
    SPINS: ("torch", "800"),
    # Intel's and LLVM's OpenMP, which do not know the line above: KMP_BLOCKTIME 0 instead of 200 ms
    POLICY: ("torch", "PASSIVE"),
    # OpenBLAS of numpy and of scipy: sleep after 2^4 cycles instead of 2^26, the least that it takes
    "OPENBLAS_THREAD_TIMEOUT": ("numpy", "4"),
}
"""Variable -> the library that must not be loaded yet, and the value."""

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def prepare(loaded: Container[str] = sys.modules) -> None:
    """Set the variables that the libraries read when they are loaded; a value that is set stays.

    A library that is loaded already keeps what it has. Where a container's quota is less than its CPUs, which
    the libraries do not know of, their threads are as many as the quota.

    Args:
        loaded: names of libraries.
    """
    chosen = POLICY in os.environ  # which a number of spins would override
    for name, (library, value) in WAITING.items():
        if library not in loaded and not (chosen and name == SPINS):
            os.environ.setdefault(name, value)
    if COUNT not in os.environ and "torch" not in loaded and usable_cpus() < allowed_cpus():
        os.environ[COUNT] = str(usable_cpus())


def allowed_cpus() -> int:
    """CPUs on which this process may run."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs on which this process may run, at most as many as its control groups' quotas, rounded up.

    Args:
        root: where `proc` and `sys` are.
    """
    return max(1, min([allowed_cpus(), *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that this process's control groups, and those around them, get as time. Source: cgroups(7)."""
    for line in _lines(root / "proc/self/cgroup"):
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / ("sys/fs/cgroup/cpu" if controllers else "sys/fs/cgroup")
        inner = mount / path.lstrip("/")
        for folder in (inner, *(outer for outer in inner.parents if outer.is_relative_to(mount))):
            if controllers:  # version 1
                words = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
            else:
                words = [word for line in _lines(folder / "cpu.max") for word in line.split()]
            if len(words) == 2 and all(map(str.isdecimal, words)):  # else `max` or -1: no quota
                yield int(words[0]) / int(words[1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def thread_count() -> int:
    """How many threads a pool of this process gets: as `OMP_NUM_THREADS` says, else one a usable CPU."""
    first = os.environ.get(COUNT, "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else usable_cpus()


@contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables with these values within; afterwards they are as before."""
    earlier = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in earlier.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class SharedContext:
    """A context of the whole process: the first thread within enters it, the last one to go leaves it.

    Where each thread put back what it had met, and they went in another order, all would stay as set.
    """

    def __init__(self, build: Callable[[], AbstractContextManager[object]]) -> None:
        self.build, self.lock, self.threads, self.entered = build, Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, the context is entered; a thread may be within more than once."""
        with self.lock:
            if self.threads == 0:
                self.entered.enter_context(self.build())
            self.threads += 1
        try:
            yield
        finally:
            with self.lock:
                self.threads -= 1
                if self.threads == 0:
                    self.entered.close()


@contextmanager
def limited_threads(threads: int | None, *, beyond: bool = False) -> Iterator[None]:
    """So many threads for torch, BLAS and the runtimes that are built within; None changes nothing.

    Set before torch is loaded, which then makes no more; a torch that is loaded is told. More than the usable
    CPUs are not taken, with a note on stderr. What was before is there again afterwards.

    Args:
        beyond: more than the usable CPUs are taken, where the number itself matters.
    """
    if threads is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    count = threads if beyond else min(threads, usable_cpus())
    variables = {COUNT: str(count), "MKL_DYNAMIC": "FALSE"}  # else MKL takes one a physical core at most
    if count < threads:
        print(
            f"Note: {threads} threads were asked for, {count} are taken: this process may use no more CPUs.",
            file=sys.stderr,
        )
    torch = sys.modules.get("torch")
    earlier = torch.get_num_threads() if torch else None
    try:
        with variables_set(variables), threadpool_limits(count):
            if torch:
                torch.set_num_threads(count)
            yield
    finally:
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(earlier or thread_count())


def on_threads(section: str) -> Callable[[Callable[Arguments, Returned]], Callable[Arguments, Returned]]:
    """A verb that runs on as many threads as this section of its settings, its first argument, says."""

    def wrap(verb: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
        @wraps(verb)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
            settings: Any = args[0] if args else kwargs["config"]
            with limited_threads(getattr(settings, section).threads):
                return verb(*args, **kwargs)

        return run

    return wrap
