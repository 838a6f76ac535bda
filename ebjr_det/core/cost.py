"""What an answer costs: multiply-adds, latency, and the cost of the pair.

Conventions: one multiply-add = 1 MAC; a latency is milliseconds per image with its batch size and device
beside it. The student sees every image, so the pair costs student + p * teacher at deferral rate p.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ebjr_det.core.errors import ConfigError

NOISY = 0.2
"""CPUs that others take, on average, from which a measurement is called noisy."""


class Unit(NamedTuple):
    """The unit in which one screen, table or figure counts multiply-adds, 1 MAC each."""

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
        """The same with the unit, in a sentence."""
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
class Load:
    """Mean load of the CPUs over a measurement, in CPUs.

    Attributes:
        others: what other processes took; None where the system does not tell, or after too short a time.
        own: what this process took.
        cpus: on how many CPUs it may run.
    """

    others: float | None
    own: float
    cpus: int
    seconds: float

    @property
    def noisy(self) -> bool:
        """Whether others took so much that times are doubtful: more than `NOISY` CPUs.

        >>> Load(1.3, 0.7, 2, 60.0).noisy
        True
        """
        return self.others is not None and self.others > NOISY

    @property
    def in_words(self) -> str:
        """To stand behind "measured".

        >>> Load(1.3, 0.7, 2, 60.0).in_words
        'beside a load of 1.30 of 2 CPUs: noisy'
        """
        if self.others is None:
            return "beside an unknown load"
        return f"beside a load of {self.others:.2f} of {self.cpus} CPUs" + ": noisy" * self.noisy

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the verdict among them."""
        return asdict(self) | {"noisy": self.noisy}


@dataclass(frozen=True)
class Latency:
    """Wall time per image in ms over batches of one size; the mean is what adds up in a mixture."""

    mean: float
    p50: float
    p90: float
    p99: float
    batch_size: int
    images: int
    device: str
    load: Load | None = None

    @classmethod
    def of(
        cls, batch_ms: Sequence[float], batch_size: int, device: str, load: Load | None = None
    ) -> "Latency":
        """Summary of measured batch times, each divided by the batch size."""
        per_image = np.asarray(batch_ms) / batch_size
        p50, p90, p99 = (float(q) for q in np.percentile(per_image, [50, 90, 99]))
        mean = float(per_image.mean())
        return cls(mean, p50, p90, p99, batch_size, batch_size * len(per_image), device, load)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"load": None if self.load is None else self.load.to_dict()}


@dataclass(frozen=True)
class CostModel:
    """Cost of each model alone: MACs per image and mean latency in ms per image, None if unknown.

    Attributes:
        by_batch: size of a batch -> student's and teacher's mean latency in ms per image, where measured. The
            pair gathers what it defers, so that its teacher sees batches of the same size.
    """

    student_macs: float | None = None
    teacher_macs: float | None = None
    student_ms: float | None = None
    teacher_ms: float | None = None
    by_batch: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        told = {name: value for name, value in asdict(self).items() if name != "by_batch"}
        for name, value in told.items():
            if value is not None and value != 0 and not 1e-9 <= value <= 1e30:
                raise ConfigError(f"Expected `{name}` to be 0 or between 1e-9 and 1e30, got {value}.")

    def macs(self, deferral_rate: Any) -> Any:
        """MACs per image of the pair: student + p * teacher, or None."""
        return _pair(self.student_macs, self.teacher_macs, deferral_rate)

    def alone(self, kind: str) -> tuple[float, float] | None:
        """What student and teacher cost alone, as `macs` or `latency_ms`, or None where either is unknown.

        >>> CostModel(2.0, 7.0).alone("macs")
        (2.0, 7.0)
        """
        unit = {"macs": "macs", "latency_ms": "ms"}[kind]
        student, teacher = (getattr(self, f"{side}_{unit}") for side in ("student", "teacher"))
        return None if student is None or teacher is None else (student, teacher)

    def at_batch(self, size: int) -> "CostModel":
        """The same with the latencies of batches of another size.

        Between two measured sizes the time of a batch, size * ms per image, is on a straight line.

        Raises:
            ConfigError: a size outside those that were measured.

        >>> CostModel(by_batch={1: (4.0, 30.0), 3: (2.0, 20.0)}).at_batch(2).student_ms
        2.5
        """
        sizes = sorted(self.by_batch)
        if not sizes or not sizes[0] <= size <= sizes[-1]:
            told = f"{sizes[0]} to {sizes[-1]}" if sizes else "none"
            raise ConfigError(
                f"Expected a batch size that was measured, got {size}; measured: {told}. Evaluate with "
                "latency.batch_sizes."
            )
        lots = np.array([self.by_batch[known] for known in sizes]) * np.array(sizes)[:, None]
        student, teacher = (float(np.interp(size, sizes, own)) / size for own in lots.T)
        return replace(self, student_ms=student, teacher_ms=teacher)

    def with_latency(
        self, times: Mapping[str, "Latency"], by_batch: Mapping[int, tuple[float, float]] | None = None
    ) -> "CostModel":
        """The same with the measured latencies of `student` and `teacher`, where there are any.

        Args:
            by_batch: those of further batch sizes.
        """
        if not times:
            return self
        student, teacher = times["student"], times["teacher"]
        known = {**(by_batch or {}), student.batch_size: (student.mean, teacher.mean)}
        ordered = dict(sorted(known.items()))
        return replace(self, student_ms=student.mean, teacher_ms=teacher.mean, by_batch=ordered)

    def latency_ms(self, deferral_rate: Any) -> Any:
        """Expected latency per image of the pair, ms: student + p * teacher, or None."""
        return _pair(self.student_ms, self.teacher_ms, deferral_rate)


def _pair(student: float | None, teacher: float | None, rate: Any) -> Any:
    return None if student is None or teacher is None else student + rate * teacher
