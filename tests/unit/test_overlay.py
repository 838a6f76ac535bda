"""One size for all frames, colours that tell who answered, no text over text, an axis that stays of use."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from ebjr_det.reporting.film import STUDENT, TEACHER, Board, Moment, Standing, StripChart, view_for
from ebjr_det.reporting.film.board import _rows

KEPT, DEFERRED = Moment(-0.9, False), Moment(-0.5, True)
NOW = Standing(7, 250, 1 / 3, (5.5e8, 1.5e9), (31.2, 54.5))
THRESHOLD = -0.7


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def colour(whole: Image.Image, spot: tuple[float, float]) -> tuple[int, ...]:
    return whole.getpixel((round(spot[0]), round(spot[1])))


def near(found: tuple[int, ...], wanted: str, far: int = 30) -> bool:
    return max(abs(a - b) for a, b in zip(found, ImageColor.getrgb(wanted), strict=True)) <= far


# --- The board ---


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (8, 8), (641, 479), (3000, 10)])
def test_every_frame_has_one_even_size(size, pictures):
    view = view_for(size, pictures)
    board = Board(view, pictures, "free_energy", THRESHOLD)
    others = [view, (max(1, view[0] // 3), view[1]), (view[0] * 2, view[1] + 5), (1, 1)]
    sizes = {board.compose([picture(each)] * pictures, KEPT, NOW).size for each in others}
    assert sizes == {board.size}
    assert not board.size[0] % 2
    assert not board.size[1] % 2
    assert board.size[0] >= pictures * view[0]


def test_a_picture_of_the_view_is_shown_as_it_is_and_another_whole_in_its_middle():
    board = Board((640, 480), 2, "free_energy", THRESHOLD)
    first, second = picture((640, 480)), picture((240, 480), 1)
    whole = board.compose([first, second], KEPT, NOW)
    (x, y), (u, v) = board.corners
    assert np.array_equal(whole.crop((x, y, x + 640, y + 480)), first)
    assert np.array_equal(whole.crop((u + 200, v, u + 440, v + 480)), second)
    large = Image.new("RGB", (1280, 480), "#ff0000")
    shown = np.asarray(board.compose([large, large], KEPT, NOW).crop((x, y, x + 640, y + 480))).astype(int)
    red = (shown == (255, 0, 0)).all(axis=2)
    assert red[121:359].all()
    assert not red[:119].any()
    assert not red[361:].any()


@pytest.mark.parametrize(("moment", "wanted"), [(KEPT, STUDENT), (DEFERRED, TEACHER)])
def test_the_frame_around_the_pairs_picture_tells_who_answered(moment, wanted):
    board = Board((640, 480), 2, "free_energy", THRESHOLD)
    whole = board.compose([picture((640, 480))] * 2, moment, NOW)
    (x, y), (u, v) = board.corners
    assert colour(whole, (x - 2, y + 240)) == ImageColor.getrgb(wanted)
    assert colour(whole, (u - 2, v + 240)) == ImageColor.getrgb(TEACHER)


def test_numbers_that_nobody_knows_yet_are_dashes():
    rows = _rows(Standing(1, None, 0.0, (7.5e7, 1.53e9), (20.0, None)))
    assert rows == [
        ("to the teacher", "0.0 %", "100 %"),
        ("GMACs an image", "0.075", "1.53"),
        ("ms an image", "20.0", "\u2013"),
        ("images a second", "50.0", "\u2013"),
    ]
    assert _rows(Standing(1, None, 0.5, (1500.0, 2000.0)))[1] == ("kMACs an image", "1.50", "2.00")


@pytest.mark.parametrize("size", [(1920, 1080), (256, 256), (1080, 1920)])
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("threshold", [THRESHOLD, -1234567.0, float("inf")])
def test_no_text_lies_over_another_or_leaves_the_frame(size, pictures, threshold, monkeypatch):
    drawn: list[tuple[Image.Image, tuple[float, ...], str]] = []
    write = ImageDraw.ImageDraw.text

    def recording(pen, spot, text, fill, font, anchor):
        drawn.append((pen._image, pen.textbbox(spot, text, font, anchor), text))
        write(pen, spot, text, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", recording)
    view = view_for(size, pictures)
    board = Board(view, pictures, "class_weighted_doubt_of_the_ten_best_boxes_and_more", threshold)
    abstained = Moment(-123456.789, True, abstained=True)
    large = Standing(123456, 999999, 1.0, (9.99e11, 9.99e12), (99999.0, 99999.0))
    whole = board.compose([Image.new("RGB", view)] * pictures, abstained, large)
    assert len(drawn) > 15
    for image in {id(image): image for image, *_ in drawn}.values():
        boxes = [(box, text) for other, box, text in drawn if other is image and text]
        for box, text in boxes:
            assert box[0] >= 0, text
            assert box[1] >= 0, text
            assert box[2] <= image.width, text
            assert box[3] <= image.height, text
        for (a, first), (b, second) in combinations(boxes, 2):
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (first, second)
    assert whole.size == board.size


# --- The chart ---


def chart(scores, threshold: float = THRESHOLD) -> StripChart:
    made = StripChart((600, 200), threshold, 14, length=100)
    for score in scores:
        made.add(score if isinstance(score, Moment) else Moment(score, score > threshold))
    return made


def middle_of(made: StripChart, value: float) -> float:
    top, bottom = made.plot[1], made.plot[3]
    return bottom - made.height_of(value) * (bottom - top)


@pytest.mark.parametrize(("score", "wanted"), [(-0.9, STUDENT), (-0.5, TEACHER)])
def test_the_newest_point_lies_at_its_score_in_the_colour_of_who_answered(score, wanted):
    made = chart([-0.9, -0.5] * 20 + [score])
    pixels, (left, _, right, _) = made.draw(), made.plot
    y = middle_of(made, score)
    strong = [x for x in range(right - 40, right) if near(colour(pixels, (x, y)), wanted)]
    assert strong
    other = TEACHER if wanted == STUDENT else STUDENT
    assert not any(near(colour(pixels, (x, y)), other) for x in range(right - 16, right))
    assert left < strong[0]


def test_the_threshold_is_a_line_between_the_grounds_of_both():
    made = chart([-0.9])
    pixels, (left, top, _, bottom) = made.draw(), made.plot
    y = middle_of(made, THRESHOLD)
    assert near(colour(pixels, (left + 50, y)), "#222222", 90)
    above, below = colour(pixels, (left + 50, top + 1)), colour(pixels, (left + 50, bottom - 2))
    assert above[0] > above[2]  # the teacher's warm ground
    assert below[0] < below[2]  # the student's cold one


def test_an_outlier_does_not_flatten_the_others_and_is_seen_at_the_edge():
    usual = np.random.default_rng(0).normal(-0.8, 0.05, 99).tolist()
    made = chart([*usual, 1000.0])
    assert made.axis[1] < 30
    pixels, (_, top, right, _) = made.draw(), made.plot
    edge = [colour(pixels, (x, top + y)) for x in range(right - 20, right) for y in range(20)]
    assert any(near(each, TEACHER) for each in edge)


def test_abstentions_do_not_move_the_axis_and_have_a_mark_of_their_own():
    usual = np.linspace(-0.9, -0.6, 30).tolist()
    made, with_one = chart(usual), chart([*usual, Moment(-5e5, True, abstained=True)])
    assert with_one.axis == pytest.approx(made.axis, abs=0.02)
    over = chart([*usual, Moment(40.0, True)])
    last = [np.asarray(each.draw())[:60, made.plot[2] - 25 : made.plot[2]] for each in (with_one, over)]
    white = [(part == 255).all(axis=2)[made.plot[1] :].sum() for part in last]
    assert white[0] > white[1]  # a hollow diamond, no triangle


def test_the_axis_opens_at_once_and_closes_slowly():
    made = chart([-0.8] * 10)
    before = made.axis
    for _ in range(5):
        made.add(Moment(2.0, True))
    opened = made.axis
    assert opened[1] > 2 > before[1]
    tops = []
    for _ in range(150):
        made.add(Moment(-0.8, False))
        tops.append(made.axis[1])
    assert tops[-1] == pytest.approx(before[1], abs=0.05)
    assert np.diff([opened[1], *tops]).min() > -0.1 * (opened[1] - before[1])


@pytest.mark.parametrize("threshold", [float("inf"), float("-inf"), 5e5])
def test_a_threshold_beyond_all_scores_has_no_line_and_leaves_the_axis_alone(threshold):
    made = chart([-0.9, -0.5], threshold)
    assert made.line is None
    assert -1.2 < made.axis[0] < made.axis[1] < -0.3
    dark = (np.asarray(made.draw().crop(made.plot)).max(axis=2) < 90).any(axis=1)
    assert not dark.any()


@pytest.mark.parametrize(
    "scores", [[0.0], [5.0] * 3, [1e-9, 2e-9], [-3e4, 3e4], [Moment(0, True, abstained=True)]]
)
@pytest.mark.parametrize("threshold", [0.0, 1e-12, float("inf")])
def test_any_scores_can_be_drawn(scores, threshold):
    assert chart(scores, threshold).draw().size == (600, 200)


def test_memory_does_not_grow_with_the_frames():
    made = chart([-0.8] * 1000)
    assert len(made.moments) == 100
