"""Several processes that train one network, as `torchrun` starts them; alone, this process is the first."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from ebjr_det.core.errors import ConfigError, InvalidInput

# While the first process judges the others wait, which may take longer than torch's ten minutes.
PATIENCE = timedelta(hours=6)


def first_of_ranks() -> bool:
    """Whether this process is the first, known before any peer is joined."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Ranks:
    """This process among its peers.

    Attributes:
        rank, world: its number from 0, and how many there are.
        device: where it computes.
    """

    rank: int
    world: int
    device: str

    @classmethod
    def join(cls, device: str) -> "Ranks":
        """Find the peers, by the variables that `torchrun` sets; on GPUs each process takes its own."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls(0, 1, device)
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        if not distributed.is_initialized():
            backend = "nccl" if device.startswith("cuda") else "gloo"
            distributed.init_process_group(backend, timeout=PATIENCE)
        return cls(distributed.get_rank(), world, device)

    @property
    def first(self) -> bool:
        """Whether this process is the one that judges, writes and talks."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here. Raises InvalidInput where one of them has ended."""
        if self.world > 1:
            try:
                distributed.barrier()
            except RuntimeError as error:
                raise InvalidInput(
                    "Expected all processes to go on, got one that ended. Its own message says why."
                ) from error

    def leave(self) -> None:
        """The training is over."""
        if self.world > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    def shared(self, bench: nn.Module) -> nn.Module:
        """A module with its gradients averaged over all processes."""
        if self.world == 1:
            return bench
        if self.device.startswith("cuda"):
            from timm.layers import convert_sync_batchnorm  # torch's own would drop timm's activations

            bench = convert_sync_batchnorm(bench)
        return nn.parallel.DistributedDataParallel(bench)

    def mean(self, values: Tensor) -> Tensor:
        """Values averaged over all processes, the same in each."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values / self.world

    def share(self, batch_size: int) -> int:
        """How many pictures of a batch are this process's. Raises ConfigError where the shares differ."""
        if batch_size % self.world:
            raise ConfigError(
                f"Expected `schedule.batch_size` to be a multiple of the {self.world} processes, "
                f"got {batch_size}."
            )
        return batch_size // self.world
