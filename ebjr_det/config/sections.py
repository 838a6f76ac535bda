"""Every setting of a run with its type, default and limits.

A file is flat and whole: no inheritance, no interpolation. Knows nothing about what the settings do. The
text below a setting is its meaning wherever it is shown: `init`, `--print-config`, schema, reference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ebjr_det.config.nesting import NESTED, paired
from ebjr_det.config.stated import VALUE, Inside, PublishedReference, StatedMix, Words
from ebjr_det.config.target import Target, TargetKind
from ebjr_det.core.tiers import MOST_TIERS, Topology


class BaseSection(BaseModel):
    """Settings that belong together: frozen, strictly typed, none unknown, no NaN."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A schema in which a setting that a derived section types anew keeps its meaning."""
        schema = handler.resolve_ref_schema(handler(core))
        for name, setting in schema.get("properties", {}).items():
            fields = (base.model_fields.get(name) for base in cls.__mro__ if issubclass(base, BaseModel))
            meanings = [field.description for field in fields if field and field.description]
            if meanings:
                setting["description"] = meanings[0]
        return schema


NOT_BUILT = ("macs", "popular", "other_at", "runtime")


class ModelSection(BaseSection):
    """What every model has: network, weights, a name, and what runs it."""

    arch: str
    """The network: a library's name such as `effdet/tf_efficientdet_d0` or `torchvision/resnet50`,
    `package.module:function` of one's own, or for a teacher `pair`, whose `checkpoint` is a configuration.
    """
    name: Words | None = None
    """What reports call the model; by default its `arch`."""
    checkpoint: str | None = None
    """Weights: a file, .safetensors or what torch wrote, or a name that the manifest of known weights has."""
    sha256: str | None = None
    """Checksum of the weights, which a run writes and a later one checks."""
    pretrained: bool = False
    """Take the library's own weights for `arch`."""
    random_weights: bool = False
    """Run without any weights, to measure speed alone."""
    class_names: list[str] | dict[str, str] | None = None
    """What the outputs of somebody else's network mean: all names in order, or for some of its names those of
    the data.
    """
    options: dict[str, object] = {}
    """Further arguments of the network's builder."""
    trust: bool = False
    """Whether a pickle that brings its own code, as `ultralytics/FILE.pt` is, may be read and so run."""
    macs: float | None = Field(None, ge=0)
    """Multiply-adds an image, where they cannot be counted."""
    popular: list[int | str] | None = None
    """Classes of a specialised student: its outputs are these and, last, "other"."""
    runtime: str = "eager"
    """What runs the network; `auto` takes the fastest that agrees with eager torch on this machine."""

    def built(self) -> dict[str, object]:
        """The settings that the task's `build_model` takes."""
        return {key: value for key, value in self if key not in NOT_BUILT}


@dataclass(frozen=True)
class TargetSection(Target):
    """A target from which the threshold is calibrated, on a `fraction` of the images."""

    __pydantic_config__: ClassVar[ConfigDict] = VALUE

    kind: TargetKind
    """What the operating point keeps: at most so large a `deferral_rate`, `macs` or `latency_ms` an image, or
    a `max_drop` of quality below the teacher; or quality of at least `min_quality`.
    """

    value: Annotated[float, Field(ge=0, strict=True)]
    """The limit itself: a share, multiply-adds, ms, or quality in [0, 1]."""
    confidence: Inside | None = None
    """Probability with which `max_drop` or `min_quality` holds on new images; null promises nothing."""
    fraction: Inside = 0.5
    """Share of the images that choose; the rest is reported on."""


AUTO, PUBLISHED = "auto", "published"
"""Words for a score: chosen on the calibration part, and that of EBJR."""


def _count_of_boxes(count: object) -> object:
    if count in (None, AUTO) or (type(count) is int and count >= 1):
        return count
    raise ValueError("a whole number of at least 1, `auto`, or null for all")


