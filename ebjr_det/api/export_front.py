"""The router in front of the student, as a graph in an exported folder."""

from pathlib import Path

import numpy as np
from PIL import Image

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.joint import Front
from ebjr_det.inference.export_file import FRONT, FRONT_VERSION, ExportedFront, ExportedPair
from ebjr_det.io.files import checksum
from ebjr_det.runtimes.choose import drift
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.runtimes.onnx import Session, write_onnx
from ebjr_det.tasks.front import FrontRouter, OfLevels

TRIED = 4
"""Pictures of noise on which the graph is compared with torch."""


def with_front(pair: ExportedPair, front: Front, folder: Path, tolerance: float) -> ExportedPair:
    """The pair with a router in front, whose graph is written into its folder.

    Raises:
        ConfigError: a network that ONNX cannot hold, or a graph that does not answer as torch does.
    """
    router, path = front.model, folder / FRONT
    assert isinstance(router, FrontRouter)
    levels = np.random.default_rng(0).integers(256, size=(TRIED, 64, 64, 3), dtype=np.uint8)
    small = [router.preprocess(Image.fromarray(level)) for level in levels]
    write_onnx(OfLevels(router.network), np.stack(small), path)
    moved = drift(Session(path)(np.stack(small)), [router(small).logits.values[:, 0]])
    if not moved <= tolerance:
        raise ConfigError(
            f"Expected the graph of the router in front to answer as torch does, got outputs that move by "
            f"{moved:.2g} of their spread, more than {tolerance:g}. Set run.tolerance."
        )
    macs = macs_of(router, Image.fromarray(levels[0]))
    told = ExportedFront(
        file=path.name, sha256=checksum(path), size=router.size, threshold=front.threshold, macs=macs
    )
    return pair.model_copy(update={"front": told, "version": FRONT_VERSION})
