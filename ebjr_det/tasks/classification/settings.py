"""Settings of classifiers: their data, models and trainings, beside what every task has."""

from typing import Literal

from pydantic import Field

from ebjr_det.config import EvaluateConfig, ModelSection, SpecializeConfig, TrainConfig
from ebjr_det.config.sections import BaseSection
from ebjr_det.config.training import LossSection


class ClassifierSection(ModelSection):
    """A classifier; see `tasks.classification.model.build_model` for every field."""

    depth: int | None = None
    growth: int | None = None
    width: int | None = None
    block: str | None = None
    preprocessing: dict[str, object] = Field(default_factory=dict)


class ImagesSection(BaseSection):
    """A set of labelled images; see `tasks.classification.data.build_data` for every field."""

    dataset: str
    root: str | None = None
    split: str | None = None
    verify: bool = True
    part: list[float] | None = Field(None, min_length=2, max_length=2)
    limit: int | None = Field(None, ge=1)


class ClassificationConfig(EvaluateConfig):
    """A pair of classifiers on labelled images."""

    task: Literal["classification"] = "classification"
    data: ImagesSection
    student: ClassifierSection
    teacher: ClassifierSection


class AugmentSection(BaseSection):
    """How training pictures are changed; see `tasks.classification.augmentation.build_augmentation`."""

    padding: int = Field(0, ge=0, le=1000)
    border: float = Field(0.0, ge=0, lt=0.5)
    flip: float = Field(0.5, ge=0, le=1)
    color: float = Field(0.0, ge=0, le=1)


class ClassifierLossSection(LossSection):
    """Weights of the loss, and the share of every label that is spread over all classes."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)


class OnImages(BaseSection):
    """A training of classifiers."""

    task: Literal["classification"] = "classification"
    data: ImagesSection
    validation: ImagesSection | None = None
    loss: ClassifierLossSection = ClassifierLossSection()
    augment: AugmentSection = AugmentSection()


class ClassificationTrainConfig(OnImages, TrainConfig):
    """A classifier on labelled images."""

    model: ClassifierSection
    teacher: ClassifierSection | None = None


class SpecializeClassifierConfig(OnImages, SpecializeConfig):
    """A specialised classifier."""

    student: ClassifierSection
    teacher: ClassifierSection
