"""A strip chart: the deferral scores of the last frames against the threshold, coloured by who answered."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor
from PIL.ImageDraw import Draw, ImageDraw

from ebjr_det.core.types import FloatArray
from ebjr_det.io.lettering import letters
from ebjr_det.reporting.film.ink import GREY, INK, PAPER, RULE, STUDENT, TEACHER, number

FINER = 3  # marks are drawn so many times larger and made smaller, which smooths their edges
SLOWLY = 0.08  # share by which the axis closes up a frame; it opens at once
LEAST = 0.02  # of the axis, as a share of the largest number on it
FAR = 1e5  # a threshold beyond it is above or below all scores that can be charted, and has no line


@dataclass(frozen=True)
class Moment:
    """The decision about one frame.

    Attributes:
        score: deferral score, of the student's answer alone where it abstains.
        deferred: the teacher answered.
        abstained: the student handed the frame on whatever its score.
        in_front: a router in front of the student sent it on, and the score is that router's.
    """

    score: float
    deferred: bool
    abstained: bool = False
    in_front: bool = False

    @property
    def charted(self) -> bool:
        """Whether its score is on the chart's axis."""
        return not (self.abstained or self.in_front)

    @property
    def color(self) -> str:
        """Color of the model that answered."""
        return TEACHER if self.deferred else STUDENT


