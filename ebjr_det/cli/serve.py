"""`ebjr-det serve`: the pair behind the Open Inference Protocol."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.live import check_one_way


@click.command()
@options.config("evaluate")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="To listen on.")
@click.option("--port", type=int, default=8000, show_default=True, help="Port; 0 takes a free one.")
@click.option("--name", default="pair", show_default=True, metavar="WORD", help="Of the model in addresses.")
@click.option(
    "--tier",
    default="pair",
    show_default=True,
    metavar="pair|teacher",
    help="What is served: the pair, or its teacher alone for the --teacher of another machine.",
)
@click.option(
    "--teacher",
    metavar="URL",
    help="Of the server that answers for the teacher: --tier teacher there, Triton or KServe.",
)
@click.option(
    "--patience-ms",
    type=float,
    help="How long at least that --teacher, or one of --ray, is waited for, by default 50; more where its "
    "answers take longer.",
)
@click.option(
    "--policy",
    default="calibrated",
    show_default=True,
    metavar="calibrated|share|queue",
    help="A constant threshold, one that keeps the share sent, or one that spares a busy teacher.",
)
@click.option(
    "--shadow",
    type=float,
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Of the pictures that the student keeps, shown to an idle teacher too, to measure their agreement.",
)
@click.option("--slo-ms", type=float, help="How long a picture may wait for the teacher, of policy queue.")
@click.option("--largest-batch", type=int, default=8, show_default=True, help="Pictures a batch at most.")
@click.option("--queue-size", type=int, default=256, show_default=True, help="Pictures inside at most.")
@click.option("--teacher-queue", type=int, default=64, show_default=True, help="At the teacher at most.")
@click.option("--body-mb", type=float, default=32.0, show_default=True, help="Of a request at most.")
@click.option("--pixels", type=float, default=50.0, show_default=True, help="Millions a request at most.")
@click.option("--readers", type=int, default=2, show_default=True, help="Threads that decode pictures.")
@click.option(
    "--admin/--no-admin", default=True, help="Whether clients on this machine may have the folder read again."
)
@click.option("--access-log/--no-access-log", default=True, help="One line a request, on stderr.")
@click.option("--ray", is_flag=True, help="On Ray Serve, where students and teachers scale apart.")
@click.option("--address", metavar="ADDRESS", help="Of the Ray cluster, as auto; else --ray starts one here.")
@options.DECISION
@options.SET
@options.RUNTIMES
@options.device("run")
@options.settings_from("run")
def serve(
    config: Path,
    threshold: float | None,
    rate: float | None,
    changes: list[str],
    ray: bool,
    address: str | None,
    **settings: Any,
) -> None:
    """Answer requests of the Open Inference Protocol, version 2, until SIGTERM or Ctrl-C.

    CONFIG is an export, the folder of a finished run, or a configuration; SIGHUP reads it again. The address
    itself is a page for people. Nobody but this machine is listened to, unless --host says otherwise.
    """
    import ebjr_det

    check_one_way(threshold, rate)
    ebjr_det.serve(
        config,
        ebjr_det.ServeSettings(**settings),
        threshold=threshold,
        rate=rate,
        changes=changes,
        cluster=options.cluster_of(ray, address),
        on_start=lambda address: click.echo(f"Serving at {address}"),
    )
