"""torchvision's detectors as `types.Model`: RetinaNet, FCOS, SSD, SSDlite and Faster R-CNN.

They return boxes without logits. While their own code runs, the outputs of the classification head are kept,
and every box gets back the row of the head whose score it bears.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ebjr_det.core.errors import check_known
from ebjr_det.core.types import Output
from ebjr_det.io.pictures import to_rgb
from ebjr_det.io.third_party import foreign_errors
from ebjr_det.tasks.detection.networks.classes import Answer, ClassMap
from ebjr_det.tasks.detection.settings import DetectorSection

SCORES: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
    # the model's class -> scores [rows, outputs] from the head's outputs, as the model itself computes them
    "RetinaNet": lambda head: head["cls_logits"].sigmoid(),
    "FCOS": lambda head: (head["cls_logits"].sigmoid() * head["bbox_ctrness"].sigmoid()).sqrt(),
    "SSD": lambda head: head["cls_logits"].softmax(dim=-1),
    "FasterRCNN": lambda head: head["cls_logits"].softmax(dim=-1),
}

SOFTMAX = ("SSD", "FasterRCNN")


def build_network(name: str, num_classes: int, settings: DetectorSection, *, published: bool) -> nn.Module:
    """A detector of torchvision by name, with fresh or its `published` weights, which have their own classes.

    `num_classes` counts the background; `options` are further arguments of torchvision's builder, for example
    `score_thresh`. Raises ConfigError for an unknown name, or arguments that the builder does not take.
    """
    from torchvision import models

    names = models.list_models(module=models.detection, exclude=["mask*", "keypoint*"])
    check_known(name, names, "a torchvision detector")
    untrained = {"weights": None, "weights_backbone": None, "num_classes": num_classes}
    limit = "box_detections_per_img" if name.startswith("faster") else "detections_per_img"
    fixed = {"weights": "DEFAULT"} if published else untrained
    arguments = {limit: settings.max_detections} | settings.options
    with foreign_errors(f"arguments from which `torchvision/{name}` can be built"):
        network: nn.Module = models.get_model(name, **fixed, **arguments)
    _check_taken(settings.options, [models.get_model_builder(name), type(network)], name)
    return network


def count_outputs(network: nn.Module) -> int:
    """How many classes a detector's head really tells apart, the background included."""
    detector: Any = network
    if type(network).__name__ == "FasterRCNN":
        return int(detector.roi_heads.box_predictor.cls_score.out_features)
    head = detector.head.classification_head
    return int(getattr(head, "num_classes", None) or head.num_columns)


def _check_taken(options: Mapping[str, object], takers: Sequence[Callable[..., object]], name: str) -> None:
    """The classes of torchvision swallow unknown arguments: a misspelt one would change nothing, silently."""
    parameters = {key for taker in takers for key in signature(taker).parameters}
    for key in options:
        check_known(key, parameters, f"an option of `torchvision/{name}`")


class TorchvisionDetector:
    """A torchvision detector as the core sees it; it resizes and normalises inside.

    Args:
        name: shown in tables.
        network: of `build_network`.
        classes: which outputs are which classes of the data.
        device: where the network runs.
    """

    def __init__(self, name: str, network: nn.Module, classes: ClassMap, device: str = "cpu") -> None:
        self.name, self.classes, self.device = name, classes, torch.device(device)
        self.network = network.eval().to(self.device)
        self.family = type(network).__name__
        self._heads: list[Mapping[str, Tensor]] = []
        self._watch()

    def preprocess(self, image: Image.Image) -> Tensor:
        """A PIL image -> uint8 [3, h, w]."""
        return torch.from_numpy(np.array(to_rgb(image))).permute(2, 0, 1)

    def __call__(self, inputs: Sequence[Tensor]) -> Output:
        """Detections, best first, and their rows of logits."""
        self._heads.clear()
        with torch.inference_mode():
            answers = self.network([image.to(self.device).float() / 255 for image in inputs])
        pairs = zip(answers, self._heads, strict=True)
        answers = [self._with_logits(answer, head) for answer, head in pairs]
        return self.classes.output(answers, softmax=self.family in SOFTMAX)

    def _with_logits(self, answer: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> Answer:
        scores, labels = answer["scores"], answer["labels"]
        candidates = SCORES[self.family](head)[:, labels]
        rows = (candidates - scores).abs().argmin(dim=0) if len(scores) else labels
        columns = (answer["boxes"], scores, labels, head["cls_logits"][rows].float())
        return tuple(column.cpu().numpy() for column in columns)  # type: ignore[return-value]

    def _watch(self) -> None:
        """Keep what the classification head gives, image by image, until the boxes are there."""
        network: Any = self.network
        if self.family != "FasterRCNN":
            network.head.register_forward_hook(lambda *call: self._heads.extend(_by_image(call[2])))
            return
        counts: list[int] = []

        def count(*call: Sequence[Sequence[Tensor]]) -> None:
            counts[:] = map(len, call[2][0])

        def split(*call: Any) -> None:
            self._heads.extend({"cls_logits": part} for part in call[2][0].split(counts))

        network.rpn.register_forward_hook(count)
        network.roi_heads.box_predictor.register_forward_hook(split)

    def facts(self, image: Image.Image) -> dict[str, int]:
        """Exact numbers beside the MACs."""
        return {"parameters": sum(parameter.numel() for parameter in self.network.parameters())}


def _by_image(head: Mapping[str, Tensor | list[Tensor]]) -> list[Mapping[str, Tensor]]:
    """A head's outputs [images, rows, width], or one such tensor a level, image by image."""
    columns = {
        name: value if isinstance(value, Tensor) else torch.cat(value, dim=1) for name, value in head.items()
    }
    images = range(len(columns["cls_logits"]))
    return [{name: column[index] for name, column in columns.items()} for index in images]
