"""A client of the Open Inference Protocol, on the standard library and numpy."""

import json
import os
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from socket import SHUT_RDWR, create_connection
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.serving.protocol import KINDS, LARGEST_BATCH, LENGTH, split_values, write_request
from ebjr_det.tasks.tensors import Values

Picture: TypeAlias = bytes | str | os.PathLike[str]
"""The bytes of an encoded picture, or its path."""
LONGEST_PAUSE = 10.0
"""Seconds between two tries at most, whatever a server says."""
TYPES = {datatype: np.dtype(f"<{kind}") for kind, datatype in KINDS.items()}


class Refused(InvalidInput):
    """A request without an answer: the status of HTTP, None where nobody answered."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """A pair that a server answers for; one connection, so one thread at a time.

    An inference changes nothing, so a connection that fails and a full server (503) are tried again, after a
    pause that doubles or that the server names; other refusals and timeouts are not.

    Args:
        url: of the server, as `http://127.0.0.1:8000`.
        name: of the model; timeout: seconds for an answer; tries: at most, of each request.

    Attributes:
        facts: parameters of the last answer: policy, digests, milliseconds.

    Raises:
        ConfigError: an address that is none.

    Example:
        >>> from ebjr_det import Client
        >>> client = Client("http://127.0.0.1:8000")
        >>> client.infer(["cat.jpg"], threshold=0.4)["answered_by"]  # doctest: +SKIP
        ['teacher']
    """

    def __init__(self, url: str, *, name: str = "pair", timeout: float = 60.0, tries: int = 4) -> None:
        try:
            parts = urlsplit(url)
            port, host = parts.port, (parts.hostname or "").encode("idna")
            plain = parts.username is parts.password is None and not parts.query and not parts.fragment
            sound = parts.scheme in ("http", "https") and host and plain and url.isprintable()
            sound = sound and " " not in url and parts.path.isascii()
        except ValueError:  # a port that is none, or half an address of version 6
            sound = None
        if not sound:
            raise ConfigError(f"Expected the address of a server, as http://127.0.0.1:8000, got `{url}`.")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self.facts: dict[str, Any] = {}
        self.url, self.tries, self.path = url, tries, f"{parts.path.rstrip('/')}/v2/models/{name}"
        self.connection = kind(parts.hostname or "", port, timeout=timeout)

    def describe(self) -> dict[str, Any]:
        """The model's metadata. Raises Refused where no such server answers."""
        content: dict[str, Any] = json.loads(self._ask("GET", self.path)[0])
        return content

    def extensions(self) -> list[str]:
        """The extensions of the protocol that the server has. Raises Refused where there is none."""
        base = self.path.rpartition("/models/")[0]
        return list(json.loads(self._ask("GET", base)[0]).get("extensions", ()))

    def infer(self, pictures: Sequence[Picture], **parameters: float | str) -> dict[str, Values]:
        """The answers to 1 to 64 pictures, every output by its name.

        Args:
            parameters: `threshold`, `deferral_rate` or `force`, and `max_latency_ms`.

        Raises:
            Refused: what the server refuses, in its words, or no answer.
            InvalidInput: a number of pictures out of range.
        """
        if not 1 <= len(pictures) <= LARGEST_BATCH:
            raise InvalidInput(f"Expected 1 to {LARGEST_BATCH} pictures, got {len(pictures)}.")
        contents = [item if isinstance(item, bytes) else Path(item).read_bytes() for item in pictures]
        return self.send(*write_request(contents, parameters))

    def send(self, body: bytes, length: int | None) -> dict[str, Values]:
        """The outputs of a request as `protocol.write_request` writes it. Raises Refused."""
        headers = {"Content-Type": "application/json"} if length is None else {LENGTH: str(length)}
        content, length = self._ask("POST", f"{self.path}/infer", body, headers)
        header = json.loads(content[:length])
        facts = header.get("parameters")
        self.facts = facts if isinstance(facts, dict) else {}
        return read_tensors(header, content, length)

    def speaks_tls(self) -> bool:
        """Whether the server takes connections with TLS, whoever it says that it is."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        address = self.connection.host, self.connection.port
        try:
            with create_connection(address, self.connection.timeout) as plain, context.wrap_socket(plain):
                return True
        except OSError:
            return False

    def abort(self) -> None:
        """End the request under way, from another thread; its caller gets Refused."""
        with suppress(AttributeError, OSError):
            self.connection.sock.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """End the connection; the next request opens another one."""
        self.connection.close()

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[bytes, int | None]:
        """The body of an answer, and the length of its JSON where raw bytes follow."""
        pause = 0.1
        for remaining in reversed(range(self.tries)):
            try:
                self.connection.request(method, path, body, headers or {})
                response = self.connection.getresponse()
                content, status = response.read(), response.status
            except TimeoutError as error:
                self.close()
                raise Refused(f"Expected an answer of `{self.url}` in time, got none.") from error
            except (OSError, HTTPException) as error:
                self.close()
                if not remaining:
                    raise Refused(
                        f"Expected a server at `{self.url}`, got: {first_line(error)}. Start ebjr-det serve."
                    ) from error
            else:
                if status < 400:
                    length = response.headers.get(LENGTH)
                    return content, None if length is None else int(length)
                if status != 503 or not remaining:
                    raise Refused(_refusal(content, status), status)
                pause = float(response.headers.get("Retry-After") or pause)
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2
        raise AssertionError("the last try returns or raises")


def _refusal(content: bytes, status: int) -> str:
    """What a server says of a request that it refuses."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"Expected an answer, got status {status} of HTTP."


def read_tensors(header: dict[str, Any], body: bytes, length: int | None) -> dict[str, Values]:
    """The outputs in a body that begins with this header, numbers in their shapes and precision."""
    values: dict[str, Values] = {}
    start = len(body) if length is None else length
    for tensor in header["outputs"]:
        name, kind = tensor["name"], tensor["datatype"]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            data = tensor["data"]
            values[name] = data if kind == "BYTES" else np.array(data, TYPES[kind]).reshape(tensor["shape"])
            continue
        part, start = body[start : start + size], start + size
        if kind == "BYTES":
            values[name] = [text.decode() for text in split_values(part, size)]
        else:
            values[name] = np.frombuffer(part, TYPES[kind]).reshape(tensor["shape"])
    return values
