"""A detector of any library around a network that a runtime runs, all around it told as plain numbers.

The twin of `detector`, which is EfficientDet's: the network's outputs are read by a `Head`. No torch, so that
an exported one is served by the same code as the live one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array, Output
from ebjr_det.runtimes.registry import Column, Network, Networked, host
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.detector import LARGEST_COUNT
from ebjr_det.tasks.detection.networks.frame import Floats, Frame, Framed
from ebjr_det.tasks.detection.networks.heads import Head

Preprocess: TypeAlias = Callable[[Image.Image], Framed]


@dataclass(frozen=True)
class FramedSurroundings:
    """What a detector does around its network, as plain numbers: `frame` before it, `head` after it."""

    frame: Frame
    head: Head
    classes: ClassMap

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {"frame": asdict(self.frame), "head": asdict(self.head), "classes": self.classes.to_dict()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "FramedSurroundings":
        """What `to_dict` gave. Raises KeyError, TypeError or EbjrError for anything else."""
        classes = ClassMap.from_dict(fields["classes"])
        if not (classes.sound and classes.outputs <= LARGEST_COUNT):
            raise InvalidInput("Expected numbers of a detector, got others as columns.")
        return cls(Frame(**fields["frame"]), Head(**fields["head"]), classes)


class FramedDetector(Networked):
    """A detector as the core sees it.

    Args:
        name: shown in tables.
        preprocess: a picture -> an input; a `Frame`, or code of a library.
        head: after the network.
        classes: which outputs are which classes of the data.
        run: the network, by whatever runtime.
    """

    def __init__(
        self, name: str, preprocess: Preprocess, head: Head, classes: ClassMap, run: Network
    ) -> None:
        self.name, self.preprocess, self.run = name, preprocess, run
        self.head, self.classes = head, classes

    @property
    def around(self) -> FramedSurroundings | None:
        """What surrounds the network, or None where its preprocessing is code."""
        if not isinstance(self.preprocess, Frame):
            return None
        return FramedSurroundings(self.preprocess, self.head, self.classes)

    def batch(self, inputs: Sequence[Framed]) -> Floats:
        """The network's input [images, 3, h, w]. Raises InvalidInput where their sizes differ."""
        shapes = {picture.pixels.shape for picture in inputs}
        if len(shapes) > 1:
            raise InvalidInput(
                f"Expected pictures of one size after the preprocessing of `{self.name}`, got "
                f"{sorted(shapes)}. Set runtime `eager`."
            )
        return np.stack([picture.pixels for picture in inputs])

    def forward(self, inputs: Sequence[Framed]) -> tuple[Column, ...]:
        """The network's raw outputs; pictures of several sizes are run one by one."""
        if len({picture.pixels.shape for picture in inputs}) <= 1:
            return self.run(self.batch(inputs))
        singles = [[np.array(host(c[0])) for c in self.run(self.batch([picture]))] for picture in inputs]
        return tuple(list(column) for column in zip(*singles, strict=True))

    def decode(self, raw: tuple[Column, ...], inputs: Sequence[Framed]) -> Output:
        """Detections and their rows of logits, best first.

        Raises InvalidInput for a class that the network cannot have.
        """
        images = [
            self.head([host(column[index]) for column in raw], picture)
            for index, picture in enumerate(inputs)
        ]
        largest = max((int(image.classes.max(initial=0)) for image in images), default=0)
        if largest >= self.classes.outputs:
            raise InvalidInput(
                f"Expected classes 0 to {self.classes.outputs - 1} from `{self.name}`, got {largest}. Give "
                "`class_names`, all of them in order."
            )
        supports = None if self.head.nms_iou is None else [image.support for image in images]
        answers = [(image.boxes, image.scores, image.classes, image.logits) for image in images]
        return self.classes.output(answers, supports, softmax=self.head.softmax)  # type: ignore[arg-type]


def check_framed(model: FramedDetector, shape: tuple[int, ...], raw: Sequence[Array], classes: int) -> None:
    """Raises InvalidInput for a network whose outputs are not those that its head reads."""
    around = model.around
    if around is None or shape != (3, *around.frame.size) or len(around.classes.columns) != classes:
        raise InvalidInput(f"Expected {classes} classes and inputs of {list(shape)}, got others.")
    rows = model.head.read([host(column[0]) for column in raw])
    width = 1 if model.head.layout == "best" else around.classes.outputs
    if rows.boxes.shape[1:] != (4,) or rows.logits.shape != (len(rows.boxes), width):
        shapes = [list(output.shape) for output in raw]
        raise InvalidInput(f"Expected boxes and {around.classes.outputs} numbers of each, got {shapes}.")
