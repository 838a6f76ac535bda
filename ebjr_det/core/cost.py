"""What an answer costs: multiply-adds, latency, and the cost of the pair.

Conventions: one multiply-add = 1 MAC; a latency is milliseconds per image with its batch size and device
beside it. The student sees every image, so the pair costs student + p * teacher at deferral rate p.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import FloatArray

Rate = TypeVar("Rate", float, FloatArray)


class Unit(NamedTuple):
    """The unit in which one screen, table or figure counts multiply-adds."""

    name: str
    size: float

    @classmethod
    def of(cls, largest: float | None) -> "Unit":
        """The unit in which the largest number reads well.

        >>> Unit.of(54.6e9).name, Unit.of(None).name
        ('GMACs', 'kMACs')
        """
        units = [cls(f"{prefix}MACs", 1000.0**power) for power, prefix in enumerate("kMGTP", start=1)]
        return next((unit for unit in reversed(units) if (largest or 0) >= unit.size), units[0])

    def value(self, macs: float | None) -> str:
        """Four digits in this unit."""
        return "-" if macs is None else f"{macs / self.size:#.4g}".rstrip(".")

    def text(self, macs: float | None) -> str:
        """Four digits and the unit, for a sentence."""
        return f"{self.value(macs)} {self.name}"


def cost_text(kind: str, value: float, unit: Unit) -> str:
    """A cost with its unit: `macs` or `latency_ms` an image, or a `deferral_rate`.

    >>> cost_text("macs", 5e5, Unit.of(1.7e6)), cost_text("deferral_rate", 0.3, Unit.of(None))
    ('0.5000 MMACs', '30 %')
    """
    if kind == "macs":
        return unit.text(value)
    return f"{value:.4g} ms" if kind == "latency_ms" else f"{100 * value:.4g} %"


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

    def alone(self, kind: Literal["macs", "latency_ms"]) -> tuple[float, float] | None:
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
