"""What an answer costs, in words: one unit for all that a screen, table, figure or message shows."""

from typing import NamedTuple


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
