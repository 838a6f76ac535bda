"""A router in front of an exported pair's student: its graph, read without torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.joint import Front
from ebjr_det.core.types import Logits, Opaque, Output
from ebjr_det.inference.export_file import ExportedFront
from ebjr_det.io.pictures import small_copy
from ebjr_det.runtimes.onnx import Session
from ebjr_det.runtimes.onnx_check import check_whole


class FrontGraph:
    """`types.Model` whose answer to a picture is one number, as of `tasks.front.FrontRouter`.

    Attributes:
        size: side of the small copy in pixels; macs: multiply-adds an image.
    """

    name = "front router"

    def __init__(self, session: Session, size: int, macs: float) -> None:
        self.session, self.size, self.macs = session, size, macs

    def preprocess(self, image: Opaque) -> NDArray[np.uint8]:
        """A picture -> its small copy, [3, size, size]."""
        return small_copy(image, self.size)

    def __call__(self, inputs: Sequence[NDArray[np.uint8]]) -> Output:
        """Small copies -> the predicted gain of each as its one logit."""
        (gains,) = self.session(np.stack(inputs))
        return Output([None] * len(inputs), Logits.one_row(np.asarray(gains)))


def load_front(exported: ExportedFront, folder: Path, device: str) -> Front:
    """The router at its threshold. Raises InvalidInput for a graph that is none."""
    path = folder / exported.file
    check_whole(path)
    front = FrontGraph(Session(path, device), exported.size, exported.macs)
    try:
        answers = front([np.zeros((3, front.size, front.size), np.uint8)]).logits.values
        if answers.shape != (1, 1, 1):
            raise ValueError("other outputs")
    except Exception as error:  # whatever a graph that fails can raise
        raise InvalidInput(
            f"Expected the graph of a router in front of the student in `{path}`, got: {first_line(error)}. "
            "Export again."
        ) from error
    return Front(front, exported.threshold)
