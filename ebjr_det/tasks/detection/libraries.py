"""Detectors that somebody else trained; each brings its own weights, preprocessing and class names."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import Model
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.settings import DetectorSection
from ebjr_det.tasks.outputs import output_names

Categories = Mapping[int, str]


def map_classes(
    categories: Categories,
    names: Sequence[str] | None,
    classes: int,
    settings: DetectorSection,
    background: int | None = None,
) -> ClassMap:
    """Where the data's classes are among a network's outputs: by name where somebody tells, else in order.

    Args:
        classes: how many the network tells apart; `background`: the place of one more output, "no object".

    Raises:
        ConfigError: the network does not tell the data's classes apart, or `num_classes` is another number.
    """
    label = settings.name or settings.arch
    if settings.num_classes not in (None, classes):
        raise ConfigError(
            f"Expected `num_classes` to be the {classes} of `{label}`, got {settings.num_classes}. "
            "Leave it out."
        )
    names = output_names(names, settings.class_names, classes, label)
    if names is None:
        mapped = ClassMap.of(categories, classes, label)
    else:
        mapped = ClassMap.of(categories, classes, label, output_names=names)
    if background is None:
        return mapped
    columns = mapped.columns + (mapped.columns >= background)
    return ClassMap(np.asarray(columns), classes + 1)


def check_fixed(settings: DetectorSection) -> None:
    """Raises ConfigError for settings of EfficientDet alone."""
    if settings.soft_nms:
        raise ConfigError(f"Expected `soft_nms` with effdet, got it with `{settings.arch}`.")


def from_transformers(
    settings: DetectorSection, reference: str, categories: Categories, device: str
) -> Model:
    """A detector of the transformers library; see `tasks.hub`."""
    from ebjr_det.tasks import hub

    check_fixed(settings)
    if settings.image_size is not None:
        raise ConfigError(
            f"Expected the size of `{settings.arch}` in its preprocessor_config.json, got `image_size`."
        )
    network: Any = hub.load_network(settings, reference, "ObjectDetection")
    from ebjr_det.tasks.detection.networks import transformers_detectors as detectors

    head = detectors.head_of(network, settings)
    names = hub.class_names_of(network.config)
    outputs = detectors.count_outputs(network, softmax=head.softmax)
    real = outputs - (head.background is not None)
    if names is not None:
        names = names[:real]
    classes = map_classes(categories, names, real, settings, head.background)
    processor = hub.load_processor(settings, reference)
    label = settings.name or reference.rstrip("/").split("/")[-1]
    return detectors.TransformersDetector(label, network, processor, head, classes, device)


LIBRARIES: dict[str, Callable[[DetectorSection, str, Categories, str], Model]] = {
    "transformers": from_transformers,
}
"""A library's word in `arch` -> a builder from settings, what stands behind the slash, classes and device."""
