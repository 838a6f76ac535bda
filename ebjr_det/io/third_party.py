"""Other people's code at work: what it raises becomes one line, what it unpickles holds weights only."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ebjr_det.core.errors import ConfigError, EbjrError, first_line
from ebjr_det.io.threads import SharedContext, variables_set

if TYPE_CHECKING:
    from pydantic import ValidationError

WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own switch, over whatever a library asks for
weights_only = SharedContext(lambda: variables_set({WEIGHTS_ONLY: "1"}))
stdout_to_stderr = SharedContext(lambda: contextlib.redirect_stdout(sys.stderr))


@contextlib.contextmanager
def foreign_errors(expected: str) -> Iterator[None]:
    """Run a library's code. Raises ConfigError for anything but our own errors, with the cause chained.

    What it prints, such as torch's line of a download, goes to stderr: stdout is for results.
    """
    try:
        with weights_only(), stdout_to_stderr():
            yield
    except EbjrError:
        raise
    except Exception as error:
        raise ConfigError(
            f"Expected {expected}, got: {type(error).__name__}: {first_line(error)}."
        ) from error


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Import a library, and put back what it sets for the whole process.

    ultralytics has Pillow open pictures, torch save tensors and numpy print numbers in ways of its own.
    """
    import numpy as np
    import torch
    from PIL import Image

    opened, saved, printed = Image.open, torch.save, np.get_printoptions()
    try:
        yield
    finally:
        Image.open, torch.save = opened, saved
        np.set_printoptions(**printed)


def import_callable(reference: str) -> Callable[..., Any]:
    """What `package.module:function` names. Raises ConfigError where that is nothing."""
    module, _, function = reference.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)  # `python -m` has it, an installed command has not
    try:
        return getattr(import_module(module), function)  # type: ignore[no-any-return]
    except Exception as error:  # importing runs the module, which can raise anything
        raise ConfigError(
            f"Expected `package.module:function`, got `{reference}`: {first_line(error)}."
        ) from error


def first_fault(error: "ValidationError") -> str:
    """The first fault of a pydantic `ValidationError`: where it is and what is wrong."""
    fault = error.errors()[0]
    return f"`{'.'.join(map(str, fault['loc']))}`: {fault['msg']}"


def check_packages(packages: Sequence[str], extra: str, purpose: str) -> None:
    """Raises ConfigError where some packages are missing, with the command that brings those of the extra.

    Args:
        purpose: what they are needed for, as `to serve a pair`.
    """
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ConfigError(
            f"Expected {', '.join(packages)} {purpose}, got no {' and '.join(missing)}. Install "
            f"{'them' if len(packages) > 1 else 'it'}: {install_hint(extra)}."
        )


def install_hint(extra: str) -> str:
    """The command that brings the packages of one of this project's extras, from wherever it was installed.

    >>> install_hint("tensorboard")
    "pip install 'tensorboard>=2.16'"
    """
    return " ".join(["pip install", *(f"'{need}'" for need in _needs(extra))])


def _needs(extra: str) -> Iterator[str]:
    """What an extra asks for, with what other extras of this project do that are part of it."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    for need in map(Requirement, requires("ebjr-det") or ()):
        if need.marker is None or not need.marker.evaluate({"extra": extra}):
            continue
        if need.name == "ebjr-det":
            for inner in sorted(need.extras):
                yield from _needs(inner)
        else:
            yield str(need).partition(";")[0]
