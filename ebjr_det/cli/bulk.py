"""`ebjr-det bulk`: the pair on any number of pictures."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.live import answered, load_live
from ebjr_det.cli.options import PATH
from ebjr_det.cli.printing import infeasible_as_json, print_json, show

JOB = options.together(
    click.option("--shard", type=int, default=256, show_default=True, help="Pictures a file."),
    click.option(
        "--workers", "processes", type=int, default=0, help="Processes, each with both models; else this one."
    ),
    click.option("--ray", is_flag=True, help="On Ray, on one machine or many."),
    click.option("--address", metavar="ADDRESS", help="Of the Ray cluster, as auto; else one starts here."),
)
"""How a job is cut, and who works on it."""


@click.group(cls=options.Group)
def bulk() -> None:
    """The pair on any number of pictures, by shards that go on after whatever ended them."""


@bulk.command()
@options.config("evaluate")
@click.argument("source", metavar="SOURCE")
@click.option("--out", required=True, metavar="URL", help="Folder to write to, a path or an address.")
@click.option(
    "--column", default="", metavar="COLUMN", help="Of pictures in parquet files; else it is found."
)
@JOB
@options.DECISION
@options.SET
@options.RUNTIMES
@options.device("run")
@options.AS_JSON
@options.settings_from("run")
def predict(
    config: Path, source: str, out: str, threshold: float | None, rate: float | None, changes: list[str],
    as_json: bool, **job: Any,
) -> None:  # fmt: skip
    """Answer all pictures of SOURCE: one parquet file a shard, a row for every picture.

    CONFIG is a configuration, the folder of a finished run, or an export. SOURCE is a picture, a folder, a
    pattern, a .txt list, or .tar and .parquet files, as a path or at any address that fsspec knows (s3://...).
    The same command goes on where it was ended.
    """
    import ebjr_det

    work = ebjr_det.BulkSettings(**_stated(**job))
    settings, threshold = load_live(config, changes, threshold, rate)
    result = ebjr_det.bulk_predict(settings, source, out, work, threshold=threshold, rate=rate)
    if as_json:
        print_json(result.to_dict())
        return
    click.echo(answered(result.to_dict(), "images"))
    click.echo(f"{out}/answers, {result.shards} files")


@bulk.command()
@options.config("evaluate")
@click.option("--out", type=PATH, required=True, help="Run folder, which all workers see.")
@JOB
@options.SET
@options.ROUTER
@options.RUNTIMES
@options.device("run")
@options.VERBOSE
@options.AS_JSON
@options.settings_from("run")
def evaluate(config: Path, out: Path, changes: list[str], verbose: bool, as_json: bool, **job: Any) -> None:
    """Run a pair, or tiers, on labelled images as `evaluate` does, by shards: the same records and report.

    The same command goes on where it was ended.
    """
    import ebjr_det
    from ebjr_det.io.environment import keep_freed_memory
    from ebjr_det.tasks.settings import load_config

    keep_freed_memory()
    with infeasible_as_json(as_json):
        result = ebjr_det.bulk_evaluate(
            load_config(config, changes), out, ebjr_det.BulkSettings(**_stated(**job))
        )
    show(result, as_json=as_json, verbose=verbose)


def _stated(shard: int, processes: int, ray: bool, address: str | None, column: str = "") -> dict[str, Any]:
    """The fields of `BulkSettings` for these options. Raises ConfigError for an address without Ray."""
    return {"shard": shard, "workers": processes, "ray": options.cluster_of(ray, address), "column": column}
