"""What a server refuses, and with which status of HTTP."""

from ebjr_det.core.errors import InvalidInput


class Fault(InvalidInput):
    """A request that is not answered: its status, one line, and when to come again, in seconds."""

    def __init__(self, status: int, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


def busy(retry_after: float) -> Fault:
    """The refusal of a server that has enough to do."""
    return Fault(503, "Expected a free place in the queue, got a full one. Come again later.", retry_after)


def late() -> Fault:
    """The refusal of an answer that nobody waits for any more."""
    return Fault(504, "Expected an answer within `max_latency_ms`, got none in time. Give it longer.")
