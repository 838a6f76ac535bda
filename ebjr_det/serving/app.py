"""The routes of HTTP, and nothing else: addresses, statuses, headers."""

import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from time import monotonic
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.pictures import picture_warnings
from ebjr_det.serving.bodies import LENGTH, header_length, packed, read_body
from ebjr_det.serving.desk import Answered, Ask, Desk, TeacherOf
from ebjr_det.serving.fault import Fault
from ebjr_det.serving.metrics import Meters
from ebjr_det.serving.pair import Load
from ebjr_det.serving.protocol import IMAGE, read_request, write_response
from ebjr_det.serving.rule import FORCES, Rule
from ebjr_det.serving.settings import ServeSettings
from ebjr_det.tasks.tensors import TensorForm, Values

EXTENSIONS = ["binary_tensor_data", "statistics"]
DECIDED = (
    TensorForm("answered_by", "BYTES", (-1,)),
    TensorForm("deferral_score", "FP64", (-1,)),
    TensorForm("threshold", "FP64", (-1,)),
    TensorForm("degraded", "BYTES", (-1,)),
)
"""Outputs of every task."""
LONG = 100_000
"""Bytes of JSON that are read in a thread, so that nobody else waits for it."""
VERSION = "1"
POLICY = "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
"""What the page may load: itself."""


