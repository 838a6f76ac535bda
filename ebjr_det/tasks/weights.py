"""Where the weights of a model come from, and what a library calls its outputs; the rules of every task."""

from hashlib import sha256
from pathlib import Path

from ebjr_det.config import ModelSection
from ebjr_det.core.errors import ConfigError
from ebjr_det.io.checkpoints.finding import check_sha256, find_checkpoint
from ebjr_det.io.files import checksum


def check_weights(settings: ModelSection) -> None:
    """Raises ConfigError where nothing says which weights a network has."""
    if settings.checkpoint is None and not (settings.pretrained or settings.random_weights):
        raise ConfigError(
            f"Expected weights for `{settings.arch}`, got none. Give `checkpoint` or `pretrained: true`, "
            "or say `random_weights: true`."
        )


def check_brought(settings: ModelSection) -> None:
    """Raises ConfigError for a checkpoint beside an `arch` that brings its own weights."""
    if settings.checkpoint is not None:
        raise ConfigError(
            f"Expected `{settings.arch}` to bring its own weights, got `checkpoint`. Name them in `arch`."
        )


BROUGHT = ("onnx", "transformers", "ultralytics")
"""Libraries of which `arch` names a file, or a folder, that brings its own weights."""


def brought_digest(settings: ModelSection) -> str | None:
    """The sha256 of the file that `arch` names, or of all that counts in its folder.

    None of another `arch`, and of what is not here, as a name on a hub.

    Raises:
        CheckpointError: it is not the one that the settings tell.
    """
    library, _, reference = settings.arch.partition("/")
    path = Path(reference)
    if library not in BROUGHT or not path.exists():
        return None
    files = [path]
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix in (".json", ".safetensors")]
    digests = list(map(checksum, files))
    digest = digests[0] if files == [path] else sha256("".join(digests).encode()).hexdigest()
    if settings.sha256 is not None:
        check_sha256(path, settings.sha256, digest)
    return digest


def library_names(name: str) -> list[str]:
    """What the outputs of torchvision's own weights of a model are called."""
    from torchvision import models

    return list(models.get_model_weights(name).DEFAULT.meta["categories"])


def find_weights(settings: ModelSection) -> Path | None:
    """The file of the checkpoint, where there is one. Raises CheckpointError, see `io.checkpoints`."""
    if settings.checkpoint is None:
        return None
    path = find_checkpoint(settings.checkpoint)
    if settings.sha256 is not None:
        check_sha256(path, settings.sha256)
    return path
