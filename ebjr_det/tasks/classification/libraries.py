"""Classifiers that somebody else trained; each brings its own weights, preprocessing and names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ebjr_det.core.errors import ConfigError
from ebjr_det.io.notes import say
from ebjr_det.tasks.classification.networks.classifier import Classifier
from ebjr_det.tasks.classification.networks.preprocessing import (
    OnPil,
    Preprocessing,
    Transform,
    parse_preprocessing,
)
from ebjr_det.tasks.classification.settings import ClassifierSection
from ebjr_det.tasks.outputs import output_names
from ebjr_det.tasks.popular import known_as

EXAMPLES = 3
RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Names of PIL's ways to resize, by their numbers."""


class HasClasses(Protocol):
    """What a classifier must know of the data."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names by class index."""


def columns_of(
    class_names: Sequence[str], names: Sequence[str] | None, outputs: int, settings: ClassifierSection
) -> list[int] | None:
    """The output of each class of the data, by name; None where they stand in the data's order.

    Args:
        names: of the outputs, as their file tells them; None where it does not, and order alone counts.

    Raises:
        ConfigError: other classes than the data's.
    """
    label = settings.name or settings.arch
    if outputs != len(class_names):
        raise ConfigError(
            f"Expected `{label}` to tell the {len(class_names)} classes of the data, got {outputs}."
        )
    names = output_names(names, settings.class_names, outputs, label)
    if names is None:
        return None
    places = {known_as(name): index for index, name in enumerate(names)}
    strange = [name for name in class_names if known_as(name) not in places]
    if strange:
        listed = ", ".join(f"`{name}`" for name in strange[:EXAMPLES])
        raise ConfigError(
            f"Expected classes that `{label}` knows ({', '.join(names[:EXAMPLES])}, ...), got {listed}. Map "
            "them with `class_names`."
        )
    columns = [places[known_as(name)] for name in class_names]
    return None if columns == list(range(outputs)) else columns


def from_transformers(
    settings: ClassifierSection, reference: str, data: HasClasses, device: str
) -> Classifier:
    """A classifier of the transformers library; see `tasks.hub`."""
    from ebjr_det.tasks import hub
    from ebjr_det.tasks.classification.model import TorchClassifier
    from ebjr_det.tasks.classification.networks.transformers_classifiers import LabelLogits

    network: Any = hub.load_network(settings, reference, "ImageClassification")
    names, outputs = hub.class_names_of(network.config), int(network.config.num_labels)
    columns = columns_of(data.class_names, names, outputs, settings)
    transform = _transform(hub.load_processor(settings, reference))
    label = settings.name or reference.rstrip("/").split("/")[-1]
    return TorchClassifier(label, LabelLogits(network, columns), transform, device)


def from_onnx(settings: ClassifierSection, reference: str, data: HasClasses, device: str) -> Classifier:
    """A classifier in an ONNX file of any tool."""
    from ebjr_det.runtimes.graph_file import GraphFile
    from ebjr_det.tasks.classification.networks.onnx_classifiers import OnnxClassifier, check_classifier

    file = GraphFile.read(reference)
    size = file.size or file.stated_size()
    preprocessing = _stated(settings, file.metadata, size)
    if size is None:
        raise ConfigError(f"Expected pictures of one size for `{settings.arch}`, got a graph of any size.")
    raw = file.probe(file.open(size), size, 1 / 255)
    probabilities = check_classifier(file, raw)
    columns = columns_of(data.class_names, file.names(), raw[0].shape[1], settings)
    label = settings.name or Path(reference).stem
    if probabilities:
        say(
            f"Warning: `{label}` gives probabilities, which tell no level of its logits: free_energy is the "
            "same for all images. Export its logits, or take another score."
        )
    model = OnnxClassifier(label, file, preprocessing, size, columns, probabilities)
    model.run_in("onnxruntime", device)
    return model


def from_ultralytics(
    settings: ClassifierSection, reference: str, data: HasClasses, device: str
) -> Classifier:
    """A classifier in a file of ultralytics, which is trusted."""
    from ebjr_det.tasks import trusted
    from ebjr_det.tasks.classification.model import TorchClassifier
    from ebjr_det.tasks.classification.networks.transformers_classifiers import PairLogits

    network: Any = trusted.load_network(settings, reference, "classify")
    names = trusted.names_of(network)
    columns = columns_of(data.class_names, names, len(names), settings)
    side = trusted.side_of(network, None)
    preprocessing = Preprocessing((0.0,) * 3, (1.0,) * 3, side, side)
    if settings.preprocessing:
        preprocessing = parse_preprocessing(settings.preprocessing)
    label = settings.name or Path(reference).stem
    return TorchClassifier(label, PairLogits(network, columns), preprocessing.build(), device)


def _stated(
    settings: ClassifierSection, metadata: Mapping[str, str], size: tuple[int, int] | None
) -> Preprocessing:
    """The preprocessing of the settings, else that of ultralytics where it wrote the file."""
    if settings.preprocessing:
        return parse_preprocessing(settings.preprocessing)
    if metadata.get("task") == "classify" and size is not None:
        return Preprocessing((0.0,) * 3, (1.0,) * 3, size[0], size[0])
    raise ConfigError(
        f"Expected `preprocessing` of `{settings.arch}` (mean, std, resize, crop), which its file does not "
        "tell, got none."
    )


def _transform(processor: Any) -> Transform:
    """The library's preprocessing, as numbers where it is no more than stretching and scaling."""
    from ebjr_det.tasks.hub import described_numbers

    numbers = described_numbers(processor)
    size = numbers.get("size") or {}
    plain = (
        set(size) == {"height", "width"} and numbers.get("do_resize") and not numbers.get("do_center_crop")
    )
    scaled = numbers.get("do_rescale") and abs(255 * numbers["rescale_factor"] - 1) < 1e-9
    if not (plain and scaled and type(processor).__name__.endswith("Pil")):
        return OnPil(lambda image: processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0])
    mean, std = ((0.0,) * 3, (1.0,) * 3)
    if numbers.get("do_normalize"):
        mean, std = tuple(numbers["image_mean"]), tuple(numbers["image_std"])
    sides = size["height"], size["width"]
    return Preprocessing(mean, std, sides, interpolation=RESAMPLING[int(numbers.get("resample", 2))]).build()


LIBRARIES: dict[str, Callable[[ClassifierSection, str, HasClasses, str], Classifier]] = {
    "transformers": from_transformers,
    "onnx": from_onnx,
    "ultralytics": from_ultralytics,
}
"""A library's word in `arch` -> a builder from settings, what stands behind the slash, classes and device."""
