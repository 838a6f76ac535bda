"""The router: one decision rule, and the thresholds that reach a wanted deferral rate.

Convention, stated once: a deferral score is higher where the student is less to be trusted, and an image
is sent to the teacher when its **score > threshold, strictly**. Ties stay with the student. The router
sees numbers only; live inference (`joint`) and the offline sweep (`tradeoff`) both decide here.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import Flags, FloatArray, Indices

ABSTAINED = 1e6
"""What is added to the deferral score of an image that a specialised student hands on: more than scores of
logits differ by, so that every such image goes to the teacher before any other, most doubtful first, and one
number can still be the threshold of each operating point."""


@dataclass(frozen=True)
class RouterDecision:
    """Which images of a batch the teacher answers: defer = scores > threshold, strictly.

    Attributes:
        in_front: where a router in front of the student has sent the image on: its own score stands there,
            which is above its own threshold. None without such a router.
    """

    scores: FloatArray
    threshold: float
    defer: Flags
    in_front: Flags | None = None

    @property
    def deferral_rate(self) -> float:
        """Share of the images that are deferred, in [0, 1]."""
        return float(self.defer.mean())


def decide(scores: ArrayLike, threshold: float) -> RouterDecision:
    """Send to the teacher the images whose score lies strictly above the threshold.

    Args:
        scores: [images], finite.
        threshold: -inf sends every image, +inf none.

    Raises:
        InvalidInput: a score is not finite, the threshold is NaN, or `scores` is not one-dimensional.

    >>> decide([-9.1, -2.0, -5.0], threshold=-5.0).defer.tolist()
    [False, True, False]
    """
    values = check_scores(scores)
    if math.isnan(threshold):
        raise InvalidInput("Expected `threshold` to be a number, got NaN.")
    return RouterDecision(values, float(threshold), values > threshold)


def abstaining_last(scores: FloatArray, abstains: Flags | None) -> FloatArray:
    """Scores in which the images that the student hands on lie above all others, so one rule decides both.

    Raises:
        InvalidInput: a score beyond +-500,000, among which `ABSTAINED` would not put them apart.

    >>> abstaining_last(np.array([-3.0, -9.0]), np.array([False, True])).tolist()
    [-3.0, 999991.0]
    """
    if abstains is None:
        return scores
    if len(scores) and np.abs(scores).max() > ABSTAINED / 2:
        raise InvalidInput(
            f"Expected scores within +-{ABSTAINED / 2:g} beside a specialised student, "
            f"got {scores[np.abs(scores).argmax()]:.6g}. Choose another score or temperature."
        )
    return np.asarray(scores + np.where(abstains, ABSTAINED, 0.0))


def operating_points(scores: ArrayLike) -> tuple[FloatArray, Indices]:
    """Every distinct decision that a threshold can make on these scores.

    N distinct scores give N+1 points, from nothing deferred (threshold +inf) to everything (-inf); equal
    scores cannot be told apart and give fewer. Between two neighbouring scores the threshold lies in the
    middle, so that the last bit of a recomputed score does not move an image to the other model.

    Returns:
        thresholds [P], descending, and deferred [P], the number of images above each, ascending.

    >>> operating_points([1.0, 3.0, 1.0])
    (array([ inf,   2., -inf]), array([0, 1, 3]))
    """
    values, counts = np.unique(check_scores(scores), return_counts=True)
    values, counts = values[::-1], counts[::-1]
    upper, lower = values[:-1], values[1:]
    middle = lower / 2 + upper / 2
    # of two neighbouring floats the middle rounds to one of them; the lower one still tells them apart
    between = np.where((middle >= lower) & (middle < upper), middle, lower)
    thresholds = np.concatenate([[np.inf], between, [-np.inf]])
    return thresholds, np.concatenate([[0], np.cumsum(counts)])


def check_rate(rate: float) -> None:
    """Raises ConfigError for a deferral rate outside [0, 1]."""
    if not 0.0 <= rate <= 1.0:
        raise ConfigError(f"Expected a deferral rate in [0, 1], got {rate}.")


def index_for_rate(deferred: Indices | FloatArray, rate: float) -> int:
    """Index of the operating point with the largest deferral rate not above `rate`; see `check_rate`.

    `deferred` are ascending counts as `operating_points` returns them, or shares; the last is all images.
    """
    check_rate(rate)
    allowed = rate * deferred[-1] * (1 + 1e-12)  # 0.3 * 10 is 2.9999999999999996
    return int(np.searchsorted(deferred, allowed, side="right")) - 1


def finite(threshold: float) -> float | None:
    """A threshold in JSON, which has no infinity."""
    return threshold if math.isfinite(threshold) else None


def threshold_for_rate(scores: ArrayLike, rate: float) -> float:
    """The threshold that defers the largest share not above `rate`.

    >>> threshold_for_rate([0.1, 0.2, 0.3, 0.4], 0.5)
    0.25
    """
    thresholds, deferred = operating_points(scores)
    return float(thresholds[index_for_rate(deferred, rate)])


def check_scores(scores: ArrayLike) -> FloatArray:
    """Scores [images] as float64. Raises InvalidInput for none, other shapes, or one that is not finite."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise InvalidInput(f"Expected at least one score, in one dimension, got {values.shape}.")
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InvalidInput(f"Expected finite scores, got {values[first]} at index {first}.")
    return values
