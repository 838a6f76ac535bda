"""How a server listens and what it admits."""

import math
from dataclasses import dataclass

from ebjr_det.core.errors import ConfigError
from ebjr_det.inference.absent import SIDES

TIERS = ("pair", "teacher")


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
            instead of the one in the folder, which is then not loaded; patience_ms: for which it is waited
            for at least, see `serving.breaker`.
        shadow: share of the kept pictures that the teacher sees too while nobody waits, see `serving.shadow`.
        access_log: a line of JSON on stderr for every request.

    Raises:
        ConfigError: a number that is out of range, or a name that no address can have.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = "pair"
    policy: str = "calibrated"
    slo_ms: float | None = None
    largest_batch: int = 8
    queue_size: int = 256
    teacher_queue: int = 64
    body_mb: float = 32.0
    pixels: float = 50.0
    readers: int = 2
    tier: str = "pair"
    teacher: str | None = None
    patience_ms: float = 50.0
    shadow: float = 0.0
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
        for field in ("largest_batch", "queue_size", "teacher_queue", "readers"):
            if getattr(self, field) < 1:
                raise ConfigError(f"Expected `{field}` to be at least 1, got {getattr(self, field)}.")
        for field in ("body_mb", "pixels", "patience_ms"):
            if not 0 < getattr(self, field) < math.inf:
                raise ConfigError(f"Expected `{field}` above 0, got {getattr(self, field)}.")

    @property
    def sides(self) -> tuple[str, ...]:
        """The models that are loaded in this process."""
        return ("teacher",) if self.tier == "teacher" else SIDES[: 1 if self.teacher else 2]

    @property
    def largest_body(self) -> int:
        """Bytes of a request at most."""
        return int(self.body_mb * 1e6)

    @property
    def largest_pixels(self) -> int:
        """Pixels of a request at most."""
        return int(self.pixels * 1e6)
