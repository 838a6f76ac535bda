"""How numbers and texts are written: nothing rounded away, one unit, nothing that acts."""

import math
import re

import pytest

from ebjr_det.evaluation.units import Unit, cost_text
from ebjr_det.reporting.notation import Shown, interval_text, milliseconds, number, percent, plural, share
from ebjr_det.reporting.table import Table


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.0"), (1, "100.0"), (0.5, "50.0"), (1.01, "101.0"), (None, "-"), (math.nan, "-"),
     (1e-9, "<0.1"), (-1e-9, ">-0.1"), (0.99999, ">99.9"), (1.00001, ">100.0"), (0.0005, "0.1")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_none_or_all(value, text):
    assert share(value) == text


def test_no_number_is_a_negative_nought_or_no_number():
    assert number(-0.0001) == "0.00"
    assert number(-0.0001, sign="+") == "+0.00"
    assert number(math.nan) == percent(math.nan) == percent(None) == milliseconds(math.nan) == "-"
    assert Shown(percent=True).text(-1.0) == "-"


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0.02712, "0.0271"), (0.09996, "0.100"), (9.996, "10.0"), (23.954, "24.0"), (99.96, "100"),
     (1913.4, "1,913"), (0.0, "0"), (1e-9, "1.00e-09"), (1e12, "1.00e+12"), (None, "-")],
)  # fmt: skip
def test_a_time_has_three_digits_that_count(ms, text):
    assert milliseconds(ms) == text


@pytest.mark.parametrize("ends", [(-0.54, -0.0004), (-0.00003, 0.2), (0.00002, 0.1)])
def test_an_interval_shows_on_which_side_of_nought_its_ends_are(ends):
    low, high = (float(end) for end in interval_text(ends, digits=2).strip("[]").split(", "))
    assert (low < 0, high > 0, low > 0, high < 0) == (ends[0] < 0, ends[1] > 0, ends[0] > 0, ends[1] < 0)


@pytest.mark.parametrize("power", range(13))
def test_multiply_adds_have_one_readable_unit(power):
    macs = 1.5e3 * 10**power
    unit = Unit.of(macs)
    assert float(unit.value(macs)) * unit.size == pytest.approx(macs)
    assert 1 <= float(unit.value(macs)) < 1000
    assert cost_text("macs", macs, unit) == unit.text(macs) == f"{unit.value(macs)} {unit.name}"


def test_one_is_singular():
    assert [plural(count, "image") for count in (0, 1, 2, 1200)] == [
        "0 images", "1 image", "2 images", "1,200 images",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a|b", "a\\|b", "a\nb", "*bold*", "`code`", "<b>x</b>", "[x](http://y)"])
def test_a_name_stays_one_cell_of_a_markdown_table_and_shows_as_it_is(name):
    text = Table("", ["model", "AP"], [[name, "0.5"]]).markdown()
    *_, row = text.split("\n")
    assert text.count("\n") == 2
    plain, escaped = [], False
    for character in row:  # GitHub's own rule: a backslash takes the meaning of what follows
        if not escaped and character == "\\":
            escaped = True
            continue
        plain.append("\0" if character == "|" and not escaped else character)
        assert escaped or character not in "*`<"
        escaped = False
    cells = "".join(plain).split("\0")
    assert [cell.strip() for cell in cells[1:-1]] == [name.replace("\n", " "), "0.5"]
    assert not re.search(r"(?<!\\)\]\(", row)
