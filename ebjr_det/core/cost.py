"""What an answer costs: multiply-adds, latency, and the cost of the pair.

One multiply-add = 1 MAC; a latency is milliseconds per image with its batch size and device beside it. The
student sees every image, so the pair costs student + p * teacher at deferral rate p.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import FloatArray

Rate = TypeVar("Rate", float, FloatArray)
Cost: TypeAlias = Literal["macs", "latency_ms"]
Budget: TypeAlias = Literal["deferral_rate", "macs", "latency_ms"]


@dataclass(frozen=True)
class CostModel:
    """Cost of each model alone: MACs per image and mean latency in ms per image, None if unknown.

    `by_batch`: size of a batch -> both latencies, where measured. The pair gathers what it defers, so its
    teacher sees batches of the same size.
    """

    student_macs: float | None = None
    teacher_macs: float | None = None
    student_ms: float | None = None
    teacher_ms: float | None = None
    by_batch: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("student_macs", "teacher_macs", "student_ms", "teacher_ms"):
            value = getattr(self, name)
            if value is not None and value != 0 and not 1e-9 <= value <= 1e30:
                raise ConfigError(f"Expected `{name}` to be 0 or between 1e-9 and 1e30, got {value}.")

    def alone(self, kind: Cost) -> tuple[float, float] | None:
        """What student and teacher cost alone, or None where either is unknown.

        >>> CostModel(2.0, 7.0).alone("macs")
        (2.0, 7.0)
        """
        macs, ms = (self.student_macs, self.teacher_macs), (self.student_ms, self.teacher_ms)
        student, teacher = macs if kind == "macs" else ms
        return None if student is None or teacher is None else (student, teacher)

    def macs(self, deferral_rate: Rate) -> Rate | None:
        """MACs per image of the pair: student + p * teacher, or None."""
        alone = self.alone("macs")
        return None if alone is None else alone[0] + deferral_rate * alone[1]

    def latency_ms(self, deferral_rate: Rate) -> Rate | None:
        """Expected latency per image of the pair, ms: student + p * teacher, or None."""
        alone = self.alone("latency_ms")
        return None if alone is None else alone[0] + deferral_rate * alone[1]

    def at_batch(self, size: int) -> "CostModel":
        """Costs with the latencies of batches of another size; ConfigError outside the measured ones.

        Between two measured sizes the time of a batch, size * ms per image, is on a straight line.

        >>> CostModel(by_batch={1: (4.0, 30.0), 3: (2.0, 20.0)}).at_batch(2).student_ms
        2.5
        """
        sizes = sorted(self.by_batch)
        if not sizes or not sizes[0] <= size <= sizes[-1]:
            measured = f"{sizes[0]} to {sizes[-1]}" if sizes else "none"
            raise ConfigError(
                f"Expected a batch size that was measured, got {size}; measured: {measured}. Evaluate with "
                "latency.batch_sizes."
            )
        batch_ms = np.array([self.by_batch[count] for count in sizes]) * np.array(sizes)[:, None]
        student, teacher = (float(np.interp(size, sizes, times)) / size for times in batch_ms.T)
        return replace(self, student_ms=student, teacher_ms=teacher)
