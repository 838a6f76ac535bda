"""A page of sentences, figures and tables, and the same text in Markdown: for reports without a slider."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2

from ebjr_det.core.cost import Cost
from ebjr_det.reporting.inline_figure import Words, svg_element
from ebjr_det.reporting.page import STYLES, glued
from ebjr_det.reporting.table import Table, markdown_text

PAGE = "report.html"
TEMPLATE = Path(__file__).parent / "plain_page.html.j2"


def plain_page(
    title: str,
    verdict: str,
    sentences: Iterable[str],
    figures: Mapping[Cost, Path],
    about: str,
    tables: Sequence[Table],
    settings: str,
) -> str:
    """The page as HTML; a sentence that begins with `Note` is a warning.

    Args:
        figures: SVG files by the kind of cost along their axis; `about`: what all of them show.
        settings: YAML, folded away at the end.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"glued": glued}
    drawn = [
        svg_element(path.read_text(encoding="utf-8"), kind, Words(path.stem.replace("_", " "), about))
        for kind, path in figures.items()
    ]
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        verdict=verdict,
        sentences=list(sentences),
        styles=STYLES.read_text(encoding="utf-8"),
        figures=drawn,
        about=about,
        tables=tables,
        settings=settings,
    )


def plain_markdown(title: str, verdict: str, tables: Iterable[Table], sentences: Iterable[str]) -> str:
    """The report as Markdown, its figures left out."""
    lines = [f"# {markdown_text(title)}", "", markdown_text(verdict), ""]
    for table in tables:
        lines += [f"## {markdown_text(table.title)}", "", table.markdown(), ""]
    return "\n".join([*lines, *(f"- {markdown_text(sentence)}" for sentence in sentences), ""])
