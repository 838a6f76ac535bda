"""The training loop: batches that follow from the step, an average of the weights, the best of it kept.

What is judged and saved is the average of the weights. Killed at any moment, a training goes on from its last
state to the same result: every picture and every random number follows from the seed and the step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ebjr_det.config import ScheduleSection
from ebjr_det.core.errors import InvalidInput, Unreachable
from ebjr_det.core.types import Opaque
from ebjr_det.io.notes import say
from ebjr_det.training.optimizer import build_optimizer, rate_setter
from ebjr_det.training.ranks import Ranks
from ebjr_det.training.state import LOG, STATE, WEIGHTS, load_state, save_state, write_log, write_weights

Judge: TypeAlias = Callable[[nn.Module], Mapping[str, float]]
Batch: TypeAlias = tuple[Tensor | list[Tensor], ...]
Collate: TypeAlias = Callable[[Sequence[Opaque]], Batch]


class Judged(NamedTuple):
    """A model on the validation images: its `numbers`, and the quality of each class that they show."""

    numbers: Mapping[str, float]
    by_class: Mapping[str, float]


class Pictures(Protocol):
    """The pictures of a training, endless: picture k at index k, any k from 0."""

    def __getitem__(self, k: int) -> Opaque: ...


ALONE = Ranks(0, 1, "cpu")


@dataclass
class Learner:
    """A network of a task with all that its training needs.

    Attributes:
        name: shown with the progress.
        network: trained in place; `bench`: a module around it, batch -> `loss`, a scalar, and its parts by
            name.
        collate: several of the `pictures` -> one batch, a tuple of tensors or of lists of tensors.
        count: images in a round; `classes`: their names.
        judge: a network of the same kind -> numbers on the validation images, that called `quality` among
            them; None where there are no such images.
        outputs: which output of the network is taught each class; None: they are in order.
        judge_model: as `judge`, of a model as inference builds it.
    """

    name: str
    network: nn.Module
    bench: nn.Module
    pictures: Pictures
    collate: Collate
    count: int
    classes: Sequence[str]
    quality: str
    judge: Judge | None = None
    outputs: Sequence[int] | None = None
    judge_model: Callable[[Any], Judged] | None = None


@dataclass(frozen=True)
class _Batches:
    """Numbers of pictures -> a batch, or its first fault."""

    pictures: Pictures
    collate: Collate

    def __call__(self, numbers: Sequence[int]) -> Batch | InvalidInput | Unreachable:
        try:
            return self.collate([self.pictures[number] for number in numbers])
        except (InvalidInput, Unreachable) as error:  # raised in a loader process it comes with a traceback
            return error


@dataclass
class Trainer:
    """A training in progress.

    Args:
        folder: for the state, the log and the weights.
        ranks: this process among those that train together.
    """

    learner: Learner
    plan: ScheduleSection
    folder: Path
    ranks: Ranks = ALONE
    step: int = field(default=0, init=False)
    log: list[dict[str, float]] = field(default_factory=list, init=False)
    best: dict[str, Any] = field(default_factory=dict, init=False)
    """The `step` and the averaged `weights` that were judged best so far; empty before."""

    def __post_init__(self) -> None:
        from timm.utils import ModelEmaV3

        plan, network = self.plan, self.learner.network
        self.steps = plan.steps_of(self.learner.count)
        self.batch_share = self.ranks.share(plan.batch_size)
        torch.manual_seed(plan.seed)
        network.to(memory_format=torch.channels_last)
        self.bench = self.ranks.shared(self.learner.bench.to(self.ranks.device))
        self.optimizer = build_optimizer(network, plan)
        self.set_rate = rate_setter(self.optimizer, plan, self.steps)
        self.average = ModelEmaV3(network, decay=plan.ema_decay, use_warmup=True)

    def run(self) -> dict[str, float]:
        """Train to the end; returns the last row of the log. Goes on where the folder has a state."""
        self._restore()
        plan, first = self.plan, self.ranks.first
        bar = tqdm(
            total=self.steps, initial=self.step, unit="step", desc=f"training {self.learner.name}",
            disable=not first,
        )  # fmt: skip
        board = (
            _board(self.folder, self.step) if plan.tensorboard and first else nullcontext(lambda row: None)
        )
        with bar, board as show:
            for batch in self._batches():
                losses = self._one_step(batch)
                self.step += 1
                bar.update()
                bar.set_postfix_str(f"loss {losses['loss']:.3f}", refresh=False)
                if first and (self.step % plan.validate_every == 0 or self.step == self.steps):
                    show(self._log(losses))
                if first and (self.step % plan.save_every == 0 or self.step == self.steps):
                    save_state(self.folder / STATE, self._state())
        if first:
            weights = self.best["weights"] if self.best else self.average.module.state_dict()
            half, learner = plan.weights == "float16", self.learner
            path = self.folder / WEIGHTS
            write_weights(path, weights, half=half, classes=learner.classes, outputs=learner.outputs)
        self.ranks.wait()
        return self.log[-1] if self.log else {}

    @property
    def saved_row(self) -> Mapping[str, float]:
        """The row of the log of the weights that are saved: the best ones, or the last."""
        step = self.best.get("step", self.steps)
        return next((row for row in self.log if row["step"] == step), {"step": step})

    def _one_step(self, batch: Batch) -> dict[str, float]:
        """Train on one batch; returns the losses by name. Raises InvalidInput where one is not finite."""
        device, plan = torch.device(self.ranks.device), self.plan
        if self.step:  # every policy begins at its first rate
            self.set_rate(self.step)
        self.bench.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.amp):
            losses: Mapping[str, Tensor] = self.bench(*(_onto(column, device) for column in batch))
        self.optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        if plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.learner.network.parameters(), plan.clip_norm)
        self.optimizer.step()
        self.average.update(self.learner.network, step=self.step + 1)
        values = self.ranks.mean(torch.stack([value.detach().float() for value in losses.values()]))
        numbers = dict(zip(losses, values.tolist(), strict=True))
        if not torch.isfinite(values).all():
            raise InvalidInput(
                f"Expected a finite loss, got {numbers['loss']} at step {self.step}. Lower `lr`."
            )
        return numbers

    def _batches(self) -> Iterator[Batch]:
        """This process's share of every batch to come. Raises InvalidInput for what cannot be read."""
        size, ranks = self.plan.batch_size, self.ranks
        order: Any = range(self.step * size + ranks.rank, self.steps * size, ranks.world)
        for batch in DataLoader(
            order,
            self.batch_share,
            num_workers=self.plan.workers,
            collate_fn=_Batches(self.learner.pictures, self.learner.collate),
            generator=torch.Generator(),  # else it would draw from the network's
        ):
            if isinstance(batch, InvalidInput | Unreachable):
                raise batch
            yield batch

    def _log(self, losses: dict[str, float]) -> dict[str, float]:
        """Append a row to the log, the averaged weights judged where there are validation images."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        row = {"step": self.step, "pictures": self.step * self.plan.batch_size, "lr": rate, **losses}
        if self.learner.judge is not None:
            name = self.learner.quality
            row |= self.learner.judge(self.average.module)
            say(f"step {self.step}: loss {row['loss']:.4f}, {name} {row[name]:.4f}")
            so_far = max((earlier[name] for earlier in self.log), default=-1.0)
            if self.plan.keep == "best" and row[name] > so_far:
                weights = {key: value.clone() for key, value in self.average.module.state_dict().items()}
                self.best = {"step": self.step, "weights": weights}
        self.log.append(row)
        write_log(self.folder / LOG, self.log)
        return row

    def _state(self) -> dict[str, object]:
        device = self.ranks.device
        return {
            "step": self.step,
            "network": self.learner.network.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "log": self.log,
            "random": [  # of the CPU, and of the GPU where this process computes; the same in all processes
                torch.get_rng_state(),
                *([torch.cuda.get_rng_state(device)] if device.startswith("cuda") else []),
            ],
        }

    def _restore(self) -> None:
        """Go on from the folder's state, where it has one."""

        def take(state: dict[str, Any]) -> None:
            self.learner.network.load_state_dict(state["network"])
            self.average.module.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.log, self.best = int(state["step"]), list(state["log"]), dict(state["best"])
            of_cpu, *of_gpu = (random.cpu() for random in state["random"])
            torch.set_rng_state(of_cpu)
            for random in of_gpu:
                torch.cuda.set_rng_state(random, self.ranks.device)

        load_state(self.folder / STATE, self.ranks.device, take)


@contextmanager
def _board(folder: Path, step: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that adds a row to the log for TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(row: Mapping[str, float]) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, int(row["step"]))
        writer.flush()  # a row that the next state holds is never written again

    try:
        yield add
    finally:
        writer.close()


def _onto(column: Tensor | list[Tensor], device: torch.device) -> Tensor | list[Tensor]:
    return column.to(device) if isinstance(column, Tensor) else [tensor.to(device) for tensor in column]
