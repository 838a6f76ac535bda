"""The pair on Ray Serve: students behind Ray's proxy, teachers behind a handle, each scaling apart.

Nothing else here imports ray. In every replica is the desk of a single process, with batches of its own: a
student's has the routes of HTTP and asks teachers as it would ask another server (`serving.guard`); pictures
travel as they came. Each tier scales as the settings of Ray's deployments `student` and `teacher` say.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any

import ray
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector
from ray import serve
from ray.exceptions import RayError
from ray.serve import Application, Deployment
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import Opaque
from ebjr_det.io.notes import say
from ebjr_det.io.third_party import foreign_errors
from ebjr_det.io.threads import usable_cpus
from ebjr_det.serving.app import LOAD, METRICS, build_app
from ebjr_det.serving.batcher import Batched
from ebjr_det.serving.desk import Ask, Desk
from ebjr_det.serving.fault import Unavailable
from ebjr_det.serving.guard import Guarded
from ebjr_det.serving.laws import CALIBRATED
from ebjr_det.serving.metrics import Meters
from ebjr_det.serving.pair import Load, Served
from ebjr_det.serving.protocol import Source
from ebjr_det.serving.server import DRAIN, listen, reload
from ebjr_det.serving.settings import LONGEST, ServeSettings
from ebjr_det.serving.teacher import Deferred

START = 30.0
"""Seconds that a student waits at its start for a teacher to come; later it serves without one."""
RELOAD = 600.0
"""Seconds for which the replicas of a tier are waited for while they read the pair anew."""
STUDENTS, TEACHERS = "student", "teacher"
"""Names of the deployments."""
OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory of a Ray that is started here, for requests of over 100 kB on their way."""
REPLICAS = {"min_replicas": 1, "max_replicas": 4}
STUDENT_SCALE = {**REPLICAS, "target_ongoing_requests": 64}
TEACHER_SCALE = {**REPLICAS, "target_ongoing_requests": 4}
"""A request is ongoing at its student also while the teacher works, so a student is full much later."""
LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""Of Ray's own; `app.Ledger` writes the line of a request."""


class Tier:
    """A replica with a desk, which reads the pair anew where its `user_config` is changed."""

    desk: Desk
    config: object = None

    async def reload(self) -> None:
        """Read the pair; one that cannot be read leaves the one that serves, as a line of the log says."""
        await reload(self.desk)

    async def reconfigure(self, config: object) -> None:
        """Reload at every change but the first, which comes with the start."""
        changed = self.config not in (None, config)
        self.config = config
        if changed:
            await self.reload()


class TeacherTier(Tier):
    """A replica of the teacher alone; `load`: reads it; see `api.serve.load_alone`."""

    def __init__(self, load: Load, settings: ServeSettings) -> None:
        self.desk = Desk(load, settings, Meters())

    async def ready(self) -> None:
        """Answer as soon as there is a desk."""

    async def answer(self, sources: Sequence[Source], sha256: str) -> Batched[Opaque] | InvalidInput:
        """The predictions, or what is refused: raised here, it would be a defect in Ray's log.

        Args:
            sha256: of the teacher whose answers are wanted; another one is not there, as amid a reload.
        """
        try:
            answer = await self.desk.answer(Ask(sources))
        except InvalidInput as error:
            return error
        if answer.bench.served.digests[1] != sha256:
            return Unavailable("died")
        return Batched(answer.predictions, answer.seconds["student_wait"], answer.seconds["student"])


@dataclass(frozen=True)
class TeacherHandle:
    """The `guard.Link` to the teachers of a cluster.

    Attributes:
        sha256: of the pair's teacher, empty where nobody knows.
        loop: of the replica, where alone a handle may be used.
    """

    handle: DeploymentHandle[TeacherTier]
    sha256: str
    loop: asyncio.AbstractEventLoop

    def warm(self, deferred: Deferred) -> Sequence[Opaque]:
        """The predictions of first pictures; called in a thread."""
        future = asyncio.run_coroutine_threadsafe(self.ask(deferred), self.loop)
        try:
            return future.result(LONGEST).results
        except TimeoutError as error:
            future.cancel()
            raise Unavailable("timeout") from error

    async def ask(self, deferred: Deferred) -> Batched[Opaque]:
        """A prediction of every picture, by whichever teacher Ray takes."""
        response = self.handle.answer.remote(list(deferred.sources), self.sha256)
        try:
            taught: Batched[Opaque] | InvalidInput = await response
        except (RayError, RayServeException) as error:
            raise Unavailable("died") from error
        except asyncio.CancelledError:
            response.cancel()  # else it would be answered for nobody
            raise
        if isinstance(taught, InvalidInput):
            raise taught
        return taught

    def close(self) -> None:
        """Nothing is to be ended: the handle belongs to the replica."""


