"""Every setting of a training with its type, default and limits. Knows nothing about what the settings do."""

from typing import Literal

from pydantic import Field, model_validator

from ebjr_det.config.sections import BaseSection, ModelSection
from ebjr_det.config.stated import Words


class ScheduleSection(BaseSection):
    """How a training goes; what is saved is an average of the weights, the best or the last."""

    steps: int | None = Field(None, ge=1)
    """Length in batches; either this or `epochs`."""
    epochs: int | None = Field(None, ge=1)
    """Length in rounds over the images; either this or `steps`."""
    batch_size: int = Field(16, ge=1)
    """Images in a batch."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """What moves the weights."""
    lr: float = Field(1e-3, gt=0)
    """The highest learning rate."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of `sgd`; `one_cycle` moves it from 0.95 to 0.85 and back instead."""
    nesterov: bool = False
    """Whether the momentum is Nesterov's."""
    weight_decay: float = Field(1e-4, ge=0)
    """Weight decay."""
    decay_norms: bool = False
    """Whether biases and norms decay too."""
    policy: Literal["cosine", "one_cycle", "step"] = "cosine"
    """How the learning rate goes: `cosine` and `step` after a warm-up, `one_cycle` up and down again."""
    warmup_steps: int = Field(200, ge=0)
    """Batches over which the rate rises, with `cosine` and `step`."""
    rise: float = Field(0.3, gt=0, lt=1)
    """Share of the length over which the rate rises, with `one_cycle`."""
    milestones: list[float] = Field([0.5, 0.75])
    """Shares of the length at which the rate falls, with `step`."""
    factor: float = Field(0.1, gt=0, le=1)
    """What the rate is multiplied by at each milestone."""
    clip_norm: float | None = Field(10.0, gt=0)
    """Longest gradient; null for no limit."""
    ema_decay: float = Field(0.998, ge=0, lt=1)
    """Decay of the running average of the weights, which is what is saved."""
    validate_every: int = Field(500, ge=1)
    """Batches between two validations."""
    keep: Literal["best", "last"] = "best"
    """Which average is saved: the best of the validations, or the last."""
    save_every: int = Field(100, ge=1)
    """Batches between two states for `--resume`."""
    workers: int = Field(0, ge=0, le=1000)
    """Processes that load images."""
    threads: int | None = Field(None, ge=1, le=10_000)
    """Threads of each process, by default one a CPU."""
    device: str = "auto"
    """Where the network is trained: `auto`, `cpu`, `cuda` ..."""
    amp: bool = False
    """Whether it computes in bfloat16 where that is safe."""
    tensorboard: bool = False
    """Whether losses are also written for TensorBoard."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of weights, order and changes of the images."""
    weights: Literal["float32", "float16"] = "float32"
    """Precision in which weights are saved."""

    @model_validator(mode="after")
    def _one_length(self) -> "ScheduleSection":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("either steps or epochs, got both or neither")
        if not all(0 < share < 1 for share in self.milestones):
            raise ValueError(f"milestones between 0 and 1, got {self.milestones}")
        if self.nesterov and not self.momentum:
            raise ValueError("a momentum above 0 for nesterov, got 0")
        return self

    def steps_of(self, images: int) -> int:
        """The length in steps over so many images; the last batch of a round runs into the next."""
        return self.steps or max(1, (self.epochs or 1) * images // self.batch_size)


class LossSection(BaseSection):
    """What a network learns where a `teacher` is given."""

    distillation: float = Field(0.5, gt=0, le=1)
    """Share of the loss that is the teacher's answers, the rest being the labels."""
    temperature: float = Field(4.0, gt=0)
    """How soft the teacher's answers are."""


class LearnConfig(BaseSection):
    """What every training has: labelled images, and others that watch it."""

    task: str
    """What the model does: `classification` or `detection`."""
    title: Words = ""
    """Heading of the log."""
    data: BaseSection
    """The labelled images that train."""
    validation: BaseSection | None = None
    """The labelled images that choose which weights are kept; null keeps the last."""
    popular_share: float | None = Field(None, gt=0, lt=1)
    """How often a training image shows a popular class, for a specialised student."""
    initial: str | None = None
    """Weights to start from; what does not fit, such as a head of other classes, starts anew."""


class TrainConfig(LearnConfig):
    """`ebjr-det train`: one network on labelled images, watched on others."""

    model: ModelSection
    """The network that is trained."""
    teacher: ModelSection | None = None
    """A model whose answers it learns beside the labels."""
    loss: LossSection = LossSection()
    """What the loss is made of."""
    augment: BaseSection
    """How training images are changed."""
    schedule: ScheduleSection
    """How the training goes."""

    @model_validator(mode="after")
    def _teacher_knows_all(self) -> "TrainConfig":
        if self.teacher is not None and self.teacher.popular is not None:
            raise ValueError("a teacher of all classes, got one with `popular` classes")
        return self


BESIDE_WEIGHTS = (
    "title",
    *(f"{model}.{key}" for model in ("model", "student", "teacher") for key in ("name", "macs")),
    "schedule.workers",
    "schedule.threads",
    "schedule.save_every",
    "schedule.tensorboard",
)
"""Settings of a training, or of a specialisation, with which it may go on: trained weights do not follow from
them, but for their last bits from the number of threads. See `identity.BESIDE_RECORDS` for those of a run.
"""


def training_identity(config: LearnConfig) -> dict[str, object]:
    """The settings that trained weights depend on, each by its whole name."""
    settings: dict[str, object] = {}
    for key, value in config.model_dump().items():
        inner = value.items() if isinstance(value, dict) else ()
        settings |= {f"{key}.{name}": inner_value for name, inner_value in inner} or {key: value}
    return {name: value for name, value in settings.items() if name not in BESIDE_WEIGHTS}
