"""A threshold that was chosen for a target on some images, beside what it does on others."""

from dataclasses import dataclass

from ebjr_det.core.calibration import BUDGETS, Target
from ebjr_det.core.tradeoff import OperatingPoint, TradeoffCurve


@dataclass(frozen=True)
class Calibrated:
    """A calibrated threshold.

    Attributes:
        curve, chosen: of the images that it was chosen on, and its point there.
        reported_curve, reported: of the images that the choice did not see.
        seed: of the split of `run_dir`, where both are parts of it.
    """

    target: Target
    quality_name: str
    curve: TradeoffCurve
    chosen: OperatingPoint
    reported_curve: TradeoffCurve
    reported: OperatingPoint
    seed: int
    run_dir: str

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
            "seed": self.seed,
            "run_dir": self.run_dir,
        }


def _part(curve: TradeoffCurve, point: OperatingPoint) -> dict[str, float | None]:
    ends = {"student_quality": curve.student_quality, "teacher_quality": curve.teacher_quality}
    return {"images": curve.images, **point.to_dict(), **ends}
