"""`ebjr-det specialize`."""

from pathlib import Path

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, print_json


@click.command()
@click.argument("config", type=PATH)
@click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Change a setting; repeatable.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 ... [schedule.device]")
@click.option("--out", type=PATH, help="Folder; by default runs/<name of the config>.")
@click.option("--resume", is_flag=True, help="Go on with the run that --out holds.")
@click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop.")
@AS_JSON
def specialize(
    config: Path,
    changes: tuple[str, ...],
    device: str | None,
    out: Path | None,
    resume: bool,
    print_config: bool,
    as_json: bool,
) -> None:
    """Train a student for the popular classes and "other", and write the pair with its teacher."""
    from ebjr_det.config import dump_config, load_specialize_config

    overrides = [f"schedule.device={device}"] if device else []
    settings = load_specialize_config(config, [*changes, *overrides])
    if print_config:
        click.echo(dump_config(settings), nl=False)
        return
    from ebjr_det import api
    from ebjr_det.environment import keep_freed_memory

    keep_freed_memory()
    summary = api.specialize(settings, out or Path("runs") / config.stem, resume=resume)
    if as_json and summary:
        print_json(summary)
    if as_json or not summary:  # of several processes the first one talks
        return
    judged, quality = summary["validation"], summary["quality"]
    text = "" if judged is None else f", validation {quality} {judged[quality]:.4f}"
    click.echo(f"{summary['model']}: {len(summary['popular'])} popular classes and other{text}")
    click.echo(f"{summary['weights']}  sha256 {summary['sha256']}  {summary['bytes']:,} bytes")
    click.echo(f"ebjr-det evaluate {summary['pair']}")
