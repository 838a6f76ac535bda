"""EfficientDet by its effdet name as a `types.Model`: boxes, and for every box all of its class logits.

effdet's own bench keeps only the winning logit of a box. A detector's `around` takes its steps in their order
and remembers the anchor of every box that stays, so that its whole row of logits can be read.
"""

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.io.third_party import foreign_errors
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.runtimes.registry import Network
from ebjr_det.tasks.detection.networks.anchors import Anchors
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.detector import Detector, Surroundings
from ebjr_det.tasks.detection.networks.letterbox import Letterbox
from ebjr_det.tasks.detection.networks.suppression import Suppression
from ebjr_det.tasks.detection.settings import DetectorSection

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # torch's, of the scripts that effdet is made of
    from effdet import EfficientDet, get_efficientdet_config
    from effdet.config import get_fpn_config
    from effdet.config.model_config import efficientdet_model_param_dict

STRIDE = 128  # of the coarsest level: sides of the input are multiples of it
SETTINGS = {
    # effdet's name -> that of a setting of its own
    "num_classes": "num_classes",
    "image_size": "image_size",
    "max_det_per_image": "max_detections",
    "soft_nms": "soft_nms",
}


def build_network(name: str, num_classes: int, settings: DetectorSection) -> nn.Module:
    """An EfficientDet of effdet's configuration `name` with fresh weights; nothing is asked of any hub.

    `options` replace settings of that configuration, for example `fpn_channels`. Raises ConfigError for an
    unknown name or option, or a side that is no multiple of 128.
    """
    check_known(name, efficientdet_model_param_dict, "an effdet model")
    config = get_efficientdet_config(name)
    _check_options(settings.options, config)
    changes = {**settings.options, "num_classes": num_classes, "soft_nms": settings.soft_nms}
    changes["max_det_per_image"] = settings.max_detections
    if settings.image_size is not None:
        changes["image_size"] = (settings.image_size, settings.image_size)
    with foreign_errors(f"options from which `effdet/{name}` can be built"):
        for key, value in changes.items():
            config[key] = value
    if any(side % STRIDE for side in config.image_size):
        raise ConfigError(
            f"Expected `image_size` to be a multiple of {STRIDE}, got {list(config.image_size)}."
        )
    with foreign_errors(f"options from which `effdet/{name}` can be built"):
        if not config.fpn_config:
            config.fpn_config = _fusion(config.fpn_name, config.min_level, config.max_level)
        network: nn.Module = EfficientDet(config, pretrained_backbone=False)
        assert len(Anchors.of_config(config).boxes)
    return network


@cache
def _fusion(name: str | None, first: int, last: int) -> object:
    """How levels are fused; effdet writes out all of its ways for each network that it builds."""
    return get_fpn_config(name, min_level=first, max_level=last)


def _check_options(options: Mapping[str, object], config: Mapping[str, object]) -> None:
    for key in options:
        if key in SETTINGS:
            raise ConfigError(f"Expected `{SETTINGS[key]}` beside `options`, got `{key}` among them.")
        check_known(key, config, "an option of effdet")
    points = options.get("max_detection_points", 1)
    if type(points) is not int or points < 1:
        raise ConfigError(f"Expected `max_detection_points` to be a whole number from 1, got {points}.")


class DetectorGraph(nn.Module):
    """An EfficientDet as a graph of named outputs, for runtimes: from pixels to raw logits and offsets.

    The network is run part by part, as its own `forward` goes, so that its coarsest fused level can be read.
    """

    outputs = ("logits", "offsets", "features", "maxima")
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        config: Any = network.config
        self.classes = int(config.num_classes)
        for name, values in zip(("mean", "std"), statistics(config), strict=True):
            scaled = torch.tensor([255 * value for value in values]).view(1, 3, 1, 1)
            self.register_buffer(name, scaled, persistent=False)

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 [images, 3, s, s] -> the network's input."""
        return (pixels.float() - self.mean) / self.std

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """uint8 [images, 3, s, s] -> logits [images, anchors, classes], offsets [images, anchors, 4],
        features [images, channels], and maxima [images, anchors], the largest logit of each anchor.
        """
        network: Any = self.network
        fused = network.fpn(network.backbone(self.normalize(pixels)))
        levels = network.class_net(fused), network.box_net(fused)
        logits, offsets = (
            torch.cat(
                [level.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, width)) for level in side], dim=1
            )
            for side, width in zip(levels, (self.classes, 4), strict=True)
        )
        return logits, offsets, fused[-1].float().mean(dim=(2, 3)), logits.amax(dim=2)


class EfficientDetector(Detector):
    """An EfficientDet of effdet, in eager torch until it is given another runtime.

    Args:
        name: shown in tables.
        network: of `build_network`.
        classes: which outputs are which classes of the data.
        device: where the network runs.
    """

    def __init__(self, name: str, network: nn.Module, classes: ClassMap, device: str = "cpu") -> None:
        self.device, self.classes = torch.device(device), classes
        self.network = network.eval().to(self.device)
        config: Any = network.config
        self.config = config
        self.graph = DetectorGraph(self.network).to(self.device)
        self.eager: Network = TorchNetwork(self.graph, device)
        around = Surroundings(
            Letterbox(tuple(config.image_size), statistics(config)[0]),
            Anchors.of_config(config),
            Suppression(config.max_det_per_image, config.max_detection_points, config.soft_nms),
            classes,
        )
        super().__init__(name, around, self.eager)

    def facts(self, image: Image.Image) -> dict[str, int | list[int]]:
        """Exact numbers beside the MACs."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return {"parameters": parameters, "image_size": list(self.config.image_size)}


def statistics(config: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels in [0, 1] that a configuration asks for."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    mean, std = config.get("mean", IMAGENET_DEFAULT_MEAN), config.get("std", IMAGENET_DEFAULT_STD)
    return tuple(float(m) for m in mean), tuple(float(s) for s in std)
