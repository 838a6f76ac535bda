"""Every setting of a run with its type, default and limits.

A file is flat and whole: no inheritance, no interpolation. Knows nothing about what the settings do.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ebjr_det.core.calibration import Target
from ebjr_det.core.errors import ConfigError


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("words without control characters")
    return text


Words = Annotated[str, Field(max_length=200), AfterValidator(_printable)]


class BaseSection(BaseModel):
    """Settings that belong together: frozen, strictly typed, none unknown, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


NOT_BUILT = ("macs", "popular", "other_at", "runtime")


class ModelSection(BaseSection):
    """What every model has: weights, a name, and multiply-adds an image where torch counts none.

    `popular` makes it a specialised student: its outputs are these classes and, last, "other". `runtime` runs
    it (`runtimes.RUNTIMES`); `auto` takes the fastest that agrees with eager torch on this machine.
    """

    arch: str
    name: Words | None = None
    checkpoint: str | None = None
    sha256: str | None = None
    pretrained: bool = False
    random_weights: bool = False
    options: dict[str, object] = {}
    macs: float | None = Field(None, ge=0)
    popular: list[int | str] | None = None
    runtime: str = "eager"

    def built(self) -> dict[str, object]:
        """The settings that the task's `build_model` takes."""
        return {key: value for key, value in self if key not in NOT_BUILT}


VALUE = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Of a dataclass that is a section: pydantic's `strict` would take no mapping for it, so its fields are."""
Number = Annotated[float, Field(strict=True)]
Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Inside = Annotated[float, Field(gt=0, lt=1, strict=True)]
Cost = Annotated[float, Field(gt=0, le=1e30, strict=True)]


@dataclass(frozen=True)
class TargetSection(Target):
    """A target from which the threshold is calibrated, on a `fraction` of the images."""

    __pydantic_config__: ClassVar[ConfigDict] = VALUE

    value: Annotated[float, Field(ge=0, strict=True)]
    confidence: Inside | None = None
    fraction: Inside = 0.5


AUTO, PUBLISHED = "auto", "published"
"""Words for a score: chosen on the calibration part, and that of EBJR."""


def _count_of_boxes(count: object) -> object:
    if count in (None, AUTO) or (type(count) is int and count >= 1):
        return count
    raise ValueError("a whole number of at least 1, `auto`, or null for all")


class RouterSection(BaseSection):
    """Which score decides, and where: a fixed threshold or a calibrated target, not both.

    `score: auto`, the default, chooses score, router and rescaling on the calibration part, which `target`
    names (by default a third, on which 30 % are deferred); with a `file`, a fitted router, its own score
    decides; beside a threshold, or where the part is too small, `energy_curvature` does. `published` is
    EBJR's. With a score and neither threshold nor target, the threshold defers 30 % of the images that the
    student does not hand on by itself, which needs no label.

    `top_k` and `aggregate` turn the scores of an image's boxes into one, by default as the score itself says
    (`scores.Score`); a classification has one row, which is it. `other_logit`: whether the scores of a
    specialised student see its logit of "other".
    """

    file: str | None = None
    sha256: str | None = None
    score: str | None = AUTO
    options: dict[str, object] = {}
    top_k: Annotated[int | Literal["auto"] | None, BeforeValidator(_count_of_boxes)] = "auto"
    aggregate: Literal["auto", "mean", "sum", "min", "logsumexp"] = "auto"
    other_logit: bool = True
    threshold: float | None = None
    target: TargetSection | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> "RouterSection":
        if self.threshold is not None and self.target is not None:
            raise ValueError("either a threshold or a target, got both")
        return self

    @property
    def automatic(self) -> bool:
        """Whether score and router are left to be chosen."""
        return self.score in (None, AUTO) and self.file is None and self.threshold is None


MOST_TIMED = 10_000_000
"""Pictures of a latency measurement; more is a mistake, which would end in a lack of memory."""


class LatencySection(BaseSection):
    """How latency is measured: on `batches` seeded random batches, each model alone and the live pair.

    `batch_sizes`: further sizes at which each model is measured alone, so that budgets in ms hold there too.
    """

    measure: bool = True
    batch_size: int = Field(1, ge=1, le=1_000_000)
    batch_sizes: list[Annotated[int, Field(ge=1, le=1_000_000)]] = []
    batches: int = Field(100, ge=1, le=1_000_000)
    warmup: int = Field(3, ge=0, le=1_000_000)

    @model_validator(mode="after")
    def _within_reason(self) -> "LatencySection":
        if self.batch_size * self.batches > MOST_TIMED:
            raise ValueError(f"at most {MOST_TIMED:,} pictures, got {self.batch_size * self.batches:,}")
        return self


