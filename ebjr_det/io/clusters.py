"""Whether a Ray cluster is at an address, asked before Ray, which would wait for minutes. Imports no Ray."""

import os
import socket

from ebjr_det.core.errors import ConfigError, first_line

RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
"""Read when Ray is imported: nothing is reported to anybody, and every line of a worker's log is shown."""
REACHED = 5.0
"""Seconds that the way to a cluster, and its first answer, may take."""
SETTINGS = b"\x04"
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + SETTINGS + bytes(5)
"""How both sides of gRPC begin, after a preface: with a frame of HTTP/2 whose fourth byte is 4 (RFC 9113)."""


def check_cluster(address: str) -> None:
    """Raises ConfigError for no address of a Ray cluster, and for one at which none answers in seconds.

    Args:
        address: `HOST:PORT` or `ray://HOST:PORT`; Ray itself finds `auto`, and starts `local`.
    """
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        raise ConfigError(f"Expected --address as auto, HOST:PORT or ray://HOST:PORT, got `{address}`.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED) as connection:
            connection.sendall(HELLO)
            encrypted = os.environ.get("RAY_USE_TLS", "0") != "0"
            got = "" if encrypted or connection.recv(4)[3:] == SETTINGS else "another server"
    except (OSError, OverflowError, UnicodeError) as error:
        got = first_line(error)
    if got:
        raise ConfigError(
            f"Expected a Ray cluster at `{address}`, got: {got}. Give the address that ray start --head says."
        )
