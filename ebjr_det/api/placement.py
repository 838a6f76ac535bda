"""`placement`: a router in front of the student, behind it, or both, judged on a finished run's pictures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from ebjr_det.api.fit_front import OpenedRun, open_run, small_copies, weights_in
from ebjr_det.api.settings import check_split
from ebjr_det.core.cost import Cost
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import Model, PairedRun
from ebjr_det.evaluation.analysis import titled
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.placement.choice import FrontCosts
from ebjr_det.evaluation.placement.report import (
    PlacementAnalysis,
    PlacementReport,
    build_placement_report,
)
from ebjr_det.inference.latency import Latency, measure_latency
from ebjr_det.inference.router_file import load_front_file
from ebjr_det.io.environment import device_name
from ebjr_det.io.files import check_empty, writable_folder
from ebjr_det.reporting.overview import Overview, WrittenResult
from ebjr_det.reporting.page import PAGE
from ebjr_det.reporting.placement.tables import budget_table
from ebjr_det.reporting.placement.words import verdict
from ebjr_det.reporting.placement.write import write_placement
from ebjr_det.routing.drift import check_student, check_unseen, shared_images
from ebjr_det.routing.file import RouterFile, check_classes, check_model_of
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks import load_task


@dataclass(frozen=True)
class PlacementSettings:
    """How placements are looked at.

    Attributes:
        score: of the student, by default the one that decides in the run.
        fraction: of the pictures that the front has not seen, that choose; the others are reported.
        seed: of that part and of the bootstrap; `replicates`: by default as many as the task's `bootstrap`.
        measure: whether front, student and teacher are timed side by side.
    """

    score: str | None = None
    fraction: float = 0.5
    seed: int = 0
    replicates: int | None = None
    measure: bool = True


DEFAULTS = PlacementSettings()


@dataclass(frozen=True, repr=False)
class PlacementResult(WrittenResult[PlacementReport]):
    """What the placements come to."""

    def overview(self) -> Overview:
        """Whether another placement pays, and the placements by budget."""
        kind = next(iter(self.report.table))
        return Overview(verdict(self.report), budget_table(self.report, kind), self.folder / PAGE)


def placement(
    run_dir: str | Path,
    front: str | Path,
    out: str | Path,
    settings: PlacementSettings = DEFAULTS,
) -> PlacementResult:
    """Which placement of a router is best at every budget: behind the student, in front of it, or both.

    Args:
        run_dir: the folder of a finished `evaluate` whose pictures can be opened again. Those that the front
            was fitted on are left out.
        front: the file of `fit_front`, of this very pair.
        out: an empty folder.

    Raises:
        InvalidInput: a router of another pair or task, or that has seen all of the pictures.
        ConfigError: costs that are unknown, an unknown score, a part that would be empty.

    Example:
        >>> from ebjr_det import FrontSettings, PlacementSettings, fit_front, placement
        >>> fitted = fit_front("runs/digits", "front.safetensors", FrontSettings(size=16, epochs=1))
        >>> settings = PlacementSettings(replicates=10, measure=False)
        >>> result = placement("runs/digits", fitted.path, "runs/placement", settings)
        >>> sorted(result.report.peaks)
        ['behind', 'both', 'front']
    """
    from ebjr_det.tasks.front import FrontRouter

    folder, path = Path(out), Path(front)
    check_empty(folder)
    opened = open_run(Path(run_dir))
    file = load_front_file(opened.run.task, path)
    unseen = unseen_by(opened, file, path)
    router = FrontRouter.of_file(file, path)
    run, judge = _as_routed(opened, unseen), load_task(opened.run.task).judge()
    if opened.analysis.selection is None:
        judged = split(run, settings.fraction, settings.seed)[1]
        check_split(Path(run_dir), opened.run.image_ids, [run.image_ids[index] for index in judged])
    positions = {image: index for index, image in enumerate(opened.run.image_ids)}
    scores = router.scores(small_copies(router, opened, [positions[image] for image in run.image_ids]))
    times = _measured(opened, file, path, run) if settings.measure else {}
    analysis = PlacementAnalysis(
        title=titled(f"In front or behind: {opened.analysis.title}", run),
        score=settings.score or opened.analysis.score,
        costs=_costs(opened, router, times),
        times=times,
        fraction=settings.fraction,
        seed=settings.seed,
        replicates=load_task(run.task).bootstrap if settings.replicates is None else settings.replicates,
        fitted_on=len(file.header.image_ids),
        left_out=len(opened.run) - len(unseen),
    )
    report = build_placement_report(run, judge, scores, analysis)
    stated = {"run": str(run_dir), "front": str(front), **asdict(settings)}
    return PlacementResult(report, write_placement(report, stated, writable_folder(folder)), folder)


def unseen_by(opened: OpenedRun, file: RouterFile, path: Path) -> list[int]:
    """Indices of the run's images that the front was not fitted on. Raises InvalidInput for another pair."""
    run, analysis, header = opened.run, opened.analysis, file.header
    routing = load_task(run.task).routing
    check_classes(header, analysis.class_names, str(path), analysis.popular)
    for side in ("student", "teacher"):
        name = getattr(analysis, side).name
        check_model_of(header, name, weights_in(analysis, side), str(path), side)
    images = len(header.image_ids), len(run)
    check_student(file.student_scores, routing.student_numbers(run), str(path), images)
    prints = routing.fingerprints(run)
    seen = shared_images(header.image_ids, header.fingerprints, run.image_ids, prints)
    check_unseen(seen, str(path))
    return np.flatnonzero(~seen).tolist()


