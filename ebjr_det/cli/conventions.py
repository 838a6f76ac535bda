"""What the commands share: how paths are taken and answers printed, and the nearest name for a wrong one."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.core.errors import Infeasible, did_you_mean

PATH = click.Path(path_type=Path)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
VERBOSE = click.option("--verbose", "-v", is_flag=True, help="Print all tables, not the short answer alone.")


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator."""
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


RUNTIMES = together(
    click.option("--threads", type=int, help="Of torch and runtimes, by default one a CPU. [run.threads]"),
    click.option(
        "--runtime", metavar="NAME", help="Of student and teacher: a runtime, or auto for the fastest."
    ),
    click.option("--student-runtime", metavar="NAME", help="Of the student alone. [student.runtime]"),
    click.option("--teacher-runtime", metavar="NAME", help="Of the teacher alone. [teacher.runtime]"),
)
"""Options that `runtimes` turns into changes."""


def runtimes(
    runtime: str | None, student_runtime: str | None, teacher_runtime: str | None, threads: int | None
) -> list[str]:
    """The changes of a configuration by which student and teacher run so."""
    chosen = {
        "student.runtime": student_runtime or runtime,
        "teacher.runtime": teacher_runtime or runtime,
        "run.threads": threads,
    }
    return [f"{key}={value}" for key, value in chosen.items() if value is not None]


class Group(click.RichGroup):
    """A group that offers the nearest command for an unknown one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click does it, with another error."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            hint = did_you_mean(args[0], self.commands)
            raise click.UsageError(f"Expected a known command, got `{args[0]}`. {hint}")
        return super().resolve_command(ctx, args)


def fitted_router(path: Path) -> list[str]:
    """The changes of a configuration by which a fitted router decides.

    What belongs to another router or its score goes: its checksum, options and threshold.
    """
    others = ("sha256=null", "score=null", "options={}", "threshold=null")
    return [f"router.file={path}", *(f"router.{other}" for other in others)]


def show(result: Any, *, as_json: bool, verbose: bool) -> None:
    """A report: the verdict, a table and findings for people, its summary for programs."""
    if as_json:
        print_json(result.summary | ({} if result.traffic is None else {"traffic": result.traffic.to_dict()}))
        return
    from ebjr_det.reporting.screen import print_screen
    from ebjr_det.reporting.sentences import further_findings, main_findings, verdict
    from ebjr_det.reporting.summary import summary_table
    from ebjr_det.reporting.tables import tables

    report = result.report
    more = (tables(report), further_findings(report)) if verbose else ([], [])
    print_screen(verdict(report), [summary_table(report), *more[0]], [*main_findings(report), *more[1]])
    if result.traffic is not None:
        show_traffic(result.traffic, verbose=verbose)
    places = [result.folder / "report.html", *([] if result.traffic is None else [result.folder / "traffic"])]
    print_places("Everything on one page" if len(places) == 1 else "Everything", places, verbose=verbose)


def show_traffic(report: Any, *, verbose: bool) -> None:
    """Runs under a mix of classes: who is ahead, a table, and with `verbose` all tables."""
    from ebjr_det.reporting.screen import print_screen
    from ebjr_det.reporting.traffic.tables import summary_table, traffic_findings, traffic_tables

    alone = f"{report.runs[0].name} under the mix of classes; name further runs to compare it with."
    first, *others = traffic_findings(report) or [alone]
    print_screen(first, traffic_tables(report) if verbose else [summary_table(report)], others)


def print_places(what: str, places: Iterable[Path], *, verbose: bool = True) -> None:
    """Where the rest is. A path is never broken, so that it can be copied."""
    click.echo(f"\n{what}{'' if verbose else ' (the long tables here: --verbose)'}:")
    for place in places:
        click.echo(place)


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


def print_json(content: Any) -> None:
    """One JSON object on stdout."""
    from ebjr_det.io.files import to_json

    click.echo(to_json(content))
