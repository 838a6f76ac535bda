"""How commands print what a verb found: tables and sentences for people, one JSON object for programs."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from ebjr_det.core.errors import Infeasible

if TYPE_CHECKING:
    from ebjr_det.api.report import Result
    from ebjr_det.api.tiers import TieredResult
    from ebjr_det.evaluation.traffic.report import TrafficReport


def show(result: "Result | TieredResult", *, as_json: bool, verbose: bool) -> None:
    """A report: three sentences, a small table and a path for people, its summary for programs."""
    if as_json:
        print_json(result.to_dict())
        return
    from ebjr_det.api.tiers import TieredResult

    if isinstance(result, TieredResult):
        _show_tiers(result, verbose=verbose)
        return
    from ebjr_det.reporting.answer import short_answer
    from ebjr_det.reporting.page import PAGE
    from ebjr_det.reporting.screen import print_screen
    from ebjr_det.reporting.sentences import findings
    from ebjr_det.reporting.tables import summary_table, tables

    report, traffic = result.report, result.traffic
    texts = [summary_table(report), *(tables(report) if verbose else [])]
    first, *grounds = short_answer(report)
    print_screen(first, texts, findings(report)[1:] if verbose else (), grounds)
    page, heading = result.folder / PAGE, "Everything on one page, with a glossary"
    if traffic is None:
        print_places(heading, [page], verbose=verbose)
        return
    show_traffic(traffic, verbose=verbose)
    print_places("Everything", [page, result.folder / "traffic"], verbose=verbose)


def _show_tiers(result: "TieredResult", *, verbose: bool) -> None:
    """Several tiers: whether more than two pay, the thresholds for a target, the table by budget."""
    from ebjr_det.reporting.page import PAGE
    from ebjr_det.reporting.screen import print_screen
    from ebjr_det.reporting.tiers.tables import budget_table, chosen_table, tables
    from ebjr_det.reporting.tiers.words import sentences, verdict

    report = result.report
    first = [chosen_table(report), budget_table(report, next(iter(report.table)))]
    drawn = tables(report) if verbose else [table for table in first if table is not None]
    print_screen(verdict(report), drawn, grounds=list(sentences(report)))
    print_places("Everything on one page", [result.folder / PAGE], verbose=verbose)


def show_traffic(report: "TrafficReport", *, verbose: bool) -> None:
    """Runs under a mix of classes: who is ahead, a table, and with `verbose` all tables."""
    from ebjr_det.reporting.screen import print_screen
    from ebjr_det.reporting.traffic.tables import summary_table, traffic_findings, traffic_tables

    alone = f"{report.runs[0].name} under the mix of classes; name further runs to compare it with."
    finding, *details = traffic_findings(report) or [alone]
    print_screen(finding, traffic_tables(report) if verbose else [summary_table(report)], details)


def print_places(heading: str, places: Iterable[Path], *, verbose: bool = True) -> None:
    """Where everything was written. A path is never broken, so that it can be copied."""
    click.echo(f"\n{heading}{'' if verbose else ' (the long tables here: --verbose)'}:")
    for path in places:
        click.echo(path)


def print_json(content: object) -> None:
    """One JSON object on stdout."""
    from ebjr_det.io.files import to_json

    click.echo(to_json(content))


@contextmanager
def infeasible_as_json(as_json: bool) -> Iterator[None]:
    """An infeasible target is an answer of its own: an object on stdout, a line on stderr, exit code 3."""
    try:
        yield
    except Infeasible as error:
        if as_json:
            print_json({"feasible": False, "reason": str(error), "nearest": error.nearest})
        raise


def file_size(count: int) -> str:
    """A number of bytes, readable.

    >>> file_size(1), file_size(4321), file_size(77_700_000)
    ('1 byte', '4.3 kB', '77.7 MB')
    """
    from rich.filesize import decimal

    return "1 byte" if count == 1 else decimal(count)
