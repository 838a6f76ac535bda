"""What a threshold is chosen for; `evaluation.certify` chooses it."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from ebjr_det.core.cost import Budget
from ebjr_det.core.errors import ConfigError

TargetKind = Literal["deferral_rate", "macs", "latency_ms", "min_quality", "max_drop"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)


@dataclass(frozen=True)
class Target:
    """A limit that the pair's operating point has to keep.

    Attributes:
        kind: a budget (`deferral_rate`, `macs` an image, `latency_ms` an image: at most `value`) or a
            floor (`min_quality`: at least `value`; `max_drop`: quality at most `value` below the teacher).
        confidence: None, or the probability with which the floor holds on new images.
    """

    kind: TargetKind
    value: float
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.value < math.inf:
            raise ConfigError(f"Expected `{self.kind}` to be finite and at least 0, got {self.value}.")
        if self.kind == "deferral_rate" and self.value > 1:
            raise ConfigError(f"Expected a deferral rate in [0, 1], got {self.value}.")
        if self.kind in ("min_quality", "max_drop") and self.value > 1:
            raise ConfigError(
                f"Expected `{self.kind}` in [0, 1], got {self.value}. Qualities are shares, not percent."
            )
        if self.confidence is None:
            return
        if self.kind in BUDGETS:
            raise ConfigError(
                f"Expected `confidence` with `min_quality` or `max_drop`, got it with `{self.kind}`."
            )
        if not 0 < self.confidence < 1:
            raise ConfigError(f"Expected a confidence in (0, 1), got {self.confidence}.")

    def to_dict(self) -> dict[str, str | float | None]:
        """A JSON object of plain values."""
        return {"kind": self.kind, "value": self.value, "confidence": self.confidence}

    @property
    def allowed_shortfall(self) -> float:
        """What a floor allows: the drop against the teacher, or the share of wrong answers."""
        return self.value if self.kind == "max_drop" else 1 - self.value
