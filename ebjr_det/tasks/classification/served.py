"""A classifier from an exported folder: a network that runs, and what was told of what surrounds it."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array
from ebjr_det.runtimes.registry import Network
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.classification.networks.classifier import Classifier, Surroundings


def build_served(name: str, fields: Mapping[str, object], run: Network) -> Classifier:
    """A classifier from the fields that `Surroundings.to_dict` gave and a network that runs."""
    return Classifier(name, Surroundings.from_dict(fields).preprocessing, run)


def check_served(model: Classifier, shape: tuple[int, ...], raw: Sequence[Array], classes: int) -> None:
    """Raises InvalidInput for a network whose outputs are not logits of so many classes.

    Args:
        shape: of its input, [3, h, w]; raw: its outputs for one image.
    """
    if len(raw) != 1 or raw[0].shape != (1, classes):
        raise InvalidInput(
            f"Expected logits of {classes} classes, got {[list(output.shape) for output in raw]}."
        )
    model.decode(tuple(raw), [None])


def name_classes(classes: Mapping[int, str]) -> ImageSet:
    """The classes of the data, index -> name, as answers want them: a set without images."""
    if sorted(classes) != list(range(len(classes))):
        raise InvalidInput(f"Expected classes 0 to {len(classes) - 1}, got others.")
    names = tuple(classes[index] for index in range(len(classes)))
    return ImageSet((), np.zeros(0, dtype=np.intp), names, _no_image)


def _no_image(index: int) -> NoReturn:
    raise IndexError(index)
