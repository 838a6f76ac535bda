"""`serve`: a pair behind the Open Inference Protocol, as one process."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from ebjr_det.api.load import samples_of
from ebjr_det.api.settings import load_settings, reference_scores
from ebjr_det.core.errors import ConfigError
from ebjr_det.inference.absent import SIDES
from ebjr_det.inference.live import build_live, build_teacher, choose_threshold
from ebjr_det.io.clusters import RAY, check_cluster
from ebjr_det.io.third_party import check_packages
from ebjr_det.io.threads import limited_threads
from ebjr_det.serving.laws import build_law
from ebjr_det.serving.pair import Load, Served, serve_settings
from ebjr_det.serving.settings import ServeSettings

if TYPE_CHECKING:
    from ray.serve import Application
    from starlette.applications import Starlette

    from ebjr_det.serving.desk import TeacherOf
    from ebjr_det.serving.guard import Guarded

PACKAGES = ("starlette", "uvicorn", "prometheus_client")
PURPOSE = "to serve a pair"


def serve(
    folder: str | Path,
    settings: ServeSettings | None = None,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    changes: Sequence[str] = (),
    cluster: str | None = None,
    on_start: Callable[[str], None] = lambda address: None,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; see `serving.server` and, on Ray, `serving.cluster`.

    Args:
        folder: an export, a finished run or a configuration, as in `load`; read again on SIGHUP.
        threshold, rate, changes: as in `load`.
        cluster: the address of a Ray cluster whose machines all see the folder, as `auto`, or `local` for one
            that is started here; by default this process does everything.
        on_start: called with the address when requests are taken.

    Raises:
        EbjrError: a package that is not installed, a port in use, or a pair that cannot be loaded.

    Example:
        >>> from ebjr_det import ServeSettings, serve
        >>> serve("exported", ServeSettings(port=8000), on_start=print)  # doctest: +SKIP
        http://127.0.0.1:8000
    """
    if cluster is not None:
        check_cluster(cluster)
    check_packages(PACKAGES, "serve", PURPOSE)
    from ebjr_det.serving.server import run_server

    settings = settings or ServeSettings()
    if cluster is not None:
        os.environ |= RAY | os.environ
        name = str(Path(folder).absolute() if Path(folder).exists() else folder)
        application = build_cluster(
            ClusterArguments(
                folder=name, threshold=threshold, rate=rate, changes=list(changes), settings=settings
            )
        )
        from ebjr_det.serving.cluster import run_cluster

        run_cluster(application, settings, cluster, on_start)
        return
    threads = load_settings(folder, changes, settings.sides)[0].run.threads
    with limited_threads(threads):
        run_server(*_sources(folder, settings, threshold, rate, changes), settings, on_start)


def build_serving(
    folder: str | Path,
    settings: ServeSettings | None = None,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    changes: Sequence[str] = (),
) -> "Starlette":
    """The server of `serve` as an ASGI application, for other hosts; arguments as those of `serve`.

    Example:
        >>> from ebjr_det import build_serving
        >>> build_serving("runs/digits").state.desk.bench.describe()["task"]
        'classification'
    """
    check_packages(PACKAGES, "serve", PURPOSE)
    from ebjr_det.serving.app import build_app

    settings = settings or ServeSettings()
    load, teacher_of = _sources(folder, settings, threshold, rate, changes)
    return build_app(load, teacher_of, settings)


class ClusterArguments(BaseModel):
    """The `args` of `build_cluster` in a file of Ray Serve; those of `serve`."""

    model_config = ConfigDict(extra="forbid")

    folder: str
    threshold: float | None = None
    rate: float | None = None
    changes: list[str] = []
    settings: ServeSettings = ServeSettings()


def build_cluster(arguments: ClusterArguments) -> "Application":
    """The server of `serve` as an application of Ray Serve, for its `serve run` and `serve deploy`.

    Raises:
        EbjrError: a package that is not installed, or a pair that cannot be loaded.

    Example:
        >>> from ebjr_det import build_cluster
        >>> from ebjr_det.api.serve import ClusterArguments
        >>> build_cluster(ClusterArguments(folder="runs/digits")).name  # doctest: +SKIP
        'student'
    """
    check_packages((*PACKAGES, "ray"), "ray", PURPOSE)
    folder, changes, settings = arguments.folder, arguments.changes, arguments.settings
    if (settings.tier, settings.teacher) != ("pair", None):
        raise ConfigError(
            "Expected no --tier and no --teacher on Ray, which has teachers of its own, got one."
        )
    load = partial(load_served, folder, arguments.threshold, arguments.rate, changes, SIDES[:1])
    served = load()  # a fault of the folder is told before a cluster starts
    build_law(settings.policy, served.threshold, served.reference, settings.slo_ms)
    threads = load_settings(folder, changes, SIDES[:1])[0].run.threads
    from ebjr_det.serving.cluster import build_application

    return build_application(load, partial(load_alone, folder, changes), settings, threads)


def _sources(
    folder: str | Path,
    settings: ServeSettings,
    threshold: float | None,
    rate: float | None,
    changes: Sequence[str],
) -> "tuple[Load, TeacherOf | None]":
    """What reads the pair, and what makes its teacher where that is on another server."""
    if settings.teacher is None and settings.patience_ms is not None:
        raise ConfigError(
            "Expected --patience-ms beside --teacher or --ray, got it where no other process is waited for."
        )
    if settings.tier == "teacher":
        if (threshold, rate) != (None, None):
            raise ConfigError("Expected no threshold and no rate beside --tier teacher, got one.")
        return partial(load_alone, folder, changes), None
    load = partial(load_served, folder, threshold, rate, changes, settings.sides)
    return load, None if settings.teacher is None else partial(_remote, settings)


def _remote(settings: ServeSettings, served: Served) -> "Guarded":
    from ebjr_det.serving.guard import Guarded
    from ebjr_det.serving.remote import RemoteTeacher

    link = RemoteTeacher(str(settings.teacher), f"{settings.name}-teacher", served)
    return Guarded(link, settings.patience_seconds)


def load_served(
    folder: str | Path,
    threshold: float | None,
    rate: float | None,
    changes: Sequence[str],
    sides: tuple[str, ...] = SIDES,
) -> Served:
    """The pair in a folder as it is now, `sides` of it. Raises EbjrError for whatever `load` refuses."""
    config, of_run = load_settings(folder, changes, sides)
    scoring, chosen = choose_threshold(config, of_run if threshold is rate is None else threshold, rate)
    if scoring.reference is None:
        scoring = replace(scoring, reference=reference_scores(folder, of_run))
    live = build_live(config, scoring, chosen, samples_of(config), sides=sides)
    return serve_settings(config, live, str(folder))


def load_alone(folder: str | Path, changes: Sequence[str]) -> Served:
    """The teacher in a folder, as it is now. Raises EbjrError for one that cannot be loaded."""
    config, _ = load_settings(folder, changes, ("teacher",))
    return serve_settings(config, build_teacher(config, samples_of(config)), str(folder), alone=True)
