"""`evaluate`: run a pair on labelled images and report it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree

from ebjr_det.api.mixes import AskedMix
from ebjr_det.api.report import Result, report
from ebjr_det.api.routing import Scoring, at_rate, default_rate
from ebjr_det.api.student import check_answers
from ebjr_det.api.traffic import popular_of_mix, traffic
from ebjr_det.calibration import Target, calibration_size, check_target, choose, split
from ebjr_det.config import EvaluateConfig, RouterSection, dump_config
from ebjr_det.cost import CostModel, Latency
from ebjr_det.environment import describe_environment
from ebjr_det.reporting.analysis import Analysis, Calibration, Reference
from ebjr_det.reporting.folder import RUN
from ebjr_det.reporting.report import ENERGY
from ebjr_det.router import decide
from ebjr_det.routing.student import weights_of
from ebjr_det.run_folder import as_begun, finished_run, open_folder, save_analysis
from ebjr_det.tasks import build_task
from ebjr_det.tradeoff import score_of, select, sweep
from ebjr_det.types import PairedRun, RouterDecision, Task


def evaluate(config: EvaluateConfig, out: str | Path, *, resume: bool = False) -> Result:
    """Run a pair on labelled images and report it.

    Both models see every image once, costs are counted, and latency is measured on the live path at the
    chosen threshold; under the mix of `traffic` the same records are weighted. A target is calibrated on a
    seeded part of the images, and everything reported then comes from the rest. Killed at any moment, it goes
    on with `resume` to the same result; a finished run is analysed again, also with another target, threshold
    or latency measurement.

    Raises:
        Infeasible: no point meets the target; the run is kept for another one.
        EbjrError: settings, data, weights and `out` are checked before anything is computed.
    """
    from ebjr_det.pair import Pair

    scoring = Scoring.of(config.task, config.router).live()
    router = scoring.section
    target = _target(router)
    if target is not None:
        check_target(target, build_task(config.task))
    out = Path(out)
    config = as_begun(config, out) if resume else config
    asked = None if config.traffic is None else AskedMix(**dict(config.traffic))
    pair = Pair.build(config.model_copy(update={"router": router}))
    config = pair.config
    popular = () if pair.popular is None else pair.popular.names
    if asked is not None:
        asked.check_classes(pair.data.class_names)
        popular_of_mix(asked, pair.popular, pair.data.class_names)
    weights = weights_of(pair.student)
    scoring = scoring.of_classes(getattr(pair.data, "class_names", ()), popular)
    scoring = scoring.of_student(pair.student.name, weights)
    pair = replace(pair, student=scoring.student(pair.student))
    if router.target is not None:
        calibration_size(len(pair.data), router.target.fraction)
    if not (out / RUN).is_file():
        check_answers(scoring, partial(pair.first_answers, pair.student), weights)
    open_folder(out, config, resume)
    run = finished_run(out, pair.data, lambda parts: pair.run(scoring.scores, parts))
    cost = pair.cost(run)
    unseen, use = scoring.unseen(run, pair.task)
    score = scoring.score
    times: Mapping[str, Latency] = {}
    live_rate = None
    if target is not None and target.kind == "latency_ms":
        times, live_rate = pair.measure(unseen, score, at_rate(unseen, scoring.name, default_rate(unseen)))
        cost = cost.with_latency(times)
    reported, decision, calibration = _decide(unseen, pair.task, config, target, cost)
    by_batch = {}
    if config.latency.measure:
        times, live_rate = pair.measure(reported, score, decision)
        by_batch = pair.measure_batches(reported)
    analysis = Analysis(
        title=config.title or f"{pair.student.name} + {pair.teacher.name}",
        score=scoring.name,
        formula=scoring.formula,
        threshold=decision.threshold,
        student=pair.profile("student", times, run),
        teacher=pair.profile("teacher", times, run),
        cost=cost.with_latency(times, by_batch),
        replicates=config.run.bootstrap,
        seed=config.run.seed,
        live=times.get("joint"),
        live_deferral_rate=live_rate,
        calibration=calibration,
        score_options={scoring.name: router.options} if router.options else {},
        references=tuple(Reference(**dict(section)) for section in config.references),
        class_names=tuple(getattr(pair.data, "class_names", ())),
        popular=popular,
        router=use,
        unreadable=tuple(sorted(set(pair.data.image_ids) - set(run.image_ids))),
        threshold_from="target" if target else "rate" if router.threshold is None else "given",
    )
    environment = describe_environment(pair.device, config.run.seed)
    save_analysis(out, analysis, dump_config(config), environment)
    pair.write_artifacts(out, run, reported, decision, scoring.name)
    rmtree(out / TRAFFIC, ignore_errors=True)
    result = report(out)
    if asked is None:
        return result
    how = {"replicates": config.run.bootstrap, "seed": config.run.seed}
    return result._replace(traffic=traffic([out], out / TRAFFIC, asked, **how).report)


TRAFFIC = "traffic"
"""Folder of a run in which its numbers under a stated mix are."""


def _target(router: RouterSection) -> Target | None:
    section = router.target
    return None if section is None else Target(section.kind, section.value, section.confidence)


def _decide(
    run: PairedRun, task: Task, config: EvaluateConfig, target: Target | None, cost: CostModel
) -> tuple[PairedRun, RouterDecision, Calibration | None]:
    """The images to report on, the decision on them, and how its threshold came about."""
    router, name = config.router, config.router.score or ENERGY
    if target is None or router.target is None:
        if router.threshold is None:
            return run, at_rate(run, name, default_rate(run)), None
        return run, decide(score_of(run, name), router.threshold), None
    first, rest = split(run, router.target.fraction, config.run.seed)
    chosen_on, reported = select(run, task, first), select(run, task, rest)
    point = choose(chosen_on, task, sweep(chosen_on, task, name, cost), target)
    how = Calibration(target, router.target.fraction, config.run.seed, len(first), point)
    return reported, decide(score_of(reported, name), point.threshold), how
