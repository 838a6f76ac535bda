"""How numbers are written in tables, figures and sentences."""

from typing import NamedTuple

NONE = "-"


class Shown(NamedTuple):
    """How a quality is written: in % or as the number it is."""

    percent: bool

    @classmethod
    def of(cls, quality_name: str) -> "Shown":
        """An accuracy is a share of the images, shown in %; any other quality is the number it is."""
        return cls("accuracy" in quality_name)

    def heading(self, name: str) -> str:
        """The name above a column of such numbers."""
        return f"{name} %" if self.percent else name

    def value(self, quality: float | None) -> str:
        """The number alone, under such a heading; below 0 (COCO's -1) it is the mean over nothing at all."""
        if quality is None or quality < 0:
            return NONE
        return number(quality, 100) if self.percent else number(quality, digits=4)

    def text(self, quality: float) -> str:
        """The number with its unit, in a sentence."""
        return self.value(quality) + " %" * self.percent

    def points(self, quality: float) -> str:
        """A difference of two such numbers, in a sentence."""
        return f"{self.value(quality)} points" if self.percent else self.value(quality)

    def interval(self, ends: tuple[float, float]) -> str:
        """Both ends of a difference, in the same unit."""
        scale, digits = (100, 2) if self.percent else (1, 4)
        return f"[{', '.join(number(end, scale, digits) for end in ends)}]"

    def difference(self, quality: float | None) -> str:
        """A difference of two such numbers, with its sign."""
        return number(quality, 100 if self.percent else 1, 2 if self.percent else 4, sign="+")


class Unit(NamedTuple):
    """The unit in which a table counts multiply-adds."""

    name: str
    size: float

    @classmethod
    def of(cls, largest: float | None) -> "Unit":
        """The unit in which the largest number of a table reads well."""
        return cls("GMACs", 1e9) if (largest or 0) >= 1e9 else cls("MMACs", 1e6)

    def value(self, macs: float | None) -> str:
        """Four digits in this unit."""
        return NONE if macs is None else f"{macs / self.size:#.4g}"


def percent(value: float | None) -> str:
    """A share in %, with the sign."""
    return NONE if value is None else f"{100 * value:.2f} %"


def number(value: float | None, scale: float = 1, digits: int = 2, sign: str = "-") -> str:
    """A number times `scale` with so many decimals; `sign` is + where a plus shall be seen."""
    return NONE if value is None else f"{value * scale:{sign}.{digits}f}"


def interval_text(ends: tuple[float, float]) -> str:
    """Both ends, four decimals."""
    return f"[{ends[0]:.4f}, {ends[1]:.4f}]"
