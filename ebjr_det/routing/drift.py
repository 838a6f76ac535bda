"""How a threshold survives on other pictures: the shares it defers, how far a distribution has moved."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import decide, threshold_for_rate
from ebjr_det.core.types import FloatArray

RATES = (0.1, 0.2, 0.3, 0.5, 0.8)
OTHER_STUDENT = 0.1
"""Distance of two samples of a student's numbers from which on they are another student's. Measured on COCO:
one detector on other pictures 0.01 to 0.02, three detectors among each other 0.16 to 0.6."""
UNKNOWN = -1.0
"""The fingerprint of a picture that nobody annotated."""
SAME_SET = 0.9
UNLIKELY = 1e-3
"""Chance of a share, or one further off, below which it is said aloud."""


@dataclass(frozen=True)
class Drift:
    """A deferral score on the pictures of the fit against other pictures.

    Attributes:
        distance: Kolmogorov and Smirnov's, the largest difference of the distribution functions, in [0, 1].
        expected: the distance that 95 of 100 samples of these sizes stay under where nothing has moved.
        asked: deferral rates; `got`: what the thresholds that reach them at the fit defer here.
    """

    distance: float
    expected: float
    asked: tuple[float, ...]
    got: tuple[float, ...]

    @classmethod
    def of(cls, reference: FloatArray, scores: FloatArray, rates: Sequence[float] = RATES) -> "Drift":
        """The drift from a score's values at the fit [N] to those on other pictures [M]."""
        shares = [decide(scores, threshold_for_rate(reference, rate)).deferral_rate for rate in rates]
        sizes = 1 / len(reference) + 1 / len(scores)
        return cls(distance(reference, scores), 1.358 * float(np.sqrt(sizes)), tuple(rates), tuple(shares))

    @property
    def moved(self) -> bool:
        """Whether the distance is more than chance."""
        return self.distance > self.expected


@dataclass(frozen=True)
class FittedUse:
    """A fitted router at work on other pictures.

    Attributes:
        score, rescaling: what it chose at its fit.
        fitted_on: number of pictures of the fit; `left_out`: ids of those that are among these here.
        drift: of its score between the fit and here, or None where another score decides.
        teacher: name of the teacher of its fit; `sha256`: of its file.
    """

    score: str
    rescaling: str
    fitted_on: int
    left_out: tuple[str, ...]
    drift: Drift | None
    teacher: str
    sha256: str


def distance(first: FloatArray, second: FloatArray) -> float:
    """Kolmogorov and Smirnov's distance of two samples."""
    from scipy.stats import ks_2samp

    return float(ks_2samp(first, second, method="asymp").statistic)


def check_student(
    reference: FloatArray, scores: FloatArray, router: str, images: tuple[int, int] | None = None
) -> None:
    """Raises InvalidInput where a student's numbers are `far_apart` from those at the fit."""
    if far := far_apart(reference, scores, images):
        raise InvalidInput(
            f"Expected a router made for this student, got `{router}` for one whose scores are distributed "
            f"otherwise: {far}. Fit a router on these."
        )


def far_apart(reference: FloatArray, scores: FloatArray, images: tuple[int, int] | None = None) -> str:
    """How far apart two samples are, in words, where they are not one student's; else an empty text.

    Args:
        images: how many pictures are behind both; few differ more, and 999 of 1000 such samples pass.
    """
    far = distance(reference, scores)
    chance = 0.0 if images is None else 1.95 * float(np.sqrt(1 / images[0] + 1 / images[1]))
    limit = max(OTHER_STUDENT, chance)
    return f"distance {far:.2f}, at most {limit:.2g} for one student" if far > limit else ""


def shared_images(
    fitted: Sequence[str], fitted_prints: Sequence[float], ids: Sequence[str], prints: FloatArray
) -> NDArray[np.bool_]:
    """[ids] which pictures are among those of the fit.

    Args:
        fitted, ids: ids of the pictures of the fit and of these.
        fitted_prints, prints: the task's `fingerprints` of each. Where ids merely count the pictures of any
            set, few of the shared ones have the same; unless nine in ten do, none is taken to be shared. Of
            unknown ones the ids decide.
    """
    seen = dict(zip(fitted, fitted_prints, strict=True))
    shared = np.array([image in seen for image in ids], dtype=bool)
    pairs = [(seen[image], print_) for image, print_ in zip(ids, prints, strict=True) if image in seen]
    agree = [first == second or UNKNOWN in (first, second) for first, second in pairs]
    return shared if agree and np.mean(agree) >= SAME_SET else np.zeros(len(shared), dtype=bool)


def check_unseen(seen: NDArray[np.bool_], router: str) -> None:
    """Raises InvalidInput where all pictures were `seen` at the fit of the router in a file."""
    if seen.all():
        raise InvalidInput(
            f"Expected pictures that router `{router}` has not seen, got {len(seen)}, all of which it was "
            "fitted on. Its own table, made by cross-validation, tells about these."
        )


@dataclass
class ShareWatch:
    """Watches whether the share that a router's threshold defers on a stream is that at its fit.

    Looks after 8, 16, 32 ... pictures, each time by Fisher's exact test at `UNLIKELY`, and speaks once. Even
    over twenty looks chance alone speaks in less than 2 of 100 streams of independent pictures.

    Attributes:
        fitted_on, fitted_above: how many pictures the fit had, and how many of these lay above the threshold.
    """

    fitted_on: int
    fitted_above: int
    count: int = 0
    above: int = 0
    look_at: int = 8

    def add(self, count: int, above: int) -> str:
        """Count further pictures -> a sentence, or nothing."""
        from scipy.stats import fisher_exact

        self.count, self.above = self.count + count, self.above + above
        if self.count < self.look_at:
            return ""
        self.look_at = 2 ** self.count.bit_length()
        table = [
            [self.above, self.count - self.above],
            [self.fitted_above, self.fitted_on - self.fitted_above],
        ]
        if fisher_exact(table)[1] >= UNLIKELY:
            return ""
        self.look_at = sys.maxsize
        return (
            f"{self.above:,} of {self.count:,} pictures ({100 * self.above / self.count:.1f} %) went to the "
            f"teacher, where this threshold deferred {100 * self.fitted_above / self.fitted_on:.1f} % of the "
            f"{self.fitted_on:,} of the router's fit: for pictures like those less likely than {UNLIKELY:g}. "
            "These are of another kind, or the router was made for another student."
        )
