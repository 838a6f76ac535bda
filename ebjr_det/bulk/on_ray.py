"""Shards on Ray Data: each stage, as students and teachers, has a pool of actors that scales apart.

Nothing else here imports ray. A row is a shard, and a block of its own: what a student has answered goes to a
teacher at once, and what a dying worker held is done again without its neighbours.
"""

import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from typing import TypeAlias

import ray
import ray.data
from ray.exceptions import RayError, RayTaskError, UserCodeException
from ray.util.annotations import RayDeprecationWarning

from ebjr_det.bulk.executors import DIED, Stage, Stages
from ebjr_det.bulk.table import ShardCounts
from ebjr_det.core.errors import EbjrError, InvalidInput
from ebjr_det.io.notes import say
from ebjr_det.io.third_party import foreign_errors, stdout_to_stderr
from ebjr_det.io.threads import limited_threads, usable_cpus

SHARDS = 10_000
"""Shards in a data set: Ray keeps facts of each block as long as one lasts."""
RETRIES = 3
"""How often a shard is begun anew whose worker died; after that the shard itself may be what kills."""
OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory of a Ray that is started here, for students' answers on their way to a teacher."""
ITEM = "item"
Row: TypeAlias = dict[str, bytes]


class Worker:
    """A stage in an actor.

    Args:
        build: makes the stage; called at the first shard, as Ray tells little of an actor that cannot begin.
        threads: of the stage.
        folder: from which relative paths are taken, where the actor's machine has it.
    """

    def __init__(self, build: Callable[[], Stage], threads: int, folder: str) -> None:
        self.build, self.threads, self.folder = build, threads, folder
        self.stage: Stage | None = None
        self.held = ExitStack()

    def __call__(self, row: Row) -> Row:
        """The row with what the stage made of it, or with what is refused: raised, it would be a defect."""
        item = pickle.loads(row[ITEM])  # noqa: S301  # which a worker of this job wrote
        if isinstance(item, EbjrError):
            return row
        try:
            if self.stage is None:
                with suppress(OSError):
                    os.chdir(self.folder)
                self.held.enter_context(limited_threads(self.threads, beyond=True))
                self.stage = self.build()
            return _row_of(self.stage(item))
        except EbjrError as error:
            return _row_of(error)


def _row_of(item: object) -> Row:
    """A row that Ray carries as it is: a number of a shard, an answered shard, its counts or an error."""
    return {ITEM: pickle.dumps(item)}


def run_ray(stages: Stages, shards: Iterator[int], address: str) -> Iterator[ShardCounts]:
    """Shards by whichever actors are free; results as they come.

    Args:
        address: of a cluster, as `auto`, or `local` for a Ray that is started here and ends with the job.

    Raises:
        ConfigError: no Ray at that address.
        InvalidInput: a stage refuses a shard, or a shard's workers died again and again. Written shards stay.
    """
    _start(address, stages)
    try:
        with stdout_to_stderr():  # where Ray would tell of workers, whose prints it passes on
            while numbers := list(islice(shards, SHARDS)):
                for row in _plan(stages, numbers).iter_rows():
                    item = pickle.loads(row[ITEM])  # noqa: S301  # which a worker of this job wrote
                    if isinstance(item, EbjrError):
                        raise item
                    yield item
    except (RayTaskError, UserCodeException):  # a defect of ours
        raise
    except RayError as error:
        raise InvalidInput(DIED) from error
    finally:
        ray.shutdown()


def _start(address: str, stages: Stages) -> None:
    sizes: dict[str, object] = {}
    if address == "local":  # an actor more for each further stage, as a teacher waits most of the time
        cpus = max(usable_cpus(), stages.threads) + (len(stages.builders) - 1) * stages.threads
        sizes = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    logging.getLogger("ray").setLevel(logging.ERROR)
    with foreign_errors(f"Ray at `{address}`, with RAY_AUTH_MODE=token where it wants one"):
        ray.init(address, configure_logging=False, **sizes)
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    if sum(cpus // stages.threads for cpus in machines) < len(stages.builders):
        say(
            f"Note: {len(stages.builders)} actors of {stages.threads} CPUs each have no room on machines of "
            f"{', '.join(map(str, machines))}; more machines are waited for. Fewer --threads fit."
        )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":  # its file in Ray's folder has all
            handler.setLevel(logging.CRITICAL)


def _plan(stages: Stages, numbers: list[int]) -> ray.data.Dataset:
    """Shards on their way through a pool of one actor or more for each stage."""
    data = ray.data.from_items([_row_of(number) for number in numbers], override_num_blocks=len(numbers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RayDeprecationWarning)  # of the retries, until there is another way
        for build in stages.builders:
            data = data.map(
                Worker,
                fn_constructor_args=(build, stages.threads, os.getcwd()),
                compute=ray.data.ActorPoolStrategy(min_size=1),
                num_cpus=stages.threads,
                num_gpus=stages.gpus or None,
                max_task_retries=RETRIES,
            )
    return data
