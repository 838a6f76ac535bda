"""Detectors of the transformers library as `types.Model`: RT-DETR, D-FINE, DETR, Deformable DETR, YOLOS ...

A query's class logits are one sigmoid a class (the focal heads) or one softmax with a last "no object". The
library's configurations do not say which; its post-processing does, by the kind of model.
"""

from collections.abc import Mapping
from typing import Any

from PIL import Image
from torch import Tensor, nn

from ebjr_det.core.errors import ConfigError
from ebjr_det.io.pictures import to_rgb
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.runtimes.registry import Network
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.frame import Frame, Framed
from ebjr_det.tasks.detection.networks.framed import FramedDetector
from ebjr_det.tasks.detection.networks.heads import Head
from ebjr_det.tasks.detection.settings import DetectorSection
from ebjr_det.tasks.hub import described_numbers

SOFTMAX = ("detr", "yolos", "table-transformer")
"""Kinds of models whose last output is "no object" ..."""
SIGMOID = (
    "rt_detr", "rt_detr_v2", "d_fine", "deformable_detr", "conditional_detr", "dab-detr", "lw_detr",
    "rf_detr", "deimv2",
)  # fmt: skip
"""... and those that have one sigmoid a class."""
AS_QUERIES = ("rt_detr", "rt_detr_v2", "d_fine", "rf_detr", "deimv2")
"""Kinds of which the library answers as many boxes as there are queries."""


class QueryGraph(nn.Module):
    """A network of queries as a graph of named outputs, for runtimes."""

    outputs = ("logits", "boxes")

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [n, 3, h, w] -> logits [n, queries, outputs], boxes [n, queries, 4] cxcywh in shares."""
        answer = self.network(pixel_values=images)
        return answer.logits, answer.pred_boxes


class ByProcessor:
    """A preprocessing of the library that is no plain stretching: pictures keep their shape, for example."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Image.Image) -> Framed:
        """One picture as the library prepares it alone."""
        picture = to_rgb(image)
        pixels = self.processor(picture, return_tensors="pt")["pixel_values"][0].numpy()
        height, width = pixels.shape[1:]
        return Framed(pixels, (width / picture.width, height / picture.height), (0, 0), picture.size)


class TransformersDetector(FramedDetector):
    """A detector of the library, in eager torch until it is given another runtime."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        processor: Any,
        head: Head,
        classes: ClassMap,
        device: str = "cpu",
    ) -> None:
        self.network = network.eval().to(device)
        self.graph = QueryGraph(self.network)
        self.eager: Network = TorchNetwork(self.graph, device)
        super().__init__(name, described(processor) or ByProcessor(processor), head, classes, self.eager)

    def facts(self, image: Image.Image) -> Mapping[str, object]:
        """Exact numbers beside the MACs, and how its head is read."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        shape = self.preprocess(image).pixels.shape[1:]
        kind = str(self.network.config.model_type)  # type: ignore[union-attr]
        return {
            "parameters": parameters,
            "image_size": list(shape),
            "head": str(self.head),
            "model_type": kind,
        }


def head_of(network: Any, settings: DetectorSection) -> Head:
    """How a network's queries are read. Raises ConfigError for a kind of which nobody knows it."""
    kind = network.config.model_type
    if kind not in SOFTMAX + SIGMOID:
        raise ConfigError(
            f"Expected a detector of transformers whose head is known ({', '.join(SOFTMAX + SIGMOID)}), got "
            f"`{kind}`."
        )
    softmax = kind in SOFTMAX or not getattr(network.config, "use_focal_loss", True)
    limit = settings.max_detections
    if softmax:
        last = count_outputs(network, softmax=True) - 1
        return Head("parts", "softmax", shares=True, max_detections=limit, background=last)
    within = kind in AS_QUERIES
    return Head("parts", "sigmoid", shares=True, pairs=True, within_rows=within, max_detections=limit)


def count_outputs(network: Any, *, softmax: bool) -> int:
    """How many numbers a query has; a softmax has "no object" as the last."""
    labels = int(network.config.num_labels)
    return labels + 1 if softmax and network.config.model_type in SOFTMAX else labels


def described(processor: Any) -> Frame | None:
    """A preprocessing of the library as numbers, or None where it is more than stretching and scaling."""
    numbers = described_numbers(processor)
    size = numbers.get("size") or {}
    plain = set(size) == {"height", "width"} and not (numbers.get("do_pad") or numbers.get("do_center_crop"))
    if not (plain and numbers.get("do_resize") and type(processor).__name__.endswith("Pil")):
        return None
    scale = float(numbers["rescale_factor"]) if numbers.get("do_rescale") else 1.0
    statistics: dict[str, Any] = {}
    if numbers.get("do_normalize"):
        statistics = {"mean": tuple(numbers["image_mean"]), "std": tuple(numbers["image_std"])}
    resample = int(numbers.get("resample", 2))
    return Frame((size["height"], size["width"]), "stretch", scale=scale, resample=resample, **statistics)
