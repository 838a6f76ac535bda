"""`ebjr-det calibrate`."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, infeasible_as_json, print_json


@click.command()
@click.argument("run", type=PATH)
@click.option("--deferral-rate", type=float, help="At most this share to the teacher.")
@click.option("--max-gmacs", type=float, help="At most this many GMACs (10^9 multiply-adds) an image.")
@click.option("--max-latency-ms", type=float, help="At most this mean latency an image.")
@click.option("--batch-size", type=int, help="... in batches of so many; by default as in the run's report.")
@click.option("--min-quality", type=float, help="At least this quality, cheapest point.")
@click.option("--max-drop", type=float, help="At most this far below the teacher, cheapest point.")
@click.option("--confidence", type=float, help="Make --min-quality or --max-drop hold with this probability.")
@click.option("--score", help="Deferral score; by default the run's.")
@click.option("--report-on", type=PATH, help="Another run folder to report on; else the rest of RUN.")
@click.option("--fraction", type=float, default=0.5, show_default=True, help="Share of RUN that calibrates.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the split.")
@AS_JSON
def calibrate(
    run: Path,
    deferral_rate: float | None,
    max_gmacs: float | None,
    max_latency_ms: float | None,
    batch_size: int | None,
    min_quality: float | None,
    max_drop: float | None,
    confidence: float | None,
    score: str | None,
    report_on: Path | None,
    fraction: float,
    seed: int,
    as_json: bool,
) -> None:
    """A threshold for a target, chosen on one part of the images and reported on another."""
    from ebjr_det import api
    from ebjr_det.core.calibration import Target
    from ebjr_det.core.errors import ConfigError

    asked: dict[Any, float | None] = {
        "deferral_rate": deferral_rate,
        "macs": None if max_gmacs is None else max_gmacs * 1e9,
        "latency_ms": max_latency_ms,
        "min_quality": min_quality,
        "max_drop": max_drop,
    }
    given = [(kind, value) for kind, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ConfigError(
            "Expected exactly one of --deferral-rate, --max-gmacs, --max-latency-ms, --min-quality and "
            f"--max-drop, got {len(given)}."
        )
    target = Target(*given[0], confidence)
    with infeasible_as_json(as_json):
        answer = api.calibrate(
            run, target, report_on=report_on, score=score, fraction=fraction, seed=seed, batch_size=batch_size
        )
    if as_json:
        print_json(answer)
    else:
        from ebjr_det.reporting.calibrated import table, threshold_line, verdict
        from ebjr_det.reporting.screen import print_screen

        print_screen(verdict(answer), [table(answer)], [threshold_line(answer)])
