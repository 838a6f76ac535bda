"""One frame of a film: the pictures under their titles, the strip chart, and a table of what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from PIL.ImageDraw import Draw, ImageDraw
from PIL.ImageFont import FreeTypeFont

from ebjr_det.io.lettering import letters, shortened
from ebjr_det.reporting.film.chart import Moment, StripChart
from ebjr_det.reporting.film.ink import EMPTY, GREY, INK, PAPER, RULE, STUDENT, TEACHER, significant

BOXES = {1: (1280, 720), 2: (944, 640)}
"""Width and height that a picture fits into, by the number of pictures side by side."""
NARROWEST, GAP = 800, 24
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
        inner = max(NARROWEST, pictures * view[0] + (pictures - 1) * GAP)
        self.scale = min(1.5, max(0.9, inner / 1280))
        margin, head, foot = self._px(24), self._px(52), self._px(248)
        self.letter, self.margin = self._px(16), margin
        self.size = _even(inner + 2 * margin), _even(head + view[1] + margin + foot)
        left = (self.size[0] - pictures * view[0] - (pictures - 1) * GAP) // 2
        self.corners = [(left + index * (view[0] + GAP), head) for index in range(pictures)]
        page = margin, self.size[0] - margin
        self.spans = [page] if pictures == 1 else [(x, x + view[0]) for x, _ in self.corners]
        self.top = head + view[1] + margin
        self.table = page[1] - max(self._px(400), round(0.34 * inner)), page[1]
        wide = self.table[0] - self._px(36) - margin
        self.chart = StripChart((wide, self._px(168)), threshold, self._px(14))

    def _px(self, length: float) -> int:
        return round(self.scale * length)

    def compose(self, pictures: Sequence[Image.Image], moment: Moment, standing: Standing) -> Image.Image:
        """The next frame."""
        self.chart.add(moment)
        frame = Image.new("RGB", self.size, PAPER)
        pen, edge = Draw(frame), self._px(4)
        for picture, (x, y), color in zip(pictures, self.corners, (moment.color, TEACHER), strict=False):
            right, bottom = x + self.view[0] + edge - 1, y + self.view[1] + edge - 1
            pen.rectangle((x - edge, y - edge, right, bottom), color)
            frame.paste(_fitted(picture, self.view), (x, y))
        self._draw_heads(frame, pen, moment, standing)
        self._draw_score(frame, pen, moment)
        self._draw_costs(pen, standing)
        return frame

    def _draw_heads(self, frame: Image.Image, pen: ImageDraw, moment: Moment, standing: Standing) -> None:
        """Titles above the pictures, who answered, and the time."""
        middle, bold, plain = self._px(25), letters(self._px(19), True), letters(self.letter)
        x, end = self.spans[0]
        pen.text((x, middle), "Pair", INK, bold, anchor="lm")
        side = "teacher" if moment.deferred else "student"
        reason = "student abstains, " * moment.abstained + "sent on in front, " * moment.in_front
        text = f"{reason}{side} answers"
        _chip(frame, (x + round(bold.getlength("Pair")) + self._px(14), middle), text, moment.color, plain)
        if len(self.spans) > 1:
            x, end = self.spans[1]
            pen.text((x, middle), "Teacher alone", TEACHER, bold, anchor="lm")
        total = "" if standing.count is None else f" of {standing.count}"
        pen.text((end, middle), f"frame {standing.frame}{total}", GREY, plain, anchor="rm")

    def _draw_score(self, frame: Image.Image, pen: ImageDraw, moment: Moment) -> None:
        """The strip chart between its title and the decision of this frame."""
        left, end, line = self.margin, self.table[0] - self._px(36), self._px(22)
        bold, plain, middle = letters(self.letter, True), letters(self._px(14)), self.top + line / 2
        pen.text((left, middle), "Deferral score", INK, bold, anchor="lm")
        x: float = end
        for name, color in (("teacher", TEACHER), ("student", STUDENT)):  # the legend, from its right end on
            x -= plain.getlength(name)
            pen.text((x, middle), name, color, plain, anchor="lm")
            x -= self._px(10)
            radius = self._px(5)
            corner = round(x) - radius, self.top + line // 2 - radius
            _pill(frame, corner, (2 * radius, 2 * radius), color)
            x -= self._px(18)
        title_end = left + bold.getlength("Deferral score") + self._px(10)
        room = x - title_end - 2 * self._px(6)
        pen.text((title_end, middle), shortened(self.score, plain, room), GREY, plain, anchor="lm")
        below = self.top + line + self._px(2)
        frame.paste(self.chart.draw(), (left, below))
        y = below + self.chart.size[1] + self._px(10)
        start, stop = left + self.chart.plot[0], left + self.chart.plot[2]
        sign = ">" if moment.deferred else "\u2264"
        score, threshold = (self.chart.text_of(value, 1) for value in (moment.score, self.threshold))
        text = f"{score}, abstains" if moment.abstained else f"{score} {sign} {threshold}"
        text = f"in front {score}" if moment.in_front else text
        strong = letters(self._px(14), True)
        text = shortened(text, strong, stop - start)
        pen.text((stop, y), text, moment.color, strong, anchor="rm")
        room = stop - start - strong.getlength(text) - self._px(10)
        note = shortened(f"last {self.chart.length} frames", plain, room)
        pen.text((start, y), note, GREY, plain, anchor="lm")

    def _draw_costs(self, pen: ImageDraw, standing: Standing) -> None:
        """The table: pair and teacher alone."""
        left, end = self.table
        bold, plain, small = letters(self.letter, True), letters(self.letter), letters(self._px(13))
        pair_end = end - bold.getlength("teacher alone") - self._px(24)
        step, line = self._px(36), self._px(22)
        for x, text in ((pair_end, "pair"), (end, "teacher alone")):
            pen.text((x, self.top + line / 2), text, INK, bold, anchor="rm")
        head = self.top + line + 6
        pen.line((left, head, end, head), INK, max(1, self._px(1.4)))
        for row, (name, pair, teacher) in enumerate(_rows(standing)):
            y = head + (row + 0.5) * step
            pen.text((left, y), name, INK, plain, anchor="lm")
            pen.text((pair_end, y), pair, INK, bold, anchor="rm")
            pen.text((end, y), teacher, INK, plain, anchor="rm")
            pen.line((left, y + step / 2, end, y + step / 2), RULE, 1)
        note = shortened("means so far, preprocessing included", small, end - left)
        pen.text((left, head + 4 * step + self._px(22)), note, GREY, small, anchor="lm")


def _rows(standing: Standing) -> list[tuple[str, str, str]]:
    macs, ms = standing.macs, standing.ms
    _, unit, name = next(row for row in UNITS if (1e9 if macs[1] is None else macs[1]) >= row[0])
    return [
        ("to the teacher", f"{100 * standing.deferral_rate:.1f} %", "100 %"),
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
    ground = Image.new("RGB", view, EMPTY)
    ground.paste(inner, ((view[0] - size[0]) // 2, (view[1] - size[1]) // 2))
    return ground


def _chip(frame: Image.Image, spot: tuple[int, int], text: str, color: str, font: FreeTypeFont) -> None:
    """White text on a rounded ground, its left end at the spot."""
    high = round(1.75 * font.size)
    wide = round(font.getlength(text) + 1.4 * font.size)
    _pill(frame, (spot[0], spot[1] - high // 2), (wide, high), color)
    Draw(frame).text((spot[0] + wide / 2, spot[1]), text, PAPER, font, anchor="mm")


def _pill(frame: Image.Image, corner: tuple[int, int], size: tuple[int, int], color: str) -> None:
    """A ground with round ends, which is a dot where it is square; its edges are smooth."""
    wide, high = 4 * size[0], 4 * size[1]
    mask = Image.new("L", (wide, high), 0)
    Draw(mask).rounded_rectangle((0, 0, wide - 1, high - 1), high // 2, 255)
    frame.paste(Image.new("RGB", size, color), corner, mask.reduce(4))
