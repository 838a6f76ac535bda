"""A detector around a network that a runtime runs: from pictures to its inputs, from raw outputs to boxes.

Everything here is plain numbers, so that a network exported from torch is served without torch, by the same
code as the live one. The network's outputs are, of each image, logits [anchors, outputs], offsets
[anchors, 4], features [channels] and maxima [anchors], the largest logit of each anchor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Output
from ebjr_det.runtimes import Column, Network, host
from ebjr_det.tasks.detection.networks.anchors import Anchors
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.letterbox import Input, Letterbox
from ebjr_det.tasks.detection.networks.selection import best_pairs
from ebjr_det.tasks.detection.networks.suppression import Candidates, Kept, Suppression

LEVELS, MOST = range(1, 13), 1_000_000
"""Of a pyramid, and of whatever is counted: more is no detector's."""


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
        around = cls(letterbox, anchors, Suppression(**told["suppression"]), classes)
        around._check()
        return around

    def _check(self) -> None:
        """Raises InvalidInput for numbers that no detector has; anchors of them could take all memory."""
        box, one, most, classes = self.letterbox, self.anchors, self.suppression, self.classes
        counts = [classes.outputs, one.num_scales, most.max_detections, most.max_detection_points]
        columns = classes.columns
        fine = {
            "letterbox": len(box.mean) == 3 and all(0 <= value <= 1 for value in box.mean),
            "image_size": box.size == one.image_size and all(1 <= side <= 8192 for side in box.size),
            "levels": all(type(n) is int and n in LEVELS for n in (one.min_level, one.max_level)),
            "counts": all(type(n) is int and 1 <= n <= MOST for n in counts),
            "scales": len(one.aspect_ratios) * one.num_scales <= 100,
            "columns": columns.ndim == 1 and len(set(columns.tolist())) == len(columns) > 0
            and 0 <= columns.min() <= columns.max() < classes.outputs,
        }  # fmt: skip
        if wrong := [name for name, right in fine.items() if not right]:
            raise InvalidInput(f"Expected numbers of a detector, got others as {' and '.join(wrong)}.")


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
        logits, offsets, _, maxima = raw
        return [self._keep(*row) for row in zip(logits, offsets, maxima, inputs, strict=True)]

    def _keep(self, logits: Any, offsets: Any, maxima: Any, image: Input) -> Kept:
        """One image; where the outputs lie on a GPU, only candidates leave it."""
        suppression = self.around.suppression
        if isinstance(logits, np.ndarray):
            candidates = suppression.select(logits, offsets, maxima)
        else:
            candidates = _select_there(logits, offsets, maxima, suppression.max_detection_points)
        return suppression.keep(
            candidates, self.around.anchors.boxes, image.scale, image.size, lambda rows: host(logits[rows])
        )


def _select_there(logits: Any, offsets: Any, maxima: Any, most: int) -> Candidates:
    """`Suppression.select` of tensors: on their device the anchors with the largest maxima, here the rest.

    The anchors of the winners are among the `most` anchors with the largest maxima. They are put in the order
    of the array, so that equal logits stand as they do there.
    """
    likely = maxima.topk(min(most, len(maxima))).indices.sort().values
    rows, anchors = host(logits[likely]), host(likely)
    places, classes = best_pairs(rows, most)
    return Candidates(anchors[places], classes, rows[places, classes], host(offsets[likely])[places])
