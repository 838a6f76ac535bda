"""A threshold from a target, chosen on one set of images and reported on another.

Targets: a budget (deferral rate, MACs, ms) or a floor (quality, drop against the teacher). A floor may
carry a confidence: then it holds for new images of the same distribution with that probability, by the
bounds of `evaluation.certify`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.core.tradeoff import Budget, OperatingPoint, TradeoffCurve
from ebjr_det.core.types import PairedRun

TargetKind = Literal["deferral_rate", "macs", "latency_ms", "min_quality", "max_drop"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)


@dataclass(frozen=True)
class Target:
    """A limit that the pair's operating point has to keep.

    Attributes:
        kind: a budget (`deferral_rate`, `macs` an image, `latency_ms` an image: at most `value`) or a
            floor (`min_quality`: at least `value`; `max_drop`: quality at most `value` below the teacher).
        confidence: None, or the probability with which the floor holds on new images.
    """

    kind: TargetKind
    value: float
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.value) and self.value >= 0):
            raise ConfigError(f"Expected `{self.kind}` of at least 0, got {self.value}.")
        if self.kind == "deferral_rate" and self.value > 1:
            raise ConfigError(f"Expected a deferral rate in [0, 1], got {self.value}.")
        if self.kind in ("min_quality", "max_drop") and self.value > 1:
            raise ConfigError(
                f"Expected `{self.kind}` in [0, 1], got {self.value}. Qualities are shares, not percent."
            )
        if self.confidence is None:
            return
        if self.kind in BUDGETS:
            raise ConfigError(
                f"Expected `confidence` with `min_quality` or `max_drop`, got it with `{self.kind}`."
            )
        if not 0 < self.confidence < 1:
            raise ConfigError(f"Expected a confidence in (0, 1), got {self.confidence}.")

    def to_dict(self) -> dict[str, str | float | None]:
        """A JSON object of plain values."""
        return {"kind": self.kind, "value": self.value, "confidence": self.confidence}

    @property
    def allowed_shortfall(self) -> float:
        """What a floor allows: the drop against the teacher, or the share of wrong answers."""
        return self.value if self.kind == "max_drop" else 1 - self.value


def choose_point(curve: TradeoffCurve, target: Target) -> OperatingPoint:
    """The operating point that meets a target as far as the curve's own images tell, whatever its confidence.

    A budget gives the highest quality within it, for the deferral rate simply the largest rate allowed;
    a floor gives the cheapest point above it.

    Raises:
        Infeasible: no point meets it; carries the nearest.
        ConfigError: a cost that this run does not know.
    """
    if target.kind == "deferral_rate":
        return curve.at_rate(target.value)
    if target.kind in BUDGETS:
        return curve.best_under(target.kind, target.value)
    drop = target.kind == "max_drop"
    return curve.cheapest_above(curve.teacher_quality - target.value if drop else target.value)


def split(run: PairedRun, fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of two disjoint, seeded random parts of a run: calibration and report.

    The parts depend on the image ids and the seed alone, not on the order of the images.

    Raises:
        ConfigError: the fraction leaves a part empty.
    """
    check_seed(seed)
    count = calibration_size(len(run), fraction)
    by_id = np.argsort(np.array(run.image_ids))
    shuffled = by_id[np.random.default_rng(seed).permutation(len(run))]
    return np.sort(shuffled[:count]), np.sort(shuffled[count:])


def calibration_size(images: int, fraction: float) -> int:
    """How many of the images calibrate. Raises ConfigError where a part would be empty."""
    count = round(fraction * images) if 0 < fraction < 1 else 0
    if not 0 < count < images:
        raise ConfigError(
            f"Expected a calibration fraction that leaves images on both sides, got {fraction} of {images}."
        )
    return count


def check_disjoint(calibration: PairedRun, report: PairedRun) -> None:
    """Refuse two runs that share an image. Raises InvalidInput with the count and one example."""
    shared = set(calibration.image_ids) & set(report.image_ids)
    if shared:
        raise InvalidInput(
            f"Expected disjoint images for calibration and report, got {len(shared)} in both, "
            f"`{min(shared)}` for one. Report on images that the choice never saw."
        )
