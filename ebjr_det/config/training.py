"""Every setting of a training with its type, default and limits. Knows nothing about what the settings do."""

from typing import Literal

from pydantic import Field, model_validator

from ebjr_det.config.sections import BaseSection, ModelSection, Words


class ScheduleSection(BaseSection):
    """How a training goes; what is saved is an average of the weights, the best or the last.

    Its length is `steps`, or `epochs`, rounds over the images. `policy` is how the learning rate goes:
    `cosine` after `warmup_steps`; `one_cycle`, up for the share `rise` of the steps and down again; `step`,
    times `factor` at each of the `milestones`, shares of the steps, also after `warmup_steps`. In one cycle
    SGD's momentum goes from 0.95 down to 0.85 and up again, whatever `momentum` says. `threads`: of each
    process, by default one a CPU; see `threads.limited_threads`.
    """

    steps: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)
    batch_size: int = Field(16, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0)
    decay_norms: bool = False
    policy: Literal["cosine", "one_cycle", "step"] = "cosine"
    warmup_steps: int = Field(200, ge=0)
    rise: float = Field(0.3, gt=0, lt=1)
    milestones: list[float] = Field(default_factory=lambda: [0.5, 0.75])
    factor: float = Field(0.1, gt=0, le=1)
    clip_norm: float | None = Field(10.0, gt=0)
    ema_decay: float = Field(0.998, ge=0, lt=1)
    validate_every: int = Field(500, ge=1)
    keep: Literal["best", "last"] = "best"
    save_every: int = Field(100, ge=1)
    workers: int = Field(0, ge=0, le=1000)
    threads: int | None = Field(None, ge=1, le=10_000)
    device: str = "auto"
    amp: bool = False
    tensorboard: bool = False
    seed: int = Field(0, ge=0, lt=2**63)
    weights: Literal["float32", "float16"] = "float32"

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
    """What a network learns where a `teacher` is given: the share of the teacher's logits, softened."""

    distillation: float = Field(0.5, gt=0, le=1)
    temperature: float = Field(4.0, gt=0)


class LearnConfig(BaseSection):
    """What every training has: labelled images, and others that watch it."""

    task: str
    title: Words = ""
    data: BaseSection
    validation: BaseSection | None = None
    popular_share: float | None = Field(None, gt=0, lt=1)
    initial: str | None = None


class TrainConfig(LearnConfig):
    """`ebjr-det train`: one network on labelled images, watched on others.

    With `model.popular` it is a specialised student; `popular_share` is then how often a training picture
    shows a popular class. `teacher` is a model whose answers it learns too. `initial` names weights to start
    from; what does not fit, such as a head of other classes, starts anew.
    """

    model: ModelSection
    teacher: ModelSection | None = None
    loss: LossSection = LossSection()
    augment: BaseSection
    schedule: ScheduleSection

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
