"""Detectors by the name in a configuration, their weights loaded, their classes checked against the data's.

A detector owns its preprocessing. Heavy libraries are imported only for the family that is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from ebjr_det.config import parse_section
from ebjr_det.core.errors import CheckpointError, ConfigError, InvalidInput, did_you_mean
from ebjr_det.core.types import Model, Output
from ebjr_det.io.checkpoints.finding import check_classes, manifest, read_classes
from ebjr_det.io.checkpoints.fitting import fits, load_into
from ebjr_det.io.checkpoints.reading import read_state
from ebjr_det.io.third_party import foreign_errors, import_callable
from ebjr_det.tasks.adapted import Changed
from ebjr_det.tasks.detection.libraries import LIBRARIES
from ebjr_det.tasks.detection.networks.classes import COCO_IDS, ClassMap, are_coco, coco_names
from ebjr_det.tasks.detection.settings import DetectorSection
from ebjr_det.tasks.popular import OTHER, known_as
from ebjr_det.tasks.weights import check_weights, find_weights, library_names

FAMILIES = (
    "effdet/NAME", "torchvision/NAME", *(f"{library}/..." for library in LIBRARIES),
    "package.module:function",
)  # fmt: skip


class Named(Protocol):
    """What a detector must know of the data: category id -> name, by ascending id."""

    @property
    def categories(self) -> Mapping[int, str]:
        """The classes of the data."""


def build_model(data: Named, arch: str, *, device: str = "cpu", **fields: object) -> Model:
    """A detector for the classes of the data.

    Args:
        arch: `effdet/NAME` (any configuration of effdet, such as `tf_efficientdet_d0`), `torchvision/NAME`
            (RetinaNet, FCOS, SSD, SSDlite, Faster R-CNN), `transformers/NAME_OR_FOLDER` (RT-DETR, D-FINE,
            DETR, Deformable DETR, YOLOS), `onnx/FILE.onnx`, `ultralytics/FILE.pt`, or
            `package.module:function`, called with `categories`, `device` and `options`, that returns a
            `types.Model` of the data's classes.
        data: has the classes. They are found among the network's outputs by name where its weights tell
            names (published ones, and those that this project trained) or it has COCO's 90 outputs, else in
            order.
        fields: of `settings.DetectorSection`. `pretrained` takes for effdet the published weights of its name
            in the manifest, which `ebjr-det download` fetches, for torchvision its own; `image_size` (effdet)
            is a multiple of 128; `num_classes` counts outputs without a background, by default those of the
            weights, else of the data, or 90 for COCO's classes; `soft_nms` (effdet) decays the scores of
            overlapping boxes; `options` are further settings of the library's builder.

    Raises:
        ConfigError: unknown names, settings that the family does not take, other classes than the data's.
        CheckpointError: see `checkpoints`.
    """
    settings = parse_section(DetectorSection, {"arch": arch, **fields})
    library, slash, network_name = arch.partition("/")
    if ":" in arch and not slash:
        return _from_callable(settings, data, device)
    if library in LIBRARIES and slash:
        return LIBRARIES[library](settings, network_name, data.categories, device)
    if not slash or library not in ("effdet", "torchvision"):
        raise ConfigError(f"Expected a known `arch`, got `{arch}`. {did_you_mean(arch, FAMILIES)}")
    if settings.pretrained and library == "effdet" and not settings.checkpoint:
        settings = settings.model_copy(update={"checkpoint": _published(network_name)})
    check_weights(settings)
    weights = _Weights.of(settings, tuple(data.categories.values()))
    build = _effdet if library == "effdet" else _torchvision
    return build(settings, network_name, data.categories, weights, device)


def _effdet(
    settings: DetectorSection,
    network_name: str,
    categories: Mapping[int, str],
    weights: "_Weights",
    device: str,
) -> Model:
    from ebjr_det.tasks.detection.networks.efficientdet import EfficientDetector, build_network

    network: Any = weights.fitting(
        lambda count: build_network(network_name, count, settings), settings, categories
    )
    label = settings.name or network_name
    classes = weights.class_map(categories, int(network.config.num_classes), label)
    weights.load(network)
    return EfficientDetector(label, network, classes, device)


def _torchvision(
    settings: DetectorSection,
    network_name: str,
    categories: Mapping[int, str],
    weights: "_Weights",
    device: str,
) -> Model:
    if settings.image_size is not None or settings.soft_nms:
        raise ConfigError(
            f"Expected `image_size` and `soft_nms` with effdet, got them with `{settings.arch}`."
        )
    from ebjr_det.tasks.detection.networks import torchvision_detectors as detectors

    published = settings.pretrained and settings.checkpoint is None
    label = settings.name or network_name

    network = weights.fitting(
        lambda count: detectors.build_network(network_name, count + 1, settings, published=published),
        settings, categories,
    )  # fmt: skip
    outputs = detectors.count_outputs(network)
    if settings.num_classes not in (None, outputs - 1):
        raise ConfigError(
            f"Expected `num_classes` to be the {outputs - 1} of `{label}`, got {settings.num_classes}. "
            "Leave it out."
        )
    output_names = library_names(network_name) if published else None
    classes = weights.class_map(categories, outputs, label, background=True, output_names=output_names)
    weights.load(network)
    return detectors.TorchvisionDetector(label, network, classes, device)


@dataclass(frozen=True)
class _Weights:
    """The weights of a file, and what is known of their outputs; without a file a network keeps its own.

    Attributes:
        classes: name and output of each that this project's training taught; None where no file tells.
        published: whether they are EfficientDet's authors', which tell COCO's classes apart.
    """

    origin: str | None = None
    state: Mapping[str, Tensor] = field(default_factory=dict)
    classes: Sequence[tuple[str, int]] | None = None
    published: bool = False

    @classmethod
    def of(cls, settings: DetectorSection, class_names: Sequence[str]) -> "_Weights":
        path = find_weights(settings)
        if path is None:
            return cls()
        classes = read_classes(path)
        taught = {name for name, _ in classes or ()}
        if OTHER in taught and taught != set(class_names):
            check_classes(path, class_names)  # what is "other" depends on all the classes beside it
        published = {Path(file).name for entry in manifest().values() if entry.url for file in entry.files}
        return cls(settings.checkpoint, read_state(path), classes, path.name in published)

    def fitting(
        self, build: Callable[[int], nn.Module], settings: DetectorSection, categories: Mapping[int, str]
    ) -> nn.Module:
        """A network of the first likely number of classes that the weights fit, else of the first."""
        counts = [settings.num_classes] if settings.num_classes else self._counts(categories)
        first = build(counts[0])
        for count in dict.fromkeys(counts):
            network = first if count == counts[0] else build(count)
            if fits(network, self.state):
                return network
        return first

    def _counts(self, categories: Mapping[int, str]) -> list[int]:
        """How many classes the network may tell apart, the likeliest first."""
        if self.published:
            return [COCO_IDS]
        likeliest = COCO_IDS if are_coco(categories) else len(categories)
        coco = {known_as(name) for name in coco_names().values()}
        all_coco = all(known_as(name) in coco for name in categories.values())
        taught = max((output for _, output in self.classes or ()), default=0) >= len(self.classes or ())
        return [likeliest, len(self.classes or categories), len(categories)] + [COCO_IDS] * (
            all_coco or taught
        )

    def load(self, network: nn.Module) -> None:
        if self.origin is not None:
            load_into(network, self.state, self.origin)

    def class_map(
        self,
        categories: Mapping[int, str],
        outputs: int,
        label: str,
        *,
        background: bool = False,
        output_names: Sequence[str] | None = None,
    ) -> ClassMap:
        """Where the data's classes are among the outputs; `output_names`: what a library calls these."""
        if self.published:
            output_names = list(coco_names().values())[1:]
        elif self.classes is not None:
            first = int(background)
            for name, output in self.classes:
                if not 0 <= output < outputs - first:
                    raise CheckpointError(
                        f"Expected classes among the {outputs - first} outputs of `{self.origin}`, got "
                        f"output {output} for `{name}`."
                    )
            if [name for name, _ in self.classes] == list(categories.values()):
                return ClassMap(np.array([output + first for _, output in self.classes]), outputs)
            names = {output + first: name for name, output in self.classes}
            output_names = [names.get(output, "") for output in range(outputs)]
        return ClassMap.of(categories, outputs, label, background=background, output_names=output_names)


