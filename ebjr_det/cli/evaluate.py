"""The command `ebjr-det evaluate`."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.options import PATH
from ebjr_det.cli.printing import infeasible_as_json, show


@click.command()
@options.config("evaluate")
@options.SET
@options.device("run")
@click.option("--batch-size", type=int, help="Images a batch. [run.batch_size]")
@click.option("--workers", type=int, help="Loader processes. [run.workers]")
@options.ROUTER
@options.RUNTIMES
@click.option("--out", type=PATH, help="Run folder; by default runs/<name of the config>.")
@click.option("--resume", is_flag=True, help="Go on with the run that --out holds.")
@options.PRINT_CONFIG
@options.VERBOSE
@options.AS_JSON
@options.settings_from("run")
def evaluate(
    config: Path,
    changes: list[str],
    out: Path | None,
    resume: bool,
    print_config: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Run a pair on labelled images: quality, cost, latency and the whole trade-off curve."""
    from ebjr_det.config import commented
    from ebjr_det.tasks.settings import load_config

    settings = load_config(config, changes)
    if print_config:
        click.echo(commented(type(settings), settings.model_dump()), nl=False)
        return
    import ebjr_det
    from ebjr_det.io.environment import keep_freed_memory

    keep_freed_memory()
    with infeasible_as_json(as_json):
        result = ebjr_det.evaluate(settings, out or Path("runs") / config.stem, resume=resume)
    show(result, as_json=as_json, verbose=verbose)
