"""`ebjr-det bulk`: the pair on any number of pictures."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.live import answered, load_live
from ebjr_det.cli.printing import print_json


@click.group(cls=options.Group)
def bulk() -> None:
    """The pair on any number of pictures, by shards that go on after whatever ended them."""


@bulk.command()
@options.config("evaluate")
@click.argument("source")
@click.option("--out", required=True, metavar="URL", help="Folder to write to, a path or an address.")
@click.option("--shard", type=int, default=256, show_default=True, help="Pictures a file.")
@click.option(
    "--workers",
    "processes",
    type=int,
    default=0,
    help="Processes, each with both models; by default this one.",
)
@click.option("--ray", is_flag=True, help="On Ray, where students and teachers scale apart.")
@click.option("--address", metavar="ADDRESS", help="Of the Ray cluster, as auto; else --ray starts one here.")
@options.DECISION
@options.SET
@options.RUNTIMES
@options.device("run")
@options.AS_JSON
@options.settings_from("run")
def predict(
    config: Path, source: str, out: str, shard: int, ray: bool, address: str | None, threshold: float | None,
    rate: float | None, changes: list[str], as_json: bool, processes: int,
) -> None:  # fmt: skip
    """Answer all pictures of SOURCE: one parquet file a shard, a row for every picture.

    CONFIG is a configuration, the folder of a finished run, or an export. SOURCE is a picture, a folder, a
    pattern, a .txt list, or .tar and .parquet files, as a path or at any address that fsspec knows (s3://...).
    The same command goes on where it was ended.
    """
    import ebjr_det

    settings, threshold = load_live(config, changes, threshold, rate)
    job = ebjr_det.BulkSettings(shard, processes, (address or "local") if ray else None)
    result = ebjr_det.bulk_predict(settings, source, out, job, threshold=threshold, rate=rate)
    if as_json:
        print_json(result.to_dict())
        return
    click.echo(answered(result.to_dict(), "images"))
    click.echo(f"{out}/answers, {result.shards} files")
