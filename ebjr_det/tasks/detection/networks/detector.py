"""A detector around a network that a runtime runs: from pictures to its inputs, from raw outputs to boxes.

Everything here is plain numbers, so that a network exported from torch is served without torch, by the same
code as the live one. The network's outputs are, of each image, logits [anchors, outputs], offsets
[anchors, 4], features [channels] and maxima [anchors], the largest logit of each anchor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array, Output
from ebjr_det.runtimes.registry import Column, Network, Networked, host, stacked
from ebjr_det.tasks.detection.networks.anchors import Anchors
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.letterbox import Input, Letterbox
from ebjr_det.tasks.detection.networks.selection import NOT_NUMBERS, Indices
from ebjr_det.tasks.detection.networks.suppression import Candidates, Suppression, Survivors

LEVELS, LARGEST_COUNT = range(1, 13), 1_000_000  # of a pyramid, and of whatever is counted


@dataclass(frozen=True)
class Surroundings:
    """What a detector does around its network, as plain numbers.

    Attributes:
        letterbox: before it. anchors, suppression: after it.
        classes: which of its outputs are which classes of the data.
    """

    letterbox: Letterbox
    anchors: Anchors
    suppression: Suppression
    classes: ClassMap

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        parts = {name: asdict(getattr(self, name)) for name in ("letterbox", "anchors", "suppression")}
        return {**parts, "classes": self.classes.to_dict()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Surroundings":
        """What `to_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        surroundings = cls(
            Letterbox(**fields["letterbox"]),
            Anchors(**fields["anchors"]),
            Suppression(**fields["suppression"]),
            ClassMap.from_dict(fields["classes"]),
        )
        surroundings._check()
        return surroundings

    def _check(self) -> None:
        """Raises InvalidInput for numbers that no detector has; anchors of them could take all memory."""
        box, anchors, classes = self.letterbox, self.anchors, self.classes
        limits = self.suppression.max_detections, self.suppression.max_detection_points
        counts = [classes.outputs, anchors.num_scales, *limits]
        valid = {
            "letterbox": len(box.mean) == 3 and all(0 <= value <= 1 for value in box.mean),
            "image_size": box.size == anchors.image_size and all(1 <= side <= 8192 for side in box.size),
            "levels": all(type(n) is int and n in LEVELS for n in (anchors.min_level, anchors.max_level)),
            "counts": all(type(n) is int and 1 <= n <= LARGEST_COUNT for n in counts),
            "scales": len(anchors.aspect_ratios) * anchors.num_scales <= 100,
            "columns": classes.sound,
        }  # fmt: skip
        if faults := [name for name, good in valid.items() if not good]:
            raise InvalidInput(f"Expected numbers of a detector, got others as {' and '.join(faults)}.")


class Detector(Networked):
    """A detector as the core sees it.

    Args:
        name: shown in tables.
        around: what surrounds the network.
        run: the network, by whatever runtime.
    """

    def __init__(self, name: str, around: Surroundings, run: Network) -> None:
        self.name, self.around, self.run = name, around, run

    def preprocess(self, image: Image.Image) -> Input:
        """A PIL image, RGB -> resized to fit, padded with the mean colour: effdet's evaluation transform."""
        return self.around.letterbox(image)

    def batch(self, inputs: Sequence[Input]) -> NDArray[np.uint8]:
        """The network's input [images, 3, h, w], pixels."""
        pixels = [image.pixels for image in inputs]
        return pixels[0][None] if len(pixels) == 1 else np.stack(pixels)

    def decode(self, raw: tuple[Column, ...], inputs: Sequence[Input]) -> Output:
        """Detections and their rows of logits, best first."""
        survivors = self.detect(raw, inputs)
        answers = [(image.boxes, image.scores, image.classes, image.logits) for image in survivors]
        return self.around.classes.output(answers, [image.support for image in survivors], stacked(raw[2]))

    def detect(self, raw: tuple[Column, ...], inputs: Sequence[Input]) -> list[Survivors]:
        """The boxes that stay, image by image, also those of outputs that are no classes of the data."""
        logits, offsets, _, maxima = raw
        suppression, anchors = self.around.suppression, self.around.anchors.boxes
        if isinstance(logits[0], np.ndarray):
            candidates = [suppression.select(*rows) for rows in zip(logits, offsets, maxima, strict=True)]
        else:
            candidates = _select_on_device(logits, offsets, maxima, suppression.max_detection_points)
        return [
            suppression.keep(pairs, anchors, image.scale, image.size, partial(_rows_of, values))
            for pairs, values, image in zip(candidates, logits, inputs, strict=True)
        ]


def _rows_of(logits: Any, anchors: Indices) -> Array:
    return host(logits[anchors])


def _select_on_device(logits: Any, offsets: Any, maxima: Any, count: int) -> list[Candidates]:
    """`Suppression.select` of all images, tensors on a GPU: only candidates leave it.

    The pairs of the winners are of the first `count` anchors by their maxima, of equal ones the first in the
    array: each of these has a pair that comes before all pairs of any further anchor.
    """
    anchors = maxima.sort(dim=1, descending=True, stable=True).indices[:, :count].sort(dim=1).values
    rows = logits.take_along_dim(anchors[..., None], dim=1).flatten(1)
    best = rows.sort(dim=1, descending=True, stable=True)
    pairs, width = best.indices[:, :count], logits.shape[2]
    anchors = anchors.gather(1, pairs // width)
    winners = (
        anchors,
        pairs % width,
        best.values[:, :count],
        offsets.take_along_dim(anchors[..., None], dim=1),
    )
    columns = [host(column) for column in winners]
    if np.isnan(columns[2]).any():  # NaN comes first
        raise InvalidInput(NOT_NUMBERS)
    return [Candidates(*image) for image in zip(*columns, strict=True)]
