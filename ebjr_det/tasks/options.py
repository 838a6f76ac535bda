"""Options of one task alone, as the command line has them."""

from typing import NamedTuple


class FileOption(NamedTuple):
    """A file of saved outputs: its flag on the command line, what it holds, whether it can be missing."""

    flag: str
    help: str
    optional: bool = False


class TaskOption(NamedTuple):
    """An option of one task alone: flag, kind of its value (`bool`: a switch), help, commands, and
    the form of its value where that is text.
    """

    flag: str
    kind: type
    help: str
    verbs: tuple[str, ...] = ("replay", "fit-router")
    metavar: str | None = None
