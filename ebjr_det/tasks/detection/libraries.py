"""Detectors that somebody else trained; each brings its own weights, preprocessing and class names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ebjr_det.config import parse_section
from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.core.types import Model
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.frame import Frame
from ebjr_det.tasks.detection.settings import DetectorSection
from ebjr_det.tasks.outputs import output_names
from ebjr_det.tasks.weights import check_brought

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


def from_onnx(settings: DetectorSection, reference: str, categories: Categories, device: str) -> Model:
    """A detector in an ONNX file of any tool; `options` are `onnx_detectors.GraphOptions`."""
    from ebjr_det.runtimes.graph_file import GraphFile
    from ebjr_det.tasks.detection.networks import onnx_detectors as detectors

    check_fixed(settings)
    check_brought(settings)
    options = parse_section(detectors.GraphOptions, settings.options)
    file = GraphFile.read(reference)
    label = settings.name or Path(reference).stem
    size = detectors.size_of(file, settings.image_size)
    scale = options.scale or (1.0 if file.dtype == "uint8" else 1 / 255)
    raw = file.probe(file.open(size), size, scale)
    detectors.check_detector(file, raw)
    names = file.names()
    stated = settings.class_names if isinstance(settings.class_names, list) else None
    count = settings.num_classes or len(stated or names or categories)
    decode = options.decode or detectors.find_decode(file, raw, count)
    if decode == "efficientdet":
        outputs = map_classes(categories, names, raw[0].shape[2], settings)
        limit = settings.max_detections
        return detectors.build_efficientdet(label, file, options, outputs, size, limit)
    head = detectors.find_head(file, raw, count, options, settings.max_detections)
    classes = map_classes(categories, names, count, settings, head.background)
    fit = options.fit or detectors.fit_of(decode, head)
    frame = Frame(size, fit, tuple(options.mean), tuple(options.std), scale)
    model = detectors.OnnxDetector(label, file, frame, head, classes)
    model.run_in("onnxruntime", device)
    return model


def from_ultralytics(settings: DetectorSection, reference: str, categories: Categories, device: str) -> Model:
    """A YOLO in a file of ultralytics, which is trusted; `options` are `iou`, `least_score` and `nms`."""
    from ebjr_det.tasks import trusted

    check_fixed(settings)
    for option in settings.options:
        check_known(option, ("iou", "least_score", "nms"), "an option of ultralytics/")
    network: Any = trusted.load_network(settings, reference, "detect")
    from ebjr_det.tasks.detection.networks import ultralytics_detectors as detectors

    side = trusted.side_of(network, settings.image_size)
    head = detectors.head_of(network, settings.max_detections, settings.options)
    names = trusted.names_of(network)
    classes = map_classes(categories, names, len(names), settings)
    label = settings.name or Path(reference).stem
    return detectors.UltralyticsDetector(label, network, Frame((side, side)), head, classes, device)


LIBRARIES: dict[str, Callable[[DetectorSection, str, Categories, str], Model]] = {
    "transformers": from_transformers,
    "onnx": from_onnx,
    "ultralytics": from_ultralytics,
}
"""A library's word in `arch` -> a builder from settings, what stands behind the slash, classes and device."""
