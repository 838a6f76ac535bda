"""Networks in the files of ultralytics, for every task: pickles, which run code when they are read."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ebjr_det.config import ModelSection
from ebjr_det.core.errors import ConfigError, first_line
from ebjr_det.io.files import existing_file
from ebjr_det.io.third_party import check_packages, settings_kept, stdout_to_stderr
from ebjr_det.tasks.weights import check_brought

QUIET = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
"""So that the library asks no server, installs nothing and prints nothing."""
TASKS = {"detect": "an object detector", "classify": "an image classifier"}


def load_network(settings: ModelSection, name: str, task: str) -> Any:
    """A network of ultralytics, in evaluation mode, with `names`, `args` and `stride`.

    Args:
        name: a `.pt` file that the library has written. task: a key of `TASKS`.

    Raises:
        ConfigError: no trust, no library, a file that it cannot read, or a network of another task.
    """
    check_packages(["ultralytics"], "ultralytics", f"(AGPL-3.0) for `{settings.arch}`")
    path = existing_file(Path(name), "weights of ultralytics")
    if not settings.trust:
        raise ConfigError(
            f"Expected `trust: true` for `{path}`, got false: it is a pickle, and to read one runs whatever "
            "code its maker put there. Say so if you trust its maker, or export the network as ONNX."
        )
    check_brought(settings)
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    with stdout_to_stderr():
        try:
            with settings_kept():
                from ultralytics.nn.tasks import load_checkpoint

            with TemporaryDirectory() as folder:  # of some names the library would fetch files of its own
                alias = Path(folder) / "weights.pt"
                alias.symlink_to(path.absolute())
                network, _ = load_checkpoint(str(alias))
        except Exception as error:  # a pickle can raise anything
            raise ConfigError(
                f"Expected weights that ultralytics can read in `{path}`, got: {first_line(error)}."
            ) from error
    kind = str(network.task)
    if kind != task:
        strange = TASKS.get(kind, f"a network to {kind}")
        raise ConfigError(f"Expected {TASKS[task]} in `{path}`, got {strange}.")
    return network.eval().requires_grad_(False)


def side_of(network: Any, stated: int | None) -> int:
    """Pixels of a side, as set or as in its training. Raises ConfigError for no multiple of its stride."""
    args = network.args if isinstance(network.args, dict) else vars(network.args)
    size = stated or args.get("imgsz", 640)
    side, stride = int(max(size) if isinstance(size, list | tuple) else size), int(max(network.stride))
    if side % stride:
        raise ConfigError(f"Expected `image_size` to be a multiple of {stride}, got {side}.")
    return side


def names_of(network: Any) -> list[str]:
    """What its outputs are called, in order."""
    names = network.names
    return [str(names[index]) for index in sorted(names)] if isinstance(names, dict) else [*map(str, names)]
