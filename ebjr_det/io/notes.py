"""Lines for people on stderr, beside any progress bar."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from tqdm.auto import tqdm

_said: ContextVar[set[str] | None] = ContextVar("said", default=None)


@contextmanager
def said_once() -> Iterator[None]:
    """A stretch of work in which a line that was said is not said again."""
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def say(text: str) -> None:
    """A line on stderr, beside any progress bar."""
    lines = _said.get()
    if lines is not None:
        if text in lines:
            return
        lines.add(text)
    tqdm.write(text, file=sys.stderr)


def say_left_out(source: Path | str, left_out: Mapping[str, int]) -> None:
    """Say what was left out of a file or folder, and how many, where something was."""
    parts = [f"{noun} ({count:,})" for noun, count in left_out.items() if count]
    if parts:
        say(f"Left out of `{source}`: {', '.join(parts)}.")
