"""Settings of detectors: their data, models and trainings, beside what every task has."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ebjr_det.config import EvaluateConfig, ModelSection, SpecializeConfig, TrainConfig
from ebjr_det.config.sections import BaseSection, RunSection, TierSection
from ebjr_det.core.tiers import MOST_TIERS


class DetectorSection(ModelSection):
    """A detector; see `tasks.detection.model.build_model`."""

    image_size: int | None = Field(None, ge=32, le=8192)
    """Side of the square that effdet resizes images into; a multiple of 128."""
    num_classes: int | None = Field(None, ge=1)
    """Outputs of the network without a background; by default those of the weights, else of the data."""
    max_detections: int = Field(100, ge=1, le=10_000)
    """Most boxes of an image."""
    soft_nms: bool = False
    """Whether effdet lowers the scores of overlapping boxes instead of dropping them."""
    other_at: float = Field(0.3, ge=0, le=1)
    """Score of a box of "other" from which on a specialised student hands the image on."""


class DetectorTier(DetectorSection, TierSection):
    """One of several detectors, and what sends a picture on to the next."""


class AnnotatedSection(BaseSection):
    """A set of images with annotated objects."""

    dataset: str = Field(examples=["coco", "yolo", "voc", "open_images", "digit_scenes", "pictures"])
    """Which set: `coco` (any set in COCO's format), `yolo` (a data.yaml and text files), `voc` (XML files),
    `open_images`, `digit_scenes`, which needs no file, or `pictures`, a folder that nobody annotated.
    """
    root: str | None = None
    """Folder of a set in its published layout: COCO's `annotations/instances_<split>.json` and pictures in
    `<split>`; YOLO's `data.yaml`; VOC's `Annotations`, `JPEGImages` and `ImageSets/Main/<split>.txt`; Open
    Images' CSV files and pictures in `<split>`. Of `pictures` the folder itself.
    """
    split: str | None = None
    """Split of that layout, such as `val2017`, `validation`, `test`; without one all pictures of `voc`."""
    annotations: str | None = None
    """Annotations of a set in another layout: a JSON or CSV file, a data.yaml, a folder of XML."""
    images: str | None = None
    """Folder of its pictures."""
    first_pixel: Literal[0, 1] | None = None
    """Number of the first pixel in boxes of `voc`: 1, as the development kit and supervision have it, or 0,
    as CVAT (datumaro), Label Studio, FiftyOne and globox write. By default 0 beside CVAT's `labelmap.txt`,
    else 1.
    """
    classes: list[str] | str | None = None
    """Names of the classes of `pictures`, by default COCO's, or of `voc`, by default those of CVAT's
    `labelmap.txt` or all of its XML files by alphabet; or a file with a list of them.
    """
    ids: list[int | str] | None = None
    """Only the images of these ids."""
    part: list[float] | None = Field(None, min_length=2, max_length=2)
    """Of those a seeded random part, as shares from and to; [0, 0.9] and [0.9, 1] have no image in common."""
    limit: int | None = Field(None, ge=1)
    """Of those only the first so many."""
    skip_unreadable: bool = True
    """Whether a picture that cannot be decoded is named and left out, or is an error."""


class JudgedSection(AnnotatedSection):
    """A set of images on which a pair is evaluated."""

    labels: bool = True
    """Whether the objects are read. Without them the teacher's boxes stand in for objects, and every
    quality is an estimate.
    """


class DetectionRunSection(RunSection):
    """How a run goes, with defaults for large pictures and a dear metric."""

    batch_size: int = Field(8, ge=1, le=1_000_000)
    """Images in a batch of the student."""
    bootstrap: int = Field(200, ge=2, le=100_000)
    """Resamples for the intervals."""


class DetectionConfig(EvaluateConfig):
    """A pair of detectors on images with annotated objects."""

    task: Literal["detection"]
    data: JudgedSection
    tiers: Sequence[DetectorTier] | None = Field(None, min_length=2, max_length=MOST_TIERS, exclude=True)
    student: DetectorSection
    teacher: DetectorSection
    run: DetectionRunSection = DetectionRunSection()


class BoxAugmentSection(BaseSection):
    """How training pictures are changed."""

    scale: list[float] = Field([0.8, 1.25], min_length=2, max_length=2)
    """Length of the longer side after resizing, as a multiple of the network's, from and to; above 1 the
    image is cropped.
    """
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    color: float = Field(0.5, ge=0, le=1)
    """Probability of a change of colours."""


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
