"""Weights: where they come from, that they are whole, and that reading them runs no code.

`finding` turns a name or a path into a file, `reading` a file into named tensors, and `fitting` puts those
that are the network's into it. Knows nothing about architectures.
"""

from ebjr_det.io.checkpoints.finding import (
    CLASSES,
    FOLDER_VARIABLE,
    ManifestEntry,
    check_classes,
    check_sha256,
    find_checkpoint,
    folders,
    manifest,
    read_classes,
    shipped_folder,
)
from ebjr_det.io.checkpoints.fitting import fits, load_fitting, load_into
from ebjr_det.io.checkpoints.reading import read_state

__all__ = [
    "CLASSES",
    "FOLDER_VARIABLE",
    "ManifestEntry",
    "check_classes",
    "check_sha256",
    "find_checkpoint",
    "fits",
    "folders",
    "load_fitting",
    "load_into",
    "manifest",
    "read_classes",
    "read_state",
    "shipped_folder",
]
