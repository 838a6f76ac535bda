"""Labels can be read: every sign is drawn or told, none lies over another, none leaves the picture."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ebjr_det.io import lettering
from ebjr_det.io.lettering import drawable, letters, shortened, with_strip
from ebjr_det.tasks.classification.show import annotate
from ebjr_det.tasks.detection.draw import draw_boxes, label

BLUE, YELLOW = "#0072B2", "#E69F00"


@pytest.fixture
def fresh():
    """Nothing was told yet, and nothing stays told of another font."""
    caches = (lettering.letters, lettering._drawable)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def drawn(monkeypatch):
    """A list of the boxes that texts fill, their text, colour and font, of the picture drawn last."""
    texts = []
    write = ImageDraw.ImageDraw.text

    def recording(pen, spot, text, fill, font, anchor):
        texts.append((pen.textbbox(spot, text, font, anchor), text, fill, font))
        write(pen, spot, text, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", recording)
    return texts


def grey(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), "#808080")


def lacks(font, sign: str) -> bool:
    """Whether it looks as a sign that no font has."""
    return bytes(font.getmask(sign)) == bytes(font.getmask("\uffff"))


# --- Signs ---


def test_a_strip_has_no_missing_sign(drawn):
    with_strip(grey(900, 10), "student   free_energy \u22120.729 \u2264 \u22120.650\u2026", BLUE)
    ((_, text, _, font),) = drawn
    assert text == "student   free_energy \u22120.729 \u2264 \u22120.650\u2026"
    assert not any(lacks(font, sign) for sign in text if sign != " ")


def test_signs_that_the_font_lacks_are_numbers_and_told_once(fresh, capsys):
    assert (
        drawable("\u732b caf\u00e9 \u0643\u0644\u0628 \U0001f408")
        == "U+732B caf\u00e9 \u0643\u0644\u0628 U+1F408"
    )
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "`U+732B`" in told[0]
    assert "(cat)" in told[1]
    drawable("\u732b\u732b")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "wanted"), [("two\nlines", "two lines"), ("a\u200d\u202eb\x00", "ab"), ("\ud800", "U+D800")]
)
def test_texts_are_one_line_of_what_can_be_seen(text, wanted):
    assert drawable(text) == wanted


def test_without_its_font_signs_are_spelled(fresh, monkeypatch):
    monkeypatch.setattr(lettering, "find_spec", lambda name: None)
    assert letters(12).getname() == ImageFont.load_default(12).getname()
    assert drawable("\u22120.5 \u2264 \u221e\u2026").startswith("-0.5 <= inf")
    assert shortened("a long text", letters(12), 40)[-1] in ".\u2026"


# --- Labels ---


def test_a_class_and_its_score_do_not_run_together():
    assert label("1", 0.32) == "1: 0.32"
    assert label("x" * 500, 0.5) == "x" * 24 + "\u2026: 0.50"


CROWDED = {
    "one place": [[100, 100, 200, 200]] * 4,
    "upper edge": [[10 + 30 * at, 0, 120 + 30 * at, 100] for at in range(6)],
    "in each other": [[100 + 8 * at, 100 + 8 * at, 300 - 8 * at, 300 - 8 * at] for at in range(6)],
    "corners": [[-50, -50, 20, 20], [460, -50, 600, 20], [-50, 460, 20, 600], [460, 460, 600, 600]],
    "whole": [[0, 0, 480, 480], [2, 2, 478, 478], [4, 4, 476, 476]],
}


@pytest.mark.parametrize("side", [128, 480, 4000])
@pytest.mark.parametrize("boxes", CROWDED.values(), ids=CROWDED)
def test_no_label_lies_over_another_or_leaves_the_picture(boxes, side, drawn):
    texts = [label(f"class {at}", 0.9) for at in range(len(boxes))]
    picture = draw_boxes(grey(side, side), np.array(boxes) * side / 480, texts, [BLUE] * len(boxes))
    assert sorted(text for _, text, *_ in drawn) == sorted(texts)
    for box, *_ in drawn:
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= picture.width
        assert box[3] <= picture.height
    for (a, *_), (b, *_) in combinations(drawn, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


def test_a_label_has_its_usual_place_where_that_is_free(drawn):
    draw_boxes(grey(480, 480), np.array([[100.0, 100, 200, 200]]), ["dog: 0.90"], [BLUE])
    ((box, *_),) = drawn
    assert 100 <= box[0] < 110
    assert 80 < box[3] <= 100


@pytest.mark.parametrize(("color", "ink"), [(BLUE, "white"), (YELLOW, "black"), ("#56B4E9", "black")])
def test_letters_stand_out_from_their_ground(color, ink, drawn):
    draw_boxes(grey(480, 480), np.array([[100.0, 100, 200, 200]]), ["dog"], [color])
    assert drawn[0][2] == ink


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (10, 3000)])
def test_pictures_of_any_shape_can_be_labelled(size, drawn):
    picture = draw_boxes(grey(*size), np.array([[0.0, 0, *size]]), ["an animal: 0.90"], [BLUE])
    assert max(picture.size) == max(480, *size)
    assert all(box[2] <= picture.width for box, text, *_ in drawn if text)


@pytest.mark.parametrize("side", [8, 32, 128, 4000])
def test_a_class_can_be_read_however_small_its_picture_is(side, drawn):
    answer = np.array([0.0, 9.0, 0.0])
    picture = annotate(grey(side, side // 2), answer, SimpleNamespace(num_classes=3), 0.3)
    ((box, text, *_),) = drawn
    assert text == "class 1: 1.000"
    assert picture.width == max(480, side)
    assert box[3] - box[1] >= 8
