"""Who works on the shards of a job: this process, or several."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from ebjr_det.bulk.stages import StudentStage, TeacherStage
from ebjr_det.bulk.table import ShardCounts
from ebjr_det.core.errors import InvalidInput

Work: TypeAlias = Callable[[int], ShardCounts]


@dataclass(frozen=True)
class Stages:
    """What makes the two stages of a shard, wherever they work; both can be pickled."""

    student: Callable[[], StudentStage]
    teacher: Callable[[], TeacherStage]

    def build(self) -> Work:
        """A worker of both stages, in this process."""
        student, teacher = self.student(), self.teacher()
        return lambda shard: teacher(student(shard))


def run_here(stages: Stages, shards: Iterable[int]) -> Iterator[ShardCounts]:
    """One shard after the other."""
    work = stages.build()
    return (work(shard) for shard in shards)


def run_processes(stages: Stages, shards: Iterable[int], workers: int) -> Iterator[ShardCounts]:
    """Shards in so many processes, each with both models; results as they come.

    Raises:
        InvalidInput: a process died. The shards that are written stay.
    """
    context = multiprocessing.get_context("spawn")
    waiting = iter(shards)
    with ProcessPoolExecutor(workers, context, _begin, (stages,)) as pool:
        try:
            running: set[Future[ShardCounts]] = {
                pool.submit(_work, shard) for shard in islice(waiting, 2 * workers)
            }
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_work, shard) for shard in islice(waiting, len(done))}
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise InvalidInput(
                "Expected every worker to live, got one that died, perhaps for want of memory. Nothing that "
                "is written is lost; the same command goes on."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_built: list[Work] = []
"""Of a worker: the stages that it has built."""


def _begin(stages: Stages) -> None:
    _built.append(stages.build())


def _work(shard: int) -> ShardCounts:
    return _built[0](shard)
