"""EfficientDet by its effdet name as a `types.Model`: boxes, and for every box all of its class logits.

effdet's own bench keeps only the winning logit of a box. Here its steps are taken with its own parts, in the
same order, and the anchor of every kept box is remembered, so that its whole row of logits can be read.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ebjr_det.errors import ConfigError, did_you_mean
from ebjr_det.foreign import foreign_errors
from ebjr_det.runtimes import Column, Network
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.tasks.detection.classes import ClassMap
from ebjr_det.tasks.detection.support import support_of
from ebjr_det.types import FloatArray, Output

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # torch's, of the scripts that effdet is made of
    from effdet import EfficientDet, get_efficientdet_config
    from effdet.anchors import Anchors, clip_boxes_xyxy, decode_box_outputs
    from effdet.config.model_config import efficientdet_model_param_dict
    from effdet.data.transforms import transforms_coco_eval
    from effdet.soft_nms import batched_soft_nms

STRIDE = 128  # of the coarsest level: sides of the input are multiples of it
SETTINGS = {
    # effdet's name -> that of a setting of its own
    "num_classes": "num_classes",
    "image_size": "image_size",
    "max_det_per_image": "max_detections",
    "soft_nms": "soft_nms",
}
NMS_IOU = 0.5
SOFT_NMS = {"method_gaussian": True, "iou_threshold": 0.3, "score_threshold": 0.001}  # as in effdet's bench


class Input(NamedTuple):
    """One preprocessed picture: uint8 [3, s, s], and how many original pixels one of its pixels is."""

    pixels: NDArray[np.uint8]
    scale: float
    size: tuple[int, int]
    """Width and height of the original."""


class Kept(NamedTuple):
    """One image's kept boxes, best first: x1 y1 x2 y2 [n, 4] in original pixels, scores, classes, logits, how
    much the raw candidates agree with each (`support.support_of`), and what the network saw in the picture:
    [channels], the mean over the positions of its coarsest fused level.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    logits: Tensor
    support: FloatArray
    features: NDArray[np.float32]


