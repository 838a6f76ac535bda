"""How long a teacher of another process is waited for, and when it is not asked at all. Numbers alone."""

import math
from collections import deque
from collections.abc import Callable
from time import monotonic

import numpy as np

FAULTS_RUNNING, WINDOW = 3, 20
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before the first, second, ... probe of an open breaker; the last holds for all that follow."""
LEAST, TIMES, RECENT = 0.05, 3, 100


class Breaker:
    """Opens after 3 faults running, or 10 among the last 20 answers; one probe at a time closes it again.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock, self.recent = clock, deque[bool](maxlen=WINDOW)
        self.is_open, self.probing = False, False
        self.probes, self.retry_at = 0, -math.inf

    def count(self, fault: bool) -> None:
        """Learn how a request ended; one that began before the breaker opened tells nothing."""
        if self.is_open:
            return
        self.recent.append(fault)
        running = list(self.recent)[-FAULTS_RUNNING:]
        if sum(self.recent) >= WINDOW / 2 or running == [True] * FAULTS_RUNNING:
            self.open()

    def open(self) -> None:
        """Let no request pass until a probe has."""
        self.is_open, self.probes, self.retry_at = True, 0, self.clock() + PAUSES[0]

    @property
    def pause(self) -> float:
        """Seconds to the next probe."""
        return max(self.retry_at - self.clock(), 0.0)

    def begin_probe(self) -> bool:
        """Whether a probe is due; then `end_probe` must follow."""
        due = self.is_open and not self.probing and not self.pause
        self.probing = self.probing or due
        return due

    def end_probe(self, fault: bool) -> None:
        """Close, or wait longer for the next probe."""
        self.probing = False
        if not fault:
            self.is_open = False
            self.recent.clear()
            return
        self.probes += 1
        self.retry_at = self.clock() + PAUSES[min(self.probes, len(PAUSES) - 1)]


class Patience:
    """How long an answer is waited for: 3 times the 95th percentile of the last 100, at least 50 ms.

    So many pictures of one request are waited for at least so many times as long as one of those answers took
    a picture: requests of one picture tell nothing else of a request of 64.

    Args:
        least: seconds instead of 50 ms.
    """

    def __init__(self, least: float = LEAST) -> None:
        self.least, self.recent = least, deque[tuple[float, float]](maxlen=RECENT)
        self.request = self.picture = math.inf

    def add(self, seconds: float, count: int) -> None:
        """Learn how long an answer to so many pictures has taken."""
        self.recent.append((seconds, seconds / count))
        self.request, self.picture = np.percentile(self.recent, 95, axis=0).tolist()

    def seconds(self, count: int) -> float:
        """How long an answer to so many pictures is waited for; infinity before the first."""
        return max(self.least, TIMES * self.request, TIMES * count * self.picture)
