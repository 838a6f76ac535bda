"""Which threshold holds for requests that bring none: a constant, or a law that follows the traffic."""

import math
from abc import ABC, abstractmethod

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import index_for_rate, operating_points
from ebjr_det.core.types import FloatArray

GAIN = 0.005
"""By how much of its error the law `share` moves a picture; holds a share within 300 pictures of a shift."""
CALIBRATED, QUEUE = "calibrated", "queue"
LAWS = (CALIBRATED, "share", QUEUE)


class Law(ABC):
    """A threshold for each request."""

    @abstractmethod
    def threshold(self, wait: float) -> float:
        """The threshold that holds now; `wait`: seconds that the teacher's next picture would wait."""

    def observe(self, deferred: int, pictures: int) -> None:  # noqa: B027
        """Learn how many of so many pictures went above the threshold; most laws learn nothing."""


class Calibrated(Law):
    """The pair's own threshold, whatever comes."""

    def __init__(self, threshold: float) -> None:
        self.constant = threshold

    def threshold(self, wait: float) -> float:
        """The constant itself."""
        return self.constant


class Quantiles:
    """Thresholds by the share of reference scores above them."""

    def __init__(self, reference: FloatArray) -> None:
        self.thresholds, self.deferred = operating_points(reference)

    def threshold(self, rate: float) -> float:
        """The lowest threshold that at most this share of the reference scores lies above."""
        return float(self.thresholds[index_for_rate(self.deferred, rate)])


class Share(Law):
    """A law that keeps the share of deferred pictures where it was calibrated, whatever pictures come.

    After every picture r += GAIN (target - deferred), and the threshold is the reference scores' quantile
    1 - r. What a calibration guarantees of the risk is void under it.
    """

    def __init__(self, reference: FloatArray, threshold: float) -> None:
        self.quantiles, self.target = Quantiles(reference), float((reference > threshold).mean())
        self.rate = self.target

    def threshold(self, wait: float) -> float:
        """The quantile at the rate that now gives the target."""
        return self.quantiles.threshold(self.rate)

    def observe(self, deferred: int, pictures: int) -> None:
        """Move the rate."""
        moved = self.rate + GAIN * (self.target * pictures - deferred)
        self.rate = min(max(moved, 0.0), 1.0)


class Queue(Law):
    """A law that defers less while the teacher's queue is long.

    The calibrated share times clip((slo - wait) / (slo / 2), 0, 1); never below the calibrated threshold.
    """

    def __init__(self, reference: FloatArray, threshold: float, slo: float) -> None:
        self.quantiles, self.calibrated, self.slo = Quantiles(reference), threshold, slo
        self.target = float((reference > threshold).mean())

    def threshold(self, wait: float) -> float:
        """The threshold of the share that a teacher with this wait can take."""
        room = min(max((self.slo - wait) / (self.slo / 2), 0.0), 1.0)
        return max(self.calibrated, self.quantiles.threshold(self.target * room))


def build_law(name: str, threshold: float, reference: FloatArray | None, slo_ms: float | None) -> Law:
    """A law by its name.

    Args:
        reference: scores at the router's fit; slo_ms: how long a picture may wait for the teacher.

    Raises:
        ConfigError: an unknown law, or one without what it needs.
    """
    if name not in LAWS:
        raise ConfigError(f"Expected a policy among {', '.join(LAWS)}, got `{name}`.")
    if name == CALIBRATED:
        return Calibrated(threshold)
    if reference is None:
        raise ConfigError(
            f"Expected reference scores for policy `{name}`, got a pair without a fitted router that comes "
            "from no run. Serve a finished run or its export, or take --policy calibrated."
        )
    if name == "share":
        return Share(reference, threshold)
    if slo_ms is None or not 0 < slo_ms < math.inf:
        raise ConfigError(f"Expected --slo-ms above 0 for policy `queue`, got {slo_ms}.")
    return Queue(reference, threshold, slo_ms / 1000)
