"""One frame of a film: the pictures under their titles, the strip chart, and a table of what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from ebjr_det.io.lettering import letters, shortened
from ebjr_det.reporting.film.chart import Moment, StripChart
from ebjr_det.reporting.film.ink import EMPTY, GREY, INK, PAPER, RULE, STUDENT, TEACHER, significant

BOXES = {1: (1280, 720), 2: (944, 640)}
"""Width and height that a picture fits into, by the number of pictures side by side."""
NARROWEST = 800
UNITS = ((1e8, 1e9, "GMACs"), (1e5, 1e6, "MMACs"), (0.0, 1e3, "kMACs"))


@dataclass(frozen=True)
class Standing:
    """Means over the frames so far; None is what nobody knows yet.

    Attributes:
        frame, count: number of this frame, from 1, and of all.
        deferral_rate: share of the frames that the teacher answered.
        macs, ms: an image, of the pair and of the teacher alone.
    """

    frame: int
    count: int | None
    deferral_rate: float
    macs: tuple[float | None, float | None] = (None, None)
    ms: tuple[float | None, float | None] = (None, None)


def view_for(size: tuple[int, int], pictures: int) -> tuple[int, int]:
    """The largest size of the same shape that fits where one of so many pictures stands.

    >>> view_for((1920, 1080), 1), view_for((8, 8), 2)
    ((1280, 720), (640, 640))
    """
    wide, high = BOXES[pictures]
    scale = min(wide / size[0], high / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class Board:
    """Where everything stands, fixed by the first frame; `compose` makes one frame after the other.

    Args:
        view: width and height of each picture.
        pictures: 1, the pair's, or 2, the teacher's beside it.
        score: name of the deferral score.
    """

    def __init__(self, view: tuple[int, int], pictures: int, score: str, threshold: float) -> None:
        self.view, self.score, self.threshold = view, score, threshold
        inner = max(NARROWEST, pictures * view[0] + (pictures - 1) * 24)
        self.scale = min(1.5, max(0.9, inner / 1280))
        margin, head, foot = self._px(24), self._px(52), self._px(248)
        self.letter, self.margin = self._px(16), margin
        self.size = _even(inner + 2 * margin), _even(head + view[1] + margin + foot)
        left = (self.size[0] - pictures * view[0] - (pictures - 1) * 24) // 2
        self.corners = [(left + place * (view[0] + 24), head) for place in range(pictures)]
        whole, each = (margin, self.size[0] - margin), [(x, x + view[0]) for x, _ in self.corners]
        self.spans = [whole] if pictures == 1 else each
        self.top = head + view[1] + margin
        table = max(self._px(400), round(0.34 * inner))
        self.table = self.size[0] - margin - table, self.size[0] - margin
        wide = self.table[0] - self._px(36) - margin
        self.chart = StripChart((wide, self._px(168)), threshold, self._px(14))

    def _px(self, length: float) -> int:
        return round(self.scale * length)

    def compose(self, pictures: Sequence[Image.Image], moment: Moment, now: Standing) -> Image.Image:
        """The next frame."""
        self.chart.add(moment)
        whole = Image.new("RGB", self.size, PAPER)
        pen = ImageDraw.Draw(whole)
        for picture, corner, color in zip(pictures, self.corners, (moment.color, TEACHER), strict=False):
            edge = self._px(4)
            x, y = corner
            pen.rectangle(
                (x - edge, y - edge, x + self.view[0] + edge - 1, y + self.view[1] + edge - 1), color
            )
            whole.paste(_fitted(picture, self.view), corner)
        self._heads(whole, pen, moment, now)
        self._score(whole, pen, moment)
        self._costs(pen, now)
        return whole

    def _heads(self, whole: Image.Image, pen: Any, moment: Moment, now: Standing) -> None:
        """Titles above the pictures, who answered, and the time."""
        middle, bold, plain = self._px(25), letters(self._px(19), True), letters(self.letter)
        x, end = self.spans[0]
        pen.text((x, middle), "Pair", INK, bold, anchor="lm")
        who = "teacher" if moment.deferred else "student"
        said = f"student abstains, {who} answers" if moment.abstained else f"{who} answers"
        _chip(whole, (x + round(bold.getlength("Pair")) + self._px(14), middle), said, moment.color, plain)
        if len(self.spans) > 1:
            x, end = self.spans[1]
            pen.text((x, middle), "Teacher alone", TEACHER, bold, anchor="lm")
        of = "" if now.count is None else f" of {now.count}"
        pen.text((end, middle), f"frame {now.frame}{of}", GREY, plain, anchor="rm")

    def _score(self, whole: Image.Image, pen: Any, moment: Moment) -> None:
        """The strip chart between its title and the decision of this frame."""
        left, end, line = self.margin, self.table[0] - self._px(36), self._px(22)
        bold, plain = letters(self.letter, True), letters(self._px(14))
        title = "Deferral score"
        pen.text((left, self.top + line / 2), title, INK, bold, anchor="lm")
        x = left + bold.getlength(title) + self._px(10)
        legend = [("student", STUDENT), ("teacher", TEACHER)]
        room = end - x - sum(plain.getlength(name) + self._px(34) for name, _ in legend)
        pen.text((x, self.top + line / 2), shortened(self.score, plain, room), GREY, plain, anchor="lm")
        x = end
        for name, color in legend[::-1]:
            x -= plain.getlength(name)
            pen.text((x, self.top + line / 2), name, color, plain, anchor="lm")
            x -= self._px(10)
            _dot(whole, (round(x), self.top + line // 2), self._px(5), color)
            x -= self._px(18)
        below = self.top + line + self._px(2)
        whole.paste(self.chart.draw(), (left, below))
        y = below + self.chart.size[1] + self._px(10)
        start, stop = left + self.chart.plot[0], left + self.chart.plot[2]
        sign = ">" if moment.deferred else "\u2264"
        text, limit = (self.chart.text_of(value, 1) for value in (moment.score, self.threshold))
        text = f"{text}, abstains" if moment.abstained else f"{text} {sign} {limit}"
        strong = letters(self._px(14), True)
        text = shortened(text, strong, stop - start)
        pen.text((stop, y), text, moment.color, strong, anchor="rm")
        room = stop - start - strong.getlength(text) - self._px(10)
        note = shortened(f"last {self.chart.length} frames", plain, room)
        pen.text((start, y), note, GREY, plain, anchor="lm")

    def _costs(self, pen: Any, now: Standing) -> None:
        """The table: pair and teacher alone."""
        left, end = self.table
        bold, plain = letters(self.letter, True), letters(self.letter)
        columns = end - bold.getlength("teacher alone") - self._px(24), end
        step, line = self._px(36), self._px(22)
        y = self.top + line / 2
        for x, text in zip(columns, ("pair", "teacher alone"), strict=True):
            pen.text((x, y), text, INK, bold, anchor="rm")
        pen.line((left, self.top + line + 6, end, self.top + line + 6), INK, max(1, self._px(1.4)))
        for row, (name, pair, teacher) in enumerate(_rows(now)):
            y = self.top + line + 6 + (row + 0.5) * step
            pen.text((left, y), name, INK, plain, anchor="lm")
            pen.text((columns[0], y), pair, INK, bold, anchor="rm")
            pen.text((columns[1], y), teacher, INK, plain, anchor="rm")
            pen.line((left, y + step / 2, end, y + step / 2), RULE, 1)
        y = self.top + line + 6 + 4 * step + self._px(22)
        small = letters(self._px(13))
        note = shortened("means so far, preprocessing included", small, end - left)
        pen.text((left, y), note, GREY, small, anchor="lm")


def _rows(now: Standing) -> list[tuple[str, str, str]]:
    known = now.macs[1] if now.macs[1] is not None else 1e9
    _, unit, name = next(row for row in UNITS if known >= row[0])
    macs, ms = now.macs, now.ms
    return [
        ("to the teacher", f"{100 * now.deferral_rate:.1f} %", "100 %"),
        (f"{name} an image", _over(macs[0], unit), _over(macs[1], unit)),
        ("ms an image", significant(ms[0]), significant(ms[1])),
        ("images a second", _over(1e3, ms[0]), _over(1e3, ms[1])),
    ]


def _over(value: float | None, unit: float | None) -> str:
    return significant(None if value is None or not unit else value / unit)


def _even(length: float) -> int:
    return 2 * -(-round(length) // 2)


def _fitted(picture: Image.Image, view: tuple[int, int]) -> Image.Image:
    """The whole picture in the middle of a view, made smaller where it is larger."""
    if picture.size == view:
        return picture
    scale = min(1.0, view[0] / picture.width, view[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    inner = picture if scale == 1.0 else picture.resize(size, Image.Resampling.LANCZOS)
    whole = Image.new("RGB", view, EMPTY)
    whole.paste(inner, ((view[0] - size[0]) // 2, (view[1] - size[1]) // 2))
    return whole


def _chip(whole: Image.Image, spot: tuple[int, int], text: str, color: str, font: Any) -> None:
    """White text on a rounded ground, its left end at the spot."""
    high = round(1.75 * font.size)
    size = round(font.getlength(text) + 1.4 * font.size), high
    mask = Image.new("L", (4 * size[0], 4 * high), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * size[0] - 1, 4 * high - 1), 2 * high, 255)
    corner = spot[0], spot[1] - high // 2
    whole.paste(Image.new("RGB", size, color), corner, mask.reduce(4))
    ImageDraw.Draw(whole).text((corner[0] + size[0] / 2, spot[1]), text, PAPER, font, anchor="mm")


def _dot(whole: Image.Image, middle: tuple[int, int], radius: int, color: str) -> None:
    side = 2 * radius
    mask = Image.new("L", (4 * side, 4 * side), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, 4 * side - 1, 4 * side - 1), 255)
    corner = middle[0] - radius, middle[1] - radius
    whole.paste(Image.new("RGB", (side, side), color), corner, mask.reduce(4))
