"""A router's placements as chains of tiers, and the best thresholds of each for a budget.

Behind the student costs student + p teacher; where that is better a coin sends a share of the images past the
student, straight to the teacher. It needs no network, so whatever stands in front has to beat it. In front
costs front + (1 - p) student + p teacher. Both costs front + (1 - p1) student + (p1 + p2) teacher: the front
decides first, and of what it keeps the student's own score decides.

Convention: a router in front is a cascade whose first tier is the teacher. An image goes past that tier where
the negative of its front score is above a threshold, so `evaluation.tiers` sweeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from ebjr_det.core.cost import Cost
from ebjr_det.core.router import finite, operating_points
from ebjr_det.core.tiers import Chain, TieredRun
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import FloatArray, Matches, PairedRun, Task
from ebjr_det.evaluation.tiers.choice import Choice, Chooser, Costs, alone
from ebjr_det.evaluation.tiers.front import TierPoints, front

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
    """A placement with its thresholds, as chosen on some images and judged on others.

    Attributes:
        coin: behind the student, the share of images that go straight to the teacher at random.
        teacher: the teacher's quality on the images that chose, and on the reported ones.
    """

    placement: Placement
    choice: Choice
    coin: float = 0.0
    teacher: tuple[float, float] = (0.0, 0.0)

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
        """The share of the reported images that the front, or the coin, sends on."""
        return self.coin if self.placement == "behind" else 1 - float(self.choice.reported.passed[0, 0])

    @property
    def deferred(self) -> float:
        """The share of the reported images that the student's score sends on."""
        behind = 0.0 if self.placement == "front" else float(self.choice.reported.passed[0, -1])
        return (1 - self.coin) * behind

    @property
    def quality(self) -> float:
        """On the reported images."""
        return float(self.mixed(self.choice.quality, self.teacher[1]))

    @property
    def calibrated(self) -> float:
        """Quality on the images that chose."""
        return float(self.mixed(float(self.choice.calibrated.quality[0]), self.teacher[0]))

    def cost(self, costs: FrontCosts) -> float:
        """What a reported image costs."""
        return float(self.mixed(self.choice.cost(costs.of_tiers), costs.teacher))

    def mixed(self, number: FloatArray | float, teacher: FloatArray | float) -> FloatArray | float:
        """A number of the thresholds and one of the teacher alone, as the coin mixes them."""
        return number if not self.coin else (1 - self.coin) * number + self.coin * teacher

    def to_dict(self, costs: Mapping[Cost, FrontCosts]) -> dict[str, object]:
        """Plain values; an infinite threshold is None, as that of a part which is not there."""
        limits = {"front_threshold": self.front_threshold, "threshold": self.threshold}
        return {
            "placement": self.placement,
            **{name: None if value is None else finite(value) for name, value in limits.items()},
            "coin": self.coin,
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
        first, second = (
            task.metrics(part.records[TEACHER])[task.quality_name] for part in (calibration, reported)
        )
        self.teacher = first, second
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
        best: dict[Placement, Placed] = {"behind": self._behind(costs, budget)}
        for placement in PLACEMENTS[1:]:
            choice = self.choosers[placement].within(costs.of_tiers, budget)
            best |= {} if choice is None else {placement: Placed(placement, choice)}
        return best

    def _behind(self, costs: FrontCosts, budget: float) -> Placed:
        """The best of the router behind the student, mixed with the teacher alone by a coin."""
        point, coin = self._mixed(costs, budget)
        judged = self.choosers["behind"].judged(point.chain, tuple(point.thresholds[0].tolist()))
        return Placed("behind", Choice(point, judged), coin, self.teacher)

    def rival(self, costs: FrontCosts, cost: float) -> Placed:
        """The best behind the student that costs just so much on the reported images.

        Its shares are those chosen for this cost, and its threshold defers that share of the reported images,
        which needs no label: so a difference of qualities is none of costs that moved from part to part.
        """
        point, coin = self._mixed(costs, cost)
        sweep = self.choosers["behind"].sweeps[point.chain]
        thresholds, deferred = operating_points(sweep.values[0])
        nearest = int(np.abs(deferred - point.passed[0, 0] * sweep.images).argmin())
        return Placed("behind", Choice(point, sweep.judge((thresholds[nearest],))), coin, self.teacher)

    def _mixed(self, costs: FrontCosts, budget: float) -> tuple[TierPoints, float]:
        """The best point behind the student within a budget and its coin, on the images that choose."""
        (points,) = self.choosers["behind"].fronts
        cost = points.cost(alone(points.chain, costs.of_tiers))
        quality, coin = with_coin(cost, points.quality, (costs.teacher, self.teacher[0]), budget)
        index = int(np.lexsort((coin, -quality))[0])
        return points[np.array([index])], float(coin[index])

    def records(self, placed: Placed) -> Matches:
        """Match records of a placement on the reported images."""
        return self.choosers[placed.placement].records(placed.choice)


def with_coin(
    cost: FloatArray, quality: FloatArray, teacher: tuple[float, float], budget: float
) -> tuple[FloatArray, FloatArray]:
    """[P] the qualities of points that a coin mixes with the teacher alone up to a budget, and its shares.

    Args:
        teacher: its cost and its quality. Points that are dearer than the budget have a quality of -inf.

    >>> with_coin(np.array([2.0, 9.0]), np.array([0.2, 0.9]), (4.0, 0.4), 3.0)[0].round(3).tolist()
    [0.3, -inf]
    """
    room = np.clip((budget - cost) / np.maximum(teacher[0] - cost, 1e-12 * teacher[0]), 0.0, 1.0)
    coin = np.where(quality < teacher[1], room, 0.0)
    mixed = (1 - coin) * quality + coin * teacher[1]
    return np.where(cost <= budget * (1 + 1e-12), mixed, -np.inf), coin
