"""A training on disk: its state, whole or not at all; its log; its weights."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ebjr_det.core.errors import CheckpointError, first_line
from ebjr_det.io.checkpoints.finding import CLASSES
from ebjr_det.io.files import atomic_write

STATE = "state.pt"
LOG = "log.csv"
WEIGHTS = "weights.safetensors"


def save_state(path: Path, state: Mapping[str, object]) -> None:
    """Replace the state as a whole."""
    with atomic_write(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path, device: str, take: Callable[[dict[str, object]], None]) -> None:
    """Hand the state on disk, if any, to `take`. Raises CheckpointError for a damaged or foreign file."""
    if not path.is_file():
        return
    try:
        take(torch.load(path, map_location=device, weights_only=True))
    except Exception as error:  # a damaged or foreign file can raise anything
        raise CheckpointError(
            f"Expected the state of this training in `{path}`, got: {first_line(error)}."
        ) from error


def write_weights(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    half: bool,
    classes: Sequence[str],
    outputs: Sequence[int] | None = None,
) -> None:
    """Weights as safetensors; `half`: all but vectors in half precision, whose range may not hold these.

    The names of the classes go with them, and which output each is, so that they are not taken for others.
    """
    state = {
        name: (value.half() if half and value.ndim > 1 and value.is_floating_point() else value)
        .cpu()
        .contiguous()
        .clone()  # a file has no two names for one tensor
        for name, value in weights.items()
        if not name.endswith("num_batches_tracked")
    }
    with atomic_write(path) as temporary:
        in_order = list(range(len(classes)))
        indices = in_order if outputs is None else list(outputs)
        names = list(classes) if indices == in_order else dict(zip(classes, indices, strict=True))
        save_file(state, temporary, {CLASSES: json.dumps(names)})


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """The log as CSV, a column for every number that its first row has."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
