"""What the teacher would have said of pictures that the student kept: a quality curve at work."""

from collections.abc import Sequence

import numpy as np

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import FloatArray

DECILES = 10


class Shadow:
    """Agreement of student and teacher on kept pictures, by decile of the deferral score at the router's fit.

    Where agreement falls in the upper deciles the threshold is too high; where it falls in all, the traffic
    is of another kind.

    Args:
        share: of the kept pictures of an idle server that the teacher sees too.
        reference: scores at the router's fit.

    Raises:
        ConfigError: a share out of range, or no reference scores to tell deciles by.
    """

    def __init__(self, share: float, reference: FloatArray | None) -> None:
        if not 0 <= share <= 1:
            raise ConfigError(f"Expected `shadow` from 0 to 1, got {share}.")
        if share and reference is None:
            raise ConfigError(
                "Expected reference scores for --shadow, got a pair without a fitted router. Fit one: "
                "ebjr-det fit-router."
            )
        levels = np.arange(1, DECILES) / DECILES
        self.share, self.draw = share, np.random.default_rng(0)
        self.edges = np.zeros(0) if reference is None else np.quantile(reference, levels)
        self.pictures, self.sums = np.zeros(DECILES, int), np.zeros(DECILES)

    def drawn(self, indices: Sequence[int]) -> list[int]:
        """Indices of the pictures that the teacher sees too, drawn from these."""
        return [index for index in indices if self.draw.random() < self.share]

    def add(self, score: float, agreement: float) -> None:
        """Count a picture; `agreement` from 0 to 1."""
        decile = int(np.searchsorted(self.edges, score))
        self.pictures[decile] += 1
        self.sums[decile] += agreement

    def agreement(self, decile: int) -> float:
        """The mean in a decile, 0 the least doubtful; NaN before its first picture."""
        count = self.pictures[decile]
        return float(self.sums[decile] / count) if count else float("nan")
