"""A detector around a network that a runtime runs: from pictures to its inputs, from raw outputs to boxes.

Everything here is plain numbers, so that a network exported from torch is served without torch, by the same
code as the live one. The network's outputs are logits [anchors, outputs], offsets [anchors, 4] and features
[channels] of each image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.runtimes import Column, Network, host
from ebjr_det.tasks.detection.anchors import Anchors
from ebjr_det.tasks.detection.classes import ClassMap
from ebjr_det.tasks.detection.data import Named
from ebjr_det.tasks.detection.letterbox import Input, Letterbox
from ebjr_det.tasks.detection.selection import best_pairs
from ebjr_det.tasks.detection.suppression import Candidates, Kept, Suppression
from ebjr_det.types import Output


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

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = {name: asdict(getattr(self, name)) for name in ("letterbox", "anchors", "suppression")}
        classes = {"columns": self.classes.columns.tolist(), "outputs": self.classes.outputs}
        return parts | {"classes": classes}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Surroundings":
        """What `to_dict` told. Raises KeyError, TypeError or ValueError for anything else."""
        classes = ClassMap(
            np.array(told["classes"]["columns"], dtype=np.intp), int(told["classes"]["outputs"])
        )
        letterbox, anchors = Letterbox(**told["letterbox"]), Anchors(**told["anchors"])
        return cls(letterbox, anchors, Suppression(**told["suppression"]), classes)


class Detector:
    """A detector as the core sees it.

    Args:
        name: shown in tables.
        around: what surrounds the network.
        run: the network, by whatever runtime.
    """

    def __init__(self, name: str, around: Surroundings, run: Network) -> None:
        self.name, self.around, self.run = name, around, run

    @property
    def invariant(self) -> bool:
        """Whether a picture's answer is the same, to the bit, in any batch."""
        return self.run.invariant

    def preprocess(self, image: Any) -> Input:
        """A PIL image, RGB -> resized to fit, padded with the mean colour: effdet's evaluation transform."""
        return self.around.letterbox(image)

    def batch(self, inputs: Sequence[Input]) -> NDArray[np.uint8]:
        """The network's input [images, 3, h, w], pixels."""
        return inputs[0].pixels[None] if len(inputs) == 1 else np.stack([one.pixels for one in inputs])

    def __call__(self, inputs: Sequence[Input]) -> Output:
        """Detections and their rows of logits, best first."""
        return self.decode(self.forward(inputs), inputs)

    def forward(self, inputs: Sequence[Input]) -> tuple[Column, ...]:
        """The network's raw outputs."""
        return self.run(self.batch(inputs))

    def decode(self, raw: tuple[Column, ...], inputs: Sequence[Input]) -> Output:
        """Raw outputs as answers."""
        kept = self.detect(raw, inputs)
        found = [(one.boxes, one.scores, one.classes, one.logits) for one in kept]
        features = np.stack([host(features) for features in raw[2]])
        return self.around.classes.output(found, [one.support for one in kept], features)

    def detect(self, raw: tuple[Column, ...], inputs: Sequence[Input]) -> list[Kept]:
        """The boxes that stay, image by image, also those of outputs that are no classes of the data."""
        return [self._keep(*row) for row in zip(*raw[:2], inputs, strict=True)]

    def _keep(self, logits: Any, offsets: Any, image: Input) -> Kept:
        """One image; where the outputs lie on a GPU, only candidates leave it."""
        suppression = self.around.suppression
        if isinstance(logits, np.ndarray):
            candidates = suppression.select(logits, offsets)
        else:
            candidates = _select_there(logits, offsets, suppression.max_detection_points)
        return suppression.keep(
            candidates, self.around.anchors.boxes, image.scale, image.size, lambda rows: host(logits[rows])
        )


def _select_there(logits: Any, offsets: Any, most: int) -> Candidates:
    """`Suppression.select` of tensors: on their device the anchors with the largest maxima, here the rest.

    The anchors of the winners are among the `most` anchors with the largest maxima. They are put in the order
    of the array, so that equal logits stand as they do there.
    """
    likely = logits.amax(dim=1).topk(min(most, len(logits))).indices.sort().values
    rows, anchors = host(logits[likely]), host(likely)
    places, classes = best_pairs(rows, most)
    return Candidates(anchors[places], classes, rows[places, classes], host(offsets[likely])[places])


def build_served(name: str, told: Mapping[str, Any], run: Network) -> Detector:
    """A detector from what `Surroundings.to_dict` told of it and a network that runs."""
    return Detector(name, Surroundings.from_dict(told), run)


def name_classes(classes: Mapping[int, str]) -> Named:
    """The classes of the data, category id -> name, as answers want them."""
    return Named(dict(sorted(classes.items())))
