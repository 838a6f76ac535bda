"""The pair at work: two models, a thread each, and the numbers by which requests are decided."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import LeapTeacher
from ebjr_det.core.router import finite
from ebjr_det.core.types import FloatArray, Model, Opaque
from ebjr_det.inference.live import Live, Settings
from ebjr_det.serving.batcher import Batcher
from ebjr_det.serving.laws import Law, Quantiles, build_law
from ebjr_det.serving.rule import FORCES, Rule
from ebjr_det.serving.settings import ServeSettings
from ebjr_det.serving.shadow import Shadow
from ebjr_det.serving.teacher import FIRST_SIZES, Deferred, Teacher
from ebjr_det.serving.watch import Watch
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Tensors

Judged: TypeAlias = tuple[Opaque, float]
"""The student's answer to a picture, and its deferral score."""


@dataclass(frozen=True)
class Served:
    """A pair as it was loaded, with what a server tells of it.

    Attributes:
        digests: sha256 of the student's weights and the teacher's, empty where nobody knows.
        macs: multiply-adds an image of student and teacher, None where unknown.
        folder: where it was read from, which no answer shows.
        alone: whether the teacher is served by itself: `live` is then of `build_teacher`.
    """

    task: str
    title: str
    live: Live
    folder: str = ""
    digests: tuple[str, str] = ("", "")
    macs: tuple[float | None, float | None] = (None, None)
    alone: bool = False

    @property
    def digest(self) -> str:
        """Which pair this is, in one word."""
        return "".join(self.digests) if all(self.digests) else ""

    @property
    def tensors(self) -> Tensors:
        """How answers become tensors."""
        return load_task(self.task).tensors

    @property
    def threshold(self) -> float:
        """The pair's own threshold."""
        return self.live.joint.threshold

    @property
    def reference(self) -> FloatArray | None:
        """Deciding scores of pictures like those to come; None where nobody knows any."""
        return self.live.scoring.reference


Load: TypeAlias = Callable[[], Served]
"""Reads the pair from its folder, at the start and at each reload."""


def serve_settings(settings: Settings, live: Live, folder: str, alone: bool = False) -> Served:
    """A pair, or its teacher `alone`, with what its settings tell of it."""
    sides = settings.student, settings.teacher
    macs, digests = ([getattr(side, name, None) for side in sides] for name in ("macs", "sha256"))
    content = getattr(settings, "content", None)
    title = (content.title if content is not None else getattr(settings, "title", None)) or ""
    joint = live.joint
    names = joint.student.name if alone else f"{joint.student.name} + {joint.teacher.name}"
    weights = (str(digests[0] or ""), str(digests[1] or ""))
    return Served(settings.task, title or names, live, folder, weights, (macs[0], macs[1]), alone)


@dataclass(eq=False)
class Bench:
    """A served pair with its threads; swapped as one at a reload, and closed when nobody uses it any more."""

    served: Served
    settings: ServeSettings
    teacher: Teacher
    users: int = 0
    retired: bool = False
    law: Law = field(init=False)
    watch: Watch = field(init=False)
    shadow: Shadow = field(init=False)
    quantiles: Quantiles | None = field(init=False)
    student: Batcher[Opaque, Judged] = field(init=False)

    def __post_init__(self) -> None:
        served, settings = self.served, self.settings
        self.law = build_law(settings.policy, served.threshold, served.reference, settings.slo_ms)
        self.watch = Watch(served.reference)
        self.shadow = Shadow(settings.shadow, served.reference)
        self.quantiles = None if served.reference is None else Quantiles(served.reference)
        self.student = Batcher(self._judge, settings.largest_batch, "ebjr-det student")

    def _judge(self, inputs: Sequence[Opaque]) -> list[Judged]:
        output, decision = self.served.live.joint.judge(inputs)
        return list(zip(output.predictions, decision.scores.tolist(), strict=True))

    def threshold_for(self, rule: Rule) -> float:
        """The threshold of a request. Raises InvalidInput for a rate where there are no reference scores."""
        if self.served.alone:
            if not (rule.follows_policy or rule.force == "teacher"):
                raise InvalidInput("Expected no rule of a teacher that is served alone, got one.")
            return self.served.threshold
        if rule.threshold is not None:
            return rule.threshold
        if rule.force is not None:
            return FORCES[rule.force]
        if rule.deferral_rate is None:
            return self.law.threshold(self.teacher.expected_seconds(0))
        if self.quantiles is None:
            raise InvalidInput(
                "Expected reference scores beside a rate, got a pair without a fitted router that was not "
                "exported from a run. Give a threshold."
            )
        return self.quantiles.threshold(rule.deferral_rate)

    def warm(self) -> None:
        """Answer a grey picture, and two, with every model, so that no request waits for a compiler.

        A GPU's compiler works on the first two sizes of a batch, and meanwhile holds up whoever multiplies
        with another precision, see `runtimes.products`.
        """
        from PIL import Image

        served, joint = self.served, self.served.live.joint
        scores = [] if served.alone else _scores(joint.teacher)
        for side in (64, 8):  # a network without resizing takes pictures of one size alone
            picture = Image.new("RGB", (side, side), "grey")
            try:
                for count in FIRST_SIZES[: self.settings.largest_batch]:
                    output, _ = joint.judge([joint.student.preprocess(picture)] * count)
                answers: list[Opaque] = []
                for score in scores:
                    answers += self.teacher.warm(Deferred([np.asarray(picture)], [picture], [score]))
            except InvalidInput:
                continue
            served.tensors.to_tensors([*output.predictions, *answers], served.live.named)
            return

    def describe(self) -> dict[str, object]:
        """What the model's metadata tell beside the protocol."""
        served = self.served
        student, teacher = served.macs
        named = served.live.named
        routing = {
            "score": served.live.scoring.name,
            "threshold": finite(served.threshold),
            "policy": self.settings.policy,
            "student_macs": student,
        }
        return {
            "task": served.task,
            "title": served.title,
            **({} if served.alone else routing),
            "digest": served.digest,
            "teacher_sha256": served.digests[1],
            "teacher_macs": teacher,
            "classes": list(named.class_names),
            "class_ids": list(getattr(named, "categories", range(len(named.class_names)))),
        }

    def release(self) -> None:
        """One user less; the last one of a retired bench closes it."""
        self.users -= 1
        self.close_if_unused()

    def retire(self) -> None:
        """No further users come."""
        self.retired = True
        self.close_if_unused()

    def close_if_unused(self) -> None:
        """End the threads of a retired bench that nobody uses."""
        if self.retired and not self.users:
            self.student.close()
            self.teacher.close()


def _scores(teacher: Model) -> list[float]:
    """For each model behind the student, a score at which it answers; of a leap there are several."""
    if isinstance(teacher, LeapTeacher):
        return [teacher.joint.threshold, *_scores(teacher.joint.teacher)]
    return [math.inf]
