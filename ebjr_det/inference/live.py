"""What the live verbs share: where their settings come from, the threshold, and the pair itself."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ebjr_det.config import EvaluateConfig, RouterSection
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.joint import Front, JointModel, JointOutput
from ebjr_det.core.types import FloatArray, Model, Output
from ebjr_det.inference.absent import SIDES, AbsentModel
from ebjr_det.inference.exported import Exported
from ebjr_det.inference.router_file import check_no_front
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import answers_to_data, check_at_work, watched, weights_of
from ebjr_det.io.notes import say
from ebjr_det.io.pictures import as_picture
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Classes, Picture
from ebjr_det.tasks.popular import Popular

if TYPE_CHECKING:
    import supervision


@runtime_checkable
class Boxes(Protocol):
    """One picture's detected objects."""

    def to_supervision(self, class_names: Sequence[str] = ()) -> "supervision.Detections":
        """The objects as supervision has them, with names of classes by index."""


Settings: TypeAlias = EvaluateConfig | Exported
"""What a live pair is built from."""
TIED = 0.02
"""By how much a deferral rate may fall short of the one that was asked for without a word."""


@dataclass(frozen=True)
class Live:
    """The pair at a threshold, ready to answer.

    Attributes:
        named: the task's class names, for `answers`.
        scoring: the deciding score.
    """

    named: Classes
    scoring: Scoring
    joint: JointModel


@dataclass(frozen=True)
class LiveOutput(JointOutput):
    """The pair's answers for a batch of pictures, who gave them, and the names of the classes by index."""

    class_names: tuple[str, ...]

    def to_supervision(self) -> "list[supervision.Detections]":
        """Each picture's boxes as supervision has them, with names of classes.

        Raises:
            ConfigError: answers that are no boxes, or supervision is not installed.
        """
        detected = [answer for answer in self.predictions if isinstance(answer, Boxes)]
        if len(detected) < len(self.predictions):
            raise ConfigError("Expected a pair of detectors to give supervision its boxes, got another one.")
        return [answer.to_supervision(self.class_names) for answer in detected]


class LiveModel(JointModel):
    """A joint model that takes PIL images, arrays or paths of pictures; see `io.pictures.as_picture`.

    Attributes:
        class_names: by class index.
        score_name: of the score that decides.
    """

    def __init__(self, live: Live) -> None:
        joint = live.joint
        super().__init__(joint.student, joint.teacher, joint.score, joint.threshold, joint.front)
        self.router = live.scoring
        self.class_names, self.score_name = live.named.class_names, live.scoring.name

    def deferral_scores(self, output: Output, name: str | None = None) -> FloatArray:
        """Any score of answers of `student`, by default the deciding one; looking is no traffic."""
        return self.router.deferral_scores(output, name)

    def __call__(self, images: Sequence[Picture], threshold: float | None = None) -> LiveOutput:
        """Answer a batch of pictures of any size above zero, by default at the pair's own threshold.

        Raises:
            InvalidInput: an empty batch, or a picture that cannot be read.
        """
        answer = super().__call__([as_picture(image) for image in images], threshold)
        return LiveOutput(answer.predictions, answer.decision, self.class_names)


def choose_threshold(
    config: Settings, threshold: float | None, rate: float | None, *, fronted: bool = False
) -> tuple[Scoring, float]:
    """The score that decides and its threshold, before any model is built.

    Args:
        threshold: instead of `router.threshold`.
        rate: instead of both, the share of the reference scores above the threshold.
        fronted: the caller takes a pair with a router in front of the student.

    Raises:
        ConfigError: no threshold, a score that one picture does not have on its own, or a router in front
            where none is taken.
    """
    if not fronted:
        check_no_front(config.router)
    scoring = Scoring.load(config.task, config.router, live=True)
    if isinstance(config, Exported) and scoring.reference is None:
        scoring = replace(scoring, reference=config.reference)
    chosen = scoring.threshold_for(rate) if rate is not None else threshold
    if rate is not None and scoring.reference is not None:
        _say_ties(scoring.reference, scoring.name, rate, float(chosen or 0.0))
    chosen = scoring.section.threshold if chosen is None else chosen
    if chosen is None:
        raise ConfigError(
            "Expected a threshold, got none. Give --threshold, set `router.threshold`, name the folder of "
            "a finished run instead of a configuration, or give a fitted --router and a --rate."
        )
    if math.isnan(chosen):
        raise ConfigError("Expected a threshold, finite or infinite, got NaN.")
    return scoring, chosen


def _say_ties(reference: FloatArray, score: str, rate: float, threshold: float) -> None:
    """Where pictures of the fit have equal scores, a threshold may defer far less than was asked for."""
    share = float((reference > threshold).mean())
    if rate - share > max(TIED, 1 / len(reference)):
        say(
            f"Note: many pictures of the router's fit have the same `{score}`, so the threshold for at most "
            f"{100 * rate:.1f} % deferred {100 * share:.1f} % of them."
        )


