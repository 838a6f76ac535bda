"""A mix of classes, and what each picture of a data set weighs so that the set shows it.

Convention: a mix is the share of each class among all objects that pictures show. A picture of one object,
as in classification, weighs t / s: the share of its class in the mix by that in the data, so the weighted
pictures show the mix exactly. A picture of several objects weighs the mean of theirs; no weights of such
pictures show any mix exactly, and `Composition.shown` tells the one that they do. Knows numbers and names of
classes only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import FloatArray

SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Mix:
    """The share of each class, [classes], none below 0 and together 1.

    Raises:
        ConfigError: a share that is negative or no number, or shares whose sum is further than 1e-6 from 1.
    """

    shares: FloatArray

    def __post_init__(self) -> None:
        wrong = ~(np.isfinite(self.shares) & (self.shares >= 0))
        if wrong.any():
            raise ConfigError(f"Expected shares of classes from 0 to 1, got {self.shares[wrong][0]:g}.")
        total = float(self.shares.sum())
        if abs(total - 1) > SUM_TOLERANCE:
            raise ConfigError(f"Expected shares of classes that sum to 1, got a sum of {total:.8g}.")
        object.__setattr__(self, "shares", self.shares / total)

    @classmethod
    def of_popular(cls, share: float, composition: "Composition") -> "Mix":
        """`share` on the popular classes, the rest on the others, inside each group as in the data.

        Raises:
            ConfigError: a share outside [0, 1].
            InvalidInput: one of the groups has a share and no object in the data.
        """
        check_share(share)
        shares = np.zeros(len(composition.names))
        groups = (composition.popular, share, "popular"), (~composition.popular, 1 - share, "other")
        for group, part, name in groups:
            there = composition.share[group].sum()
            if part > 0 and there == 0:
                raise InvalidInput(f"Expected images that show {name} classes, got none.")
            shares[group] = part * composition.share[group] / (there or 1)
        return cls(shares)

    @classmethod
    def of_zipf(cls, exponent: float, ranks: Sequence[int]) -> "Mix":
        """Shares proportional to 1 / place^exponent.

        Args:
            ranks: all class indices, the most frequent first.

        Raises:
            ConfigError: an exponent that is negative or no number.

        >>> Mix.of_zipf(1, [1, 0]).shares.round(3).tolist()
        [0.333, 0.667]
        """
        if not 0 <= exponent < np.inf:
            raise ConfigError(f"Expected an exponent of at least 0 for Zipf's law, got {exponent}.")
        falling = np.arange(1.0, len(ranks) + 1) ** -exponent
        shares = np.empty(len(ranks))
        shares[list(ranks)] = falling / falling.sum()
        return cls(shares)


def check_share(share: float) -> None:
    """Raises ConfigError for a share of the popular classes outside [0, 1]."""
    if not 0 <= share <= 1:
        raise ConfigError(f"Expected a share of the popular classes in [0, 1], got {share}.")


@dataclass(frozen=True)
class Composition:
    """What images show.

    Attributes:
        counts: [images, classes] objects.
        names: of the classes.
        popular: [classes] which of them are popular.

    Raises:
        InvalidInput: no image shows any object, or names of another number of classes.
    """

    counts: NDArray[np.integer]
    names: tuple[str, ...]
    popular: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.counts.shape[1] != len(self.names):
            raise InvalidInput(f"Expected names of {self.counts.shape[1]} classes, got {len(self.names)}.")
        if not self.counts.any():
            raise InvalidInput("Expected images that show objects, got none.")

    @cached_property
    def share(self) -> FloatArray:
        """[classes] share of each class among all objects."""
        return self.shown(np.ones(len(self.counts)))

    @cached_property
    def single(self) -> bool:
        """Whether every image shows one object, so that weights can show any mix."""
        return bool((self.counts.sum(axis=1) == 1).all())

    @cached_property
    def shows_rest(self) -> NDArray[np.bool_]:
        """[images] which show an object of a class that is not popular."""
        return np.asarray(self.counts[:, ~self.popular].any(axis=1))

    def weights(self, mix: Mix) -> FloatArray:
        """[images] with a mean of 1: of each image the mean of t / s over its objects, 1 without objects.

        Raises:
            InvalidInput: a class has a share of the mix and no object here.
        """
        missing = np.flatnonzero((mix.shares > 0) & (self.share == 0))
        if len(missing):
            name, share = self.names[missing[0]], mix.shares[missing[0]]
            raise InvalidInput(
                f"Expected images that show `{name}`, {100 * share:.3g} % of the traffic, got none. "
                "What was never seen cannot be weighed: leave it out or add such images."
            )
        ratio = mix.shares / np.where(self.share > 0, self.share, 1.0)
        objects = self.counts.sum(axis=1)
        weights = np.where(objects > 0, self.counts @ ratio / np.maximum(objects, 1), 1.0)
        return np.asarray(weights / weights.mean())

    def shown(self, weights: FloatArray) -> FloatArray:
        """[classes] the mix that the weighted images show."""
        objects = weights @ self.counts
        return np.asarray(objects / objects.sum())


@dataclass(frozen=True)
class OtherFound:
    """How well a student knows pictures that are not its own, by weight; None of nothing at all.

    Attributes:
        recall: of the pictures that show a class that is not popular, the share handed on.
        precision: of the pictures handed on, the share that shows one.
        f1: the harmonic mean of both.
        popular_handed_on: of all other pictures, the share that is wrongly handed on.
    """

    recall: float | None
    precision: float | None
    f1: float | None
    popular_handed_on: float | None

    @classmethod
    def of(
        cls, abstains: NDArray[np.bool_], shows_rest: NDArray[np.bool_], weights: FloatArray
    ) -> "OtherFound":
        """From the pictures handed on and those that show other classes, each [images].

        >>> OtherFound.of(np.array([True, True]), np.array([True, False]), np.array([3.0, 1.0])).precision
        0.75
        """

        def share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float | None:
            total = float(weights[whole].sum())
            return float(weights[part & whole].sum()) / total if total else None

        recall, precision = share(abstains, shows_rest), share(shows_rest, abstains)
        both = (recall or 0.0) + (precision or 0.0)
        f1 = 2 * (recall or 0.0) * (precision or 0.0) / both if both else None
        return cls(recall, precision, f1, share(abstains, ~shows_rest))
