"""The command `ebjr-det calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ebjr_det.cli.options import AS_JSON, PATH, name_option, seed
from ebjr_det.cli.printing import infeasible_as_json, print_json

if TYPE_CHECKING:
    from ebjr_det.config.target import TargetKind

TARGETS: "dict[str, tuple[TargetKind, float]]" = {
    "deferral_rate": ("deferral_rate", 1),
    "max_gmacs": ("macs", 1e9),
    "max_latency_ms": ("latency_ms", 1),
    "min_quality": ("min_quality", 1),
    "max_drop": ("max_drop", 1),
}
"""Option -> the kind of target and its unit."""


@click.command()
@click.argument("run", type=PATH)
@click.option("--deferral-rate", type=float, help="At most this share to the teacher.")
@click.option("--max-gmacs", type=float, help="At most this many GMACs (10^9 multiply-adds) an image.")
@click.option("--max-latency-ms", type=float, help="At most this mean latency an image.")
@click.option("--batch-size", type=int, help="... in batches of so many; by default as in the run's report.")
@click.option("--min-quality", type=float, help="At least this quality, cheapest point.")
@click.option("--max-drop", type=float, help="At most this far below the teacher, cheapest point.")
@click.option("--confidence", type=float, help="Make --min-quality or --max-drop hold with this probability.")
@name_option("--score", of="scores", help="What decides; by default the run's.")
@click.option("--report-on", type=PATH, help="Another run folder to report on; else the rest of RUN.")
@click.option("--fraction", type=float, default=0.5, show_default=True, help="Share of RUN that calibrates.")
@seed("Of the split.")
@AS_JSON
def calibrate(run: Path, confidence: float | None, as_json: bool, **options: Any) -> None:
    """A threshold for a target, chosen on one part of the images and reported on another."""
    import ebjr_det
    from ebjr_det.config.target import Target
    from ebjr_det.core.errors import ConfigError

    values = {name: options.pop(name) for name in TARGETS}
    stated = [name for name, value in values.items() if value is not None]
    if len(stated) != 1:
        raise ConfigError(
            "Expected exactly one of --deferral-rate, --max-gmacs, --max-latency-ms, --min-quality and "
            f"--max-drop, got {len(stated)}."
        )
    kind, unit = TARGETS[stated[0]]
    with infeasible_as_json(as_json):
        answer = ebjr_det.calibrate(run, Target(kind, values[stated[0]] * unit, confidence), **options)
    if as_json:
        print_json(answer.to_dict())
        return
    from ebjr_det.api.calibrate_tiers import TieredCalibration
    from ebjr_det.reporting.calibrated import table, threshold_line, verdict
    from ebjr_det.reporting.screen import print_screen

    if isinstance(answer, TieredCalibration):
        overview = answer.overview()
        print_screen(overview.sentence, [overview.table])
        click.echo("\n" + " \\\n".join(f'    --set "{change}"' for change in answer.changes))
        return
    print_screen(verdict(answer), [table(answer)], [threshold_line(answer)])
