"""A mix of classes, and what each picture of a data set weighs so that the set shows it.

Convention: a mix is the share of each class, [classes], among all objects that pictures show. A picture of
one object, as in classification, weighs t / s: the share of its class in the mix by that in the data, so the
weighted pictures show the mix exactly. A picture of several objects weighs the mean of theirs; no weights of
such pictures show any mix exactly, and `Composition.shown` tells the one that they do. Knows numbers and
names of classes only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ebjr_det.config import StatedMix
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.tradeoff import Weights
from ebjr_det.core.types import FloatArray
from ebjr_det.tasks.popular import check_known


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

    @property
    def groups(self) -> NDArray[np.intp] | None:
        """[images] the one class of each, within which resamples show the mix exactly; None of several."""
        return self.counts.argmax(axis=1) if self.single else None

    @cached_property
    def shows_rest(self) -> NDArray[np.bool_]:
        """[images] which show an object of a class that is not popular."""
        return np.asarray(self.counts[:, ~self.popular].any(axis=1))

    def weights(self, mix: FloatArray) -> Weights:
        """Weight of each image: the mean of t / s over its objects, 1 without any; classes weigh a share.

        Raises:
            InvalidInput: a class has a share of the mix and no object here.
        """
        missing = np.flatnonzero((mix > 0) & (self.share == 0))
        if len(missing):
            name, share = self.names[missing[0]], mix[missing[0]]
            raise InvalidInput(
                f"Expected images that show `{name}`, {100 * share:.3g} % of the traffic, got none. "
                "What was never seen cannot be weighed: leave it out or add such images."
            )
        ratio = mix / np.where(self.share > 0, self.share, 1.0)
        objects = self.counts.sum(axis=1)
        images = np.where(objects > 0, self.counts @ ratio / np.maximum(objects, 1), 1.0)
        return Weights(images / images.mean(), mix)

    def shown(self, images: FloatArray) -> FloatArray:
        """[classes] the mix that images of these weights show."""
        objects = images @ self.counts
        return np.asarray(objects / objects.sum())

    def popular_share(self, mix: FloatArray) -> float:
        """The part of a mix that is popular."""
        return float(mix[self.popular].sum())


def popular_mix(share: float, composition: Composition) -> FloatArray:
    """`share` on the popular classes, the rest on the others, inside each group as in the data.

    Raises:
        InvalidInput: one of the groups has a share and no object in the data.
    """
    mix = np.zeros(len(composition.names))
    groups = (composition.popular, share, "popular"), (~composition.popular, 1 - share, "other")
    for group, part, name in groups:
        seen = composition.share[group].sum()
        if part > 0 and seen == 0:
            raise InvalidInput(f"Expected images that show {name} classes, got none.")
        mix[group] = part * composition.share[group] / (seen or 1)
    return mix / float(mix.sum())


def zipf_mix(exponent: float, ranks: Sequence[int]) -> FloatArray:
    """Shares proportional to 1 / place^exponent.

    Args:
        ranks: all class indices, the most frequent first.

    >>> zipf_mix(1, [1, 0]).round(3).tolist()
    [0.333, 0.667]
    """
    falling = np.arange(1.0, len(ranks) + 1) ** -exponent
    mix = np.empty(len(ranks))
    mix[list(ranks)] = falling / falling.sum()
    return mix / float(mix.sum())


def mix_of(stated: StatedMix, composition: Composition, ranks: Sequence[int]) -> tuple[FloatArray, str]:
    """A stated mix as shares of a composition's classes, and its words.

    Args:
        ranks: the classes, most frequent first, for Zipf's law.

    Raises:
        ConfigError: the histogram names an unknown class.
        InvalidInput: the images show no class of a group that has a share.
    """
    if stated.share is not None:
        return popular_mix(stated.share, composition), popular_text(stated.share)
    if stated.zipf is not None:
        return zipf_mix(stated.zipf, ranks), f"Zipf's law with exponent {stated.zipf:g}"
    check_classes(stated, composition.names)
    histogram = stated.histogram or {}
    mix = np.array([histogram.get(name, 0.0) for name in composition.names])
    return mix / float(mix.sum()), f"a stated share of each of {np.count_nonzero(mix)} classes"


def check_classes(stated: StatedMix, names: Sequence[str]) -> None:
    """Raises ConfigError where the histogram names a class that is none of these."""
    for name in stated.histogram or {}:
        check_known(name, names)


def popular_text(share: float) -> str:
    """A popular share in words."""
    return f"{100 * share:g} % popular"