def _as_routed(opened: OpenedRun, unseen: list[int]) -> PairedRun:
    """The images that neither the front nor the run's own router has seen, as the latter sees them."""
    run = opened.routed
    names = {opened.run.image_ids[index] for index in unseen}
    images = np.flatnonzero([image in names for image in run.image_ids])
    if not len(images):
        raise ConfigError(
            "Expected pictures that neither router has seen, got none. Fit the front on another run."
        )
    return select(run, load_task(run.task).judge(), images)


def _measured(opened: OpenedRun, file: RouterFile, path: Path, run: PairedRun) -> dict[str, Latency]:
    """Latency of front, student and teacher side by side, on the run's device, as its settings measure it."""
    from ebjr_det.inference.answers import on_pictures
    from ebjr_det.inference.pair import Pair
    from ebjr_det.tasks.front import FrontRouter

    pair, latency = Pair.build(opened.config), opened.config.latency
    router = FrontRouter.of_file(file, path, pair.device)
    numbers = dict(zip(opened.run.image_ids, opened.indices, strict=True))
    sample = np.random.default_rng(opened.config.run.seed).permutation([numbers[i] for i in run.image_ids])
    batches = np.resize(sample, (latency.batches, latency.batch_size)).tolist()
    return measure_latency(
        {"front": on_pictures(router), **pair.alone()},
        ([pair.data.load(index) for index in batch] for batch in batches),
        batch_size=latency.batch_size,
        device=device_name(pair.device),
        warmup=latency.warmup,
    )


def _costs(opened: OpenedRun, router: Model, times: Mapping[str, Latency]) -> dict[Cost, FrontCosts]:
    """By the kinds of cost that are known of all three, what each costs an image."""
    macs = opened.analysis.cost.alone("macs")
    costs: dict[Cost, FrontCosts] = {}
    if macs is not None:
        costs["macs"] = FrontCosts(macs_of(router, opened.data.load(opened.indices[0])), *macs)
    if times:
        costs["latency_ms"] = FrontCosts(*(times[name].mean for name in ("front", "student", "teacher")))
    if not costs:
        raise ConfigError("Expected known multiply-adds of both models in the run, got none. State `macs`.")
    for kind in get_args(Cost):
        if kind in costs and costs[kind].student >= costs[kind].teacher:
            raise ConfigError(
                f"Expected a teacher that costs more than the student, got {kind} of {costs[kind].teacher:g} "
                f"and {costs[kind].student:g}. There is nothing to place."
            )
    return costs
