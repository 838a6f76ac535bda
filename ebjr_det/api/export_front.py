"""The router in front of the student, as a graph in an exported folder."""

from pathlib import Path

import numpy as np
from PIL import Image

from ebjr_det.core.joint import Front
from ebjr_det.inference.export_file import FRONT, FRONT_VERSION, ExportedFront, ExportedPair
from ebjr_det.io.files import checksum
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.runtimes.onnx import write_alike
from ebjr_det.runtimes.registry import Batch, Column

TRIED = 4
"""Pictures of noise on which the graph is compared with torch."""


def with_front(pair: ExportedPair, front: Front, folder: Path, tolerance: float) -> ExportedPair:
    """The pair with a router in front, whose graph is written into its folder.

    Raises:
        ConfigError: a network that ONNX cannot hold, or a graph that does not answer as torch does.
    """
    from ebjr_det.tasks.front import FrontRouter, OfLevels

    router, path = front.model, folder / FRONT
    assert isinstance(router, FrontRouter)
    levels = np.random.default_rng(0).integers(256, size=(TRIED, 64, 64, 3), dtype=np.uint8)
    small = [router.preprocess(Image.fromarray(level)) for level in levels]

    def eager(batch: Batch) -> list[Column]:
        return [router(list(batch)).logits.values[:, 0]]

    write_alike(OfLevels(router.network), np.stack(small), eager, path, tolerance, router.name)
    macs = macs_of(router, Image.fromarray(levels[0]))
    told = ExportedFront(
        file=path.name, sha256=checksum(path), size=router.size, threshold=front.threshold, macs=macs
    )
    return pair.model_copy(update={"front": told, "version": FRONT_VERSION})
