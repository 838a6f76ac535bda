"""Which image picture k of a training shows: endless rounds, each in an order of its own.

Everything follows from the seed and k, so that a training that goes on after a break sees the same pictures
as one that never stopped.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import FloatArray


@dataclass
class Order:
    """Rounds over `count` images.

    Attributes:
        weights: [count] how often each is drawn, in proportion; None shows each once a round.
    """

    count: int
    seed: int
    weights: FloatArray | None = None
    _turn: int = field(default=-1, init=False)
    _images: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp), init=False, repr=False)

    def image_at(self, k: int) -> int:
        """The image of picture k."""
        turn, index = divmod(k, self.count)
        if turn != self._turn:
            self._turn, self._images = turn, self._draw(turn)
        return int(self._images[index])

    def _draw(self, turn: int) -> NDArray[np.intp]:
        generator = np.random.default_rng([self.seed, turn])
        if self.weights is None:
            return generator.permutation(self.count)
        return generator.choice(self.count, self.count, p=self.weights / self.weights.sum())


def seed_of(seed: int, k: int) -> int:
    """A seed for the random changes of picture k."""
    return int(np.random.SeedSequence([seed, k]).generate_state(1)[0])
