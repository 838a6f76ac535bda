"""`ebjr-det specialize`."""

from typing import Any

import rich_click as click

from ebjr_det.cli.training import run_training, training_options


@click.command()
@training_options
def specialize(**options: Any) -> None:
    """Train a student for the popular classes and "other", and write the pair with its teacher."""
    from ebjr_det.tasks.settings import load_specialize_config

    def tell(summary: Any) -> str:
        return f"{len(summary['popular'])} popular classes and other"

    run_training(load_specialize_config, "specialize", tell, **options)
