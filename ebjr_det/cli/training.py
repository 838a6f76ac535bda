"""What the commands that train share: options, how they go on, and what they print."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.conventions import AS_JSON, PATH, file_size, print_json, together

training_options = together(
    click.argument("config", type=PATH),
    click.option("--set", "changes", multiple=True, metavar="A.B=C", help="Change a setting; repeatable."),
    click.option("--device", help="auto, cpu, cuda, cuda:1 ... [schedule.device]"),
    click.option("--threads", type=int, help="Of each process; by default one a CPU. [schedule.threads]"),
    click.option("--out", type=PATH, help="Folder; by default runs/<name of the config>."),
    click.option("--resume", is_flag=True, help="Go on with the training that --out holds."),
    click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop."),
    AS_JSON,
)


def run_training(
    load: Callable[[Path, list[str]], Any],
    verb: str,
    tell: Callable[[Mapping[str, Any]], str],
    *,
    config: Path,
    changes: tuple[str, ...],
    device: str | None,
    threads: int | None,
    out: Path | None,
    resume: bool,
    print_config: bool,
    as_json: bool,
) -> None:
    """Load the settings, train, print.

    Args:
        load: path and changes -> settings; `verb`: of `api`, settings and folder -> the summary.
        tell: the summary -> what was trained, in words.
    """
    from ebjr_det.config import dump_config

    short = {"device": device, "threads": threads}
    settings = load(config, [*changes, *(f"schedule.{key}={value}" for key, value in short.items() if value)])
    if print_config:
        click.echo(dump_config(settings), nl=False)
        return
    from ebjr_det import api
    from ebjr_det.io.environment import keep_freed_memory

    keep_freed_memory()
    summary = getattr(api, verb)(settings, out or Path("runs") / config.stem, resume=resume)
    if not summary:  # of several processes the first one talks
        return
    if as_json:
        print_json(summary)
        return
    from ebjr_det.reporting.screen import print_screen

    judged, quality = summary["validation"], summary["quality"]
    text = "" if judged is None else f", validation {quality} {judged[quality]:.4f}"
    print_screen(f"{summary['model']}: {tell(summary)}{text}, {file_size(summary['bytes'])}.", [])
    click.echo(summary["weights"])
    if "pair" in summary:
        click.echo(f"ebjr-det evaluate {summary['pair']}")
