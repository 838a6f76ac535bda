"""How a command ends: 0 done, 2 a mistake that one line explains, 3 a target that no operating point meets,
130 interrupted. A traceback is always our defect.
"""

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from click.exceptions import Abort, ClickException, Exit, NoArgsIsHelpError

from ebjr_det.core.errors import EbjrError, first_line


def run_safely(call: Callable[[], object]) -> int:
    """Run a command; a user's mistake becomes one line on stderr and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name in letters that the terminal's code page lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        call()
        sys.stdout.flush()
    except EbjrError as error:
        return _fail(str(error), error.exit_code)
    except (Abort, KeyboardInterrupt):
        return _fail(
            "Interrupted, nothing half-written. Bulk jobs, and commands with --resume, go on from there.", 130
        )
    except NoArgsIsHelpError as error:
        error.show()
        return 2
    except ClickException as error:
        return _fail(error.format_message(), 2)
    except Exit as error:
        return error.exit_code
    except ModuleNotFoundError as error:
        return _fail(f"Expected the package `{error.name}`, got none. `ebjr-det doctor` names all.", 2)
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for its name
            return _fail(f"Expected a GPU with enough free memory, got: {first_line(error)}", 2)
        if "torchvision::" not in str(error):
            raise
        from ebjr_det.io.environment import explain_torchvision

        return _fail(f"Expected a torchvision that fits torch, got: {explain_torchvision(error)}", 2)
    except BrokenPipeError:
        _drop_output()
        return 0
    except OSError as error:  # a full disk behind stdout, a folder that vanished
        _drop_output()
        return _fail(f"Expected files and streams that work, got: {error}.", 2)
    return 0


def _drop_output() -> None:
    """What is still buffered can go nowhere; let the interpreter's last flush not complain of it."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    line = f"ebjr-det: {' '.join(message.split())}\n"
    print(line, end="", file=sys.stderr)  # in one piece, or the lines of several processes would mix
    return code
