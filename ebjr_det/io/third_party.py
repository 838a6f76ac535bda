"""Other people's code at work: what it raises becomes one line, what it unpickles holds weights only."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ebjr_det.core.errors import ConfigError, EbjrError, first_line

WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own switch, over whatever a library asks for


@contextlib.contextmanager
def foreign_errors(expected: str) -> Iterator[None]:
    """Run a library's code. Raises ConfigError for anything but our own errors, with the cause chained.

    What it prints, such as torch's line of a download, goes to stderr: stdout is for results.
    """
    before = os.environ.get(WEIGHTS_ONLY)
    os.environ[WEIGHTS_ONLY] = "1"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except EbjrError:
        raise
    except Exception as error:
        raise ConfigError(
            f"Expected {expected}, got: {type(error).__name__}: {first_line(error)}."
        ) from error
    finally:
        if before is None:
            del os.environ[WEIGHTS_ONLY]
        else:
            os.environ[WEIGHTS_ONLY] = before


def import_callable(reference: str) -> Callable[..., Any]:
    """What `package.module:function` names. Raises ConfigError where that is nothing."""
    module, _, function = reference.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # `python -m` has it, an installed command has not
    try:
        return getattr(import_module(module), function)  # type: ignore[no-any-return]
    except Exception as error:  # importing runs the module, which can raise anything
        raise ConfigError(
            f"Expected `package.module:function`, got `{reference}`: {first_line(error)}."
        ) from error
