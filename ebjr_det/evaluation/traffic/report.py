"""Pairs under traffic: what is known of each under a stated mix, over popular shares, and at equal cost.

Convention: the first run is the one in question, the others are what it is compared with. Everything is
computed once here; tables and figures only show it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ebjr_det.core.router import decide
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.bootstrap import METHOD
from ebjr_det.evaluation.hull import CONFIDENCE
from ebjr_det.evaluation.traffic.equal_cost import EqualCost, ahead_from, at_equal_cost, margins_at_equal_cost
from ebjr_det.evaluation.traffic.mix import Composition, Mix, OtherFound
from ebjr_det.evaluation.traffic.weighted import AtThreshold, Pair, Qualities, Traffic, TrafficCurve

SHARES = tuple(round(0.05 * step, 2) for step in range(2, 20))
SURE_SHARES = (0.3, 0.5, 0.7, 0.9)
"""Popular shares of the curves, and those at which margins have intervals."""


@dataclass(frozen=True)
class JudgedRun:
    """One run under the stated mix; `at`, `qualities` and `other` are those of its chosen threshold."""

    name: str
    analysis: Analysis
    pair: Pair
    curve: TrafficCurve
    at: AtThreshold
    qualities: dict[str, Qualities]
    other: OtherFound | None

    @classmethod
    def of(
        cls, name: str, run: PairedRun, task: Task, analysis: Analysis, traffic: Traffic, shown: Composition
    ) -> "JudgedRun":
        """A run on the images of a composition, at its analysis's threshold."""
        decision = decide(score_of(run, analysis.score), analysis.threshold)
        pair = Pair.of(run, task, analysis.score, decision, analysis.cost)
        other = None
        if run.abstains is not None:
            other = OtherFound.of(run.abstains, shown.shows_rest, traffic.weights)
        qualities = pair.qualities(traffic, shown.popular)
        return cls(name, analysis, pair, pair.curve(traffic), pair.at_threshold(traffic), qualities, other)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a quality of nothing at all is None."""
        cost = self.pair.cost
        costs = {
            "student": (cost.student_macs, cost.student_ms),
            "teacher": (cost.teacher_macs, cost.teacher_ms),
            "joint": (self.at.macs, self.at.latency_ms),
        }
        sides = {
            side: {"macs": macs, "latency_ms": ms}
            | {key: _known(value) for key, value in asdict(self.qualities[side]).items()}
            for side, (macs, ms) in costs.items()
        }
        return {
            "run": self.name,
            "student_name": self.analysis.student.name,
            "teacher_name": self.analysis.teacher.name,
            "score": self.analysis.score,
            "deferral_rate": self.at.deferral_rate,
            **sides,
            "other": None if self.other is None else asdict(self.other),
        }

    def curve_dict(self) -> dict[str, Any]:
        """Every operating point as columns; end thresholds, which are infinite, are None."""
        curve, cost = self.curve, self.pair.cost
        macs = cost.macs(curve.deferral_rate)
        return {
            "deferral_rate": curve.deferral_rate.tolist(),
            "threshold": [value if np.isfinite(value) else None for value in curve.threshold.tolist()],
            "quality": curve.quality.tolist(),
            "macs": None if macs is None else macs.tolist(),
            "random": curve.random.tolist(),
            "oracle": curve.oracle.tolist(),
        }


@dataclass(frozen=True)
class AtShare:
    """All runs at one popular share.

    Attributes:
        shown: the popular share that the weighted images show.
        runs: each at its own threshold.
        equal: the first beside each other one at its own MACs; none where MACs are unknown.
    """

    share: float
    shown: float
    runs: Sequence[AtThreshold]
    equal: Sequence[EqualCost]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "share": self.share,
            "shown_share": self.shown,
            "runs": [asdict(own) for own in self.runs],
            "equal_macs": [equal_dict(one) for one in self.equal],
        }


@dataclass(frozen=True)
class TrafficReport:
    """Runs of the same images under one mix of classes.

    Attributes:
        said: the mix in words.
        shares: over popular shares.
        margins: name of a mix and the first run at equal cost beside each other one, with intervals: the
            stated mix first, then popular shares.
        mean: whether the quality is a mean over images.
    """

    quality_name: str
    said: str
    composition: Composition
    traffic: Traffic
    runs: Sequence[JudgedRun]
    shares: Sequence[AtShare]
    margins: Sequence[tuple[str, Sequence[EqualCost]]]
    mean: bool
    replicates: int
    seed: int

    @property
    def images(self) -> int:
        """How many images all runs report on."""
        return len(self.composition.counts)

    @property
    def shown_share(self) -> float:
        """The popular share that the weighted images show."""
        return float(self.traffic.shown[self.composition.popular].sum())

    def ahead_from(self, other: int) -> float | None:
        """The popular share from which on the first run is ahead of the so many-th other one."""
        if not all(row.equal for row in self.shares):
            return None
        return ahead_from(
            [row.share for row in self.shares], [row.equal[other].margin for row in self.shares]
        )

    def to_dict(self) -> dict[str, Any]:
        """The one JSON object of the command line."""
        shown, others = self.composition, self.runs[1:]
        columns = (shown.popular, shown.share, self.traffic.mix.shares, self.traffic.shown)
        rows = zip(shown.names, *(column.tolist() for column in columns), strict=True)
        keys = ("class", "popular", "data_share", "traffic_share", "shown_share")
        return {
            "mix": self.said,
            "quality_name": self.quality_name,
            "images": self.images,
            "popular_share": float(self.traffic.mix.shares[shown.popular].sum()),
            "shown_popular_share": self.shown_share,
            "runs": [run.to_dict() for run in self.runs],
            "shares": [row.to_dict() for row in self.shares],
            "margins": [
                {"mix": name, "runs": [equal_dict(one) for one in found]} for name, found in self.margins
            ],
            "ahead_from": {run.name: self.ahead_from(index) for index, run in enumerate(others)},
            "confidence": CONFIDENCE,
            "interval_method": METHOD,
            "replicates": self.replicates,
            "seed": self.seed,
            "classes": [dict(zip(keys, row, strict=True)) for row in rows],
        }


def build_traffic_report(
    named: Sequence[tuple[str, PairedRun, Analysis]],
    task: Task,
    mix: Mix,
    said: str,
    composition: Composition,
    *,
    replicates: int,
    seed: int,
) -> TrafficReport:
    """Judge runs on the same images, in the same order, under a mix.

    Args:
        named: name, run and analysis, the run in question first.
        said: the mix in words.

    Raises:
        InvalidInput: a class of the mix, or one of the two groups of classes, that no image shows.
        ConfigError: replicates outside 2..100,000, a seed below 0.
    """
    traffic = Traffic.of(mix, composition)
    runs = [JudgedRun.of(name, run, task, own, traffic, composition) for name, run, own in named]
    first, *others = (run.pair for run in runs)

    def at(share: float) -> Traffic:
        return Traffic.of(Mix.of_popular(share, composition), composition)

    shares = []
    for share in SHARES:
        here = at(share)
        shown = float(here.shown[composition.popular].sum())
        own = [pair.at_threshold(here) for pair in (first, *others)]
        shares.append(AtShare(share, shown, own, at_equal_cost(first, others, here)))
    mixes = {said: traffic} | {popular_text(share): at(share) for share in SURE_SHARES}
    margins = margins_at_equal_cost(
        first, others, list(mixes.values()), composition,
        replicates=replicates, seed=seed, confidence=CONFIDENCE,
    )  # fmt: skip
    sure = list(zip(mixes, margins, strict=True)) if others else []
    return TrafficReport(
        task.quality_name, said, composition, traffic, runs, shares, sure, first.mean, replicates, seed
    )


def popular_text(share: float) -> str:
    """A popular share in words."""
    return f"{100 * share:g} % popular"


def equal_dict(one: EqualCost) -> dict[str, Any]:
    """Plain values, the margin among them."""
    return asdict(one) | {"margin": one.margin}


def _known(quality: float) -> float | None:
    return None if quality < 0 else quality