def build_live(
    config: Settings,
    scoring: Scoring,
    threshold: float,
    samples: Callable[[], Sequence[Picture]],
    traffic: Callable[[int], Iterable[Picture]] = lambda count: (),
    sides: Sequence[str] = SIDES,
) -> Live:
    """Build both models on their runtimes, with their classes.

    Args:
        samples: pictures on which runtimes are tried, where the configuration names any.
        traffic: so many, at most, of the pictures to be answered, on which a router that does not tell its
            student's weights is tried.
        sides: the models that are built; without its teacher the pair only judges.

    Raises:
        EbjrError: for whatever is wrong in the configuration.
    """
    _, classes, student, teacher = _built(config, samples, sides)
    # an export has compared them, and its files are as it wrote them
    weights = "" if isinstance(config, Exported) else weights_of(student)
    scoring = scoring.bind(classes.class_names, _popular_in(config, classes), student.name, weights)
    if not isinstance(config, Exported):
        answers_here = partial(_answers_to, student, config.run.batch_size, traffic)
        check_at_work(scoring, answers_here, partial(answers_to_data, config, student), weights)
    front = front_of(config, classes, (student, teacher))
    # the share that a threshold defers of what a front keeps is not that of its fit
    score = watched(scoring, threshold) if front is None else scoring.score
    student = scoring.adapted(student)
    return Live(classes, scoring, JointModel(student, teacher, score, threshold, front))


def _popular_in(config: Settings, classes: Classes) -> tuple[str, ...]:
    """The names of the classes that a specialised student tells apart."""
    popular = config.student.popular
    return () if popular is None else Popular.of(popular, classes.class_names).names


def front_of(config: Settings, classes: Classes, models: tuple[Model, Model]) -> Front | None:
    """The router in front of the student, where there is one."""
    if config.router.front is None:
        return None
    from ebjr_det.inference.front import build_front

    return build_front(config, classes.class_names, _popular_in(config, classes), models)


def _answers_to(
    student: Model, size: int, traffic: Callable[[int], Iterable[Picture]], count: int
) -> list[Output]:
    """A student's answers to some pictures; none where it cannot take them, which is told in their turn."""
    pictures, outputs = iter(traffic(count)), list[Output]()
    with suppress(InvalidInput):
        while batch := [student.preprocess(picture) for picture in islice(pictures, size)]:
            outputs.append(student(batch))
    return outputs


def build_teacher(config: Settings, samples: Callable[[], Sequence[Picture]]) -> Live:
    """The teacher alone, in the place of a student that keeps every picture.

    Raises:
        EbjrError: for whatever is wrong in the configuration.
    """
    _, classes, student, teacher = _built(config, samples, ("teacher",))
    joint = JointModel(teacher, AbsentModel(student.name), _no_scores, math.inf)
    return Live(classes, Scoring.load(config.task, RouterSection()), joint)


def _no_scores(output: Output) -> FloatArray:
    return np.zeros(len(output.predictions))


def settled(config: Settings, samples: Callable[[], Sequence[Picture]]) -> tuple[Settings, Classes]:
    """The settings with the checksums of their weights and, where they leave them open, the runtimes and the
    device; and the classes.

    Raises:
        EbjrError: for whatever is wrong with the models, or with a router in front of them.
    """
    config, classes, *models = _built(config, samples, SIDES)
    front_of(config, classes, (models[0], models[1]))
    return config, classes


def check_sides(config: Settings) -> None:
    """Raises ConfigError where no side can be alone: a leap's later tiers ask for the first scores."""
    if config.topology == "leap":
        raise ConfigError(
            "Expected all tiers of a leap in one process, got one side alone: the first score picks who "
            "answers. Evaluate with `topology: cascade`."
        )


def _built(
    config: Settings, samples: Callable[[], Sequence[Picture]], sides: Sequence[str]
) -> tuple[Settings, Classes, Model, Model]:
    """Classes, student and teacher, these on their runtimes, and the settings with what was chosen."""
    if len(sides) < len(SIDES):
        check_sides(config)
    if isinstance(config, Exported):
        return config, *config.build()
    from ebjr_det.inference.calibration_part import CalibrationPart
    from ebjr_det.inference.pair import build_models, resolve_device, with_checksums, with_device
    from ebjr_det.inference.ready import make_ready

    device = resolve_device(config.run.device)
    classes = load_task(config.task).data.build_named(**dict(config.data))
    models = build_models(config, classes, device, sides=sides)
    plugin, config = load_task(config.task), with_device(with_checksums(config), device)

    def part() -> CalibrationPart:
        return CalibrationPart(config, plugin.data.build_data(**dict(config.data)))

    return make_ready(config, models, samples, device, part), classes, *models
