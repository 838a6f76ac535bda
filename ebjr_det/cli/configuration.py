"""`ebjr-det init` and `schema`: configurations to begin with, and what may stand in them."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.options import PATH, Name, name_argument, name_option, together
from ebjr_det.cli.printing import print_json

KIND = together(
    name_argument("kind", Name("kinds"), help="A pair of a task, or a training."),
    name_option("--task", of="tasks", help="Of a training, by default detection."),
)


@click.command()
@KIND
@click.option("--out", type=PATH, help="A new file; by default <kind>.yaml.")
def init(kind: str, task: str | None, out: Path | None) -> None:
    """Write a configuration to begin with, which says what every setting means."""
    from ebjr_det.api.init import init as write
    from ebjr_det.api.schema import verb_of

    path = write(kind, out or Path(f"{kind}.yaml"), task)
    click.echo(f"{path}: change what is stated, then run: ebjr-det {verb_of(kind)} {path}")


@click.command()
@KIND
def schema(kind: str, task: str | None) -> None:
    """Print the JSON schema of a configuration, by which editors complete and check it."""
    from ebjr_det.api.schema import schema as schema_of

    print_json(schema_of(kind, task))
