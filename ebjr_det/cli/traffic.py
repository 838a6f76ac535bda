"""The command `ebjr-det traffic`."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.options import AS_JSON, PATH, VERBOSE, bootstrap, seed
from ebjr_det.cli.printing import print_json, print_places, show_traffic


@click.command()
@click.argument("runs", metavar="RUN [RUN]...", nargs=-1, required=True, type=PATH)
@click.option(
    "--popular",
    metavar="A,B,...|FILE",
    help="Popular classes, or a .txt, .yaml or .json list of them; else the run's own.",
)
@click.option("--share", type=float, help="Share of the traffic that is popular.")
@click.option("--histogram", type=PATH, help="A .yaml or .json file of `class: share`, sum 1.")
@click.option("--zipf", type=float, help="Exponent of Zipf's law, popular classes first.")
@click.option("--out", type=PATH, required=True, help="An empty folder to write to.")
@bootstrap(1000, "Resamples for the intervals.")
@seed("Of the resamples.")
@VERBOSE
@AS_JSON
def traffic(
    runs: tuple[Path, ...],
    popular: str | None,
    share: float | None,
    histogram: Path | None,
    zipf: float | None,
    out: Path,
    bootstrap: int,
    seed: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Finished runs under a stated mix of classes: who is ahead, and from which popular share on.

    The first RUN is the one in question, such as one with a specialised student; the others are what it is
    compared with, at their own thresholds and at its multiply-adds.
    """
    import ebjr_det
    from ebjr_det.config import load_classes, load_histogram

    mix = ebjr_det.StatedMix(
        None if popular is None else load_classes(popular),
        share,
        None if histogram is None else load_histogram(histogram),
        zipf,
    )
    result = ebjr_det.traffic(runs, out, mix, replicates=bootstrap, seed=seed)
    if as_json:
        print_json(result.report.to_dict() | {"out": str(result.folder)})
        return
    show_traffic(result.report, verbose=verbose)
    print_places("Tables, figures and all numbers", [result.folder], verbose=verbose)
