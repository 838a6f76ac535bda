"""Settings of classifiers: their data, models and trainings, beside what every task has."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ebjr_det.config import EvaluateConfig, ModelSection, SpecializeConfig, TrainConfig
from ebjr_det.config.sections import BaseSection, TierSection
from ebjr_det.config.training import LossSection
from ebjr_det.core.tiers import MOST_TIERS


class ClassifierSection(ModelSection):
    """A classifier; see `tasks.classification.model.build_model`."""

    depth: int | None = None
    """Layers of a CIFAR network."""
    growth: int | None = None
    """Growth rate of a CIFAR `densenet`."""
    width: int | None = None
    """Width of a CIFAR `resnet`, `preresnet` or `wrn`."""
    block: str | None = None
    """Kind of block of a CIFAR `resnet` or `preresnet`."""
    preprocessing: dict[str, object] = Field({})
    """What replaces the network's own: `mean`, `std`, `resize`, `crop`, `interpolation`."""


class ClassifierTier(ClassifierSection, TierSection):
    """One of several classifiers, and what sends a picture on to the next."""


class ImagesSection(BaseSection):
    """A set of labelled images."""

    dataset: str = Field(examples=["image_folder", "cifar10", "cifar100", "digits", "pictures"])
    """Which set: `image_folder` (one folder a class), `cifar10`, `cifar100`, `digits`, which needs no
    file, or `pictures`, a folder that nobody labelled.
    """
    root: str | None = None
    """Folder that holds the data."""
    split: str | None = None
    """`train` or `test`; of an image folder a subfolder, by default `root` itself."""
    verify: bool = True
    """Whether CIFAR's published checksums are checked."""
    part: list[float] | None = Field(None, min_length=2, max_length=2)
    """A seeded random part, as shares from and to; [0, 0.9] and [0.9, 1] have no image in common."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many images."""


class JudgedSection(ImagesSection):
    """A set of images on which a pair is evaluated."""

    labels: bool = True
    """Whether the labels are read. Without them what both models say stands in for them, and every quality is
    an estimate.
    """
    classes: list[str] | str | None = None
    """Names of the classes of `pictures`, or a file with a list of them."""


class ClassificationConfig(EvaluateConfig):
    """A pair of classifiers on labelled images."""

    task: Literal["classification"] = "classification"
    data: JudgedSection
    tiers: Sequence[ClassifierTier] | None = Field(None, min_length=2, max_length=MOST_TIERS, exclude=True)
    student: ClassifierSection
    teacher: ClassifierSection


class AugmentSection(BaseSection):
    """How training pictures are changed."""

    padding: int = Field(0, ge=0, le=1000)
    """Pixels by which an image is shifted at most."""
    border: float = Field(0.0, ge=0, lt=0.5)
    """Most that is cut off at each side, as a share of it."""
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    color: float = Field(0.0, ge=0, le=1)
    """Probability of a change of colours."""


class ClassifierLossSection(LossSection):
    """Weights of the loss, and the share of every label that is spread over all classes."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of every label that is spread over all classes."""


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