class RouterSection(BaseSection):
    """Which score decides, and where: a fixed threshold or a calibrated target, not both.

    With `score: auto`, the default, the calibration part is that of `target`, by default a third, on which
    30 % are deferred; with a `file` its own score decides; beside a threshold, or where the part is too
    small, `energy_curvature` does. With a score and neither threshold nor target, the threshold defers 30 %
    of the images that the student does not hand on by itself, which needs no label.
    """

    file: str | None = None
    """A fitted router, which `ebjr-det fit-router` made."""
    sha256: str | None = None
    """Checksum of `file`, which a run writes and a later one checks."""
    score: str | None = AUTO
    """The deferral score; `auto` chooses score, router and rescaling on the calibration part, `published` is
    EBJR's.
    """
    options: dict[str, object] = {}
    """Arguments of the score, such as `temperature`."""
    top_k: Annotated[int | Literal["auto"] | None, BeforeValidator(_count_of_boxes)] = "auto"
    """How many of an image's boxes count, the surest first; `auto` is as the score itself says, null all."""
    aggregate: Literal["auto", "mean", "sum", "min", "logsumexp"] = "auto"
    """How the scores of an image's boxes become one; `auto` is as the score itself says."""
    other_logit: bool = True
    """Whether scores of a specialised student see its logit of "other"."""
    threshold: float | None = None
    """Images with a score above it go to the teacher; not beside a `target`."""
    target: TargetSection | None = None
    """What the threshold is chosen for, on a part of the images that no reported number sees."""
    front: str | None = None
    """A router in front of the student, of `fit-router front`; not in `evaluate`, `benchmark` and `serve`."""
    front_threshold: float | None = None
    """Images whose score of `front` is above it go to the teacher, and the student never sees them."""

    @model_validator(mode="after")
    def _one_choice(self) -> "RouterSection":
        if self.threshold is not None and self.target is not None:
            raise ValueError("either a threshold or a target, got both")
        if (self.front is None) != (self.front_threshold is None):
            raise ValueError("`front` and `front_threshold` together, got one of them")
        return self

    @property
    def automatic(self) -> bool:
        """Whether score and router are left to be chosen."""
        return self.score in (None, AUTO) and self.file is None and self.threshold is None


MOST_TIMED = 10_000_000
"""Pictures of a latency measurement; more is a mistake, which would end in a lack of memory."""


class LatencySection(BaseSection):
    """How latency is measured: on seeded random batches, each model alone and the live pair."""

    measure: bool = True
    """Whether latency is measured at all."""
    batch_size: int = Field(1, ge=1, le=1_000_000)
    """Images in a timed batch."""
    batch_sizes: list[Annotated[int, Field(ge=1, le=1_000_000)]] = []
    """Further sizes at which each model is measured alone, so that budgets in ms hold there too."""
    batches: int = Field(100, ge=1, le=1_000_000)
    """Timed batches, drawn at random."""
    warmup: int = Field(3, ge=0, le=1_000_000)
    """Batches before the first timed one."""

    @model_validator(mode="after")
    def _within_reason(self) -> "LatencySection":
        if self.batch_size * self.batches > MOST_TIMED:
            raise ValueError(f"at most {MOST_TIMED:,} pictures, got {self.batch_size * self.batches:,}")
        return self


