"""A server on its port until it is told to end: SIGTERM and Ctrl-C drain it, SIGHUP reads the pair anew."""

import asyncio
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from ebjr_det.core.errors import ConfigError, EbjrError, first_line
from ebjr_det.io.notes import say
from ebjr_det.serving.app import build_app
from ebjr_det.serving.desk import Desk, TeacherOf
from ebjr_det.serving.pair import Load
from ebjr_det.serving.settings import ServeSettings

DRAIN = 30
"""Seconds that requests under way have at the end."""


def listen(settings: ServeSettings) -> socket.socket:
    """The socket. Raises ConfigError for a port in use, or an address that is not of this machine."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"Expected to listen on {settings.host}, port {settings.port}, got: {first_line(error)}. Choose "
            "another --port, or 0 for a free one."
        ) from error
    # Connections inherit it. Asyncio sets it only on sockets that name their protocol, which this one does
    # not: without it an answer's last bytes wait 40 ms for the client to acknowledge its first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def run_server(
    load: Load, teacher_of: TeacherOf | None, settings: ServeSettings, on_start: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or Ctrl-C; then no request is taken any more, and those under way are answered.

    Args:
        teacher_of: makes the teacher that is asked; by default the pair's, in this process.
        on_start: called with the address when requests are taken.

    Raises:
        EbjrError: a port in use, or a pair that cannot be loaded.
    """
    with listen(settings) as listener:
        app = build_app(load, teacher_of, settings)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, date_header=False,
            timeout_graceful_shutdown=DRAIN, timeout_keep_alive=65, proxy_headers=False,
        )  # fmt: skip
        server = uvicorn.Server(config)
        # uvicorn raises the signal that ended it again, to what was set before it
        earlier = {sign: signal.signal(sign, _ignore) for sign in (signal.SIGTERM, signal.SIGINT)}
        try:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(_serve(server, app, listener, on_start))
        finally:
            for sign, handler in earlier.items():
                signal.signal(sign, handler)


def _ignore(number: int, frame: object) -> None:
    """The server has ended already."""


async def _serve(
    server: uvicorn.Server, app: Starlette, listener: socket.socket, on_start: Callable[[str], None]
) -> None:
    host, port = listener.getsockname()[:2]
    if hangup := getattr(signal, "SIGHUP", None):  # Windows has none
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

        def begin() -> None:
            tasks.add(task := loop.create_task(reload(app.state.desk)))
            task.add_done_callback(tasks.discard)

        loop.add_signal_handler(hangup, begin)
    on_start(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    await server.serve(sockets=[listener])


async def reload(desk: Desk) -> None:
    """Read the pair anew while requests go on, and say how that went."""
    try:
        await desk.reload()
    except EbjrError as error:
        say(f"Not reloaded: {error}")
    except Exception as error:  # a defect, or a disk that fails: what serves goes on
        say(f"Not reloaded: {type(error).__name__}: {first_line(error)}.")
    else:
        say("Reloaded.")