def build_network(
    name: str,
    *,
    num_classes: int | None = None,
    image_size: int | None = None,
    max_detections: int = 100,
    soft_nms: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """An EfficientDet with fresh weights; nothing is asked of any hub.

    Args:
        name: one of effdet's configurations, for example `tf_efficientdet_d0`.
        num_classes, image_size: instead of the configuration's own.
        options: further settings of effdet's configuration to replace, for example `fpn_channels`.

    Raises:
        ConfigError: an unknown name or option, or a side that is no multiple of 128.
    """
    if name not in efficientdet_model_param_dict:
        hint = did_you_mean(name, efficientdet_model_param_dict)
        raise ConfigError(f"Expected an effdet model, got `{name}`. {hint}")
    config = get_efficientdet_config(name)
    _check_options(options or {}, config)
    own: dict[str, Any] = {"max_det_per_image": max_detections, "soft_nms": soft_nms}
    if num_classes is not None:
        own["num_classes"] = num_classes
    if image_size is not None:
        own["image_size"] = (image_size, image_size)
    with foreign_errors(f"options from which `effdet/{name}` can be built"):
        for key, value in {**(options or {}), **own}.items():
            config[key] = value
    if any(side % STRIDE for side in config.image_size):
        raise ConfigError(
            f"Expected `image_size` to be a multiple of {STRIDE}, got {list(config.image_size)}."
        )
    with foreign_errors(f"options from which `effdet/{name}` can be built"):
        network: nn.Module = EfficientDet(config, pretrained_backbone=False)
        Anchors.from_config(config)
    return network


def _check_options(options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for key in options:
        if key in SETTINGS:
            raise ConfigError(f"Expected `{SETTINGS[key]}` beside `options`, got `{key}` among them.")
        if key not in known:
            raise ConfigError(f"Expected an option of effdet, got `{key}`. {did_you_mean(key, known)}")
    points = options.get("max_detection_points", 1)
    if type(points) is not int or points < 1:
        raise ConfigError(f"Expected `max_detection_points` to be a whole number from 1, got {points}.")


class DetectorGraph(nn.Module):
    """An EfficientDet as a graph of named outputs, for runtimes: from pixels to raw logits and offsets.

    The network is run part by part, as its own `forward` goes, so that its coarsest fused level can be read.
    """

    outputs = ("logits", "offsets", "features")
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

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels, uint8 [images, 3, s, s], -> logits [images, anchors, classes], offsets [images, anchors, 4],
        and features [images, channels].
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
        return logits, offsets, fused[-1].float().mean(dim=(2, 3))


class EfficientDetector:
    """An EfficientDet as the core sees it.

    Args:
        name: shown in tables.
        network: of `build_network`.
        classes: which outputs are which classes of the data.
        device: where the network runs.
    """

    def __init__(self, name: str, network: nn.Module, classes: ClassMap, device: str = "cpu") -> None:
        self.name, self.classes, self.device = name, classes, torch.device(device)
        self.network = network.eval().to(self.device)
        config: Any = network.config
        self.config = config
        self.anchors = Anchors.from_config(config).boxes.to(self.device)
        self.graph = DetectorGraph(self.network).to(self.device)
        self.eager: Network = TorchNetwork(self.graph, device)
        self.run = self.eager
        self._transform = transforms_coco_eval(
            tuple(config.image_size), use_prefetcher=True, mean=statistics(config)[0]
        )

    def preprocess(self, image: Any) -> Input:
        """A PIL image, RGB -> resized to fit, padded with the mean colour: effdet's evaluation transform."""
        width, height = image.size
        least = (
            max(image.size) // min(self.config.image_size) + 1
        )  # one pixel of the input, or it would vanish
        whole = image if least <= min(image.size) else image.resize((max(width, least), max(height, least)))
        pixels, how = self._transform(whole, {})
        return Input(pixels, float(how["img_scale"]), image.size)

    def batch(self, inputs: Sequence[Input]) -> NDArray[np.uint8]:
        """The graph's input [images, 3, s, s], pixels."""
        return np.stack([one.pixels for one in inputs])

    def __call__(self, inputs: Sequence[Input]) -> Output:
        """Detections and their rows of logits, best first."""
        return self.decode(self.forward(inputs), inputs)

    def forward(self, inputs: Sequence[Input]) -> tuple[Column, ...]:
        """The graph's raw outputs, by the runtime that it has."""
        return self.run(self.batch(inputs))

    def decode(self, raw: tuple[Column, ...], inputs: Sequence[Input]) -> Output:
        """Raw outputs as answers, image by image."""
        kept = self.detect(raw, inputs)
        return self.classes.output(
            [
                (
                    k.boxes.cpu().numpy(),
                    k.scores.cpu().numpy(),
                    k.classes.cpu().numpy(),
                    k.logits.cpu().numpy(),
                )
                for k in kept
            ],
            [k.support for k in kept],
            np.stack([k.features for k in kept]),
        )

    def detect(self, raw: tuple[Column, ...], inputs: Sequence[Input]) -> list[Kept]:
        """Everything after the network, image by image."""
        return [
            self._keep(*map(torch.as_tensor, row[:2]), row[2], row[3])
            for row in zip(*raw, inputs, strict=True)
        ]

    def _keep(self, logits: Tensor, offsets: Tensor, features: NDArray[np.float32], image: Input) -> Kept:
        """One image: logits [anchors, classes] and offsets [anchors, 4] -> the boxes that stay."""
        anchors, classes = best_pairs(logits, int(self.config.max_detection_points))
        boxes = decode_box_outputs(offsets[anchors].float(), self.anchors[anchors], output_xyxy=True)
        scale = torch.tensor(image.scale, device=boxes.device)
        size = torch.tensor(image.size, device=boxes.device)
        boxes = clip_boxes_xyxy(boxes, size / scale)
        scores = logits[anchors, classes].float().sigmoid()
        most = int(self.config.max_det_per_image)
        if self.config.soft_nms:
            kept, found = (part[:most] for part in batched_soft_nms(boxes, scores, classes, **SOFT_NMS))
        else:
            kept = batched_nms(boxes, scores, classes, NMS_IOU)[:most]
            found = scores[kept]
        support = support_of(*(part.cpu().numpy() for part in (boxes, scores, classes, kept)))
        rows = logits[anchors[kept]].float()
        return Kept(boxes[kept] * scale, found, classes[kept], rows, support, features)

    def facts(self, image: Any) -> dict[str, Any]:
        """Exact numbers beside the MACs."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        return {"parameters": parameters, "image_size": list(self.config.image_size)}


def best_pairs(logits: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The `most` largest of logits [anchors, classes], descending: their anchors and their classes.

    The anchors of the winners are among the `most` anchors with the largest maxima, so only those are sorted:
    a tenth of the work of sorting all pairs at 90 classes, and the same pairs.
    """
    likely = logits.amax(dim=1).topk(min(most, len(logits))).indices
    rows = logits[likely]
    pairs = rows.flatten().topk(min(most, rows.numel())).indices
    return likely[pairs // rows.shape[1]], pairs % rows.shape[1]


def statistics(config: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels in [0, 1] that a configuration asks for."""
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    mean, std = config.get("mean", IMAGENET_DEFAULT_MEAN), config.get("std", IMAGENET_DEFAULT_STD)
    return tuple(float(m) for m in mean), tuple(float(s) for s in std)
