"""What a server refuses, and with which status of HTTP."""

from ebjr_det.core.errors import InvalidInput

REASONS = {
    "busy": (503, "a free place in the queue, got a full one. Come again later."),
    "deadline": (504, "an answer within `max_latency_ms`, got none in time. Give it longer."),
    "timeout": (503, "an answer of the teacher, got none in time. Come again later."),
    "breaker": (503, "an answer of the teacher, which has failed lately. Come again later."),
    "died": (503, "an answer, got a fault of the machine of one model. Come again later."),
}
"""Why there is no answer: the status of HTTP where nobody else can give one, and what was expected."""


class Fault(InvalidInput):
    """A request that is not answered: its status, one line, and when to come again, in seconds."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Unavailable(Fault):
    """No answer now, for one of `REASONS`; where it is the teacher's, the student's takes its place."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        status, expected = REASONS[reason]
        super().__init__(status, f"Expected {expected}", retry_after)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, float | None]]:
        """What is sent of it to another process, and made into one there."""
        return type(self), (self.reason, self.retry_after)
