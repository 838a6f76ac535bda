"""A threshold that was chosen for a target on some images, beside what it does on others."""

from dataclasses import dataclass
from typing import NamedTuple

from ebjr_det.config.target import BUDGETS, Target
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.split import split_ids
from ebjr_det.core.tiers import TieredRun
from ebjr_det.core.tradeoff import OperatingPoint, TradeoffCurve
from ebjr_det.core.types import Indices, PairedRun


class Live(NamedTuple):
    """The pair's mean latency at a deferral rate, ms an image: measured, and student + rate x teacher."""

    deferral_rate: float
    latency_ms: float
    expected_latency_ms: float


@dataclass(frozen=True)
class Calibrated:
    """A calibrated threshold.

    Attributes:
        curve, chosen: of the images that it was chosen on, and its point there.
        reported_curve, reported: of the images that the choice did not see.
        seed: of the split of `run_dir`, where both are parts of it.
        estimated: no label judged the images; qualities rest on what both models say.
        live: the pair on the live path, where the run measured it; latencies of points are sums of both
            models' own.
    """

    target: Target
    quality_name: str
    curve: TradeoffCurve
    chosen: OperatingPoint
    reported_curve: TradeoffCurve
    reported: OperatingPoint
    seed: int
    run_dir: str
    estimated: bool = False
    live: Live | None = None

    @property
    def met(self) -> bool:
        """Whether the target is met on the images that the choice did not see."""
        kind, value = self.target.kind, self.target.value
        if kind in BUDGETS:
            return bool(getattr(self.reported, kind) <= value * (1 + 1e-12))
        if kind == "min_quality":
            return self.reported.quality >= value - 1e-12
        return self.reported_curve.teacher_quality - self.reported.quality <= value + 1e-12

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line."""
        return {
            "feasible": True,
            "target": self.target.to_dict(),
            "score": self.curve.score,
            "quality_name": self.quality_name,
            "teacher_macs": self.curve.cost.teacher_macs,
            "threshold": self.chosen.to_dict()["threshold"],
            "calibration": _part(self.curve, self.chosen),
            "report": _part(self.reported_curve, self.reported),
            "estimated": self.estimated,
            "live": None if self.live is None else self.live._asdict(),
            "seed": self.seed,
            "run_dir": self.run_dir,
        }


def _part(curve: TradeoffCurve, point: OperatingPoint) -> dict[str, float | None]:
    ends = {"student_quality": curve.student_quality, "teacher_quality": curve.teacher_quality}
    return {"images": curve.images, **point.to_dict(), **ends}


def split(run: PairedRun | TieredRun, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Indices of a run's calibration and report; see `core.split`."""
    return split_ids(run.image_ids, fraction, seed)


def check_disjoint(calibration: PairedRun, report: PairedRun) -> None:
    """Refuse two runs that share an image, or of which labels judged one alone.

    Raises InvalidInput with the count and one example.
    """
    if calibration.estimated != report.estimated:
        states = ("labels", "none")[:: -1 if calibration.estimated else 1]
        raise InvalidInput(
            f"Expected labels for both runs or for none, got {states[0]} for calibration and {states[1]} for "
            "report: estimates and measured qualities do not compare."
        )
    shared = set(calibration.image_ids) & set(report.image_ids)
    if shared:
        raise InvalidInput(
            f"Expected disjoint images for calibration and report, got {len(shared)} in both, "
            f"`{min(shared)}` for one. Report on images that the choice never saw."
        )
