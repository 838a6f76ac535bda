"""Pairs under traffic: what is known of each under a stated mix, over popular shares, and at equal cost.

Convention: the first run is the one in question, the others are what it is compared with. Everything is
computed once here; tables and figures only show it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.router import finite
from ebjr_det.core.tradeoff import TradeoffCurve, Weights, sweep
from ebjr_det.core.types import FloatArray, PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.bootstrap import CONFIDENCE, METHOD
from ebjr_det.evaluation.traffic.equal_cost import EqualCost, ahead_from, at_equal_cost, margins_at_equal_cost
from ebjr_det.evaluation.traffic.mix import Composition, popular_mix, popular_text
from ebjr_det.evaluation.traffic.weighted import AtThreshold, HandedOn, Qualities, RoutedPair

SHARES = tuple(round(0.05 * step, 2) for step in range(2, 20))
SURE_SHARES = (0.3, 0.5, 0.7, 0.9)
"""Popular shares of the curves, and those at which margins have intervals."""


@dataclass(frozen=True)
class JudgedRun:
    """One run under the stated mix; `at`, `qualities` and `other` are those of its chosen threshold."""

    name: str
    analysis: Analysis
    pair: RoutedPair
    curve: TradeoffCurve
    at: AtThreshold
    qualities: Mapping[str, Qualities]
    other: HandedOn | None

    @classmethod
    def of(
        cls, name: str, run: PairedRun, task: Task, analysis: Analysis, weights: Weights, images: Composition
    ) -> "JudgedRun":
        """A run on the images of a composition, at its analysis's threshold."""
        pair = RoutedPair.of(run, task, analysis.score, analysis.threshold, analysis.cost)
        curve = sweep(run, task, analysis.score, analysis.cost, weights=weights)
        handed_on = None
        if run.abstains is not None:
            handed_on = HandedOn.of(run.abstains, images.shows_rest, weights.images)
        qualities = pair.qualities(weights, images.popular)
        return cls(name, analysis, pair, curve, pair.at_threshold(weights), qualities, handed_on)

    def sides(self) -> dict[str, dict[str, float | None]]:
        """Costs and qualities of `student`, `teacher` and `joint`; a quality of nothing at all is None."""
        cost = self.pair.cost
        costs = {
            "student": (cost.student_macs, cost.student_ms),
            "teacher": (cost.teacher_macs, cost.teacher_ms),
            "joint": (self.at.macs, self.at.latency_ms),
        }
        return {
            side: {"macs": macs, "latency_ms": ms}
            | {key: None if value < 0 else value for key, value in self.qualities[side]._asdict().items()}
            for side, (macs, ms) in costs.items()
        }

    def to_dict(self) -> dict[str, object]:
        """A JSON object of plain values."""
        return {
            "run": self.name,
            "student_name": self.analysis.student.name,
            "teacher_name": self.analysis.teacher.name,
            "score": self.analysis.score,
            "deferral_rate": self.at.deferral_rate,
            **self.sides(),
            "other": None if self.other is None else asdict(self.other),
        }

    def curve_dict(self) -> dict[str, object]:
        """Every operating point as columns; end thresholds, which are infinite, are None."""
        curve = self.curve
        macs = curve.cost.macs(curve.deferral_rate)
        return {
            "deferral_rate": curve.deferral_rate.tolist(),
            "threshold": list(map(finite, curve.threshold.tolist())),
            "quality": curve.quality.tolist(),
            "macs": None if macs is None else macs.tolist(),
            "random": [curve.random_rate.tolist(), curve.random.tolist()],
            "oracle": [curve.oracle_rate.tolist(), curve.oracle.tolist()],
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

    def to_dict(self) -> dict[str, object]:
        """A JSON object of plain values."""
        return {
            "share": self.share,
            "shown_share": self.shown,
            "runs": [asdict(at) for at in self.runs],
            "equal_macs": [row.to_dict() for row in self.equal],
        }


@dataclass(frozen=True)
class TrafficReport:
    """Runs of the same images under one mix of classes.

    Attributes:
        title: the mix in words.
        mix, shown: [classes] the mix, and the one that the weighted images show.
        shares: over popular shares.
        margins: by name of a mix, the first run at equal cost beside each other one, with intervals: the
            stated mix first, then popular shares; empty of one run.
        mean: whether the quality is a mean over images.
    """

    quality_name: str
    title: str
    composition: Composition
    mix: FloatArray
    shown: FloatArray
    runs: Sequence[JudgedRun]
    shares: Sequence[AtShare]
    margins: Mapping[str, Sequence[EqualCost]]
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
        return self.composition.popular_share(self.shown)

    def ahead_from(self, index: int) -> float | None:
        """The popular share from which on the first run is ahead of the so many-th other one."""
        if not all(row.equal for row in self.shares):
            return None
        return ahead_from(
            [row.share for row in self.shares], [row.equal[index].margin for row in self.shares]
        )

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line."""
        images = self.composition
        columns: tuple[NDArray[np.generic], ...] = (images.popular, images.share, self.mix, self.shown)
        rows = zip(images.names, *(column.tolist() for column in columns), strict=True)
        keys = ("class", "popular", "data_share", "traffic_share", "shown_share")
        return {
            "mix": self.title,
            "quality_name": self.quality_name,
            "images": self.images,
            "popular_share": images.popular_share(self.mix),
            "shown_popular_share": self.shown_share,
            "runs": [run.to_dict() for run in self.runs],
            "shares": [row.to_dict() for row in self.shares],
            "margins": [
                {"mix": name, "runs": [row.to_dict() for row in rows]} for name, rows in self.margins.items()
            ],
            "ahead_from": {run.name: self.ahead_from(index) for index, run in enumerate(self.runs[1:])},
            "confidence": CONFIDENCE,
            "interval_method": METHOD,
            "replicates": self.replicates,
            "seed": self.seed,
            "classes": [dict(zip(keys, row, strict=True)) for row in rows],
        }


def build_traffic_report(
    named: Sequence[tuple[str, PairedRun, Analysis]],
    task: Task,
    mix: tuple[FloatArray, str],
    composition: Composition,
    *,
    replicates: int,
    seed: int,
) -> TrafficReport:
    """Runs on the same images, in the same order, under a mix.

    Args:
        named: name, run and analysis, the run in question first.
        mix: [classes] its shares, and its words.

    Raises:
        EbjrError: classes with a share that no image shows; see `paired_bootstrap`.
    """
    stated, title = composition.weights(mix[0]), mix[1]
    runs = [JudgedRun.of(name, run, task, analysis, stated, composition) for name, run, analysis in named]
    first, *rivals = (run.pair for run in runs)
    at_share = {share: composition.weights(popular_mix(share, composition)) for share in SHARES}
    shares = []
    for share, weights in at_share.items():
        popular = composition.popular_share(composition.shown(weights.images))
        points = [pair.at_threshold(weights) for pair in (first, *rivals)]
        shares.append(AtShare(share, popular, points, at_equal_cost(first, rivals, weights)))
    mixes = {title: stated} | {popular_text(share): at_share[share] for share in SURE_SHARES}
    sampling = {"replicates": replicates, "seed": seed}
    margins = margins_at_equal_cost(first, rivals, list(mixes.values()), composition, **sampling)
    by_mix = dict(zip(mixes, margins, strict=True)) if rivals else {}
    return TrafficReport(
        task.quality_name, title, composition, stated.classes, composition.shown(stated.images), runs, shares,
        by_mix, first.mean, replicates, seed,
    )  # fmt: skip