class RunSection(BaseSection):
    """How the run goes; none of it changes what is measured, but the batch size the last bits.

    For the live pair's batches see `inference.stream_plan`, for `tolerance` `runtimes.drift`, for `threads`
    `io.threads`.
    """

    batch_size: int = Field(256, ge=1, le=1_000_000)
    """Images in a batch of the student."""
    teacher_batch: int | None = Field(None, ge=1, le=1_000_000)
    """Images in a batch of the teacher, gathered over batches of the student; by default `batch_size`."""
    patience_ms: float | None = Field(None, ge=0)
    """How long a deferred image waits for others at most; null for no bound."""
    overlap: bool = False
    """Whether the teacher works in a thread of its own while the student goes on."""
    regroup: bool | None = None
    """Whether deferred images are gathered over batches; null: where that changes no bit of an answer."""
    tolerance: float = Field(0.02, gt=0)
    """How far a runtime's outputs may lie from those of eager torch, as a share of their spread."""
    int8_loss: float = Field(0.002, ge=0)
    """How much AP or accuracy on the calibration part a model may lose in eight bits for `auto`."""
    flush_seconds: float = Field(5.0, ge=0)
    """Seconds between two states for `--resume`."""
    workers: int = Field(0, ge=0, le=1000)
    """Processes, live threads, that load images; 0 loads between batches."""
    threads: int | None = Field(None, ge=1, le=10_000)
    """Threads of torch and the runtimes, by default one a CPU."""
    device: str = "auto"
    """Where networks run: `auto`, `cpu`, `cuda`, `cuda:1` ..."""
    seed: int = Field(0, ge=0)
    """Seed of splits, intervals, timed batches and random weights."""
    bootstrap: int = Field(1000, ge=2, le=100_000)
    """Resamples for the intervals."""


class TierSection(ModelSection):
    """One of several models, and what sends a picture on to the next."""

    router: RouterSection = RouterSection()
    """Which score passes a picture on to the next tier, and where; the last tier has none."""


class EvaluateConfig(BaseSection):
    """`ebjr-det evaluate`: a pair on labelled images. Each task says what its `data` and models are."""

    task: str
    """What the models do: `classification`, `detection`, or `package.module:Class` of one's own."""
    title: Words = ""
    """Heading of the report."""
    data: BaseSection
    """The labelled images."""
    tiers: Sequence[TierSection] | None = Field(None, min_length=2, max_length=MOST_TIERS, exclude=True)
    """Two to five models, the cheapest first, each with its own `router` but the last; in place of `student`
    and `teacher`, of which it makes a pair whose teacher is a pair.
    """
    topology: Topology | None = Field(None, exclude_if=lambda topology: topology is None)
    """How an image goes along three `tiers` or more: in a `cascade` each one's score passes it on; in a
    `leap` the first one's score picks by all thresholds who answers, and those between are not run. Null is
    a cascade, or whichever is best for a `target`.
    """
    student: ModelSection
    """The small model, which sees every image."""
    teacher: ModelSection
    """The large model, which sees the images that the router sends on."""
    router: RouterSection = RouterSection()
    """Which score decides, and where."""
    latency: LatencySection = LatencySection()
    """How latency is measured."""
    run: RunSection = RunSection()
    """How the run goes; none of it but the batch size changes a number, and that the last bits alone."""
    references: list[PublishedReference] = []
    """Published single models that the pair is compared with."""
    traffic: StatedMix | None = None
    """The mix of classes that quality is weighted to, where it is not that of the data."""

    @model_validator(mode="wrap")
    @classmethod
    def _of_tiers(cls, settings: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        tiers = settings.get("tiers") if isinstance(settings, Mapping) else None
        if not isinstance(settings, Mapping) or tiers is None:
            return handler(settings)
        return handler({**settings, **paired(settings, tiers)}).model_copy(update={"tiers": None})

    @model_validator(mode="after")
    def _teacher_knows_all(self) -> "EvaluateConfig":
        if self.teacher.popular is not None:
            raise ValueError("a teacher of all classes, got one with `popular` classes")
        return self

    @model_validator(mode="after")
    def _leaps_over_tiers(self) -> "EvaluateConfig":
        if self.topology == "leap" and (self.teacher.arch != NESTED or not self.teacher.options):
            raise ValueError("`tiers` in this file beside `topology: leap`, got none")
        if self.topology == "leap" and self.router.front is not None:
            raise ValueError("no `router.front` beside `topology: leap`, whose scores are the first tier's")
        return self

    @property
    def labelled(self) -> bool:
        """Whether labels judge the answers, and not what both models say; see `data.labels`."""
        return bool(getattr(self.data, "labels", True))
