"""A table as plain text in cells: the same one goes to the screen, into Markdown and into the page."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Rows of text under headings; the first columns stand left, numbers stand right.

    Attributes:
        labels: number of leading columns that say what a row is of.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    labels: int = 1

    def select(self, columns: Sequence[int]) -> "Table":
        """The table of some columns, by their index."""
        rows = [[row[index] for index in columns] for row in self.rows]
        return self._replace(columns=[self.columns[index] for index in columns], rows=rows)

    def markdown(self) -> str:
        r"""The table alone, with its caption below it.

        >>> print(Table("", ["model", "AP"], [["a|b\n*c*", "0.3"]], "of two").markdown())
        | model | AP |
        |-|-:|
        | a\|b \*c\* | 0.3 |
        <BLANKLINE>
        of two
        """
        rule = "|-|" + "-:|" * (len(self.columns) - 1)
        lines = [_line(self.columns), rule, *map(_line, self.rows)]
        return "\n".join([*lines, *(["", markdown_text(self.caption)] if self.caption else [])])


def document(title: str, tables: Iterable[Table], sentences: Iterable[str], verdict: str = "") -> str:
    """A report as Markdown: title, verdict, tables, sentences."""
    lines = [f"# {markdown_text(title)}", "", *([markdown_text(verdict), ""] if verdict else [])]
    for table in tables:
        lines += [f"## {markdown_text(table.title)}", "", table.markdown(), ""]
    return "\n".join([*lines, *(f"- {markdown_text(sentence)}" for sentence in sentences)]).rstrip() + "\n"


def one_line(text: str) -> str:
    r"""A text on one line, without characters that would act on a terminal.

    >>> one_line("a\nb\x1b[2J")
    'a b [2J'
    """
    return "".join(character if character.isprintable() else " " for character in text)


def markdown_text(text: str) -> str:
    """A text on one line of Markdown that shows as it is: no emphasis, link or tag of its own."""
    return re.sub(r"[\\`*<|]|\](?=\()", r"\\\g<0>", one_line(text))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"
