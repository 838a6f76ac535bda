"""The errors that this package raises on purpose, one short tree.

Every message has the form *Expected `x` to be ..., got .... Fix.* and fits one line. The command line
prints that line and exits with the class's `exit_code`; any other exception is a defect of this package
and keeps its traceback.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

SHOWN = 12


class EbjrError(Exception):
    """Any mistake or impossibility that the user can act on."""

    exit_code = 2


class ConfigError(EbjrError):
    """A setting, name or option that is wrong."""


class CheckpointError(EbjrError):
    """Weights that are missing, damaged, unsafe or made for another network."""


class InvalidInput(EbjrError):
    """Data that cannot be used: wrong shape, NaN, empty, duplicate ids, unreadable files."""


class Unreachable(EbjrError):
    """An address, a disk or a machine that does not serve now; the same call may succeed at another time."""


class OutOfMemory(InvalidInput):
    """A batch for which a device has too little memory; the same pictures may fit at another time."""


class Infeasible(EbjrError):
    """A target that no operating point reaches. `nearest` is the point that comes closest."""

    exit_code = 3

    def __init__(self, message: str, nearest: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


def check_seed(seed: int) -> None:
    """Raises ConfigError for a seed that numpy's generators do not take."""
    if seed < 0:
        raise ConfigError(f"Expected a seed of at least 0, got {seed}.")


def first_line(error: BaseException) -> str:
    """An error's text in one line, without its final stop."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def check_known(name: object, valid: Iterable[str], noun: str) -> None:
    """Raises ConfigError for a name that is not among the valid ones, with the nearest of them."""
    if name not in (valid := tuple(valid)):
        raise ConfigError(f"Expected {noun}, got `{name}`. {did_you_mean(str(name), valid)}")


def listed(names: Sequence[object], count: int) -> str:
    """The first names, with `...` behind them where there are more.

    >>> listed(["cat", "dog", "emu"], 2)
    'cat, dog, ...'
    """
    return ", ".join(map(str, names[:count])) + ", ..." * (len(names) > count)


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The tail of an error about an unknown name: the nearest match and the valid names.

    Of more than 12 valid names the first 12 are shown, and none where there is a near one.

    >>> did_you_mean("entropi", ["entropy", "margin"])
    'Did you mean `entropy`? Valid: entropy, margin.'
    >>> did_you_mean("x", ["entropy", "margin"])
    'Valid: entropy, margin.'
    """
    names = sorted(valid)
    if not names:
        return "There is none."
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    question = f"Did you mean `{near[0]}`?" if near else ""
    if len(names) > SHOWN and near:
        return question
    return f"{question} Valid: {listed(names, SHOWN)}{'.' * (len(names) <= SHOWN)}".lstrip()
