"""A report: all that a run's tables, figures and JSON show, computed once from records and analysis."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ebjr_det.core.cost import Cost, CostModel
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import RouterDecision, decide
from ebjr_det.core.scores import ENERGY
from ebjr_det.core.tradeoff import OperatingPoint, TradeoffCurve, mixture, score_of, select, sweep_all
from ebjr_det.core.types import FloatArray, PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.analysis import Profile as Profile
from ebjr_det.evaluation.bootstrap import METHOD, Intervals, bootstrap
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.hull import Margin, margin_numbers, margins_of
from ebjr_det.evaluation.single_models import SingleModel, single_models
from ebjr_det.io.threads import thread_count
from ebjr_det.routing.drift import FittedUse

GAP_FRACTIONS = (0.5, 0.8, 0.9, 0.95)
TABLE_RATES = (0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Report:
    """One pair on one set of images.

    Attributes:
        run: the reported images; those that calibrated the threshold are not among them.
        curves: by score, the deciding score first.
        decision: the analysis's threshold on these images; `chosen` is its operating point.
        reward: [images] what the teacher's answer adds to the quality.
        points: those in JSON: the ones asked for, or the whole sweep.
        stats: [points, numbers] the task's numbers there, in its order.
        metrics: the task's numbers of student, teacher and joint at the chosen point.
        by_class: by side [classes, numbers], -1 where a class has no such object; None if the task has none.
        rivals: the single models beside student and teacher that the pair is compared with.
        published: EBJR's own score at the chosen deferral rate, unless it decides, and the task's numbers.
        margins: by kind of cost, over the hull of all single models: of the chosen point first, then of a few
            others; a kind of which some model's cost is unknown is not there.
    """

    analysis: Analysis
    task: Task
    run: PairedRun
    curves: Mapping[str, TradeoffCurve]
    intervals: Intervals
    decision: RouterDecision
    chosen: OperatingPoint
    reward: FloatArray
    points: Sequence[OperatingPoint]
    stats: FloatArray
    metrics: Mapping[str, Mapping[str, float]]
    by_class: Mapping[str, FloatArray] | None
    rivals: Sequence[SingleModel]
    margins: Mapping[Cost, Sequence[Margin]]
    published: tuple[OperatingPoint, FloatArray] | None = None

    @property
    def curve(self) -> TradeoffCurve:
        """The deciding score's curve."""
        return next(iter(self.curves.values()))

    @property
    def published_quality(self) -> float | None:
        """What EBJR's own score gets at the chosen deferral rate."""
        return None if self.published is None else self.published[0].quality

    def table_points(self) -> list[OperatingPoint]:
        """A readable number of points: those asked for, or eleven from nothing to everything."""
        return [self.curve.at_rate(rate) for rate in self.analysis.rates or np.linspace(0, 1, 11)]

    def further_points(self) -> list[tuple[OperatingPoint, Mapping[str, float]]]:
        """A few points with all of the task's numbers, to stand beside the chosen one."""
        points = [self.curve.at_rate(rate) for rate in self.analysis.rates or TABLE_RATES]
        return [(point, self._named(self.stats[self.points.index(point)])) for point in points]

    def published_points(self) -> list[tuple[OperatingPoint, Mapping[str, float]]]:
        """EBJR's own score with all of the task's numbers, where there is any."""
        return [] if self.published is None else [(self.published[0], self._named(self.published[1]))]

    def _named(self, numbers: FloatArray) -> dict[str, float]:
        return dict(zip(self.metrics["joint"], numbers.tolist(), strict=True))

    def _defined(self, numbers: FloatArray) -> dict[str, float | None]:
        return {name: None if value < 0 else value for name, value in self._named(numbers).items()}

    def sides(self) -> dict[str, dict[str, Any]]:
        """What is known of `student`, `teacher` and `joint`, as plain values."""
        analysis, cost, point = self.analysis, self.curve.cost, self.chosen
        small, large = (side.extras.get("ebjr_flops") for side in (analysis.student, analysis.teacher))
        live = analysis.live_deferral_rate
        pair = Profile(f"{analysis.student.name} + {analysis.teacher.name}", analysis.live)
        return {
            "student": self._side("student", analysis.student, cost.student_macs),
            "teacher": self._side("teacher", analysis.teacher, cost.teacher_macs),
            "joint": self._side("joint", pair, point.macs)
            | {
                "ebjr_flops": CostModel(small, large).macs(point.deferral_rate),
                "threshold": point.to_dict()["threshold"],
                "deferral_rate": point.deferral_rate,
                "student_share": 1 - point.deferral_rate,
                "gap_recovered": point.gap_recovered,
                **margin_numbers({kind: margins[0] for kind, margins in self.margins.items()}),
                "live_deferral_rate": live,
                "expected_latency_ms": None if live is None else cost.latency_ms(live),
            },
        }

    def coin_to_oracle(self) -> dict[str, float | None]:
        """By score, what part of the way from random to oracle deferral its area gets."""
        ends = area_of(self.curve.random), area_of(self.curve.oracle)
        return {name: coin_to_oracle(curve.area(), *ends) for name, curve in self.curves.items()}

    def class_rows(self) -> list[dict[str, Any]]:
        """One row a class: its name, or its index where names are unknown, and the numbers of all sides."""
        if self.by_class is None:
            return []
        count = len(self.by_class["joint"])
        names = self.analysis.class_names or tuple(map(str, range(count)))
        return [
            {"class": name} | {side: self._defined(rows[index]) for side, rows in self.by_class.items()}
            for index, name in enumerate(names)
        ]

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line, without `run_dir`."""
        areas = {name: curve.area() for name, curve in self.curves.items()}
        calibration = self.analysis.calibration
        return {
            "title": self.analysis.title,
            "task": self.task.name,
            "quality_name": self.task.quality_name,
            "images": len(self.run),
            "estimated": self.run.estimated,
            "score": self.curve.score,
            "score_options": dict(self.analysis.score_options),
            **self.sides(),
            "points": [
                point.to_dict() | {"stats": numbers}
                for point, numbers in zip(self.points, self.stats.tolist(), strict=True)
            ],
            "scores": areas,
            "score_intervals": {name: list(self.intervals.area[name]) for name in areas},
            "score_minus_free_energy": {name: list(self.intervals.area_difference[name]) for name in areas},
            "score_minus_free_energy_picked": {
                name: list(self.intervals.area_difference_picked[name]) for name in areas
            },
            "confidence": self.intervals.confidence,
            "interval_method": METHOD,
            "threshold_from": self.analysis.threshold_from or None,
            "picked_among": self.analysis.picked_among,
            "random_area": area_of(self.curve.random),
            "oracle_area": area_of(self.curve.oracle),
            "coin_to_oracle": self.coin_to_oracle(),
            "deferral_rate_for_gap": {
                f"{fraction:g}": rate_for_gap(self.curve, fraction) for fraction in GAP_FRACTIONS
            },
            "published_score": self._published(),
            "selection": None if self.analysis.selection is None else dict(self.analysis.selection.__dict__),
            "router": None if self.analysis.router is None else _router_facts(self.analysis.router),
            "calibration": None if calibration is None else calibration.to_dict(),
            "share_interval": None if calibration is None else calibration.share_interval(len(self.run)),
            "references": [asdict(model) for model in self.rivals],
            "margins": {kind: list(map(asdict, margins)) for kind, margins in self.margins.items()},
            "unreadable": list(self.analysis.unreadable),
            "input_remarks": {file: dict(counts) for file, counts in self.analysis.remarks.items()},
            "classes": self.class_rows(),
        }

    def _published(self) -> dict[str, object] | None:
        if self.published is None:
            return None
        point = self.published[0]
        numbers = {name: getattr(point, name) for name in ("quality", "deferral_rate", "gap_recovered")}
        return {"score": ENERGY, **numbers}

    def _side(self, side: str, profile: Profile, macs: float | None) -> dict[str, object]:
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


def build_report(run: PairedRun, task: Task, analysis: Analysis) -> Report:
    """Sweep every score of the run, bootstrap the curves and judge the analysis's threshold.

    Args:
        run: all images; where some of them calibrated the threshold, the others are reported.

    Raises:
        ConfigError: the run has no such score.
        InvalidInput: names of another number of classes than the task tells apart.
    """
    run, decision = decided(run, task, analysis)
    score = analysis.score
    names = list(dict.fromkeys([score, *run.scores]))
    curves = sweep_all(run, task, names, analysis.cost, threads=thread_count())
    curve = curves[score]
    points = curve.points() if analysis.rates is None else [curve.at_rate(rate) for rate in analysis.rates]
    sides = {"student": run.student, "teacher": run.teacher, "joint": mixture(run, task, decision.defer)}
    judged = {side: task.by_class(records) for side, records in sides.items()}
    by_class = {side: numbers for side, numbers in judged.items() if numbers is not None}
    if by_class and analysis.class_names and len(analysis.class_names) != len(by_class["joint"]):
        counts = len(by_class["joint"]), len(analysis.class_names)
        raise InvalidInput(f"Expected names of {counts[0]} classes, got {counts[1]}.")
    chosen, rivals = curve.of_decision(decision), single_models(run, task, analysis)
    reference, published = ENERGY if ENERGY in run.scores else score, None
    if reference != score:
        point = curves[ENERGY].at_rate(chosen.deferral_rate)
        published = point, _stats(run, task, ENERGY, [point])[0]
    return Report(
        analysis,
        task,
        run,
        curves,
        bootstrap(run, task, names, reference=reference, replicates=analysis.replicates, seed=analysis.seed),
        decision,
        chosen,
        reward=task.mixtures(run.student, run.teacher).reward(),
        points=points,
        stats=_stats(run, task, score, points),
        metrics={side: task.metrics(records) for side, records in sides.items()},
        by_class=by_class or None,
        rivals=rivals,
        margins=margins_of(run, task, analysis, curve, rivals, [chosen, *_others(curve, analysis, chosen)]),
        published=published,
    )


def unseen(run: PairedRun, task: Task, analysis: Analysis) -> PairedRun:
    """The images of a run that its router was not fitted on."""
    if analysis.router is None or not analysis.router.left_out:
        return run
    fitted = set(analysis.router.left_out)
    return select(run, task, np.flatnonzero([image not in fitted for image in run.image_ids]))


def decided(run: PairedRun, task: Task, analysis: Analysis) -> tuple[PairedRun, RouterDecision]:
    """The reported images of a run, which neither router nor threshold saw, and the decision on them."""
    run = unseen(run, task, analysis)
    chosen_on = analysis.calibration
    if chosen_on is not None and analysis.selection is None:
        run = select(run, task, split(run, chosen_on.fraction, chosen_on.seed)[1])
    return run, decide(score_of(run, analysis.score), analysis.threshold)


def _stats(run: PairedRun, task: Task, score: str, points: Sequence[OperatingPoint]) -> FloatArray:
    """[points, numbers] all of the task's numbers at operating points of a score."""
    order = np.argsort(-score_of(run, score), kind="stable")
    rates = np.array([point.deferral_rate for point in points])
    deferred, rows = np.unique(np.rint(rates * len(run)).astype(np.intp), return_inverse=True)
    numbers = task.mixtures(run.student, run.teacher).metrics(order, deferred)
    return np.stack(list(numbers.values()), axis=1)[rows]


