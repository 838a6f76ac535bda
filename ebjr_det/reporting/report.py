"""A report: everything that a run's tables, figures and JSON show, computed once from a PairedRun."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ebjr_det.cost import CostModel, Latency
from ebjr_det.intervals import Intervals, bootstrap
from ebjr_det.tradeoff import OperatingPoint, TradeoffCurve, mixture, sweep_all
from ebjr_det.types import FloatArray, PairedRun, RouterDecision, Task

ENERGY = "free_energy"
GAP_FRACTIONS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Profile:
    """What is known of one model besides its answers: name, measured latency, further exact numbers."""

    name: str
    latency: Latency | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """One pair on one set of images.

    Attributes:
        curves: by score, the deciding score first.
        chosen: the operating point that `decision` makes; `metrics` holds the task's numbers of
            student, teacher and joint there.
        printed: points for tables and JSON; None prints the whole sweep in JSON.
        stats: [points, numbers] the task's numbers, in its order, of the points in JSON.
        live: the pair measured on the live path, and its deferral rate there.
        calibration: how the threshold was chosen, or None for a given one.
        score_options: options of scores by the score's name, where any were set.
    """

    title: str
    task: Task
    run: PairedRun
    curves: Mapping[str, TradeoffCurve]
    intervals: Intervals
    decision: RouterDecision
    chosen: OperatingPoint
    metrics: Mapping[str, Mapping[str, float]]
    student: Profile
    teacher: Profile
    live: Latency | None = None
    live_deferral_rate: float | None = None
    printed: Sequence[OperatingPoint] | None = None
    stats: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    calibration: Mapping[str, Any] | None = None
    score_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def curve(self) -> TradeoffCurve:
        """The deciding score's curve."""
        return next(iter(self.curves.values()))

    def table_points(self) -> list[OperatingPoint]:
        """A readable number of points: those asked for, or eleven from nothing to everything."""
        if self.printed is not None:
            return list(self.printed)
        return [self.curve.at_rate(tenth / 10) for tenth in range(11)]

    def to_dict(self) -> dict[str, Any]:
        """The one JSON object of the command line, without `run_dir`."""
        points = self.curve.points() if self.printed is None else self.printed
        areas = {name: curve.area() for name, curve in self.curves.items()}
        return {
            "title": self.title,
            "task": self.task.name,
            "quality_name": self.task.quality_name,
            "images": len(self.run),
            "score": self.curve.score,
            "score_options": dict(self.score_options),
            "student": self._side("student", self.student, self.curve.cost.student_macs),
            "teacher": self._side("teacher", self.teacher, self.curve.cost.teacher_macs),
            "joint": self._joint(),
            "points": [
                point.to_dict() | {"stats": numbers}
                for point, numbers in zip(points, self.stats.tolist(), strict=True)
            ],
            "scores": areas,
            "score_intervals": {name: list(self.intervals.area[name]) for name in areas},
            "score_minus_free_energy": {name: list(self.intervals.area_difference[name]) for name in areas},
            "confidence": self.intervals.confidence,
            "random_area": _area(self.curve.random),
            "oracle_area": _area(self.curve.oracle),
            "deferral_rate_for_gap": {
                f"{fraction:g}": self.curve.rate_for_gap(fraction) for fraction in GAP_FRACTIONS
            },
            "calibration": self.calibration,
        }

    def _side(self, side: str, profile: Profile, macs: float | None) -> dict[str, Any]:
        metrics = self.metrics[side]
        latency = profile.latency
        return {
            "name": profile.name,
            "quality": metrics[self.task.quality_name],
            "macs": macs,
            "latency_ms": None if latency is None else latency.mean,
            "metrics": dict(metrics),
            "stats": list(metrics.values()),
            "latency": None if latency is None else latency.to_dict(),
            **profile.extras,
        }

    def _joint(self) -> dict[str, Any]:
        point = self.chosen
        name = f"{self.student.name} + {self.teacher.name}"
        flops = (self.student.extras.get("ebjr_flops"), self.teacher.extras.get("ebjr_flops"))
        pair = CostModel(*flops).macs(point.deferral_rate)
        live = self.live_deferral_rate
        return self._side("joint", Profile(name, self.live), point.macs) | {
            "ebjr_flops": pair,
            "threshold": point.to_dict()["threshold"],
            "deferral_rate": point.deferral_rate,
            "student_share": 1 - point.deferral_rate,
            "gap_recovered": point.gap_recovered,
            "live_deferral_rate": live,
            "expected_latency_ms": None if live is None else self.curve.cost.latency_ms(live),
        }


def build_report(
    run: PairedRun,
    task: Task,
    decision: RouterDecision,
    score: str,
    cost: CostModel,
    *,
    title: str,
    student: Profile,
    teacher: Profile,
    rates: Sequence[float] | None = None,
    replicates: int = 1000,
    seed: int = 0,
    **rest: Any,
) -> Report:
    """Sweep every score of the run, bootstrap the curves and judge the chosen decision.

    Args:
        decision: on `run.scores[score]`, in the order of the run.
        rates: deferral rates of the points to print.
        rest: the remaining fields of `Report`.
    """
    names = [score, *(name for name in run.scores if name != score)]
    curves = sweep_all(run, task, names, cost)
    curve = curves[score]
    printed = None if rates is None else [curve.at_rate(rate) for rate in rates]
    points = curve.deferral_rate if printed is None else np.array([point.deferral_rate for point in printed])
    reference = ENERGY if ENERGY in run.scores else score
    return Report(
        title=title,
        task=task,
        run=run,
        curves=curves,
        intervals=bootstrap(run, task, names, reference=reference, replicates=replicates, seed=seed),
        decision=decision,
        chosen=curve.of_decision(decision),
        metrics={
            "student": task.metrics(run.student),
            "teacher": task.metrics(run.teacher),
            "joint": task.metrics(mixture(run, task, decision.defer)),
        },
        student=student,
        teacher=teacher,
        printed=printed,
        stats=_stats(run, task, score, points),
        **rest,
    )


def _stats(run: PairedRun, task: Task, score: str, rates: FloatArray) -> FloatArray:
    """[rates, numbers] all of the task's numbers at operating points of a score."""
    order = np.argsort(-run.scores[score], kind="stable")
    deferred, place = np.unique(np.rint(rates * len(run)).astype(np.intp), return_inverse=True)
    numbers = task.mixtures(run.student, run.teacher).metrics(order, deferred)
    return np.stack(list(numbers.values()), axis=1)[place]


def _area(line: Any) -> float:
    return float((line[:-1] + line[1:]).mean() / 2)