class StripChart:
    """The last `length` moments, the newest at the right edge.

    The axis holds the threshold and all but the outermost of the recent scores of the student's answers.
    A score outside is a triangle on the edge; an abstention, or what a router in front has sent on, a diamond
    on the upper one.
    """

    def __init__(self, size: tuple[int, int], threshold: float, letter: int, length: int = 150) -> None:
        self.size, self.threshold, self.length = size, threshold, length
        self.font = letters(letter)
        self.moments: deque[Moment] = deque(maxlen=length)
        self.axis: tuple[float, float] | None = None
        right = round(max(map(self.font.getlength, ("threshold", self.text_of(threshold))))) + letter
        left = round(self.font.getlength("\u22120.00000")) + letter // 2
        self.plot = (left, letter, size[0] - right, size[1] - letter)

    @property
    def line(self) -> float | None:
        """The threshold, where it can be drawn."""
        return self.threshold if abs(self.threshold) < FAR else None

    def add(self, moment: Moment) -> None:
        """The newest moment; the axis follows."""
        self.moments.append(moment)
        low, high = self._fitting_axis()
        if self.axis is not None:
            low = min(low, self.axis[0] + SLOWLY * (low - self.axis[0]))
            high = max(high, self.axis[1] + SLOWLY * (high - self.axis[1]))
        self.axis = low, high

    def _fitting_axis(self) -> tuple[float, float]:
        scores = [moment.score for moment in self.moments if moment.charted]
        ends = np.percentile(scores, [1, 99]).tolist() if scores else []
        ends += [] if self.line is None else [self.line]
        low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
        least = LEAST * max(abs(low), abs(high)) or 1.0
        room = 0.15 * (high - low) + max(0.0, least - (high - low)) / 2
        return low - room, high + room

    def height_of(self, value: float) -> float:
        """Share of the axis below a value, 0 at its lower and 1 at its upper end."""
        low, high = self.axis or self._fitting_axis()
        return (value - low) / (high - low)

    def draw(self) -> Image.Image:
        """The chart with its axis and the threshold's name."""
        left, top, right, bottom = self.plot
        picture = Image.new("RGB", self.size, PAPER)
        ticks, digits = _ticks(*(self.axis or self._fitting_axis()))
        picture.paste(self._marks((right - left, bottom - top), ticks), (left, top))
        pen = Draw(picture)
        for tick in ticks:
            y = bottom - self.height_of(tick) * (bottom - top)
            pen.text((left - 8, y), number(tick, digits), GREY, self.font, anchor="rm")
        lines = ["threshold", self.text_of(self.threshold)]
        step = round(1.25 * self.font.size)
        share = 0.5 if self.line is None else self.height_of(self.line)
        middle = min(max(bottom - share * (bottom - top), top + step / 2), bottom - step / 2)
        for text, y in zip(lines, (middle - step / 2, middle + step / 2), strict=True):
            pen.text((right + 8, y), text, INK, self.font, anchor="lm")
        return picture

    def text_of(self, value: float, finer: int = 0) -> str:
        """A score as it is written beside the axis, or with further decimals."""
        low, high = self.axis or (0.0, 1.0)
        return number(value, max(0, 2 + finer - math.floor(math.log10(high - low) + 0.3)))

    def _marks(self, size: tuple[int, int], ticks: list[float]) -> Image.Image:
        """Ground, grid, threshold and points of the plot."""
        wide, high = size[0] * FINER, size[1] * FINER
        plot = Image.new("RGB", (wide, high), _tint(STUDENT, 0.07))
        pen = Draw(plot)
        cut = float(high) if self.line is None else high * (1 - self.height_of(self.line))
        if self.line is not None or self.threshold < 0:
            pen.rectangle((0, 0, wide, cut), _tint(TEACHER, 0.09))
        for tick in ticks:
            y = high * (1 - self.height_of(tick))
            pen.line((0, y, wide, y), RULE, FINER)
        radius = max(2.4, min(5.0, size[0] / self.length)) * FINER
        spots = self._spots(wide, high, 2.2 * radius)
        if len(spots) > 1:
            pen.line([(x, y) for x, y in spots.tolist()], _tint(GREY, 0.55), FINER, joint="curve")
        if self.line is not None:
            pen.line((0, cut, wide, cut), INK, 2 * FINER)
        for moment, (x, y) in zip(self.moments, spots.tolist(), strict=True):
            self._mark(pen, moment, x, y, radius)
        if self.moments:
            x, y = spots[-1].tolist()
            pen.circle((x, y), 2 * radius, outline=self.moments[-1].color, width=2 * FINER)
        return plot.reduce(FINER)

    def _spots(self, wide: int, high: int, margin: float) -> FloatArray:
        """Where the moments are drawn, x and y each; the newest lies within the right edge."""
        count = len(self.moments)
        step = (wide - 3 * margin) / max(self.length - 1, 1)
        x = wide - 1.5 * margin - step * np.arange(count - 1, -1, -1)
        shares = [self.height_of(m.score) if m.charted else 1.0 for m in self.moments]
        y = np.clip(high * (1 - np.array(shares)), margin, high - margin)
        return np.column_stack([x, y]) if count else np.zeros((0, 2))

    def _mark(self, pen: ImageDraw, moment: Moment, x: float, y: float, radius: float) -> None:
        share = self.height_of(moment.score)
        if not moment.charted:
            r = 1.5 * radius
            pen.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], PAPER, moment.color, 2 * FINER)
        elif 0 <= share <= 1:
            pen.circle((x, y), radius, moment.color)
        else:
            tip = -1.4 * radius if share > 1 else 1.4 * radius
            pen.polygon([(x, y + tip), (x + radius, y - tip / 2), (x - radius, y - tip / 2)], moment.color)


def _ticks(low: float, high: float) -> tuple[list[float], int]:
    """Two to five round numbers from low to high, and how many decimals they need.

    >>> ticks, digits = _ticks(-1.1, -0.55)
    >>> [round(tick, digits) for tick in ticks], digits
    ([-1.0, -0.8, -0.6], 1)
    """
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(low, high)
    step = round(math.log10(ticks[1] - ticks[0]), 9)
    return [float(tick) for tick in ticks if low <= tick <= high], max(0, -math.floor(step))


def _tint(color: str, share: float) -> tuple[int, ...]:
    """The colour thinned with white."""
    return tuple(round(255 + share * (level - 255)) for level in ImageColor.getrgb(color)[:3])
