"""Folders of pictures that nobody labelled."""

import os
from pathlib import Path

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.notes import say_left_out
from ebjr_det.io.picture_folders import pictures_below


def picture_folder(root: str | None) -> Path:
    """The folder of `data.root`. Raises EbjrError where it is not given, or not there."""
    if root is None:
        raise ConfigError("Expected `data.root`, the folder of the pictures, got none.")
    if not Path(root).is_dir():
        raise InvalidInput(f"Expected a folder of pictures at `{root}`, got none.")
    return Path(root)


def named_pictures(folder: Path) -> dict[str, str]:
    """Id -> path below the folder of each picture there, by path; what is left out is said.

    Raises:
        InvalidInput: no picture at all.
    """
    pictures, left_out = pictures_below(folder)
    if not pictures:
        raise InvalidInput(f"Expected pictures below `{folder}`, got none.")
    say_left_out(folder, left_out)
    files = sorted(path.relative_to(folder).as_posix() for path in pictures)
    return {os.fsencode(file).decode("utf-8", "backslashreplace"): file for file in files}
