"""A teacher on another server of the same protocol: ours with `--tier teacher`, Triton, KServe.

Encoded pictures travel there, never tensors, over connections that stay open, each used by one thread at a
time. Every new connection begins with the model's metadata, and every answer of ours names its teacher, so
that a server of another pair is found out also when it takes the place of the right one.
"""

import asyncio
import math
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import BadStatusLine
from io import BytesIO
from ssl import SSLEOFError, SSLError
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.types import Opaque
from ebjr_det.io.notes import say
from ebjr_det.serving.batcher import Batched
from ebjr_det.serving.client import Client, Refused
from ebjr_det.serving.fault import Unavailable
from ebjr_det.serving.pair import Served
from ebjr_det.serving.protocol import IMAGE, Source, write_request
from ebjr_det.serving.settings import LONGEST
from ebjr_det.serving.teacher import Deferred

if TYPE_CHECKING:
    from PIL.Image import Image

CONNECTIONS, MESSAGES = 64, 100
MODELS = "/v2/models/"
WRONG_PICTURE, TOO_LARGE, PACKING = 400, 413, 415
NONSENSE = (LookupError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, struct.error)
"""What reading a body that is none of the protocol can raise."""
REASON_OF_STATUS = {408: "timeout", 429: "busy", 503: "busy", 504: "timeout"}
"""What a status of HTTP says of a server that is not at fault otherwise."""


@dataclass(eq=False)
class _Connection:
    """A client, whether its server takes raw bytes, is of this package, and has answered before."""

    client: Client
    binary: bool = False
    ours: bool = False
    used: bool = False


class _Visit:
    """One request's use of connections, which its caller may give up while a thread waits for the answer."""

    def __init__(self) -> None:
        self.lock, self.abandoned = Lock(), False
        self.connection: _Connection | None = None

    def begin(self, connection: _Connection) -> None:
        """Use a connection. Raises Refused where nobody waits any more."""
        with self.lock:
            if self.abandoned:
                raise Refused("Expected somebody who waits, got nobody.")
            self.connection = connection

    def end(self) -> bool:
        """Whether the connection may be used again; from now on nobody ends it from here."""
        with self.lock:
            self.connection = None
            return not self.abandoned

    def abandon(self) -> None:
        """End the exchange under way, so that its thread is free again."""
        with self.lock:
            self.abandoned = True
            if self.connection is not None:
                self.connection.client.abort()


