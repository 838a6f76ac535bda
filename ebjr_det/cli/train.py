"""`ebjr-det train`."""

from typing import Any

import rich_click as click

from ebjr_det.cli.training import run_training, training_options


@click.command()
@training_options
def train(**options: Any) -> None:
    """Train a network on labelled images: the best weights, the log, its plot.

    Started by torchrun, several processes train one network.
    """
    from ebjr_det.tasks.settings import load_train_config

    run_training(load_train_config, "train", lambda s: f"{s['parameters']:,} parameters", **options)
