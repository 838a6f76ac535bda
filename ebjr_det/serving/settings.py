"""How a server listens and what it admits."""

import math
from dataclasses import dataclass

from ebjr_det.core.errors import ConfigError
from ebjr_det.inference.absent import SIDES
from ebjr_det.serving.breaker import LEAST
from ebjr_det.serving.laws import CALIBRATED, QUEUE

TIERS = ("pair", "teacher")
LONGEST = 10.0
"""Seconds for which an answer of a teacher of another process is waited for at most."""


@dataclass(frozen=True)
class ServeSettings:
    """How a pair is served.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        name: of the model in addresses; `NAME-student` and `NAME-teacher` are its sides.
        policy: `calibrated`, `share` or `queue`, see `serving.laws`; slo_ms: of `queue`.
        largest_batch: pictures that a model sees at a time, but for those of one request.
        queue_size: pictures inside at most; more are refused (503). teacher_queue: at the teacher at most;
            more are answered by the student and marked `busy`.
        body_mb: of a request, unpacked; pixels: of its pictures together, in millions.
        readers: threads that decode and preprocess.
        tier: `pair`, or `teacher` for this model alone; teacher: address of the server that answers for it,
            instead of the one in the folder, which is then not loaded; patience_ms: for which it, or one of
            Ray's, is waited for at least, see `serving.breaker`; by default 50.
        shadow: share of the kept pictures that the teacher sees too while nobody waits, see `serving.shadow`.
        admin: whether clients on this machine may have the pair read anew, by the address of the protocol.
        access_log: a line of JSON on stderr for every request.

    Raises:
        ConfigError: a number that is out of range, or a name that no address can have.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = "pair"
    policy: str = CALIBRATED
    slo_ms: float | None = None
    largest_batch: int = 8
    queue_size: int = 256
    teacher_queue: int = 64
    body_mb: float = 32.0
    pixels: float = 50.0
    readers: int = 2
    tier: str = "pair"
    teacher: str | None = None
    patience_ms: float | None = None
    shadow: float = 0.0
    admin: bool = True
    access_log: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"Expected a port from 0 to {2**16 - 1}, got {self.port}.")
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"Expected letters, digits, - and _ as a name, got `{self.name}`.")
        if self.tier not in TIERS:
            raise ConfigError(f"Expected a tier among {', '.join(TIERS)}, got `{self.tier}`.")
        if self.tier == "teacher" and self.teacher is not None:
            raise ConfigError("Expected either --tier teacher or the address of one, got both.")
        if self.tier == "teacher" and (self.policy != CALIBRATED or self.shadow):
            raise ConfigError(
                "Expected no --policy and no --shadow beside --tier teacher, which decides nothing, got one. "
                "Give them to the server of the student, which asks this one."
            )
        if self.slo_ms is not None and self.policy != QUEUE:
            raise ConfigError(f"Expected --slo-ms beside --policy {QUEUE}, got policy `{self.policy}`.")
        if self.patience_ms is not None and not 0 < self.patience_ms <= 1000 * LONGEST:
            raise ConfigError(
                f"Expected `patience_ms` above 0 and at most {1000 * LONGEST:.0f}, got {self.patience_ms}."
            )
        for field in ("largest_batch", "queue_size", "teacher_queue", "readers"):
            if getattr(self, field) < 1:
                raise ConfigError(f"Expected `{field}` to be at least 1, got {getattr(self, field)}.")
        for field in ("body_mb", "pixels"):
            if not 0 < getattr(self, field) < math.inf:
                raise ConfigError(f"Expected `{field}` above 0, got {getattr(self, field)}.")

    @property
    def sides(self) -> tuple[str, ...]:
        """The models that are loaded in this process."""
        return ("teacher",) if self.tier == "teacher" else SIDES[: 1 if self.teacher else 2]

    @property
    def patience_seconds(self) -> float:
        """For which a teacher of another process is waited for at least."""
        return LEAST if self.patience_ms is None else self.patience_ms / 1000

    @property
    def largest_body(self) -> int:
        """Bytes of a request at most."""
        return int(self.body_mb * 1e6)

    @property
    def largest_pixels(self) -> int:
        """Pixels of a request at most."""
        return int(self.pixels * 1e6)
