"""A page of sentences, figures and tables, and the same text in Markdown: for reports without a slider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebjr_det.core.cost import Cost
from ebjr_det.evaluation.run_folder import SUMMARY
from ebjr_det.io.files import to_json, write_text
from ebjr_det.reporting.inline_figure import Words, svg_element
from ebjr_det.reporting.page import PAGE, STYLES, load_template
from ebjr_det.reporting.table import Table, document


@dataclass(frozen=True)
class PlainPage:
    """What a report shows on its page; a sentence that begins with `Note` is a warning.

    Attributes:
        figures: SVG files by the kind of cost along their axis; `about`: what all of them show.
        settings: YAML, folded away at the end.
    """

    title: str
    verdict: str
    sentences: Sequence[str]
    figures: Mapping[Cost, Path]
    about: str
    tables: Sequence[Table]
    settings: str

    def html(self) -> str:
        """The page itself."""
        figures = [
            svg_element(
                path.read_text(encoding="utf-8"), kind, Words(path.stem.replace("_", " "), self.about)
            )
            for kind, path in self.figures.items()
        ]
        styles = STYLES.read_text(encoding="utf-8")
        return load_template("plain_page.html.j2").render(vars(self) | {"styles": styles, "figures": figures})

    def write(self, out: Path, summary: dict[str, object]) -> dict[str, object]:
        """Write text and page to a report's folder and, last, the summary, which is returned."""
        write_text(out / "table.md", document(self.title, self.tables, self.sentences, self.verdict))
        write_text(out / PAGE, self.html())
        write_text(out / SUMMARY, to_json(summary))
        return summary
