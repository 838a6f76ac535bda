"""The pair at work, live: the router decides which images the teacher sees.

Knows nothing about pictures, labels, boxes or metrics: a model turns inputs into an `Output`, a score turns
it into numbers, the router turns numbers into a decision.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from ebjr_det.core.errors import ConfigError, InvalidInput, did_you_mean
from ebjr_det.core.router import RouterDecision, abstaining_last, check_scores, decide
from ebjr_det.core.scores import CURVATURE, SCORES, deferral_scores
from ebjr_det.core.types import FloatArray, Logits, Model, Opaque, Output

ScoreFunction: TypeAlias = Callable[[Output], FloatArray]


class Router:
    """A score of logits by its name, as it decides; fitted routers are of this kind.

    Raises:
        ConfigError: no score of logits has this name.
    """

    def __init__(self, name: str) -> None:
        if name not in SCORES:
            raise ConfigError(
                f"Expected a score of logits, got `{name}`. {did_you_mean(name, SCORES)} Scores of a task "
                "and fitted routers: ebjr_det.build_router."
            )
        self.name = name

    def check_live(self) -> None:
        """Raises ConfigError where no picture has its score on its own."""

    def adapted(self, student: Model) -> Model:
        """The student as the router looks at it: a rescaled one has other scores."""
        return student

    def score(self, output: Output) -> FloatArray:
        """The adapted student's answers -> the deferral scores that decide, [images]."""
        return abstaining_last(deferral_scores(output, self.name), output.abstains)

    def deferral_scores(self, output: Output, name: str | None = None) -> FloatArray:
        """Any score by its name, by default that which decides, [images]. Raises EbjrError, never NaN."""
        return check_scores(Router(name or self.name).score(output))


@dataclass(frozen=True)
class JointOutput:
    """The pair's answers for a batch, in its order, and who gave them."""

    predictions: Sequence[Opaque]
    decision: RouterDecision

    @property
    def answered_by(self) -> tuple[str, ...]:
        """`student` or `teacher`, by image."""
        return tuple("teacher" if deferred else "student" for deferred in self.decision.defer)


class Front(NamedTuple):
    """A router in front of the student: a model whose answers are one logit each, the score; and a threshold.

    What has a score above the threshold goes to the teacher, and the student never sees it.
    """

    model: Model
    threshold: float