class RemoteTeacher:
    """The `guard.Link` to a teacher on another server.

    Args:
        url: of the server, whose model is then called `name`; or with `/v2/models/MODEL`.
        served: the pair whose teacher it is.

    Raises:
        ConfigError: an address that is none.
    """

    def __init__(self, url: str, name: str, served: Served) -> None:
        base, _, model = url.rstrip("/").partition(MODELS)
        self.url, self.name, self.served = base, model or name, served
        self.idle: list[_Connection] = []
        self.said: set[str] = set()
        self._client()
        self.threads = ThreadPoolExecutor(CONNECTIONS, "ebjr-det link")

    def _client(self) -> Client:
        return Client(self.url, name=self.name, timeout=LONGEST, tries=1)

    def warm(self, deferred: Deferred) -> Sequence[Opaque]:
        """The predictions of first pictures, over a new connection."""
        try:
            return self._answered(deferred, _Visit()).results
        except Refused as error:
            self._check_protocol(error.__cause__)
            raise self._fault(error) from error

    def _check_protocol(self, cause: BaseException | None) -> None:
        """Raises ConfigError for a port of another protocol, TLS or none, which no waiting mends."""
        kind, got = self.url.partition(":")[0], ""
        if isinstance(cause, SSLError) and not isinstance(cause, SSLEOFError):
            got = first_line(cause)
        elif kind == "http" and isinstance(cause, BadStatusLine | ConnectionResetError):
            another = "" if isinstance(cause, ConnectionResetError) else "another one"
            got = "one of https" if self._client().speaks_tls() else another
        if got:
            raise ConfigError(f"Expected a server of {kind} at {self.url}, got {got}. Correct the address.")

    async def ask(self, deferred: Deferred) -> Batched[Opaque]:
        """A prediction of every picture, in a thread of its own."""
        visit, loop = _Visit(), asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.threads, self._answered, deferred, visit)
        except asyncio.CancelledError:
            visit.abandon()
            raise
        except Refused as error:
            raise self._fault(error) from error
        except ConfigError as error:
            self._say(str(error))
            raise Unavailable("died") from error

    def _fault(self, error: Refused) -> Unavailable:
        """What a refusal means here: a full server, or a machine that is at fault."""
        if error.status not in (None, *REASON_OF_STATUS):
            self._say(str(error))
        return Unavailable(REASON_OF_STATUS.get(error.status or 0, "died"))

    def _say(self, message: str) -> None:
        """Tell the server's log, once, and no more than 100 different things."""
        if message not in self.said and len(self.said) < MESSAGES:
            self.said.add(message)
            say(f"Warning: teacher at {self.url}: {message}")

    def _answered(self, deferred: Deferred, visit: _Visit) -> Batched[Opaque]:
        """Ask over an idle connection, or over a new one where its server has closed that meanwhile."""
        contents = list(map(_encoded, deferred.sources, deferred.pictures))
        while True:
            connection = self._connection()
            try:
                visit.begin(connection)
                if not connection.used:
                    self._check(connection)
                started = monotonic()
                predictions = self._exchange(connection, contents, deferred.left)
            except BaseException as error:
                retry = visit.end() and connection.used
                connection.client.close()
                if not isinstance(error, Refused):
                    raise
                if retry and error.status is None:
                    continue
                wrong = (
                    WRONG_PICTURE if connection.ours else TOO_LARGE
                )  # others say 400 of whatever they lack
                if error.status in (wrong, TOO_LARGE, PACKING):
                    raise InvalidInput(f"{error} So says the teacher.") from error
                raise
            connection.used = True
            if visit.end():
                self.idle.append(connection)
            else:
                connection.client.close()
            return Batched(predictions, 0.0, monotonic() - started)

    def _connection(self) -> _Connection:
        try:
            return self.idle.pop()
        except IndexError:
            return _Connection(self._client())

    def _exchange(self, connection: _Connection, contents: Sequence[bytes], left: float) -> Sequence[Opaque]:
        """Raises Refused where the answer is none of the protocol or none of this task."""
        tensors, named = self.served.tensors, self.served.live.named
        limited = connection.ours and left < math.inf  # else it would work for nobody
        parameters = {"max_latency_ms": 1000 * left} if limited else {}
        request = write_request(contents, parameters, tensors.REQUIRED, connection.binary)
        try:
            values = connection.client.send(*request)
            self._check_digest(connection.client.facts)
            tensors.check_tensors(values, named)
            predictions = tensors.from_tensors(values)
        except Refused:
            raise
        except (InvalidInput, *NONSENSE) as error:
            raise Refused(
                f"Expected an answer of {self.served.task}, got: {first_line(error)}", 502
            ) from error
        if len(predictions) != len(contents):
            raise Refused(f"Expected {len(contents)} answers, got {len(predictions)}.", 502)
        return predictions

    def _check(self, connection: _Connection) -> None:
        """Raises ConfigError for a model that is not this pair's teacher, Refused where nobody answers."""
        try:
            facts = connection.client.describe()
            connection.ours = facts.get("platform") == "ebjr_det"
            connection.binary = "binary_tensor_data" in connection.client.extensions()
            inputs, outputs = ({item["name"] for item in facts[kind]} for kind in ("inputs", "outputs"))
        except Refused as error:
            if error.status is None or error.status >= 500:
                raise
            raise self._misfit(f"none ({error})") from error
        except NONSENSE as error:
            raise self._misfit(f"metadata of no such model ({first_line(error)})") from error
        if lacking := [IMAGE] * (IMAGE not in inputs) + sorted(set(self.served.tensors.REQUIRED) - outputs):
            raise self._misfit(f"one without `{lacking[0]}`")
        parameters = facts.get("parameters")
        self._check_parameters(parameters if isinstance(parameters, dict) else {})

    def _check_parameters(self, parameters: dict[str, Any]) -> None:
        """Whatever a server tells of its model must be so here; one of another make tells nothing."""
        expected = {
            "classes": list(self.served.live.named.class_names),
            "teacher_sha256": self.served.digests[1],
        }
        for name, value in expected.items():
            if value and parameters.get(name) and parameters[name] != value:
                raise self._misfit(f"one of another `{name}`")

    def _check_digest(self, facts: dict[str, object]) -> None:
        """Raises Refused for an answer of another teacher, as of a server that has read its folder anew."""
        digest, expected = facts.get("teacher_sha256"), self.served.digests[1]
        if digest and expected and digest != expected:
            raise Refused("Expected an answer of this pair's teacher, got one of another. Reload both.", 502)

    def _misfit(self, got: str) -> ConfigError:
        return ConfigError(
            f"Expected the teacher of this pair as model `{self.name}` at {self.url}, got {got}. Serve it: "
            "ebjr-det serve FOLDER --tier teacher."
        )

    def close(self) -> None:
        """End the idle connections; those in use end with their requests."""
        self.threads.shutdown(wait=False)
        while self.idle:
            self.idle.pop().client.close()


def _encoded(source: Source, picture: "Image") -> bytes:
    """A picture as a file: as it came, or pixels without loss."""
    if not isinstance(source, np.ndarray):
        return source
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
