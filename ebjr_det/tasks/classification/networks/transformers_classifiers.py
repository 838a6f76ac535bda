"""Image classifiers of transformers and of ultralytics as networks that give logits alone."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class LabelLogits(nn.Module):
    """A network of the library as one that gives logits alone, in the order of the data's classes."""

    def __init__(self, network: nn.Module, columns: Sequence[int] | None) -> None:
        super().__init__()
        self.network, self.columns = network, None if columns is None else list(columns)

    def forward(self, images: Tensor) -> Tensor:
        """[images, 3, h, w] -> [images, classes]."""
        answer: Any = self.network(pixel_values=images)
        logits: Tensor = answer.logits
        return logits if self.columns is None else logits[:, self.columns]


class PairLogits(LabelLogits):
    """A network of ultralytics, which answers probabilities and logits, likewise."""

    def forward(self, images: Tensor) -> Tensor:
        """[images, 3, h, w] -> [images, classes]."""
        answer: Any = self.network(images)
        logits: Tensor = answer[1]
        return logits if self.columns is None else logits[:, self.columns]