def _others(curve: TradeoffCurve, analysis: Analysis, chosen: OperatingPoint) -> list[OperatingPoint]:
    """A few points beside the chosen one, each once."""
    points = [curve.at_rate(rate) for rate in analysis.rates or TABLE_RATES]
    return list({p.deferral_rate: p for p in points if p.deferral_rate != chosen.deferral_rate}.values())


def _router_facts(use: FittedUse) -> dict[str, object]:
    drift = None if use.drift is None else {**use.drift.__dict__, "moved": use.drift.moved}
    return {**use.__dict__, "left_out": list(use.left_out), "drift": drift}


def area_of(line: FloatArray) -> float:
    """Area under a line over deferral rates from 0 to 1."""
    return float((line[:-1] + line[1:]).mean() / 2)


def coin_to_oracle(area: float, coin: float, oracle: float) -> float | None:
    """What part of the way from a coin to the oracle an area gets; None where the oracle is no better."""
    return (area - coin) / (oracle - coin) if oracle > coin else None


def gap_recovered_at(curve: TradeoffCurve, rate: float) -> float | None:
    """G at a deferral rate, linear between the two neighbouring operating points."""
    return curve.gap_recovered(float(np.interp(rate, curve.deferral_rate, curve.quality)))


def rate_for_gap(curve: TradeoffCurve, fraction: float) -> float | None:
    """Smallest deferral rate at which G reaches `fraction`; None where the gap is undefined."""
    gap = curve.teacher_quality - curve.student_quality
    reached = curve.quality >= curve.student_quality + fraction * gap - 1e-12
    return float(curve.deferral_rate[np.argmax(reached)]) if gap > 0 and reached.any() else None