class RunSection(BaseSection):
    """How the run goes, none of which changes what is measured but the batch size in its last bits.

    The live pair gathers deferred pictures over batches: `teacher_batch` at most, for `patience_ms` at most;
    see `inference.stream_plan`. `tolerance`: how far a runtime's outputs may lie from eager's; see
    `runtimes.drift`.
    `threads`: of torch and the runtimes, by default one a CPU; see `threads.limited_threads`.
    """

    batch_size: int = Field(256, ge=1, le=1_000_000)
    teacher_batch: int | None = Field(None, ge=1, le=1_000_000)
    patience_ms: float | None = Field(None, ge=0)
    overlap: bool = False
    regroup: bool | None = None
    tolerance: float = Field(0.02, gt=0)
    flush_seconds: float = Field(5.0, ge=0)
    workers: int = Field(0, ge=0, le=1000)
    threads: int | None = Field(None, ge=1, le=10_000)
    device: str = "auto"
    seed: int = Field(0, ge=0)
    bootstrap: int = Field(1000, ge=2, le=100_000)


@dataclass(frozen=True)
class Reference:
    """A single model to compare with.

    Attributes:
        quality: as it was published; None where the run holds the model's own records, which then tell it.
        macs, latency_ms: of an image.
        source: where a published figure comes from.
    """

    __pydantic_config__: ClassVar[ConfigDict] = VALUE

    name: Words
    quality: Share | None
    macs: Cost
    latency_ms: Cost | None = None
    source: Words = ""


@dataclass(frozen=True)
class PublishedReference(Reference):
    """A single model by its published quality."""

    quality: Share


@dataclass(frozen=True)
class StatedMix:
    """A mix of classes as people state it; exactly one of `share`, `histogram` and `zipf`.

    Attributes:
        popular: names or indices of the popular classes, most popular first; by default those of the runs.
        share: of the popular classes in the traffic; inside both groups classes are as in the data.
        histogram: share of each class, 0 of those that it leaves out.
        zipf: exponent of Zipf's law over the popular classes, then the others in the order of the data.

    Raises:
        ConfigError: none or several of them, or numbers that cannot be.
    """

    __pydantic_config__: ClassVar[ConfigDict] = VALUE

    popular: list[int | str] | None = None
    share: Number | None = None
    histogram: dict[str, Number] | None = None
    zipf: Number | None = None

    def __post_init__(self) -> None:
        stated = sum(value is not None for value in (self.share, self.histogram, self.zipf))
        if stated != 1:
            raise ConfigError(
                "Expected exactly one of a share of the popular classes, a histogram and an exponent of "
                f"Zipf's law, got {stated or 'none'}."
            )
        if self.share is not None and not 0 <= self.share <= 1:
            raise ConfigError(f"Expected a share of the popular classes in [0, 1], got {self.share}.")
        if self.zipf is not None and not 0 <= self.zipf < math.inf:
            raise ConfigError(f"Expected an exponent of at least 0 for Zipf's law, got {self.zipf}.")
        shares = [] if self.histogram is None else list(self.histogram.values())
        for share in shares:
            if not 0 <= share < math.inf:
                raise ConfigError(f"Expected shares of classes from 0 to 1, got {share:g}.")
        if self.histogram is not None and abs(sum(shares) - 1) > SUM_TOLERANCE:
            raise ConfigError(f"Expected shares of classes that sum to 1, got a sum of {sum(shares):.8g}.")


SUM_TOLERANCE = 1e-6


class EvaluateConfig(BaseSection):
    """`ebjr-det evaluate`: a pair on labelled images. Each task says what its `data` and models are."""

    task: str
    title: Words = ""
    data: BaseSection
    student: ModelSection
    teacher: ModelSection
    router: RouterSection = RouterSection()
    latency: LatencySection = LatencySection()
    run: RunSection = RunSection()
    references: list[PublishedReference] = []
    traffic: StatedMix | None = None

    @model_validator(mode="after")
    def _teacher_knows_all(self) -> "EvaluateConfig":
        if self.teacher.popular is not None:
            raise ValueError("a teacher of all classes, got one with `popular` classes")
        return self
