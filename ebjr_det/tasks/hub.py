"""Networks of the transformers library, from a local folder or by their name on its hub, for every task.

Weights are read from safetensors alone and no code of a repository is run, whatever its configuration says.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebjr_det.config import ModelSection
from ebjr_det.core.errors import CheckpointError, ConfigError
from ebjr_det.io.third_party import check_packages, foreign_errors
from ebjr_det.tasks.weights import check_brought

if TYPE_CHECKING:
    from torch import nn

TASKS = {"ObjectDetection": "an object detector", "ImageClassification": "an image classifier"}
"""How the library's own classes end -> in words."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
UNTOLD = "LABEL_"
"""How the library begins the names of classes that nobody has told."""
SAFE: dict[str, object] = {"trust_remote_code": False}


def load_network(settings: ModelSection, reference: str, kind: str) -> "nn.Module":
    """A network with its weights, or fresh ones where `random_weights` says so.

    Args:
        reference: a folder that `save_pretrained` wrote, or a name on the hub, of which only safetensors are
            downloaded. kind: a key of `TASKS`.

    Raises:
        ConfigError: the library is missing, a network of another task, settings that it does not take.
        CheckpointError: a folder without safetensors.
    """
    check_packages(["transformers"], "transformers", f"for `{settings.arch}`")
    check_brought(settings)
    from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForObjectDetection
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    builders = {
        "ObjectDetection": AutoModelForObjectDetection,
        "ImageClassification": AutoModelForImageClassification,
    }
    local = is_local(reference)
    if local:
        _check_folder(Path(reference), weights=not settings.random_weights)
    with foreign_errors(f"a network of transformers as `{settings.arch}`"):
        config = AutoConfig.from_pretrained(reference, local_files_only=local, **SAFE, **settings.options)
        _check_kind(config, kind, settings.arch)
        if settings.random_weights:
            return _at_rest(builders[kind].from_config(config, **SAFE))
        network, report = builders[kind].from_pretrained(
            reference,
            config=config,
            use_safetensors=True,
            local_files_only=local,
            output_loading_info=True,
            **SAFE,
        )
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"Expected all weights of `{settings.arch}`, got none for {len(missing)} tensors, the first "
            f"`{missing[0]}`. Train it first, or say `random_weights: true`."
        )
    return _at_rest(network)


def _at_rest(network: "nn.Module") -> "nn.Module":
    """A network that answers and learns nothing more."""
    return network.eval().requires_grad_(False)


def load_processor(settings: ModelSection, reference: str) -> Any:
    """The library's own preprocessing of a network, in PIL where it has it, as it was published with."""
    from transformers import AutoImageProcessor

    local = is_local(reference)
    with foreign_errors(f"a preprocessor beside the weights of `{settings.arch}`"):
        try:
            return AutoImageProcessor.from_pretrained(
                reference, local_files_only=local, backend="pil", **SAFE
            )
        except (ValueError, ImportError):  # some have no such twin
            return AutoImageProcessor.from_pretrained(reference, local_files_only=local, **SAFE)


def is_local(reference: str) -> bool:
    """Whether a network is named by a folder here. Raises ConfigError for a path without one."""
    folder = Path(reference)
    if folder.is_dir():
        return True
    if reference.startswith((".", "/", "~")) or reference.count("/") > 1:
        raise ConfigError(f"Expected a folder that transformers has written, got `{reference}`.")
    return False


def class_names_of(config: Any) -> list[str] | None:
    """What the network calls its outputs; None where nobody has told."""
    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    return None if all(name.startswith(UNTOLD) for name in names) else names


def _check_folder(folder: Path, *, weights: bool) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"Expected `config.json` of transformers in `{folder}`, got none.")
    if weights and not any(folder.glob("*.safetensors")):
        pickles = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
        reason = f"`{pickles[0]}`, a pickle, which can hold code" if pickles else "no weights"
        raise CheckpointError(
            f"Expected weights as safetensors in `{folder}`, got {reason}. Save them again: "
            "save_pretrained(..., safe_serialization=True)."
        )


def _check_kind(config: Any, kind: str, arch: str) -> None:
    """Raises ConfigError where the configuration is of a network of another task."""
    classes = [str(name) for name in config.architectures or ()]
    strange = next((name for name in classes if not name.endswith(f"For{kind}")), None)
    if strange is not None:
        words = next(
            (words for end, words in TASKS.items() if strange.endswith(f"For{end}")), "another network"
        )
        raise ConfigError(f"Expected {TASKS[kind]} as `{arch}`, got {words}, a {strange}.")


def described_numbers(processor: Any) -> dict[str, Any]:
    """The settings of a processor as plain values."""
    return dict(json.loads(processor.to_json_string()))
