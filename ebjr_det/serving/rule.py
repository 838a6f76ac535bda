"""What a request may say about how its pictures are decided."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebjr_det.core.errors import InvalidInput

TRANSPORT = {"binary_data_output", "sequence_id", "sequence_start", "sequence_end", "priority", "timeout"}
"""Parameters that clients of the protocol send along, and that decide nothing here."""
FORCES = {"student": math.inf, "teacher": -math.inf}
"""A model's name -> the threshold by which it answers every picture."""


@dataclass(frozen=True)
class Rule:
    """How the pictures of one request are decided; at most one of the first three.

    Attributes:
        threshold: defer where score > threshold.
        deferral_rate: the threshold that has this share on the reference scores, in [0, 1].
        force: `student` or `teacher`, which then answers every picture.
        max_latency_ms: from the request's arrival to its answer.

    Raises:
        InvalidInput: a number that is out of range, or two ways to decide.
    """

    threshold: float | None = None
    deferral_rate: float | None = None
    force: str | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        choices = (self.threshold, self.deferral_rate, self.force)
        if sum(choice is not None for choice in choices) > 1:
            raise InvalidInput("Expected one of threshold, deferral_rate and force, got several.")
        if self.threshold is not None and math.isnan(self.threshold):
            raise InvalidInput("Expected `threshold` to be a number, got NaN.")
        if self.deferral_rate is not None and not 0 <= self.deferral_rate <= 1:
            raise InvalidInput(f"Expected `deferral_rate` from 0 to 1, got {self.deferral_rate}.")
        if self.force is not None and self.force not in FORCES:
            raise InvalidInput(f"Expected `force` to be student or teacher, got `{self.force[:80]}`.")
        if self.max_latency_ms is not None and not 0 < self.max_latency_ms < math.inf:
            raise InvalidInput(f"Expected `max_latency_ms` above 0, got {self.max_latency_ms}.")

    @property
    def follows_policy(self) -> bool:
        """Whether the server's own threshold decides."""
        return self.threshold is None and self.deferral_rate is None and self.force is None

    @classmethod
    def of(cls, parameters: Mapping[str, Any], force: str | None = None) -> "Rule":
        """The rule of a request's parameters.

        Args:
            force: of the model that is asked.

        Raises:
            InvalidInput: a parameter that is unknown or of another kind.
        """
        settings = {name: value for name, value in parameters.items() if name not in TRANSPORT}
        if force is not None and settings.get("force", force) == force:
            settings["force"] = force
        for name, value in settings.items():
            if name not in cls.__annotations__:
                raise InvalidInput(
                    f"Expected parameters among {', '.join(cls.__annotations__)}, got `{name[:80]}`."
                )
            sound = isinstance(value, str) if name == "force" else _is_number(value)
            if not sound:
                kind = "a text" if name == "force" else "a number"
                raise InvalidInput(f"Expected `{name}` to be {kind}, got another kind.")
        if force is not None and settings["force"] != force:
            raise InvalidInput(f"Expected `force` as the model says, {force}, got another.")
        numbers = {name: float(value) for name, value in settings.items() if name != "force"}
        return cls(force=settings.get("force"), **numbers)


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1000)
