"""Whether the scores of the traffic are still those of the router's fit. Numbers alone."""

from collections import deque

import numpy as np

from ebjr_det.core.types import FloatArray
from ebjr_det.routing.drift import distance

WINDOW, STEP, RUNNING = 1000, 64, 3
CHANCE = 2.2
"""Times sqrt(1/n + 1/m): Kolmogorov and Smirnov's distance that 9,999 of 10,000 samples of one distribution
stay under (2 exp(-2 x 2.2^2) = 1.2e-4); as three windows running must be above it, and overlap, an alarm of
20,000 pictures that have not moved is rare."""


class Watch:
    """The distance of the last scores from the reference, and an alarm after three windows above chance.

    Args:
        reference: scores at the fit; None watches nothing.
    """

    def __init__(self, reference: FloatArray | None) -> None:
        self.reference, self.scores = reference, deque[float](maxlen=WINDOW)
        self.unseen, self.running, self.distance = 0, 0, 0.0

    @property
    def alarm(self) -> bool:
        """Whether the last three windows were all further off than chance."""
        return self.running >= RUNNING

    def add(self, scores: FloatArray) -> None:
        """Look at the scores of further pictures, every 64 of them."""
        if self.reference is None:
            return
        self.scores.extend(scores.tolist())
        self.unseen += len(scores)
        if self.unseen < STEP:
            return
        self.unseen = 0
        self.distance = distance(self.reference, np.array(self.scores))
        limit = CHANCE * float(np.sqrt(1 / len(self.reference) + 1 / len(self.scores)))
        self.running = self.running + 1 if self.distance > limit else 0
