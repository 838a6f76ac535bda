"""The command `ebjr-det benchmark`."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.live import load_live
from ebjr_det.cli.options import PATH
from ebjr_det.cli.printing import print_json, print_places


@click.command()
@options.config("evaluate")
@click.option("--out", type=PATH, required=True, help="Folder to write to; replaces a benchmark there.")
@click.option("--rates", metavar="P,P...", help="Deferral rates of the pair, by default 0.1,0.3,0.5.")
@click.option("--threshold", type=float, help="A threshold of the pair, instead of or beside --rates.")
@options.ROUTER
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
@options.RUNTIMES
@options.SET
@options.device("run")
@options.VERBOSE
@options.AS_JSON
@options.settings_from("run")
def benchmark(
    config: Path,
    out: Path,
    rates: str | None,
    batch_sizes: str,
    latency_bound_ms: float | None,
    against: Path | None,
    changes: list[str],
    verbose: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """How fast student, teacher and the pair are on this machine: single stream, offline, server, stages.

    CONFIG is a configuration, or the folder of a finished run, whose threshold is then one more point. The
    thresholds of the rates are those on the sample itself: nothing is said about quality.
    """
    import ebjr_det
    from ebjr_det.api.settings import to_config

    shares = None if rates is None else options.numbers(rates, float, " for --rates")
    sizes = options.numbers(batch_sizes, int, " for --batch-sizes")
    settings, chosen = load_live(config, changes, None, None)
    measured = ebjr_det.benchmark(
        to_config(settings),
        out,
        ebjr_det.BenchmarkSettings(shares, batch_sizes=sizes, bound_ms=latency_bound_ms, **values),
        known_threshold=chosen,
        against=against,
    )
    if as_json:
        print_json(measured.to_dict())
        return
    from ebjr_det.reporting.benchmark.tables import benchmark_tables, sentences, short_tables, verdict
    from ebjr_det.reporting.screen import print_screen

    result, summary, earlier = measured.benchmark, measured.summary, measured.against
    tables = (benchmark_tables if verbose else short_tables)(result, summary, earlier)
    print_screen(verdict(result, summary), tables, sentences(result, earlier))
    print_places("Every call, all tables, the figure", [measured.folder], verbose=verbose)
