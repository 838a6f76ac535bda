"""Training an EfficientDet: effdet's bench and loss, timm's optimiser, schedule and weight average.

What is saved and judged is the average of the weights. Killed at any moment, a training goes on from its last
state to the same result: every picture and every random number follows from the seed and the step.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ebjr_det.errors import CheckpointError, ConfigError, InvalidInput, first_line
from ebjr_det.files import atomic_write
from ebjr_det.tasks.detection.augmentation import TrainingSet, build_augmentation
from ebjr_det.tasks.detection.data import DetectionSet
from ebjr_det.tasks.detection.efficientdet import EfficientDetector, statistics
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.types import Model

STATE = "state.pt"
LOG = "log.csv"
WEIGHTS = "weights.safetensors"
LOGGED = ("step", "pictures", "lr", "loss", "class_loss", "box_loss", "AP")
JUDGED_BATCH = 8


@dataclass(frozen=True)
class Schedule:
    """How the training goes; the fields are those of a configuration's `schedule`."""

    steps: int
    batch_size: int
    lr: float
    weight_decay: float
    warmup_steps: int
    clip_norm: float
    ema_decay: float
    validate_every: int
    save_every: int
    workers: int
    amp: bool
    seed: int
    weights: str


@dataclass
class Trainer:
    """A training in progress.

    Args:
        detector: whose network is trained, in place.
        folder: for the state, the log and the weights.
        validation: images to judge the averaged weights on now and then, or None.
    """

    detector: EfficientDetector
    pictures: TrainingSet
    schedule: Schedule
    folder: Path
    validation: DetectionSet | None = None
    step: int = field(default=0, init=False)
    log: list[dict[str, float]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        from effdet import DetBenchTrain
        from timm.optim import create_optimizer_v2
        from timm.scheduler import CosineLRScheduler
        from timm.utils import ModelEmaV3

        plan, network = self.schedule, self.detector.network
        torch.manual_seed(plan.seed)
        network.to(memory_format=torch.channels_last)
        self.bench = DetBenchTrain(network, create_labeler=True).to(self.detector.device)
        self.optimizer = create_optimizer_v2(network, "adamw", lr=plan.lr, weight_decay=plan.weight_decay)
        self.rates = CosineLRScheduler(
            self.optimizer, t_initial=plan.steps, lr_min=plan.lr / 100, warmup_t=plan.warmup_steps,
            warmup_lr_init=plan.lr / 100, warmup_prefix=False, t_in_epochs=False,
        )  # fmt: skip
        self.average = ModelEmaV3(network, decay=plan.ema_decay, use_warmup=True)

    def run(self) -> dict[str, float]:
        """Train to the end; returns the last row of the log. Goes on where the folder has a state."""
        self._restore()
        plan = self.schedule
        with tqdm(
            total=plan.steps, initial=self.step, unit="step", desc=f"training {self.detector.name}"
        ) as bar:
            for pixels, boxes, classes in self._batches():
                losses = self._one_step(pixels, boxes, classes)
                self.step += 1
                bar.update()
                bar.set_postfix_str(f"loss {losses['loss']:.3f}", refresh=False)
                if self.step % plan.validate_every == 0 or self.step == plan.steps:
                    self._note(losses)
                if self.step % plan.save_every == 0 or self.step == plan.steps:
                    self._save()
        self._write_weights()
        return self.log[-1]

    def _one_step(self, pixels: Tensor, boxes: list[Tensor], classes: list[Tensor]) -> dict[str, float]:
        device, plan = self.detector.device, self.schedule
        self.rates.step_update(self.step)
        self.bench.train()
        batch = (pixels.to(device).float() - self.detector.mean) / self.detector.std
        target = {"bbox": [b.to(device) for b in boxes], "cls": [c.to(device) for c in classes]}
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.amp):
            losses = self.bench(batch.contiguous(memory_format=torch.channels_last), target)
        self.optimizer.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(self.detector.network.parameters(), plan.clip_norm)
        self.optimizer.step()
        self.average.update(self.detector.network, step=self.step)
        found = {name: float(losses[name].detach()) for name in ("loss", "class_loss", "box_loss")}
        if not all(torch.isfinite(torch.tensor(value)) for value in found.values()):
            raise InvalidInput(
                f"Expected a finite loss, got {found['loss']} at step {self.step}. Lower `lr`."
            )
        return found

    def _batches(self) -> Iterator[tuple[Tensor, list[Tensor], list[Tensor]]]:
        size = self.schedule.batch_size
        order = range(self.step * size, self.schedule.steps * size)
        data: Any = self.pictures
        return iter(
            DataLoader(data, size, sampler=order, num_workers=self.schedule.workers, collate_fn=_columns)
        )

    def _note(self, losses: dict[str, float]) -> None:
        """Append a row to the log, the averaged weights judged where there are validation images."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        row = {"step": self.step, "pictures": self.step * self.schedule.batch_size, "lr": rate, **losses}
        if self.validation is not None:
            row["AP"] = judge(self._averaged(), self.validation)["AP"]
            tqdm.write(f"step {self.step}: loss {row['loss']:.4f}, AP {row['AP']:.4f}")
        self.log.append(row)
        write_log(self.folder / LOG, self.log)

    def _averaged(self) -> EfficientDetector:
        one = self.detector
        return EfficientDetector(one.name, self.average.module, one.classes, str(one.device))

    def _save(self) -> None:
        state = {
            "step": self.step,
            "network": self.detector.network.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "log": self.log,
            "random": torch.get_rng_state(),
        }
        with atomic_write(self.folder / STATE) as temporary:
            torch.save(state, temporary)

    def _restore(self) -> None:
        path = self.folder / STATE
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.detector.device, weights_only=True)
            self.detector.network.load_state_dict(state["network"])
            self.average.module.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.log = int(state["step"]), list(state["log"])
            torch.set_rng_state(state["random"].cpu())
        except Exception as error:  # a damaged or foreign file can raise anything
            raise CheckpointError(
                f"Expected the state of this training in `{path}`, got: {first_line(error)}."
            ) from error

    def _write_weights(self) -> None:
        """The averaged weights; in `float16` all but vectors, whose range half precision may not hold."""
        half = self.schedule.weights == "float16"
        state = {
            name: (value.half() if half and value.ndim > 1 else value).contiguous().cpu()
            for name, value in self.average.module.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        with atomic_write(self.folder / WEIGHTS) as temporary:
            save_file(state, temporary)


def seed_weights(seed: int) -> None:
    """Fresh weights that are built from now on follow from the seed."""
    torch.manual_seed(seed)


def build_trainer(
    detector: Model,
    data: DetectionSet,
    validation: DetectionSet | None,
    folder: Path,
    schedule: Schedule,
    **augment: Any,
) -> Trainer:
    """A training of a detector on annotated images.

    Args:
        augment: see `augmentation.build_augmentation`.

    Raises:
        ConfigError: the detector is no EfficientDet.
    """
    if not isinstance(detector, EfficientDetector):
        raise ConfigError(f"Expected `effdet/NAME` to train, got `{detector.name}`.")
    side, mean = int(detector.config.image_size[0]), statistics(detector.config)[0]
    pictures = TrainingSet(data, build_augmentation(side, mean, **augment), schedule.seed)
    return Trainer(detector, pictures, schedule, folder, validation)


def judge(detector: EfficientDetector, data: DetectionSet) -> dict[str, float]:
    """COCO's twelve numbers of a detector on a whole set."""
    task = AveragePrecision()
    found: list[Any] = []
    for at in range(0, len(data), JUDGED_BATCH):
        images = range(at, min(at + JUDGED_BATCH, len(data)))
        found += detector([detector.preprocess(data.load(index)) for index in images]).predictions
    return task.metrics(task.match(found, [data.target(index) for index in range(len(data))]))


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """The log as CSV."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, [name for name in LOGGED if name in rows[0]])
        writer.writeheader()
        writer.writerows(rows)


def _columns(rows: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    pixels, boxes, classes = zip(*rows, strict=True)
    return torch.stack(pixels), list(boxes), list(classes)