class JointModel:
    """Student on every image, teacher on the deferred ones, answers back in order.

    Args:
        student, teacher: any two models (`types.Model`).
        score: the name of a score of logits, a router (`ebjr_det.build_router`: scores of boxes, fitted
            routers), or a function: the student's answers -> deferral scores [images], higher = send to the
            teacher.
        threshold: defer when score > threshold; settable at any time, the trade-off is a run-time choice.
        front: decides first, where there is one; the student then sees what it keeps alone.

    Attributes:
        student: as the router looks at it.

    Raises:
        ConfigError: an unknown score, or one that a picture has in a whole set only.

    Example:
        >>> import numpy as np
        >>> from ebjr_det.core.types import Logits
        >>> class Linear:
        ...     def __init__(self, name, weights):
        ...         self.name, self.weights = name, np.array(weights)
        ...     def preprocess(self, image):
        ...         return np.array(image)
        ...     def __call__(self, inputs):
        ...         logits = np.stack(inputs) @ self.weights
        ...         return Output(logits.argmax(axis=1).tolist(), Logits.one_row(logits))
        >>> student, teacher = Linear("small", np.eye(2)), Linear("large", 9 * np.eye(2))
        >>> joint = JointModel(student, teacher, "max_softmax", threshold=-0.6)
        >>> answer = joint([[0.0, 3.0], [0.2, 0.1]])
        >>> answer.predictions, answer.answered_by
        ([1, 0], ('student', 'teacher'))
        >>> joint([[0.0, 3.0], [0.2, 0.1]], threshold=-0.5).answered_by
        ('student', 'student')
        >>> joint.deferral_scores(student([[0.0, 3.0]]), "entropy").round(3).tolist()
        [0.191]
    """

    def __init__(
        self,
        student: Model,
        teacher: Model,
        score: str | Router | ScoreFunction,
        threshold: float,
        front: Front | None = None,
    ) -> None:
        router = Router(score if isinstance(score, str) else CURVATURE)
        if isinstance(score, Router):
            score.check_live()
            student, router = score.adapted(student), score
        self.student = student
        self.teacher = teacher
        self.router = router
        self.score = score if callable(score) else router.score
        self.threshold = threshold
        self.front = front

    def preprocess(self, image: Opaque) -> Opaque:
        """An image as `judge` takes it: the student's input; with a front that one's, and the image."""
        if self.front is None:
            return self.student.preprocess(image)
        return self.front.model.preprocess(image), image

    def deferral_scores(self, output: Output, name: str | None = None) -> FloatArray:
        """Deferral scores of answers of `student`: of the score that decides, or of any other by its name.

        Args:
            output: for example the first of what `judge` gives.

        Returns:
            [images] finite; pictures that a specialised student hands on lie above all others.

        Raises:
            ConfigError: an unknown score, or one that needs what is not here.
            InvalidInput: a score that is not finite.
        """
        if name is None:
            return check_scores(self.score(output))
        return self.router.deferral_scores(output, name)

    def __call__(self, images: Sequence[Opaque], threshold: float | None = None) -> JointOutput:
        """Answer a batch of images of any size above zero, by default at the pair's own threshold.

        The answers do not depend on how images are batched, but for the last bits that a network's logits
        change with the batch size. The teacher sees the deferred images, if any, as one smaller batch.

        Raises:
            InvalidInput: an empty batch, or logits that are not finite.
        """
        output, decision = self.judge([self.preprocess(image) for image in images], threshold)

        def teacher_input(index: int) -> Opaque:
            return self.teacher_input(images[index], float(decision.scores[index]))

        return JointOutput(self.joined(output, decision, teacher_input), decision)

    def judge(
        self, student_inputs: Sequence[Opaque], threshold: float | None = None
    ) -> tuple[Output, RouterDecision]:
        """The first step: the student's answers to a batch, and which of them to send to the teacher.

        With a front the logits are the front's, and what it sends on has no prediction.

        Raises InvalidInput for an empty batch, logits that are not finite, or another number of answers.
        """
        if not len(student_inputs):
            raise InvalidInput("Expected at least one image, got an empty batch.")
        threshold = self.threshold if threshold is None else threshold
        if self.front is not None:
            return self._judge_behind(self.front, student_inputs, threshold)
        output = answers_of(self.student, student_inputs)
        return output, decide(self.score(output), threshold)

    def _judge_behind(
        self, front: Front, inputs: Sequence[Opaque], threshold: float
    ) -> tuple[Output, RouterDecision]:
        """The front's decision, and on what it keeps the student's."""
        output = answers_of(front.model, [small for small, _ in inputs])
        first = decide(output.logits.values[:, 0, 0], front.threshold)
        scores, defer, predictions = first.scores.copy(), first.defer.copy(), list(output.predictions)
        if len(indices := np.flatnonzero(~first.defer)):
            answers = answers_of(
                self.student, [self.student.preprocess(inputs[i][1]) for i in indices.tolist()]
            )
            behind = decide(self.score(answers), threshold)
            scores[indices], defer[indices] = behind.scores, behind.defer
            for index, prediction in zip(indices.tolist(), answers.predictions, strict=True):
                predictions[index] = prediction
        decision = RouterDecision(scores, threshold, defer, first.defer)
        return Output(predictions, output.logits), decision

    def teacher_input(self, image: Opaque, score: float) -> Opaque:
        """An image that was deferred at a score, as the teacher takes it; of a leap the score picks whom."""
        at_score = getattr(self.teacher, "preprocess_at", None)
        return self.teacher.preprocess(image) if at_score is None else at_score(image, score)

    def joined(
        self, output: Output, decision: RouterDecision, teacher_input: Callable[[int], Opaque]
    ) -> list[Opaque]:
        """The student's predictions, the teacher's in place of those that were deferred.

        Args:
            output, decision: as `judge` gives them.
            teacher_input: index in the batch -> the teacher's input; called for deferred images only.
        """
        predictions = list(output.predictions)
        if deferred := decision.defer.nonzero()[0].tolist():
            taught = self.teach([teacher_input(index) for index in deferred])
            for index, prediction in zip(deferred, taught, strict=True):
                predictions[index] = prediction
        return predictions

    def teach(self, teacher_inputs: Sequence[Opaque]) -> Sequence[Opaque]:
        """The second step: the teacher's prediction of every input, at least one."""
        return answers_of(self.teacher, teacher_inputs).predictions


