"""Ways to run a network, by name: the same raw outputs, at another speed.

Convention: a batch goes in, [images, ...], as the model's preprocessing made it; out comes one column for
each of the network's outputs, with one entry an image. Decoding of boxes, suppression and scores lie outside.
Nothing here knows what a picture is; every library is imported only by the runtime that needs it.
"""

from ebjr_det.runtimes.choose import AUTO, EAGER, TOLERANCE, Trial, choose_runtime, drift
from ebjr_det.runtimes.registry import (
    RUNTIMES,
    Column,
    Network,
    Runtime,
    build_network,
    find_runtime,
    host,
    installed,
    stacked,
)

__all__ = [
    "AUTO",
    "EAGER",
    "RUNTIMES",
    "TOLERANCE",
    "Column",
    "Network",
    "Runtime",
    "Trial",
    "build_network",
    "choose_runtime",
    "drift",
    "find_runtime",
    "host",
    "installed",
    "stacked",
]
