"""Who works on the shards of a job: this process, or several of this machine; for others see `on_ray`."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import islice
from threading import Thread
from typing import Any, TypeAlias

from ebjr_det.bulk.table import ShardCounts
from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.threads import limited_threads

Work: TypeAlias = Callable[[int], ShardCounts]
Stage: TypeAlias = Callable[[Any], Any]
DIED = (
    "Expected every worker to live, got one that died, perhaps for want of memory. Nothing that is written "
    "is lost; the same command goes on."
)


@dataclass(frozen=True)
class Stages:
    """What makes the stages of a shard wherever they work, one after the other; it can be pickled.

    Attributes:
        builders: of stages; the first takes a shard's number, each what the one before gives, and the last
            gives `ShardCounts` when the shard's file is written.
        threads: of torch and the runtimes, the same everywhere, as last bits may hang on them.
        gpus: share of a GPU that a stage takes where several machines work; it sees none without.
    """

    builders: tuple[Callable[[], Stage], ...]
    threads: int
    gpus: float = 0.0

    def build(self) -> Work:
        """A worker of all stages, in this process."""
        stages = [build() for build in self.builders]

        def work(shard: int) -> ShardCounts:
            value: Any = shard
            for stage in stages:
                value = stage(value)
            return value  # type: ignore[no-any-return]

        return work


def run_here(stages: Stages, shards: Iterable[int]) -> Iterator[ShardCounts]:
    """One shard after the other."""
    with limited_threads(stages.threads, beyond=True):
        work = stages.build()
        for shard in shards:
            yield work(shard)


def run_processes(stages: Stages, shards: Iterable[int], workers: int) -> Iterator[ShardCounts]:
    """Shards in so many processes, each with both models; results as they come.

    Raises:
        InvalidInput: a process died. The shards that are written stay.
    """
    context = multiprocessing.get_context("spawn")
    # A pool for each: a pool of several starts a process while it ends those beside one that died, and then
    # waits for the new one for ever (Python 3.11).
    pools, running = list[ProcessPoolExecutor](), dict[Future[ShardCounts], ProcessPoolExecutor]()
    waiting = iter(shards)
    try:
        for shard in islice(waiting, workers):
            pools.append(ProcessPoolExecutor(1, context, _begin, (stages,)))
            running[pools[-1].submit(_work, shard)] = pools[-1]
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pool = running.pop(future)
                running |= {pool.submit(_work, shard): pool for shard in islice(waiting, 1)}
                yield future.result()
    except BrokenProcessPool as error:
        raise InvalidInput(DIED) from error
    finally:
        for pool in pools:
            pool.shutdown(wait=True)


_held = ExitStack()
_asked: list[Stages] = []
"""Of a worker: the stages that it is to build."""


def _begin(stages: Stages) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    _held.enter_context(limited_threads(stages.threads, beyond=True))
    _asked.append(stages)


def _end_with_parent() -> None:
    """Wait for the process that asked for this one: killed, it cannot end it, which would wait for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@cache
def _built() -> Work:
    """The stages, built for the first shard: what fails as a process begins is taken for its death."""
    return _asked[0].build()


def _work(shard: int) -> ShardCounts:
    return _built()(shard)
