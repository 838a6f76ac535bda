"""How much disk the files of a command take at least, so that a full one is told before the first batch.

Every number is a lower estimate: who is refused has too little room, who is not may still run out of it.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from ebjr_det.config import ScheduleSection
from ebjr_det.core.types import Model
from ebjr_det.io.lettering import legible
from ebjr_det.runtimes.graph_file import RunsFile
from ebjr_det.tasks.adapted import plain
from ebjr_det.tasks.contract import Picture

if TYPE_CHECKING:
    from torch import nn

QUALITY = 90
"""The quality of the JPEG files that `predict` writes."""
ENTRY_BYTES = 150
"""A picture's entry in `images.json`: 178 to 188 measured. Boxes, 150 each, may be none and are left out."""
FRAME_BYTES = 500
"""A frame of a film: 540 measured of 200 black pictures, 7,500 of digits, 68,000 of scenes of digits."""


def bytes_of_copies(samples: Iterable[Picture], count: int) -> int:
    """Bytes of annotated copies of so many pictures, each as small as the smallest sample; 0 without any.

    Without boxes and strip a copy is 0.5 (black pictures) to 0.9 (scenes of digits) of what it is with them.
    """
    sizes = []
    for picture in samples:
        file = BytesIO()
        legible(picture).save(file, "JPEG", quality=QUALITY)
        sizes.append(file.tell())
    return count * (min(sizes) + ENTRY_BYTES) if sizes else 0


def bytes_of_film(frames: int | None) -> int:
    """Bytes of a film of so many frames; 0 where nobody knows how many."""
    return FRAME_BYTES * (frames or 0)


def bytes_of_training(
    network: "nn.Module", plan: ScheduleSection, steps: int, *, judged: bool, begun: bool
) -> int:
    """Bytes of a training at its largest: its next state beside the last one, or the last beside the weights.

    A state holds the network, its average, the best average and the optimiser's moments of every weight.

    Args:
        judged: there are validation images; `begun`: the folder holds a state, which the next one replaces.
    """
    weights: int = sum(value.nbytes for value in network.state_dict().values())
    learned: int = sum(value.nbytes for value in network.parameters() if value.requires_grad)
    moments = 2 if plan.optimizer == "adamw" else int(plan.momentum > 0)
    last = 2 * weights + moments * learned
    state = last + weights * (judged and plan.keep == "best")
    if begun:
        return state
    earlier = last if steps > plan.save_every else 0
    return state + max(earlier, weights // 2 if plan.weights == "float16" else weights)


def bytes_of_graphs(models: Sequence[Model]) -> int:
    """Bytes of the ONNX graphs of models: their weights; 1.07 to 10 times as much was measured.

    Vectors are left out: those of norms go into the convolutions before them.
    """
    total = 0
    for inner in map(plain, models):
        if isinstance(inner, RunsFile):
            total += inner.file.path.stat().st_size
        else:
            total += sum(value.nbytes for value in inner.graph.state_dict().values() if value.ndim > 1)
    return total
