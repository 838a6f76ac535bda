"""Lines for people on stderr, beside any progress bar."""

import sys

from tqdm.auto import tqdm


def say(text: str) -> None:
    """A line on stderr, beside any progress bar."""
    tqdm.write(text, file=sys.stderr)