@serve.ingress()
class StudentTier(Tier):
    """A replica of the student, with the routes of HTTP.

    Args:
        load: reads the pair without its teacher; see `api.serve.load_served`.
    """

    def __init__(self, load: Load, settings: ServeSettings, teachers: DeploymentHandle[TeacherTier]) -> None:
        self.load, self.settings, self.teachers = load, settings, teachers

    async def __serve_build_asgi_app__(self) -> Starlette:
        """The app of a single process; built in a thread, as the loop carries the first call of a teacher."""
        loop = asyncio.get_running_loop()

        def teacher_of(served: Served) -> Guarded:
            link = TeacherHandle(self.teachers, served.digests[1], loop)
            return Guarded(link, self.settings.patience_seconds)

        with suppress(TimeoutError, RayError, RayServeException):  # it starts beside this one
            await asyncio.wait_for(self.teachers.ready.remote(), START)
        app = await asyncio.to_thread(build_app, self.load, teacher_of, self.settings)
        self.desk = app.state.desk
        # One replica's would tell little, and behind a proxy every client may seem to be on this machine.
        alone = [route for route in app.routes if getattr(route, "path", "") not in (METRICS, LOAD)]
        app.router.routes[:] = [Route(METRICS, self.metrics), *alone]
        return app

    def families(self) -> list[Metric]:
        """This replica's metrics, each value with the replica's name."""
        replica = serve.get_replica_context().replica_tag
        families = list(self.desk.meters.registry.collect())
        for family in families:
            family.samples = [
                sample._replace(labels={**sample.labels, "replica": replica}) for sample in family.samples
            ]
        return families

    async def metrics(self, request: Request) -> Response:
        """The metrics of all students, whichever is asked."""
        context = serve.get_replica_context()
        students = serve.get_deployment_handle(context.deployment, context.app_name)
        parts = await students.broadcast("families").results_async(timeout_s=LONGEST, return_exceptions=True)
        registry = CollectorRegistry()
        registry.register(Together([part for part in parts if not isinstance(part, BaseException)]))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Together(Collector):
    """A collector of the metrics of several replicas."""

    def __init__(self, replicas: Sequence[Iterable[Metric]]) -> None:
        self.replicas = replicas

    def collect(self) -> Iterator[Metric]:
        """Each metric once, with the values of all."""
        families: dict[str, Metric] = {}
        for metrics in self.replicas:
            for metric in metrics:
                if metric.name in families:
                    families[metric.name].samples += metric.samples
                else:
                    families[metric.name] = metric
        yield from families.values()


def build_application(
    load: Load, load_teacher: Load, settings: ServeSettings, threads: int | None = None
) -> Application:
    """The two tiers as an application of Ray Serve.

    Args:
        load, load_teacher: read the pair without its teacher, and the teacher alone, on every machine.
        threads: of a replica, which are the CPUs that it takes.
    """
    options: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": threads or 1},
        "graceful_shutdown_timeout_s": DRAIN,
        "graceful_shutdown_wait_loop_s": 0.5,
        "logging_config": LOGGING,
    }
    room = settings.teacher_queue
    # twice what a desk admits, so that its refusal is met, with a reason, and not Ray's queue without end
    alone = replace(settings, tier="teacher", policy=CALIBRATED, slo_ms=None, shadow=0.0, queue_size=room)
    teachers: Deployment = serve.deployment(
        name=TEACHERS, autoscaling_config=TEACHER_SCALE, max_ongoing_requests=2 * room, **options
    )(TeacherTier)
    students: Deployment = serve.deployment(
        name=STUDENTS,
        autoscaling_config=STUDENT_SCALE,
        max_ongoing_requests=2 * settings.queue_size,
        **options,
    )(StudentTier)
    return students.bind(load, settings, teachers.bind(load_teacher, alone))


def run_cluster(
    application: Application, settings: ServeSettings, address: str, on_start: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or Ctrl-C; what has begun is then answered. SIGHUP reloads every replica.

    Args:
        address: of a Ray cluster, or `local` to start one on this machine, which ends with this process.
        on_start: called with the address when requests are taken.

    Raises:
        ConfigError: a port in use, a cluster that is not there, or replicas that do not start.
    """
    sizes: dict[str, Any] = {}
    if address == "local":
        cpus = 2 * usable_cpus()  # students and teachers hardly ever work at the same time on one request
        sizes = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
        with listen(settings) as listener:  # the proxy would tell of a port in use in a log of its own
            settings = replace(settings, port=listener.getsockname()[1])
    arrived = SimpleQueue[int]()
    try:
        with foreign_errors(f"Ray Serve to start at `{address}`"):
            ray.init(address, configure_logging=False, **sizes)
            _start(application, settings)
        hangup = getattr(signal, "SIGHUP", None)  # Windows has none
        for number in filter(None, (signal.SIGTERM, signal.SIGINT, hangup)):
            signal.signal(number, lambda number, frame: arrived.put(number))
        on_start(f"http://{settings.host}:{settings.port}")
        while arrived.get() == hangup:
            _reload(settings.name)
        serve.delete(settings.name)
    finally:
        ray.shutdown()


def _start(application: Application, settings: ServeSettings) -> None:
    """Ray Serve with the application. Where Serve is running already, it keeps listening where it does."""
    options = {"host": settings.host, "port": settings.port}
    serve.start(proxy_location="HeadOnly", http_options=options, logging_config=LOGGING)
    serve.run(application, name=settings.name, route_prefix="/")


def _reload(name: str) -> None:
    """Read the pair anew in every replica, teachers first; one that fails is told and ends nothing."""
    for tier in (TEACHERS, STUDENTS):
        try:
            replicas = serve.get_deployment_handle(tier, name).broadcast("reload")
            results = replicas.results(timeout_s=RELOAD, return_exceptions=True)
        except (RayError, RayServeException, TimeoutError) as error:
            results = [error]
        for fault in results:
            if isinstance(fault, BaseException):
                say(f"Not reloaded, a {tier}: {first_line(fault)}.")
