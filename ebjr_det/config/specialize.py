"""Every setting of `ebjr-det specialize` with its type, default and limits."""

from pydantic import model_validator

from ebjr_det.config.sections import BaseSection, ModelSection
from ebjr_det.config.training import LearnConfig, LossSection, ScheduleSection


class ChooseSection(BaseSection):
    """Which classes are popular: a list, or the `top` so many (by images of a classification, by objects of a
    detection).
    """

    classes: list[int | str] | None = None
    """The popular classes by name or index; either these or `top`."""
    top: int | None = None
    """How many of the most frequent classes are popular."""
    histogram: str | None = None
    """Counts or shares by class, a YAML or JSON file, that `top` goes by; by default the training data."""

    @model_validator(mode="after")
    def _one_choice(self) -> "ChooseSection":
        if (self.classes is None) == (self.top is None):
            raise ValueError("either classes or top, got both or neither")
        if self.histogram is not None and self.top is None:
            raise ValueError("a histogram beside top, got it beside classes")
        return self


class SpecializeConfig(LearnConfig):
    """`ebjr-det specialize`: a student for the popular classes, and its pair with a teacher of all."""

    choose: ChooseSection
    """Which classes are popular."""
    student: ModelSection
    """The network that is trained for the popular classes and "other"."""
    teacher: ModelSection
    """The model of all classes, which answers what the student calls "other"."""
    distill: bool = False
    """Whether the student learns the teacher's answers beside the labels."""
    loss: LossSection = LossSection()
    """What the loss is made of."""
    augment: BaseSection
    """How training images are changed."""
    schedule: ScheduleSection
    """How the training goes."""
    pair: dict[str, object]
    """Settings of the pair that is written, beside its models: those of `ebjr-det evaluate`."""

    @model_validator(mode="after")
    def _chosen_here(self) -> "SpecializeConfig":
        if self.student.popular is not None or self.student.checkpoint is not None:
            raise ValueError("a student without `popular` and `checkpoint`, which this command makes")
        return self
