"""The pair at work, live: the router decides which images the teacher sees.

Knows nothing about pictures, labels, boxes or metrics: a model turns inputs into an `Output`, a score turns
it into numbers, the router turns numbers into a decision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import RouterDecision, decide
from ebjr_det.core.types import FloatArray, Model, Opaque, Output

ScoreFunction = Callable[[Output], FloatArray]


@dataclass(frozen=True)
class JointOutput:
    """The pair's answers for a batch, in its order, and who gave them."""

    predictions: Sequence[Opaque]
    decision: RouterDecision


class JointModel:
    """Student on every image, teacher on the deferred ones, answers back in order.

    Args:
        student, teacher: any two models (`types.Model`).
        score: the student's answers -> deferral scores [images], higher = send to the teacher.
        threshold: defer when score > threshold; settable at any time, the trade-off is a run-time choice.
    """

    def __init__(self, student: Model, teacher: Model, score: ScoreFunction, threshold: float) -> None:
        self.student = student
        self.teacher = teacher
        self.score = score
        self.threshold = threshold

    def __call__(self, images: Sequence[Opaque]) -> JointOutput:
        """Answer a batch of images of any size above zero.

        The answers do not depend on how images are batched, but for the last bits that a network's logits
        change with the batch size. The teacher sees the deferred images, if any, as one smaller batch.

        Raises:
            InvalidInput: an empty batch, or logits that are not finite.
        """
        inputs = [self.student.preprocess(image) for image in images]
        return self.answer(inputs, lambda index: self.teacher.preprocess(images[index]))

    def answer(self, student_inputs: Sequence[Opaque], teacher_input: Callable[[int], Opaque]) -> JointOutput:
        """Answer a batch that a loader has preprocessed.

        Args:
            student_inputs: the batch, preprocessed for the student.
            teacher_input: index in the batch -> the teacher's input; called for deferred images only.
        """
        output, decision = self.judge(student_inputs)
        predictions = list(output.predictions)
        if deferred := decision.defer.nonzero()[0].tolist():
            taught = self.teach([teacher_input(index) for index in deferred])
            for index, prediction in zip(deferred, taught, strict=True):
                predictions[index] = prediction
        return JointOutput(predictions, decision)

    def judge(self, student_inputs: Sequence[Opaque]) -> tuple[Output, RouterDecision]:
        """The first step: the student's answers to a batch, and which of them to send to the teacher.

        Raises InvalidInput for an empty batch, logits that are not finite, or another number of answers.
        """
        if not len(student_inputs):
            raise InvalidInput("Expected at least one image, got an empty batch.")
        output = answers_of(self.student, student_inputs)
        return output, decide(self.score(output), self.threshold)

    def teach(self, teacher_inputs: Sequence[Opaque]) -> Sequence[Opaque]:
        """The second step: the teacher's prediction of every input, at least one."""
        return answers_of(self.teacher, teacher_inputs).predictions


def answers_of(model: Model, inputs: Sequence[Opaque]) -> Output:
    """A model's answers to a batch. Raises InvalidInput where they are not one an input."""
    output = model(inputs)
    if len(output.predictions) != len(inputs):
        raise InvalidInput(
            f"Expected `{model.name}` to answer {len(inputs)} images, got {len(output.predictions)} answers."
        )
    return output
