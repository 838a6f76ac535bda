"""`ebjr-det evaluate`."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.conventions import (
    AS_JSON,
    PATH,
    RUNTIMES,
    VERBOSE,
    fitted_router,
    infeasible_as_json,
    runtimes,
    show,
)


@click.command()
@click.argument("config", type=PATH)
@click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 ... [run.device]")
@click.option("--batch-size", type=int, help="Images a batch. [run.batch_size]")
@click.option("--workers", type=int, help="Loader processes. [run.workers]")
@click.option("--router", type=PATH, help="A router that fit-router made. [router.file]")
@RUNTIMES
@click.option("--out", type=PATH, help="Run folder; by default runs/<name of the config>.")
@click.option("--resume", is_flag=True, help="Go on with the run that --out holds.")
@click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop.")
@VERBOSE
@AS_JSON
def evaluate(
    config: Path,
    changes: tuple[str, ...],
    device: str | None,
    batch_size: int | None,
    workers: int | None,
    router: Path | None,
    out: Path | None,
    resume: bool,
    print_config: bool,
    verbose: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Run a pair on labelled images: quality, cost, latency and the whole trade-off curve."""
    from ebjr_det.config import dump_config
    from ebjr_det.tasks.settings import load_config

    short = {"device": device, "batch_size": batch_size, "workers": workers}
    overrides = [f"run.{key}={value}" for key, value in short.items() if value is not None]
    fitted = [] if router is None else fitted_router(router)
    settings = load_config(config, [*fitted, *runtimes(**chosen), *changes, *overrides])
    if print_config:
        click.echo(dump_config(settings), nl=False)
        return
    from ebjr_det import api
    from ebjr_det.io.environment import keep_freed_memory

    folder = out or Path("runs") / config.stem
    keep_freed_memory()
    with infeasible_as_json(as_json):
        result = api.evaluate(settings, folder, resume=resume)
    show(result, as_json=as_json, verbose=verbose)
