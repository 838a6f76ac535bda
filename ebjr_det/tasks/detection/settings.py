"""Settings of detectors: their data, models and trainings, beside what every task has."""

from typing import Literal

from pydantic import Field

from ebjr_det.config import EvaluateConfig, ModelSection, SpecializeConfig, TrainConfig
from ebjr_det.config.sections import BaseSection, RunSection


class DetectorSection(ModelSection):
    """A detector; see `tasks.detection.model.build_model` for every field.

    A specialised one hands a picture on where a box of "other" has a score of at least `other_at`.
    """

    image_size: int | None = Field(None, ge=32, le=8192)
    num_classes: int | None = Field(None, ge=1)
    max_detections: int = Field(100, ge=1, le=10_000)
    soft_nms: bool = False
    other_at: float = Field(0.3, ge=0, le=1)


class AnnotatedSection(BaseSection):
    """A set of images with annotated objects.

    Attributes:
        root, split: COCO's layout: `root/annotations/instances_<split>.json` and pictures in `root/<split>`.
            Open Images': the published CSV files in `root` and pictures in `root/<split>`, which is `train`,
            `validation` or `test`; see `open_images.load_open_images`.
            Digit scenes have the splits `train`, `calibration` and `test`, and no root.
        annotations, images: of a set in another layout: the JSON or CSV file and the folder of its pictures.
        ids: only these images.
        part: of those only a seeded random part, as shares from and to; [0, 0.9] and [0.9, 1] share no image.
        limit: and of those only the first so many.
        skip_unreadable: go on without a picture that cannot be decoded, naming it; else that is an error.
    """

    dataset: str
    root: str | None = None
    split: str | None = None
    annotations: str | None = None
    images: str | None = None
    ids: list[int] | None = None
    part: list[float] | None = Field(None, min_length=2, max_length=2)
    limit: int | None = Field(None, ge=1)
    skip_unreadable: bool = True


class DetectionRunSection(RunSection):
    """How a run goes, with defaults for large pictures and a dear metric."""

    batch_size: int = Field(8, ge=1, le=1_000_000)
    bootstrap: int = Field(200, ge=2, le=100_000)


class DetectionConfig(EvaluateConfig):
    """A pair of detectors on images with annotated objects."""

    task: Literal["detection"]
    data: AnnotatedSection
    student: DetectorSection
    teacher: DetectorSection
    run: DetectionRunSection = DetectionRunSection()


class BoxAugmentSection(BaseSection):
    """How training pictures are changed; see `tasks.detection.augmentation.build_augmentation`."""

    scale: list[float] = Field([0.8, 1.25], min_length=2, max_length=2)
    flip: float = Field(0.5, ge=0, le=1)
    color: float = Field(0.5, ge=0, le=1)


class OnBoxes(BaseSection):
    """A training of detectors."""

    task: Literal["detection"]
    data: AnnotatedSection
    validation: AnnotatedSection | None = None
    augment: BoxAugmentSection = BoxAugmentSection()


class DetectionTrainConfig(OnBoxes, TrainConfig):
    """A detector on annotated images."""

    model: DetectorSection
    teacher: DetectorSection | None = None


class SpecializeDetectorConfig(OnBoxes, SpecializeConfig):
    """A specialised detector."""

    student: DetectorSection
    teacher: DetectorSection