class Counter:
    """What stands between HTTP and the desk."""

    def __init__(self, desk: Desk, settings: ServeSettings, meters: Meters) -> None:
        self.desk, self.settings, self.meters = desk, settings, meters
        name, alone = settings.name, desk.bench.served.alone
        sides = {f"{name}-{side}": side for side in FORCES}
        self.models: dict[str, str | None] = {f"{name}-teacher": None} if alone else {name: None, **sides}
        self.decided = () if alone else DECIDED
        self.ready = True

    def force(self, request: Request) -> str | None:
        """The side that a model's name means. Raises Fault 404 for an unknown model or version."""
        name = request.path_params["model"]
        if name not in self.models or request.path_params.get("version", VERSION) != VERSION:
            models = ", ".join(self.models)
            raise Fault(404, f"Expected a model among {models}, version {VERSION}, got another.")
        return self.models[name]

    async def page(self, request: Request) -> Response:
        """The page for people, which asks nobody but this server."""
        text = files("ebjr_det.serving").joinpath("page.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})

    async def server(self, request: Request) -> Response:
        """The server's metadata."""
        return JSONResponse({"name": "ebjr-det", "version": version("ebjr-det"), "extensions": EXTENSIONS})

    async def live(self, request: Request) -> Response:
        """Whether the process answers."""
        return JSONResponse({"live": True})

    async def is_ready(self, request: Request) -> Response:
        """Whether requests are taken; 503 while the server ends."""
        if "model" in request.path_params:
            self.force(request)
        content = {"ready": self.ready, "name": request.path_params.get("model", self.settings.name)}
        return JSONResponse(content, 200 if self.ready else 503)

    async def model(self, request: Request) -> Response:
        """A model's metadata."""
        self.force(request)
        bench = self.desk.bench
        outputs = [*bench.served.tensors.forms(bench.served.live.named), *self.decided]
        described = [{"name": name, "datatype": kind, "shape": list(shape)} for name, kind, shape in outputs]
        return JSONResponse(
            {
                "name": request.path_params["model"],
                "versions": [VERSION],
                "platform": "ebjr_det",
                "inputs": [{"name": IMAGE, "datatype": "BYTES", "shape": [-1]}],
                "outputs": described,
                "parameters": bench.describe(),
            }
        )

    async def stats(self, request: Request) -> Response:
        """The statistics extension, of one model or of all."""
        names = list(self.models)
        if "model" in request.path_params:
            self.force(request)
            names = [request.path_params["model"]]
        return JSONResponse(self.meters.statistics(names, self.desk.bench.student.batches))

    async def metrics(self, request: Request) -> Response:
        """Prometheus' metrics."""
        return Response(self.meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def infer(self, request: Request) -> Response:
        """An inference."""
        arrived, force = monotonic(), self.force(request)
        body = await read_body(request, self.settings.largest_body)
        length = header_length(request)
        if length is None and len(body) > LONG:
            asked = await asyncio.to_thread(read_request, body, length)
        else:
            asked = read_request(body, length)
        ask = Ask(asked.pictures, Rule.of({**asked.parameters, **_query(request)}, force), arrived)
        answer = await self.desk.answer(ask)
        request.state.pictures = len(ask.pictures)
        request.state.deferred = answer.answered_by.count("teacher")
        names = {"model_name": request.path_params["model"], "model_version": VERSION}
        content, header = write_response(names | {"parameters": _facts(answer)}, tensors_of(answer), asked)
        content, headers = packed(content, request)
        kind = "application/json" if header is None else "application/octet-stream"
        if header is not None:
            headers[LENGTH.title()] = str(header)
        return Response(content, headers=headers, media_type=kind)


def _query(request: Request) -> dict[str, Any]:
    """Parameters in the address, for a body that is a bare picture; numbers where they read as such."""

    def value(text: str) -> float | str:
        try:
            return float(text)
        except ValueError:
            return text

    return {name: value(text) for name, text in request.query_params.items()}


def tensors_of(answer: Answered) -> dict[str, Values]:
    """All outputs of an answer; of a teacher alone, which decides nothing, its predictions."""
    import numpy as np

    served, count = answer.bench.served, len(answer.scores)
    tensors = served.tensors.to_tensors(answer.predictions, served.live.named)
    if served.alone:
        return dict(tensors)
    return {
        **tensors,
        "answered_by": answer.answered_by,
        "deferral_score": np.array(answer.scores, dtype=np.float64),
        "threshold": np.full(count, answer.threshold, dtype=np.float64),
        "degraded": answer.degraded,
    }


def _facts(answer: Answered) -> dict[str, object]:
    """Response parameters: which pair and policy, and how long its stages took."""
    seconds, bench = answer.seconds, answer.bench
    waits = seconds["student_wait"] + seconds.get("teacher_wait", 0.0)
    ms = {"student_ms": seconds["student"], "teacher_ms": seconds.get("teacher", 0.0), "queue_ms": waits}
    rounded = {name: round(1000 * value, 3) for name, value in ms.items()}
    return {"policy": bench.settings.policy, "pair_sha256": bench.served.digest, **rounded}


def build_app(load: Load, teacher_of: TeacherOf | None, settings: ServeSettings) -> Starlette:
    """The server as an ASGI application; the pair is loaded here, and asks its own teacher or another one.

    Its `state` has `desk` and `counter`.

    Raises:
        EbjrError: a pair that cannot be loaded, or a policy that it cannot follow.
    """
    meters = Meters()
    counter = Counter(Desk(load, settings, meters, teacher_of), settings, meters)
    app = Starlette(
        routes=_routes(counter),
        exception_handlers={
            InvalidInput: _refuse, HTTPException: _refuse_http, Exception: _fail,
        },
        lifespan=lambda app: _lifespan(counter),
    )  # fmt: skip
    app.add_middleware(Ledger, meters=meters, log=settings.access_log)
    app.state.desk, app.state.counter = counter.desk, counter
    return app


@asynccontextmanager
async def _lifespan(counter: Counter) -> AsyncIterator[None]:
    with picture_warnings():
        yield
    counter.ready = False
    counter.desk.close()


def _routes(counter: Counter) -> list[Route]:
    model, routes = "/v2/models/{model}", list[Route]()
    for base in (model, f"{model}/versions/{{version}}"):  # the busiest address first
        routes += [
            Route(f"{base}/infer", counter.infer, methods=["POST"]),
            Route(base, counter.model),
            Route(f"{base}/ready", counter.is_ready),
            Route(f"{base}/stats", counter.stats),
        ]
    return [
        Route("/v2/models/stats", counter.stats),  # before a model of this name
        *routes,
        Route("/", counter.page),
        Route("/v2", counter.server),
        Route("/v2/health/live", counter.live),
        Route("/v2/health/ready", counter.is_ready),
        Route("/metrics", counter.metrics),
    ]


def _error(status: int, message: str, retry_after: float | None = None) -> Response:
    headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    return JSONResponse({"error": " ".join(message.split())}, status, headers)


async def _refuse(request: Request, error: Exception) -> Response:
    """One line; what the machine's folders are called is nobody's business."""
    served = request.app.state.desk.bench.served
    message = str(error).replace(f"{served.folder}/", "") if served.folder else str(error)
    if isinstance(error, Fault):
        return _error(error.status, message, error.retry_after)
    return _error(400, message)


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    texts = {404: "Expected an address of the protocol, got another.", 405: "Expected another method."}
    return JSONResponse(
        {"error": texts.get(error.status_code, error.detail)}, error.status_code, error.headers
    )


async def _fail(request: Request, error: Exception) -> Response:
    """A defect of ours: the server's log has it, its client learns no more than that."""
    return _error(500, "Expected an answer, got a defect of this server. Its log tells more.")


class Ledger:
    """Counts every request, and writes a line of JSON on stderr for each."""

    def __init__(self, app: Callable[..., Awaitable[None]], meters: Meters, log: bool) -> None:
        self.app, self.meters, self.log = app, meters, log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, and see with which status it ends."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = monotonic(), 500

        async def note(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            seconds = monotonic() - started
            if scope["path"].endswith("/infer"):
                self.meters.ended(status, seconds)
            if self.log:
                self._write(scope, status, seconds)

    def _write(self, scope: Any, status: int, seconds: float) -> None:
        line = {"method": scope["method"], "path": scope["path"], "status": status}
        remarks = {name: value for name, value in scope.get("state", {}).items() if name in REMARKS}
        print(json.dumps(line | {"ms": round(1000 * seconds, 3)} | remarks), file=sys.stderr, flush=True)


REMARKS = ("pictures", "deferred")
