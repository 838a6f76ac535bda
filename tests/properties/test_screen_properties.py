"""What is printed: whatever the width, no number is broken, no line too long and no cell lost."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from ebjr_det.reporting.screen import print_table
from ebjr_det.reporting.table import Table

WIDTHS = (80, 100, 132)
NAMES = [
    "student",
    "efficientdet_d0_320x320_of_a_very_long_name_x7",
    "学生モデル",
    "a[bold]b[/bold]",
    "x :warning: y",
]


@pytest.fixture
def printed(monkeypatch, capsys):
    """A function: table, width -> what a plain terminal of this width shows, line by line."""
    for name, value in (("TTY_COMPATIBLE", "1"), ("TERM", "dumb"), ("LINES", "50")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)

    def show(table: Table, width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        print_table(table)
        return capsys.readouterr().out.splitlines()

    return show


numbers = st.one_of(
    st.floats(-1e6, 1e6).map("{:.4f}".format),
    st.floats(1e-12, 1e15).map("{:.4g}".format),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(lambda ends: f"[{ends[0]:.4f}, {ends[1]:.4f}]"),
    st.just("-"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the width is set anew each time
@given(
    rows=st.integers(1, 4).flatmap(
        lambda columns: st.lists(
            st.lists(numbers, min_size=3 * columns, max_size=3 * columns), min_size=1, max_size=4
        )
    ),
    names=st.permutations(NAMES),
    width=st.sampled_from(WIDTHS),
)
def test_every_number_is_whole_and_no_line_is_too_long(printed, rows, names, width):
    columns = [f"number of column {index}" for index in range(len(rows[0]))]
    table = Table(
        "A title", ["model", *columns], [[names[i], *row] for i, row in enumerate(rows)], "a caption"
    )
    lines = printed(table, width)
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    for row in rows:
        for cell in row:
            assert re.search(rf"(?:^|\s){re.escape(cell)}(?:\s|$)", text, re.MULTILINE), cell
    for name in names[: len(rows)]:
        assert "".join(name.split()) in "".join(text.split()) or cell_len(name) > 20


LONG_NAMES = [
    "efficientdet_d0_320x320_of_a_very_long_name_x7_more",
    "a second name of several words that is rather long, too",
    "学生モデル学生モデル学生モデル学生モデル学生モデル",
    "s",
]


@pytest.mark.parametrize("labels", [1, 2])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=4),
    names=st.permutations(LONG_NAMES),
    width=st.sampled_from((20, 40, 80)),
)
def test_under_long_names_numbers_are_whole_too(printed, labels, rows, names, width):
    rows = [["0.1234", "[-0.0050, 0.0123]"], *rows][:4]
    heads = [[names[i], names[-1 - i]][:labels] for i in range(len(rows))]
    columns = [*["model", "against"][:labels], "AP", "interval"]
    table = Table("", columns, [head + row for head, row in zip(heads, rows, strict=True)], labels=labels)
    lines = printed(table, width)
    for cell in (cell for row in rows for cell in row):
        assert any(re.search(rf"(?:^|\s){re.escape(cell)}(?:\s|$)", line) for line in lines), cell
    widest = max(cell_len(cell) for row in rows for cell in row)
    assert max(map(cell_len, lines)) <= max(width, labels * (8 + 3) + widest)
    shown = "".join("".join(lines).split())
    assert all(character in shown for head in heads for name in head for character in name.replace(" ", ""))


def test_a_short_name_folds_before_a_line_is_longer_than_the_terminal(printed):
    table = Table("", ["a", "b", "margin"], [["small_resnet_v2", "large_resnet_v2", "0.123456"]], labels=2)
    assert max(map(len, printed(table, 40))) <= 40
    assert any(line.rstrip().endswith(" 0.123456") for line in printed(table, 30))
    assert max(map(len, printed(table, 30))) <= 30


def test_an_interval_of_small_numbers_is_no_text(printed):
    interval = "[-1.2345e-05, 1.2345e-05]"
    table = Table("", ["model", "margin"], [["a_model_of_a_name_that_is_long", interval]])
    assert any(line.endswith(interval) for line in printed(table, 30))


def test_twenty_scores_go_below_each_other_under_their_names(printed):
    rows = [[f"score_number_{i}", *(f"0.{i:02}{j:02}" for j in range(12))] for i in range(20)]
    table = Table("", ["score", *(f"a column {j}" for j in range(12))], rows)
    for width in WIDTHS:
        lines = printed(table, width)
        for name, *cells in rows:
            of = [line.split() for line in lines if line.split()[:1] == [name]]
            assert [cell for line in of for cell in line[1:]] == cells


def test_what_is_in_a_name_does_not_act_on_the_terminal(printed):
    name = "a\x1b[2J\rb [red]c[/red] :warning:"
    (row,) = [line for line in printed(Table("", ["model", "AP"], [[name, "0.5"]]), 80) if "0.5" in line]
    assert "\x1b" not in row
    assert "[red]c[/red] :warning:" in row
