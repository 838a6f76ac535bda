"""How numbers are written in tables, figures and sentences: one way for one quantity, whatever its size."""

import math
from typing import NamedTuple, TypeGuard, TypeVar

from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.tiers.report import Difference
from ebjr_det.evaluation.units import Unit as Unit

NONE = "-"
Number = TypeVar("Number", float, FloatArray)


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

    def text(self, quality: float | None) -> str:
        """The number with its unit, in a sentence."""
        value = self.value(quality)
        return value + " %" * (self.percent and value != NONE)

    def height(self, quality: Number) -> Number:
        """A quality, or an array of them, along an axis of a figure."""
        return 100 * quality if self.percent else quality

    def label(self, quality: float) -> str:
        """The number in a figure, where three digits do."""
        return f"{100 * quality:.1f} %" if self.percent else f"{quality:.3f}"

    def points(self, quality: float) -> str:
        """The size of a difference of two such numbers, in a sentence."""
        return f"{self.value(abs(quality))} points" if self.percent else self.value(abs(quality))

    def interval(self, ends: tuple[float, float]) -> str:
        """The ends of an interval of a difference, in its unit."""
        return interval_text(ends, *self._scale)

    def difference(self, quality: float | None) -> str:
        """A difference of two such numbers, with its sign."""
        return number(quality, *self._scale, sign="+")

    def gain(self, difference: Difference) -> str:
        """A difference with its sign, and its interval."""
        return f"{self.difference(difference.value)} {self.interval(difference.interval)}"

    @property
    def _scale(self) -> tuple[int, int]:
        return (100, 2) if self.percent else (1, 4)


def percent(value: float | None) -> str:
    """A share in %, with the sign."""
    return share(value, 2) + " %" * known(value)


def share(value: float | None, digits: int = 1) -> str:
    """A share in %, without the sign. What is not none, or not all, is never rounded to it.

    >>> share(0.3), share(1), share(0.99999), share(0.00001), share(1.00001)
    ('30.0', '100.0', '>99.9', '<0.1', '>100.0')
    """
    text = number(value, 100, digits)
    if not known(value) or value in (0, 1):
        return text
    least = 10.0**-digits
    if text == number(0, digits=digits):
        return f"{'<' if value > 0 else '>-'}{least:.{digits}f}"
    if text == number(100, digits=digits):
        return f">{100 - least:.{digits}f}" if value < 1 else f">{text}"
    return text


def milliseconds(value: float | None) -> str:
    """A time in ms, three digits that count.

    >>> [milliseconds(ms) for ms in (0.02712, 4.0, 23.954, 99.96, 1913.4, 0)]
    ['0.0271', '4.00', '24.0', '100', '1,913', '0']
    """
    if not known(value):
        return NONE
    if not value:
        return "0"
    if not 1e-4 <= abs(value) < 1e9:
        return f"{value:.2e}"
    digits = 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return f"{value:z,.{max(digits, 0)}f}"


def threshold_text(value: float | None) -> str:
    """A threshold, eight digits that count, in words where it defers all or none."""
    if value is None or math.isnan(value):
        return NONE
    return {math.inf: "inf", -math.inf: "-inf"}.get(value, f"{value:z.8g}")


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a number to be shown."""
    return value is not None and not math.isnan(value)


def number(value: float | None, scale: float = 1, digits: int = 2, sign: str = "-") -> str:
    """A number times `scale` with so many decimals; `sign` is + where a plus shall be seen.

    >>> number(-0.001), number(float("nan")), number(0.5, 100, 1, "+")
    ('0.00', '-', '+50.0')
    """
    return NONE if not known(value) else f"{value * scale:{sign}z.{digits}f}"


def interval_text(ends: tuple[float, float], scale: float = 1, digits: int = 4) -> str:
    """The ends of an interval, with as many decimals as it takes to see on which side of 0 they are.

    >>> interval_text((-0.0054, -0.00004), 100, 2)
    '[-0.540, -0.004]'
    """
    limit = digits + 3
    while digits < limit and any(end and not float(f"{end * scale:.{digits}f}") for end in ends):
        digits += 1
    return f"[{', '.join(number(end, scale, digits) for end in ends)}]"


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "image"), plural(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"
