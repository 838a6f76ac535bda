"""One typed definition of a run: the YAML file, `--set a.b=c` and `--print-config` all come from it.

A file is flat and whole: no inheritance, no interpolation. Unknown keys are errors that offer the nearest.
Knows nothing about what the settings do.
"""

import reprlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ebjr_det.errors import ConfigError, EbjrError, did_you_mean
from ebjr_det.files import existing_file
from ebjr_det.plain_yaml import FlatDumper, FlatLoader


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("words without control characters")
    return text


Words = Annotated[str, Field(max_length=200), AfterValidator(_printable)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Section = TypeVar("Section", bound=_Section)


class ClassifierSection(_Section):
    """A classifier; see `tasks.classification.model.build_model` for every field."""

    arch: str
    name: Words | None = None
    depth: int | None = None
    growth: int | None = None
    width: int | None = None
    block: str | None = None
    checkpoint: str | None = None
    sha256: str | None = None
    pretrained: bool = False
    random_weights: bool = False
    options: dict[str, Any] = {}
    preprocessing: dict[str, Any] = {}


class ImagesSection(_Section):
    """A set of labelled images; see `tasks.classification.data.build_data` for every field."""

    dataset: str
    root: str | None = None
    split: str | None = None
    verify: bool = True
    limit: int | None = Field(None, ge=1)


class DetectorSection(_Section):
    """A detector; see `tasks.detection.model.build_model` for every field."""

    arch: str
    name: Words | None = None
    checkpoint: str | None = None
    sha256: str | None = None
    pretrained: bool = False
    random_weights: bool = False
    image_size: int | None = Field(None, ge=32, le=8192)
    num_classes: int | None = Field(None, ge=1)
    max_detections: int = Field(100, ge=1, le=10_000)
    soft_nms: bool = False
    options: dict[str, Any] = {}


class AnnotatedSection(_Section):
    """A set of images with annotated objects; see `tasks.detection.data.build_data` for every field."""

    dataset: str
    annotations: str | None = None
    images: str | None = None
    split: str | None = None
    ids: list[int] | None = None
    limit: int | None = Field(None, ge=1)
    skip_unreadable: bool = True


class TargetSection(_Section):
    """A target from which the threshold is calibrated; see `calibration.Target`."""

    kind: Literal["deferral_rate", "macs", "latency_ms", "min_quality", "max_drop"]
    value: float = Field(ge=0)
    confidence: float | None = Field(None, gt=0, lt=1)
    fraction: float = Field(0.5, gt=0, lt=1)


class RouterSection(_Section):
    """Which score decides, and where: a fixed threshold or a calibrated target, not both.

    With neither, the threshold defers 30 % of the images, a choice that needs no label. `top_k` and
    `aggregate` turn the scores of an image's boxes into one; a classification has one row, which is it.
    """

    score: str = "free_energy"
    options: dict[str, Any] = {}
    top_k: int | None = Field(10, ge=1)
    aggregate: Literal["mean", "sum", "min", "logsumexp"] = "mean"
    threshold: float | None = None
    target: TargetSection | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> "RouterSection":
        if self.threshold is not None and self.target is not None:
            raise ValueError("either a threshold or a target, got both")
        return self


class LatencySection(_Section):
    """How latency is measured: on `batches` seeded random batches, each model alone and the live pair."""

    measure: bool = True
    batch_size: int = Field(1, ge=1, le=1_000_000)
    batches: int = Field(100, ge=1, le=1_000_000)
    warmup: int = Field(3, ge=0, le=1_000_000)


class RunSection(_Section):
    """How the run goes, none of which changes what is measured but the batch size in its last bits."""

    batch_size: int = Field(256, ge=1, le=1_000_000)
    flush_seconds: float = Field(5.0, ge=0)
    workers: int = Field(0, ge=0, le=1000)
    device: str = "auto"
    seed: int = Field(0, ge=0)
    bootstrap: int = Field(1000, ge=2, le=100_000)


class DetectionRunSection(RunSection):
    """The same with defaults for large pictures and a dear metric."""

    batch_size: int = Field(8, ge=1, le=1_000_000)
    bootstrap: int = Field(200, ge=2, le=100_000)


class EvaluateConfig(_Section):
    """`ebjr-det evaluate`: a pair on labelled images. `CONFIGS` has what each task puts in."""

    task: str
    title: Words = ""
    data: _Section
    student: _Section
    teacher: _Section
    router: RouterSection = RouterSection()
    latency: LatencySection = LatencySection()
    run: RunSection = RunSection()


class ClassificationConfig(EvaluateConfig):
    """A pair of classifiers on labelled images."""

    task: Literal["classification"] = "classification"
    data: ImagesSection
    student: ClassifierSection
    teacher: ClassifierSection


class DetectionConfig(EvaluateConfig):
    """A pair of detectors on images with annotated objects."""

    task: Literal["detection"]
    data: AnnotatedSection
    student: DetectorSection
    teacher: DetectorSection
    run: DetectionRunSection = DetectionRunSection()


CONFIGS: dict[str, type[EvaluateConfig]] = {
    "classification": ClassificationConfig,
    "detection": DetectionConfig,
}
"""What a configuration of each task looks like; without `task` it is of the first."""


def identity(config: EvaluateConfig) -> dict[str, Any]:
    """The settings that a run's records depend on; two configurations that share them can share a run."""
    router, run = config.router, config.run
    with_options = ("score", "options") if router.options else ()
    return {
        **{key: getattr(config, key).model_dump() for key in ("data", "student", "teacher")},
        "task": config.task,
        "router": router.model_dump(include={"top_k", "aggregate", *with_options}),
        "run.batch_size": run.batch_size,
        "run.device": run.device,
    }


def load_config(path: str | Path, changes: Iterable[str] = ()) -> EvaluateConfig:
    """Read a YAML file, apply `a.b=value` changes in order, check everything.

    Raises:
        InvalidInput: no such file.
        ConfigError: not YAML, an unknown key (with the nearest), a value of another type or out of range.
    """
    try:
        text = existing_file(Path(path), "a configuration").read_text(encoding="utf-8")
        content = yaml.load(text, FlatLoader)  # noqa: S506, a SafeLoader
    except EbjrError:
        raise
    except Exception as error:  # yaml's constructors raise whatever a strange value makes them raise
        reason = " ".join(str(error).split())
        raise ConfigError(f"Expected YAML in `{path}`, got: {reason}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"Expected a mapping of settings in `{path}`, got {reprlib.repr(content)}.")
    for change in changes:
        _apply(content, change)
    return parse_config(content)


def parse_config(content: dict[str, Any]) -> EvaluateConfig:
    """Check a mapping of settings. Raises ConfigError with the first fault in one line."""
    task = content.get("task", next(iter(CONFIGS)))
    model = CONFIGS.get(task) if isinstance(task, str) else None
    if model is None:
        raise ConfigError(f"Expected a known `task`, got `{task}`. {did_you_mean(str(task), CONFIGS)}")
    return parse_section(model, content)


def parse_section(model: type[Section], content: dict[str, Any]) -> Section:
    """Check the settings of one section. Raises ConfigError with the first fault in one line."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_first_fault(error, model)) from error


def dump_config(config: EvaluateConfig) -> str:
    """The resolved configuration as YAML, every default written out."""
    return yaml.dump(config.model_dump(), Dumper=FlatDumper, sort_keys=False)


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"Expected `--set a.b=value`, got `{change}`.")
    *sections, last = key.split(".")
    place = content
    for section in sections:
        inner = place.get(section)
        place[section] = place = dict(inner) if isinstance(inner, dict) else {}
    try:
        place[last] = yaml.load(text, FlatLoader)  # noqa: S506, a SafeLoader
    except Exception as error:  # as above
        raise ConfigError(f"Expected a YAML value in `--set {change}`, got `{text}`.") from error


def _first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    # A misspelt key also counts as missing: the spelling is the cause, so it goes first.
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        *sections, key = (str(part) for part in fault["loc"])
        return f"Expected a known setting, got `{where}`. {did_you_mean(key, _fields_at(sections, model))}"
    if fault["type"] == "missing":
        return f"Expected the setting `{where}`, got none."
    message = fault["msg"].removeprefix("Value error, ")
    got = fault["input"]
    shown = f", got {reprlib.repr(got)}" if not isinstance(got, dict) else ""
    return f"Expected `{where}` to be right: {message[0].lower()}{message[1:]}{shown}."


def _fields_at(sections: list[str], model: type[BaseModel]) -> list[str]:
    for section in sections:
        annotation = model.model_fields[section].annotation
        options = [annotation, *get_args(annotation)]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(model.model_fields)
