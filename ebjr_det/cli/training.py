"""`ebjr-det train` and `specialize`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.options import PATH
from ebjr_det.cli.printing import file_size, print_json

if TYPE_CHECKING:
    from ebjr_det.api.train import Trained

OPTIONS = options.together(
    options.SET,
    options.device("schedule"),
    click.option("--threads", type=int, help="Of each process; by default one a CPU. [schedule.threads]"),
    click.option("--out", type=PATH, help="Folder; by default runs/<name of the config>."),
    click.option("--resume", is_flag=True, help="Go on with the training that --out holds."),
    options.PRINT_CONFIG,
    options.AS_JSON,
    options.settings_from("schedule"),
)


@click.command()
@options.config("train")
@OPTIONS
def train(**values: Any) -> None:
    """Train a network on labelled images: the best weights, the log, its plot.

    Started by torchrun, several processes train one network.
    """
    from ebjr_det.tasks.settings import load_train_config

    _run(load_train_config, "train", **values)


@click.command()
@options.config("specialize")
@OPTIONS
def specialize(**values: Any) -> None:
    """Train a student for the popular classes and "other", and write the pair with its teacher."""
    from ebjr_det.tasks.settings import load_specialize_config

    _run(load_specialize_config, "specialize", **values)


def _run(
    load: Callable[[Path, list[str]], Any],
    verb: str,
    config: Path,
    changes: list[str],
    out: Path | None,
    resume: bool,
    print_config: bool,
    as_json: bool,
) -> None:
    from ebjr_det.config import commented

    settings = load(config, changes)
    if print_config:
        click.echo(commented(type(settings), settings.model_dump()), nl=False)
        return
    import ebjr_det
    from ebjr_det.io.environment import keep_freed_memory

    keep_freed_memory()
    trained: Trained | None = getattr(ebjr_det, verb)(
        settings, out or Path("runs") / config.stem, resume=resume
    )
    if trained is None:  # of several processes the first one prints
        return
    if as_json:
        print_json(trained.to_dict())
        return
    from ebjr_det.reporting.screen import print_screen

    text = f"{trained.facts['parameters']:,} parameters"
    if trained.pair is not None:
        text = f"{len(trained.popular or ())} popular classes and other"
    if trained.validation is not None:
        text += f", validation {trained.quality} {trained.validation[trained.quality]:.4f}"
    print_screen(f"{trained.model}: {text}, {file_size(trained.bytes)}.", [])
    click.echo(trained.weights)
    if trained.pair is not None:
        click.echo(f"ebjr-det evaluate {trained.pair}")
