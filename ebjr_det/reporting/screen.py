"""Tables and sentences on stdout, in the terminal's own width: no number is ever broken.

A heading wraps between words and a long text may; numbers do not. Columns that do not fit beside the others
go below them, under the same first column. Where that is not enough, names fold; only then are lines longer
than the terminal is wide.
"""

import os
import re
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import IO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ebjr_det.reporting.table import Table, one_line

PIPE = 80
"""The width where there is no terminal to ask."""
LONG, NARROW, GAP = 20, 8, 3
"""From which width on a text in a table may wrap; to which one it folds; the space between two columns."""
NUMBER = re.compile(r"\W*\d[\d.,]*(e[-+]?\d+)?\W*")
"""A word that is a number, with its brackets or its unit's sign."""

STAND_IN = "\ue000"
"""Stands for a space at which no line may end; of private use, so that no text holds it."""


def print_screen(
    verdict: str, tables: Iterable[Table], sentences: Sequence[str] = (), grounds: Sequence[str] = ()
) -> None:
    """The verdict, right below it the sentences on which it stands, then tables, then further sentences."""
    console = _console()
    console.print(_wrapped(console, verdict, console.width), style="bold")
    for sentence in grounds:
        console.print(_wrapped(console, sentence, console.width))
    for table in tables:
        console.print()
        print_table(table, console)
    for index, sentence in enumerate(sentences):
        lines = _wrapped(console, sentence, console.width - 2).split("\n")
        console.print(*[""] * (index == 0), "- " + "\n  ".join(lines), sep="\n", soft_wrap=True)


def screen_text(verdict: str, tables: Iterable[Table], width: int) -> str:
    """What a screen of this width would show, without a last line break."""
    console = _console(width, StringIO())
    console.print(_wrapped(console, verdict, width))
    for table in tables:
        console.print()
        print_table(table, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in lines)


def print_table(table: Table, console: Console | None = None) -> None:
    """One table, between its title and its caption."""
    console = console or _console()
    if table.title:
        console.print(_wrapped(console, table.title, console.width), style="bold")
    for index, part in enumerate(_parts(table, console.width)):
        widths = _widths(part, console.width)
        wide = _console(
            max(console.width, _total(widths)), console.file
        )  # rich cuts a width down to the console's
        wide.print(*[""] * bool(index), _drawn(part, widths), sep="\n", crop=False)
    if table.caption:
        console.print(_wrapped(console, table.caption, console.width), style="dim")


def _wrapped(console: Console, text: str, width: int) -> str:
    """Lines of whole words, where a number stays beside its unit and an interval in one piece."""
    glued = re.sub(r"(?<=\d) (?=%|ms\b|[kMGTP]?MACs\b)|(?<=\d,) (?=[-+\d.e]+\])", STAND_IN, one_line(text))
    lines = Text(glued).wrap(console, width)
    return "\n".join(line.plain.rstrip().replace(STAND_IN, " ") for line in lines)


def _parts(table: Table, width: int) -> list[Table]:
    """The table as it is, or several with the same first columns, each as wide as there is room."""
    columns, rows = [*map(one_line, table.columns)], [[*map(one_line, row)] for row in table.rows]
    table = table._replace(columns=columns, rows=rows)
    labels, pending = list(range(table.labels)), list(range(table.labels, len(table.columns)))
    parts: list[Table] = []
    while pending or not parts:
        counts = range(len(pending), 1, -1)
        fits = (n for n in counts if _total(_least(table.select(labels + pending[:n]), width)) <= width)
        count = next(fits, 1)
        parts.append(table.select(labels + pending[:count]))
        pending = pending[count:]
    return parts


def _cells(table: Table) -> list[list[str]]:
    return [[row[index] for row in table.rows] for index in range(len(table.columns))]


def _least(table: Table, width: int) -> list[int]:
    """The least width of each column: all of a number, of a text its longest word or half of the terminal."""
    widths = []
    for heading, cells in zip(table.columns, _cells(table), strict=True):
        least = max(map(cell_len, cells), default=0)
        if _is_text(cells):
            word = max(cell_len(word) for cell in cells for word in cell.split())
            least = min(least, max(LONG, min(word, width // 2)))
        widths.append(max([*map(cell_len, heading.split()), least]))
    return widths


def _is_text(cells: Sequence[str]) -> bool:
    """Whether a column holds long texts, which may wrap."""
    return any(cell_len(cell) > LONG and _has_words(cell) for cell in cells)


def _has_words(cell: str) -> bool:
    return any(any(map(str.isalpha, word)) and not NUMBER.fullmatch(word) for word in cell.split())


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _widths(table: Table, width: int) -> list[int]:
    """The width of each column: numbers keep theirs; what room is left, or lacks, is that of the texts."""
    columns, widths = _cells(table), _least(table, width)
    texts = [index for index, cells in enumerate(columns) if _is_text(cells)]
    for turn, index in enumerate(texts):
        room = max(width - _total(widths), 0) // (len(texts) - turn)
        widths[index] += min(room, max(map(cell_len, columns[index])) - min(widths[index], width))
    for index, heading in enumerate(table.columns):  # in one line where there is room
        missing = max(cell_len(heading) - widths[index], 0)
        widths[index] += missing if _total(widths) + missing <= width else 0
    names = [index for index in range(table.labels) if any(map(_has_words, columns[index]))]
    least = {index: min(widths[index], _folded(columns[index])) for index in {*texts, *names}}
    # Too wide still: the widest of the columns that may fold gives way, one letter at a time.
    while _total(widths) > width and (wider := [index for index in least if widths[index] > least[index]]):
        widths[max(wider, key=lambda index: widths[index])] -= 1
    return widths


def _folded(cells: Sequence[str]) -> int:
    """The least width of a column of texts that fold, numbers among their words excepted."""
    words = (word for cell in cells for word in cell.split())
    return max([NARROW, *(cell_len(word) for word in words if NUMBER.fullmatch(word))])


def _drawn(table: Table, widths: Sequence[int]) -> RichTable:
    """The table as rich prints it; a heading has as many lines as it takes, broken between words alone."""
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, (heading, cells, width) in enumerate(zip(table.columns, _cells(table), widths, strict=True)):
        lines = Text(heading).wrap(Console(width=width), width)
        text = Text("\n".join(line.plain.rstrip() for line in lines))
        left = index < table.labels or _is_text(cells)
        drawn.add_column(text, justify="left" if left else "right", width=width, overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn


def _console(width: int | None = None, file: IO[str] | None = None) -> Console:
    """A console of that width, else of the terminal's own, or `COLUMNS`; `PIPE` wide where there is neither.

    Texts are shown as they are: nothing in a name acts as markup.
    """
    console = Console(markup=False, highlight=False, emoji=False, width=width, file=file, force_jupyter=False)
    if width is not None or console.is_terminal or "COLUMNS" in os.environ:
        return console
    return _console(PIPE)
