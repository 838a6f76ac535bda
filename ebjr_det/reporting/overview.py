"""A result in about ten lines: the sentence that answers, the table behind it, where the rest lies."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

from ebjr_det.reporting.table import Table, one_line

Report = TypeVar("Report")
WIDTH = 88
"""Letters a line where a result is printed: what a notebook or a terminal shows in one piece."""


@dataclass(frozen=True)
class Overview:
    """What a result says of itself.

    Attributes:
        sentence: the answer.
        place: the file or folder that has all the rest, where there is one.
    """

    sentence: str
    table: Table
    place: Path | None = None

    def text(self, width: int = WIDTH) -> str:
        """As lines; only a table of many columns is wider than they may be."""
        from ebjr_det.reporting.screen import screen_text

        path = "" if self.place is None else f"\n\n{self.place}"
        return screen_text(self.sentence, [self.table], width) + path

    def html(self) -> str:
        """As a fragment of a page, for notebooks; every text shows as it is.

        >>> print(Overview("It <pays>.", Table("", ["model", "AP"], [["pair", "0.3"]])).html())
        <p><strong>It &lt;pays&gt;.</strong></p>
        <table>
        <thead><tr><th style="text-align:left">model</th><th style="text-align:right">AP</th></tr></thead>
        <tbody>
        <tr><td style="text-align:left">pair</td><td style="text-align:right">0.3</td></tr>
        </tbody>
        </table>
        """
        table = self.table
        heading, *rows = (
            "<tr>" + "".join(self._cell(tag, text, i) for i, text in enumerate(cells)) + "</tr>"
            for tag, cells in [("th", table.columns), *(("td", row) for row in table.rows)]
        )
        lines = [f"<p><strong>{_shown(self.sentence)}</strong></p>", "<table>"]
        lines += [f"<caption>{_shown(table.title)}</caption>"] * bool(table.title)
        lines += [f"<thead>{heading}</thead>", "<tbody>", *rows, "</tbody>", "</table>"]
        lines += [f"<p>{_shown(table.caption)}</p>"] * bool(table.caption)
        lines += [] if self.place is None else [f"<p><code>{_shown(str(self.place))}</code></p>"]
        return "\n".join(lines)

    def _cell(self, tag: str, text: str, column: int) -> str:
        side = "left" if column < self.table.labels else "right"
        return f'<{tag} style="text-align:{side}">{_shown(text)}</{tag}>'


class PrintedResult:
    """A result that prints as its overview, and shows as a table in a notebook."""

    def overview(self) -> Overview:
        """The answer in about ten lines."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.overview().text()

    def _repr_html_(self) -> str:
        return self.overview().html()


@dataclass(frozen=True, repr=False)
class WrittenResult(PrintedResult, Generic[Report]):
    """What a verb found: the report for people, the JSON object for programs, and where all of it lies."""

    report: Report
    summary: dict[str, Any]
    folder: Path

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line."""
        return self.summary


def _shown(text: str) -> str:
    return escape(one_line(text))
