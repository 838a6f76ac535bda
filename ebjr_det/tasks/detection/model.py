"""Detectors by the name in a configuration, their weights loaded, their classes checked against the data's.

A detector owns its preprocessing. Heavy libraries are imported only for the family that is asked for.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from ebjr_det.checkpoints import check_sha256, find_checkpoint, load_into, manifest, read_state
from ebjr_det.errors import ConfigError, did_you_mean
from ebjr_det.foreign import foreign_errors, import_callable
from ebjr_det.tasks.detection.classes import COCO_IDS, ClassMap, are_coco
from ebjr_det.types import Model

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
        data: has the classes. COCO's 80 may be told apart by a detector of COCO's 90 ids.
        checkpoint: manifest name or path; `sha256`: its expected checksum.
        pretrained: the published weights: for effdet those of that name in the manifest, which
            `ebjr-det download` fetches; for torchvision its own.
        random_weights: say that an untrained network is meant; a callable brings weights of its own.
        image_size: side of the network's input (effdet), a multiple of 128.
        num_classes: outputs of the network, without a background; by default those of the data, or 90 for
            COCO's classes.
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
    label = name or rest
    outputs = num_classes or (COCO_IDS if are_coco(data.categories) else len(data.categories))
    if library == "effdet":
        from ebjr_det.tasks.detection import efficientdet

        network = efficientdet.build_network(
            rest, num_classes=outputs, image_size=image_size, max_detections=max_detections,
            soft_nms=soft_nms, options=options,
        )  # fmt: skip
        classes = ClassMap.of(data.categories, outputs, label)
        _load(network, checkpoint, sha256)
        return efficientdet.EfficientDetector(label, network, classes, device)
    if image_size is not None or soft_nms:
        raise ConfigError(f"Expected `image_size` and `soft_nms` with effdet, got them with `{arch}`.")
    from ebjr_det.tasks.detection import torchvision_detectors

    network = torchvision_detectors.build_network(
        rest, outputs + 1, max_detections, pretrained and checkpoint is None, options or {}
    )
    classes = ClassMap.of(data.categories, outputs + 1, label, background=True)
    _load(network, checkpoint, sha256)
    return torchvision_detectors.TorchvisionDetector(label, network, classes, device)


def _load(network: nn.Module, checkpoint: str | None, sha256: str | None) -> None:
    if checkpoint is not None:
        path = find_checkpoint(checkpoint)
        if sha256 is not None:
            check_sha256(path, sha256)
        load_into(network, read_state(path), checkpoint)


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
    return model