def _published(name: str) -> str:
    if name not in manifest():
        downloads = [key for key, entry in manifest().items() if entry.url]
        hint = did_you_mean(name, downloads)
        raise ConfigError(f"Expected published weights of `{name}`, got none in the manifest. {hint}")
    return name


def _from_callable(settings: DetectorSection, data: Named, device: str) -> Model:
    arch = settings.arch
    if settings.checkpoint or settings.pretrained:
        raise ConfigError(f"Expected `{arch}` to bring its own weights, got `checkpoint` or `pretrained`.")
    builder = import_callable(arch)
    with foreign_errors(f"arguments from which `{arch}` can be built"):
        model = builder(categories=data.categories, device=device, **settings.options)
    if not isinstance(model, Model):
        kind = type(model).__name__
        raise ConfigError(
            f"Expected `{arch}` to return a model with `name`, `preprocess` and a call, got {kind}."
        )
    return Changed(model, partial(_checked, count=len(data.categories), arch=arch))


def _checked(output: Output, count: int, arch: str) -> Output:
    """Answers of somebody's own detector, one logit a box or one a class. Raises InvalidInput for others."""
    logits = output.logits
    width = logits.values.shape[2] if logits.valid.any() else count
    largest = max((int(answer.labels.max()) for answer in output.predictions if len(answer)), default=-1)
    if width not in (1, count) or largest >= count:
        raise InvalidInput(
            f"Expected `{arch}` to answer in the {count} classes of the data, labels in 0..{count - 1} and "
            f"as many logits a box, or that of its score alone, got {width} logits and label {largest}."
        )
    return output
