"""A table as plain text in cells: the same one goes to the screen, into Markdown and into the page."""

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Rows of text under headings; the first column stands left, numbers stand right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def markdown(self) -> str:
        r"""The table alone, with its caption below it.

        >>> print(Table("", ["model", "AP"], [["a|b", "0.3"]], "of two").markdown())
        | model | AP |
        |-|-:|
        | a\|b | 0.3 |
        <BLANKLINE>
        of two
        """
        rule = "|-|" + "-:|" * (len(self.columns) - 1)
        lines = [_line(self.columns), rule, *map(_line, self.rows)]
        return "\n".join([*lines, *(["", self.caption] if self.caption else [])])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
