"""Every setting of `ebjr-det specialize` with its type, default and limits."""

from pydantic import model_validator

from ebjr_det.config.sections import BaseSection, ModelSection
from ebjr_det.config.training import LearnConfig, LossSection, ScheduleSection


class ChooseSection(BaseSection):
    """Which classes are popular: a list, or the `top` so many.

    The top is by counts in the training data (images of a classification, objects of a detection), or by a
    recorded `histogram`, a YAML or JSON file of class names with counts or shares.
    """

    classes: list[int | str] | None = None
    top: int | None = None
    histogram: str | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> "ChooseSection":
        if (self.classes is None) == (self.top is None):
            raise ValueError("either classes or top, got both or neither")
        if self.histogram is not None and self.top is None:
            raise ValueError("a histogram beside top, got it beside classes")
        return self


class SpecializeConfig(LearnConfig):
    """`ebjr-det specialize`: a student for the popular classes, and its pair with a teacher of all.

    `data` and `validation` train the student as in `ebjr-det train`, with the settings of the same names;
    `popular_share` is the share of the traffic that is popular. `distill` makes it learn the teacher's
    answers too. `pair` holds the settings of the pair beside its models, those of `ebjr-det evaluate`.
    """

    choose: ChooseSection
    student: ModelSection
    teacher: ModelSection
    distill: bool = False
    loss: LossSection = LossSection()
    augment: BaseSection
    schedule: ScheduleSection
    pair: dict[str, object]

    @model_validator(mode="after")
    def _chosen_here(self) -> "SpecializeConfig":
        if self.student.popular is not None or self.student.checkpoint is not None:
            raise ValueError("a student without `popular` and `checkpoint`, which this command makes")
        return self
