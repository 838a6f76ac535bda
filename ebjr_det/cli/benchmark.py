"""`ebjr-det benchmark`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.conventions import (
    AS_JSON,
    PATH,
    RUNTIMES,
    VERBOSE,
    fitted_router,
    print_json,
    print_places,
    runtimes,
)


@click.command()
@click.argument("config", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder to write to; replaces a benchmark there.")
@click.option("--rates", metavar="P,P...", help="Deferral rates of the pair, by default 0.1,0.3,0.5.")
@click.option("--threshold", type=float, help="A threshold of the pair, instead of or beside --rates.")
@click.option("--router", type=PATH, help="A router that fit-router made. [router.file]")
@click.option("--images", type=int, default=64, show_default=True, help="Size of the sample of the data.")
@click.option("--batch-sizes", metavar="B,B...", default="1,8", show_default=True, help="Of offline.")
@click.option(
    "--arrival-rate", type=float, help="Server: images a second, by default 0.7 of the pair's speed."
)
@click.option(
    "--latency-bound-ms", type=float, help="Server: what is in time, by default 3 x the teacher's p50."
)
@click.option("--seconds", type=float, default=10.0, show_default=True, help="For each scenario and subject.")
@click.option("--against", type=PATH, help="An earlier benchmark.json, or its folder, to compare with.")
@RUNTIMES
@click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 ... [run.device]")
@VERBOSE
@AS_JSON
def benchmark(
    config: Path,
    out: Path,
    rates: str | None,
    threshold: float | None,
    router: Path | None,
    images: int,
    batch_sizes: str,
    arrival_rate: float | None,
    latency_bound_ms: float | None,
    seconds: float,
    against: Path | None,
    changes: tuple[str, ...],
    device: str | None,
    verbose: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """How fast student, teacher and the pair are on this machine: single stream, offline, server, stages.

    CONFIG is a configuration, or the folder of a finished run, whose threshold is then one more point. The
    thresholds of the rates are those on the sample itself: nothing is said about quality.
    """
    from ebjr_det import api
    from ebjr_det.io.environment import keep_freed_memory

    fitted = [] if router is None else fitted_router(router)
    here = [] if device is None else [f"run.device={device}"]
    shares = None if rates is None else _numbers(rates, "--rates", float)
    sizes = _numbers(batch_sizes, "--batch-sizes", int)
    settings, known = api.load_settings(config, [*fitted, *runtimes(**chosen), *changes, *here])
    keep_freed_memory()
    measured = api.benchmark(
        api.to_config(settings),
        out,
        rates=shares,
        threshold=threshold,
        known_threshold=known,
        images=images,
        batch_sizes=sizes,
        arrival_rate=arrival_rate,
        bound_ms=latency_bound_ms,
        seconds=seconds,
        against=against,
    )
    if as_json:
        print_json(measured.summary)
        return
    from ebjr_det.reporting.benchmark.tables import benchmark_tables, sentences, single_table, verdict
    from ebjr_det.reporting.screen import print_screen

    result, summary, beside = measured.result, measured.summary, measured.against
    short = [single_table(result, summary), *([] if beside is None else [beside.table()])]
    tables = benchmark_tables(result, summary, beside) if verbose else short
    print_screen(verdict(result, summary), tables, sentences(result, beside))
    print_places("Every call, all tables, the figure", [measured.folder], verbose=verbose)


def _numbers(text: str, option: str, kind: Callable[[str], Any]) -> list[Any]:
    from ebjr_det.core.errors import ConfigError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"Expected numbers with commas between them for {option}, got `{text}`.") from error
