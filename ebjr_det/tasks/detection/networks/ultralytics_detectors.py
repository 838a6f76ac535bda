"""YOLO of ultralytics, v5u to v12 and later, as `types.Model`: all class logits of every box.

The library keeps the best score of a box. Here its head is read before that: logits of all classes and
decoded boxes of every cell; networks that need no suppression are read from their one-to-one branch.
"""

from collections.abc import Mapping
from typing import Any

from PIL import Image
from torch import Tensor, nn

from ebjr_det.core.errors import ConfigError
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.runtimes.registry import Network
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.frame import Frame
from ebjr_det.tasks.detection.networks.framed import FramedDetector
from ebjr_det.tasks.detection.networks.heads import Head

GAP, NMS_IOU, LEAST_SCORE = 7680.0, 0.7, 0.001
"""Of the library: pixels between classes in its suppression, its IoU, and the least score that it judges."""


class GridGraph(nn.Module):
    """A network of cells as a graph of named outputs, for runtimes."""

    outputs = ("logits", "boxes")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [n, 3, h, w] -> logits [n, cells, classes], boxes [n, cells, 4] in pixels."""
        network: Any = self.network
        head = network.model[-1]
        _, parts = network(images)
        if "one2one" in parts:
            parts = parts["one2one" if head.end2end else "one2many"]
        boxes = head._get_decode_boxes(parts)
        return parts["scores"].transpose(1, 2), boxes.transpose(1, 2)


class UltralyticsDetector(FramedDetector):
    """A YOLO in eager torch, until it is given another runtime."""

    def __init__(
        self, name: str, network: nn.Module, frame: Frame, head: Head, classes: ClassMap, device: str
    ) -> None:
        self.network = network.to(device)
        self.graph = GridGraph(self.network)
        self.eager: Network = TorchNetwork(self.graph, device)
        super().__init__(name, frame, head, classes, self.eager)

    def facts(self, image: Image.Image) -> Mapping[str, object]:
        """Exact numbers beside the MACs, and how its head is read."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        size = list(self.preprocess(image).pixels.shape[1:])
        return {"parameters": parameters, "image_size": size, "head": str(self.head), "licence": "AGPL-3.0"}


def head_of(network: Any, limit: int, options: Mapping[str, Any]) -> Head:
    """How a network's cells are read: with suppression, as the library's predictor does it, or with the
    option `nms: false` from the branch that needs none. Raises ConfigError for a head that is no YOLO's.
    """
    from ultralytics.nn.modules.head import Detect

    last = network.model[-1]
    if type(last).__name__ not in ("Detect", "v10Detect") or not isinstance(last, Detect):
        raise ConfigError(f"Expected a YOLO's head, Detect, got {type(last).__name__}. Export it as ONNX.")
    if options.get("nms") is False and getattr(last, "one2one_cv2", None) is None:
        raise ConfigError("Expected a branch that needs no suppression for `nms: false`, got none.")
    last.end2end = options.get("nms") is False
    if last.end2end:
        return Head("parts", "sigmoid", boxes="xyxy", pairs=True, within_rows=True, max_detections=limit)
    iou, least = options.get("iou", NMS_IOU), options.get("least_score", LEAST_SCORE)
    return Head(
        "parts", "sigmoid", nms_iou=float(iou), gap=GAP, least_score=float(least), max_detections=limit
    )
