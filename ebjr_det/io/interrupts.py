"""Ctrl-C as an end that was asked for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible(live: bool) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as ever. Only for a live source."""
    interrupted = threading.Event()
    if not live or threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
