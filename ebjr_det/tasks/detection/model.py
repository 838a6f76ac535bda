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

from ebjr_det.core.errors import CheckpointError, ConfigError, InvalidInput, did_you_mean
from ebjr_det.core.types import Model, Output
from ebjr_det.io.checkpoints import (
    check_classes,
    check_sha256,
    find_checkpoint,
    fits,
    load_into,
    manifest,
    read_classes,
    read_state,
)
from ebjr_det.io.third_party import foreign_errors, import_callable
from ebjr_det.tasks.adapted import Changed
from ebjr_det.tasks.detection.networks.classes import COCO_IDS, ClassMap, are_coco, coco_names
from ebjr_det.tasks.popular import OTHER, known_as

FAMILIES = ("effdet/NAME", "torchvision/NAME", "package.module:function")


class Named(Protocol):
    """What a detector must know of the data: category id -> name, by ascending id."""

    @property
    def categories(self) -> Mapping[int, str]:
        """The classes."""


def build_model(
    data: Named,
    arch: str,
    *,
    device: str = "cpu",
    name: str | None = None,
    checkpoint: str | None = None,
    sha256: str | None = None,
    pretrained: bool = False,
    random_weights: bool = False,
    image_size: int | None = None,
    num_classes: int | None = None,
    max_detections: int = 100,
    soft_nms: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """A detector for the classes of the data.

    Args:
        arch: `effdet/NAME` (any configuration of effdet, such as `tf_efficientdet_d0`), `torchvision/NAME`
            (RetinaNet, FCOS, SSD, SSDlite, Faster R-CNN), or `package.module:function`, called with
            `categories`, `device` and `options`, that returns a `types.Model` of the data's classes.
        data: has the classes. They are found among the network's outputs by name where its weights tell
            names (published ones, and those that this project trained) or it has COCO's 90 outputs, else in
            order.
        checkpoint: manifest name or path; `sha256`: its expected checksum.
        pretrained: the published weights: for effdet those of that name in the manifest, which
            `ebjr-det download` fetches; for torchvision its own.
        random_weights: say that an untrained network is meant; a callable brings weights of its own.
        image_size: side of the network's input (effdet), a multiple of 128.
        num_classes: outputs of the network, without a background; by default those of the weights, else of
            the data, or 90 for COCO's classes.
        max_detections: most boxes an image; `soft_nms`: decay the scores of overlapping boxes (effdet).
        options: further settings of the library's builder.

    Raises:
        ConfigError: unknown names, settings that the family does not take, other classes than the data's.
        CheckpointError: see `checkpoints`.
    """
    library, slash, rest = arch.partition("/")
    if ":" in arch and not slash:
        if checkpoint or pretrained:
            raise ConfigError(
                f"Expected `{arch}` to bring its own weights, got `checkpoint` or `pretrained`."
            )
        return _from_callable(arch, data, device, options or {})
    if not slash or library not in ("effdet", "torchvision"):
        raise ConfigError(f"Expected a known `arch`, got `{arch}`. {did_you_mean(arch, FAMILIES)}")
    if pretrained and library == "effdet":
        checkpoint = checkpoint or _published(rest)
    if checkpoint is None and not (pretrained or random_weights):
        raise ConfigError(
            f"Expected weights for `{arch}`, got none. Give `checkpoint` or `pretrained: true`, or say "
            "`random_weights: true`."
        )
    label, class_names = name or rest, tuple(data.categories.values())
    weights = _Weights.of(checkpoint, sha256, class_names)
    counts = [num_classes] if num_classes else weights.counts(data.categories)
    if library == "effdet":
        from ebjr_det.tasks.detection.networks import efficientdet

        network: Any = weights.network(
            lambda count: efficientdet.build_network(
                rest, num_classes=count, image_size=image_size, max_detections=max_detections,
                soft_nms=soft_nms, options=options,
            ),
            counts,
        )  # fmt: skip
        outputs = int(network.config.num_classes)
        classes = weights.class_map(data.categories, outputs, label)
        weights.load(network)
        return efficientdet.EfficientDetector(label, network, classes, device)
    if image_size is not None or soft_nms:
        raise ConfigError(f"Expected `image_size` and `soft_nms` with effdet, got them with `{arch}`.")
    from ebjr_det.tasks.detection.networks import torchvision_detectors

    its_own = pretrained and checkpoint is None
    network = weights.network(
        lambda count: torchvision_detectors.build_network(
            rest, count + 1, max_detections, its_own, options or {}
        ),
        counts,
    )
    outputs = torchvision_detectors.count_outputs(network)
    if num_classes not in (None, outputs - 1):
        raise ConfigError(
            f"Expected `num_classes` to be the {outputs - 1} of `{label}`, got {num_classes}. Leave it out."
        )
    told = torchvision_detectors.published_names(rest) if its_own else None
    classes = weights.class_map(data.categories, outputs, label, background=True, told=told)
    weights.load(network)
    return torchvision_detectors.TorchvisionDetector(label, network, classes, device)


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
    def of(cls, checkpoint: str | None, sha256: str | None, class_names: Sequence[str]) -> "_Weights":
        if checkpoint is None:
            return cls()
        path = find_checkpoint(checkpoint)
        if sha256 is not None:
            check_sha256(path, sha256)
        classes = read_classes(path)
        known = {name for name, _ in classes or ()}
        if OTHER in known and known != set(class_names):
            check_classes(path, class_names)  # what is "other" depends on all the classes beside it
        published = {Path(file).name for entry in manifest().values() if entry.url for file in entry.files}
        return cls(checkpoint, read_state(path), classes, path.name in published)

    def counts(self, categories: Mapping[int, str]) -> list[int]:
        """How many classes the network may tell apart, the likeliest first."""
        if self.published:
            return [COCO_IDS]
        usual = COCO_IDS if are_coco(categories) else len(categories)
        coco = {known_as(name) for name in coco_names().values()}
        all_coco = all(known_as(name) in coco for name in categories.values())
        taught = max((output for _, output in self.classes or ()), default=0) >= len(self.classes or ())
        return [usual, len(self.classes or categories), len(categories)] + [COCO_IDS] * (all_coco or taught)

    def network(self, build: Callable[[int], nn.Module], counts: Sequence[int]) -> nn.Module:
        """A network of the first of these counts that the weights fit, else of the first."""
        first = build(counts[0])
        for count in dict.fromkeys(counts):
            network = first if count == counts[0] else build(count)
            if fits(network, self.state):
                return network
        return first

    def load(self, network: nn.Module) -> None:
        """Put them into the network, where there are any."""
        if self.origin is not None:
            load_into(network, self.state, self.origin)

    def class_map(
        self,
        categories: Mapping[int, str],
        outputs: int,
        label: str,
        *,
        background: bool = False,
        told: Sequence[str] | None = None,
    ) -> ClassMap:
        """Where the data's classes are among the outputs; `told`: what a library calls these."""
        if self.published:
            told = list(coco_names().values())[1:]
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
            told = [names.get(output, "") for output in range(outputs)]
        return ClassMap.of(categories, outputs, label, background=background, told=told)


def _published(name: str) -> str:
    if name not in manifest():
        known = [key for key, entry in manifest().items() if entry.url]
        raise ConfigError(
            f"Expected published weights of `{name}`, got none in the manifest. {did_you_mean(name, known)}"
        )
    return name


def _from_callable(arch: str, data: Named, device: str, options: Mapping[str, Any]) -> Model:
    builder = import_callable(arch)
    with foreign_errors(f"arguments from which `{arch}` can be built"):
        model = builder(categories=data.categories, device=device, **options)
    if not isinstance(model, Model):
        raise ConfigError(
            f"Expected `{arch}` to return a model with `name`, `preprocess` and a call, got "
            f"{type(model).__name__}."
        )
    return Changed(model, partial(_checked, count=len(data.categories), arch=arch))


def _checked(output: Output, count: int, arch: str) -> Output:
    """Answers of somebody's own detector. Raises InvalidInput where they are not of the data's classes."""
    logits = output.logits
    width = logits.values.shape[2] if logits.valid.any() else count
    largest = max((int(found.labels.max()) for found in output.predictions if len(found)), default=-1)
    if width != count or largest >= count:
        raise InvalidInput(
            f"Expected `{arch}` to answer in the {count} classes of the data, labels in 0..{count - 1} and "
            f"as many logits a box, got {width} logits and label {largest}."
        )
    return output
