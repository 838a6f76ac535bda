"""Lines for people on stderr, beside any progress bar."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm.auto import tqdm


def say(text: str) -> None:
    """A line on stderr, beside any progress bar."""
    tqdm.write(text, file=sys.stderr)


def say_left_out(source: Path, left_out: Mapping[str, int]) -> None:
    """Say what was left out of a file or folder, and how many, where something was."""
    parts = [f"{noun} ({count:,})" for noun, count in left_out.items() if count]
    if parts:
        say(f"Left out of `{source}`: {', '.join(parts)}.")
