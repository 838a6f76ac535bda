"""The routes of HTTP, and nothing else: addresses, statuses, headers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from ipaddress import ip_address
from time import monotonic

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ebjr_det.core.errors import EbjrError
from ebjr_det.io.pictures import picture_warnings
from ebjr_det.serving.bodies import header_length, packed, read_body
from ebjr_det.serving.desk import Answered, Ask, Desk, TeacherOf
from ebjr_det.serving.fault import Fault
from ebjr_det.serving.ledger import Ledger
from ebjr_det.serving.metrics import Meters
from ebjr_det.serving.openapi import describe
from ebjr_det.serving.pair import Load
from ebjr_det.serving.protocol import IMAGE, LENGTH, read_request, write_response
from ebjr_det.serving.refusals import fail, refuse, refuse_http
from ebjr_det.serving.rule import FORCES, Rule
from ebjr_det.serving.settings import ServeSettings
from ebjr_det.serving.tracing import add_stages, span_of
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
METRICS, LOAD = "/metrics", "/v2/repository/models/{model}/load"
PASSED_ON = "forwarded", "x-forwarded-for", "x-real-ip", "via", "origin"
"""Headers of who passes a request on for somebody else."""
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

    async def description(self, request: Request) -> Response:
        """The protocol's description, of this server's own addresses."""
        return JSONResponse(describe(self.models, version("ebjr-det"), admin=self.settings.admin))

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
        described = [
            {"name": form.name, "datatype": form.datatype, "shape": list(form.shape)} for form in outputs
        ]
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
        return JSONResponse(self.meters.statistics(names, self.desk.bench.student.sizes.counts()))

    async def metrics(self, request: Request) -> Response:
        """Prometheus' metrics."""
        return Response(self.meters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def load(self, request: Request) -> Response:
        """Read the pair anew. Raises Fault: 403 for who is not on this machine, 400 for a body that says
        what to read, 503 amid another reload.
        """
        self.force(request)
        if not _on_this_machine(request):
            raise Fault(403, "Expected a request from the server's own machine, got one from elsewhere.")
        await _check_load(request)
        if self.desk.reloading.locked():
            raise Fault(503, "Expected a server that reads no pair yet, got one that does. Come later.", 1.0)
        await self.desk.reload()
        return JSONResponse({})

    async def infer(self, request: Request) -> Response:
        """An inference."""
        arrived, force = monotonic(), self.force(request)
        body = await read_body(request, self.settings.largest_body)
        length = header_length(request)
        if (len(body) if length is None else length) > LONG:
            asked = await asyncio.to_thread(read_request, body, length)
        else:
            asked = read_request(body, length)
        ask = Ask(asked.pictures, Rule.of({**asked.parameters, **_query(request)}, force), arrived)
        with span_of(request.headers) as span:
            answer = await self.desk.answer(ask)
            if span is not None:
                add_stages(span, answer)
        request.state.pictures = len(ask.pictures)
        request.state.deferred = answer.answered_by.count("teacher")
        names = {"model_name": request.path_params["model"], "model_version": VERSION}
        content, header = write_response(names | {"parameters": _facts(answer)}, tensors_of(answer), asked)
        content, headers = packed(content, request)
        kind = "application/json" if header is None else "application/octet-stream"
        if header is not None:
            headers[LENGTH] = str(header)
        return Response(content, headers=headers, media_type=kind)


async def _check_load(request: Request) -> None:
    """Raises Fault 400 for a body that asks for anything but the folder that is served."""
    body = await read_body(request, LONG)
    try:
        content = json.loads(body or "{}")
    except (ValueError, RecursionError):
        content = None
    if content not in ({}, {"parameters": {}}):
        raise Fault(
            400, "Expected no body, or {}, as what is read is the folder that is served, got another."
        )


def _on_this_machine(request: Request) -> bool:
    """Whether a connection comes from a loopback address, and from nobody on whose behalf it is passed on."""
    passed_on = any(name in request.headers for name in PASSED_ON)
    try:
        address = ip_address(request.client.host if request.client else "")
    except ValueError:
        return False
    return address.is_loopback and not passed_on


def _query(request: Request) -> dict[str, object]:
    """Parameters in the address, for a body that is a bare picture; numbers where they read as such."""

    def value(text: str) -> float | str:
        try:
            return float(text)
        except ValueError:
            return text

    params = request.query_params if request.scope["query_string"] else {}
    return {name: value(text) for name, text in params.items()}


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
    router = bench.served.live.scoring.section.sha256 or ""
    teacher = bench.served.digests[1]
    digests = {"pair_sha256": bench.served.digest, "teacher_sha256": teacher, "router_sha256": router}
    return {"policy": bench.settings.policy, **digests, **rounded}


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
            EbjrError: refuse, HTTPException: refuse_http, Exception: fail,
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
    if counter.decided:  # by the threshold that the page is about
        routes.append(Route("/", counter.page))
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
        Route("/v2", counter.server),
        Route("/openapi.json", counter.description),
        Route("/v2/health/live", counter.live),
        Route("/v2/health/ready", counter.is_ready),
        *[Route(LOAD, counter.load, methods=["POST"])] * counter.settings.admin,
        Route(METRICS, counter.metrics),
    ]