class JointTeacher:
    """A pair in the place of a teacher: a cascade of three models is a pair whose teacher is a pair.

    An input is an image with its preprocessed form for the pair's student; the pair's teacher preprocesses
    what is deferred to it. The logits are the student's, whoever answered.

    Args:
        joint: a pair with its own threshold, such as `JointModel(middle, large, "entropy", 0.4)`.
    """

    def __init__(self, joint: JointModel) -> None:
        self.joint = joint
        self.name = f"{joint.student.name} > {joint.teacher.name}"

    def preprocess(self, image: Opaque) -> Opaque:
        """An image as the pair's student takes it, and as it is."""
        return self.joint.student.preprocess(image), image

    def __call__(self, inputs: Sequence[Opaque]) -> Output:
        """The pair's answers to a batch, at its own threshold."""
        output, decision = self.joint.judge([ready for ready, _ in inputs])

        def teacher_input(index: int) -> Opaque:
            return self.joint.teacher_input(inputs[index][1], float(decision.scores[index]))

        return Output(self.joint.joined(output, decision, teacher_input), output.logits)


class LeapTeacher(JointTeacher):
    """A pair in the place of a teacher, one of whose models answers: the first student's score picks which.

    An image that was deferred at a score above the pair's threshold is its teacher's, else its student's; the
    other one is not run, and the pair's own score is not asked. There are no logits, which nobody scores.
    """

    def preprocess(self, image: Opaque) -> Opaque:
        """An image as the last model takes it, which answers where nobody knows a score."""
        return self.preprocess_at(image, math.inf)

    def preprocess_at(self, image: Opaque, score: float) -> Opaque:
        """An image as whoever answers at its score takes it, and whether that is the pair's teacher."""
        above = score > self.joint.threshold
        ready = self.joint.teacher_input(image, score) if above else self.joint.student.preprocess(image)
        return ready, above

    def __call__(self, inputs: Sequence[Opaque]) -> Output:
        """The answers to a batch, of each model to its part of it."""
        predictions: list[Opaque] = [None] * len(inputs)
        for model, theirs in ((self.joint.student, False), (self.joint.teacher, True)):
            indices = [index for index, (_, above) in enumerate(inputs) if above is theirs]
            answers = answers_of(model, [inputs[i][0] for i in indices]).predictions if indices else ()
            for index, prediction in zip(indices, answers, strict=True):
                predictions[index] = prediction
        return Output(predictions, Logits(np.zeros((len(inputs), 0, 1)), np.zeros((len(inputs), 0), bool)))


def answers_of(model: Model, inputs: Sequence[Opaque]) -> Output:
    """A model's answers to a batch. Raises InvalidInput where they are not one an input."""
    output = model(inputs)
    if len(output.predictions) != len(inputs):
        raise InvalidInput(
            f"Expected `{model.name}` to answer {len(inputs)} images, got {len(output.predictions)} answers."
        )
    return output
