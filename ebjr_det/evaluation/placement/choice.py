"""A router's placements as chains of tiers, and the best thresholds of each for a budget.

Behind the student costs student + p teacher. In front costs front + (1 - p) student + p teacher. Both costs
front + (1 - p1) student + (p1 + p2) teacher: the front decides first, and of what it keeps the student's own
score decides.

Convention: a router in front is a cascade whose first tier is the teacher. An image goes past that tier where
the negative of its front score is above a threshold, so `core.tiers` sweeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from ebjr_det.core.cost import Cost
from ebjr_det.core.tiers import Chain, TieredRun
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import FloatArray, Matches, PairedRun, Task
from ebjr_det.evaluation.tiers.choice import Choice, Chooser, Costs, alone, finite
from ebjr_det.evaluation.tiers.front import front

Placement: TypeAlias = Literal["behind", "front", "both"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
SENT, KEPT, STUDENT, TEACHER = "sent", "kept", "student", "teacher"
"""Tiers: the teacher on what the front sends on, the student on what it keeps, and both without a front."""


class FrontCosts(NamedTuple):
    """What each of three costs an image: a router in front, the student and the teacher."""

    front: float
    student: float
    teacher: float

    @property
    def of_tiers(self) -> Costs:
        """Costs of tiers, which add up to those of a placement.

        A chain in front begins with all images at front + teacher; what is kept pays the student in place of
        the teacher.

        >>> FrontCosts(1, 2, 9).of_tiers
        {'sent': 10, 'kept': -7, 'student': 2, 'teacher': 9}
        """
        front, student, teacher = self
        return {SENT: front + teacher, KEPT: student - teacher, STUDENT: student, TEACHER: teacher}


@dataclass(frozen=True)
class Placed:
    """A placement with its thresholds, as chosen on some images and judged on others."""

    placement: Placement
    choice: Choice

    @property
    def front_threshold(self) -> float | None:
        """What the front sends on has a score above it, strictly; None without a front."""
        if self.placement == "behind":
            return None
        negative = self.choice.thresholds[0]
        return float(-negative if np.isinf(negative) else np.nextafter(-negative, -np.inf))

    @property
    def threshold(self) -> float | None:
        """What the student's score sends on is above it, strictly; None where the front alone decides."""
        return None if self.placement == "front" else self.choice.thresholds[-1]

    @property
    def sent(self) -> float:
        """The share of the reported images that the front sends on."""
        return 0.0 if self.placement == "behind" else 1 - float(self.choice.reported.passed[0, 0])

    @property
    def deferred(self) -> float:
        """The share of the reported images that the student's score sends on."""
        return 0.0 if self.placement == "front" else float(self.choice.reported.passed[0, -1])

    @property
    def quality(self) -> float:
        """On the reported images."""
        return self.choice.quality

    @property
    def calibrated(self) -> float:
        """Quality on the images that chose."""
        return float(self.choice.calibrated.quality[0])

    def cost(self, costs: FrontCosts) -> float:
        """What a reported image costs."""
        return self.choice.cost(costs.of_tiers)

    def to_dict(self, costs: Mapping[Cost, FrontCosts]) -> dict[str, object]:
        """Plain values; an infinite threshold is None, as that of a part which is not there."""
        limits = {"front_threshold": self.front_threshold, "threshold": self.threshold}
        return {
            "placement": self.placement,
            **{name: None if value is None else finite(value) for name, value in limits.items()},
            "sent_by_front": self.sent,
            "sent_by_student": self.deferred,
            "quality": self.quality,
            **{kind: self.cost(column) for kind, column in costs.items()},
            "calibration_quality": self.calibrated,
        }


def placed_run(run: PairedRun, score: str, front_scores: FloatArray) -> TieredRun:
    """A pair's records as those of the tiers that placements are made of.

    Args:
        front_scores: [N] of the router in front.
    """
    behind = {score: score_of(run, score)}
    records = {SENT: run.teacher, KEPT: run.student, STUDENT: run.student, TEACHER: run.teacher}
    return TieredRun(
        run.task, run.image_ids, records, {SENT: {SENT: -front_scores}, KEPT: behind, STUDENT: behind}
    )


class Placer:
    """The best of each placement for a budget, by one part of the images, and what it does on another."""

    def __init__(
        self, calibration: TieredRun, reported: TieredRun, task: Task, costs: Mapping[Cost, FrontCosts],
        threads: int,
    ) -> None:  # fmt: skip
        (score,) = calibration.scores[STUDENT]
        chains: dict[Placement, Chain] = {
            "behind": Chain((STUDENT, TEACHER), (score,)),
            "front": Chain((SENT, KEPT), (SENT,)),
            "both": Chain((SENT, KEPT, TEACHER), (SENT, score)),
        }
        self.choosers: dict[Placement, Chooser] = {}
        for placement, chain in chains.items():
            of_chain = {kind: alone(chain, column.of_tiers) for kind, column in costs.items()}
            points = front(calibration, task, chain, of_chain, threads)
            self.choosers[placement] = Chooser(reported, task, [points])

    def within(self, costs: FrontCosts, budget: float) -> dict[Placement, Placed]:
        """The best quality at most so dear, of each placement that has any."""
        choices = {
            placement: chooser.within(costs.of_tiers, budget) for placement, chooser in self.choosers.items()
        }
        return {
            placement: Placed(placement, choice)
            for placement, choice in choices.items()
            if choice is not None
        }

    def records(self, placed: Placed) -> Matches:
        """Match records of a placement on the reported images."""
        return self.choosers[placed.placement].records(placed.choice)
