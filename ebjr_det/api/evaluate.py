"""`evaluate`: run a pair on labelled images and report it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from ebjr_det.api.preflight import Ready, check_ahead, check_settings
from ebjr_det.api.report import Result, report
from ebjr_det.api.traffic import traffic
from ebjr_det.config import EvaluateConfig, dump_config
from ebjr_det.core.cost import CostModel
from ebjr_det.core.router import RouterDecision, decide
from ebjr_det.core.scores import ENERGY
from ebjr_det.core.tradeoff import score_of, select, sweep
from ebjr_det.core.types import PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis, Calibration, Profile
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.certify import choose
from ebjr_det.evaluation.run_folder import as_begun, check_folder, finished_run, open_folder, save_analysis
from ebjr_det.inference.latency import Latency, with_latency
from ebjr_det.inference.scoring import at_rate, default_rate
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.threads import on_threads

if TYPE_CHECKING:
    from ebjr_det.inference.pair import Pair


@on_threads("run")
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

    Example:
        >>> from ebjr_det import evaluate, load_config
        >>> config = load_config("digits", ["data.limit=60", "latency.measure=false", "run.bootstrap=10"])
        >>> result = evaluate(config, "runs/new")
        >>> result.summary["images"], (result.folder / "report.html").is_file()
        (30, True)
    """
    from ebjr_det.inference.pair import Pair

    out = Path(out)
    check_folder(out, resume)
    scoring = check_settings(config)
    config = as_begun(config, out) if resume else config
    pair = Pair.build(config.model_copy(update={"router": scoring.section}))
    ready = check_ahead(pair, scoring, out)
    scoring, config = ready.scoring, pair.config
    pair = replace(pair, student=scoring.adapted(pair.student))
    open_folder(out, config, resume)
    run = finished_run(out, pair.data, scoring.name, lambda parts: pair.run(scoring.scores, parts))
    analysis, reported = _analyse(pair, ready, run)
    save_analysis(out, analysis, dump_config(config), describe_environment(pair.device, config.run.seed))
    decision = decide(score_of(reported, scoring.name), analysis.threshold)
    pair.write_artifacts(out, run, reported, decision, scoring.name)
    rmtree(out / TRAFFIC, ignore_errors=True)
    result = report(out)
    if config.traffic is None:
        return result
    sampling = {"replicates": config.run.bootstrap, "seed": config.run.seed}
    weighted = traffic([out], out / TRAFFIC, config.traffic, **sampling)
    return result._replace(traffic=weighted.report)


TRAFFIC = "traffic"
"""Folder of a run in which its numbers under a stated mix are."""


def _analyse(pair: "Pair", ready: Ready, run: PairedRun) -> tuple[Analysis, PairedRun]:
    """How the run is looked at, with the latencies that the settings ask for; and the images to report on."""
    config, scoring, target, cost = pair.config, ready.scoring, pair.config.router.target, ready.cost
    unseen, use = scoring.unseen(run, pair.task)
    times: Mapping[str, Latency] = {}
    live_rate, by_batch, batch_load = None, dict[int, tuple[float, float]](), None
    if target is not None and target.kind == "latency_ms":
        start = at_rate(unseen, scoring.name, default_rate(unseen))
        times, live_rate = pair.measure(unseen, scoring.score, start)
        cost = with_latency(cost, times)
    reported, decision, calibration = _decide(unseen, pair.task, config, cost)
    if config.latency.measure:
        times, live_rate = pair.measure(reported, scoring.score, decision)
        by_batch, batch_load = pair.measure_batches(reported)
    options = config.router.options
    remarks = getattr(pair.data, "remarks", {})
    analysis = Analysis(
        title=config.title or f"{pair.student.name} + {pair.teacher.name}",
        score=scoring.name,
        formula=scoring.formula,
        threshold=decision.threshold,
        student=Profile(pair.student.name, times.get("student"), ready.facts["student"]),
        teacher=Profile(pair.teacher.name, times.get("teacher"), ready.facts["teacher"]),
        cost=with_latency(cost, times, by_batch),
        replicates=config.run.bootstrap,
        seed=config.run.seed,
        live=times.get("joint"),
        live_deferral_rate=live_rate,
        batch_load=batch_load,
        calibration=calibration,
        score_options={scoring.name: options} if options else {},
        references=tuple(config.references),
        class_names=pair.data.class_names,
        popular=() if pair.popular is None else pair.popular.names,
        router=use,
        unreadable=tuple(sorted(set(pair.data.image_ids) - set(run.image_ids))),
        remarks={"data": remarks} if remarks else {},
        threshold_from="target" if target else "rate" if config.router.threshold is None else "given",
    )
    return analysis, reported


def _decide(
    run: PairedRun, task: Task, config: EvaluateConfig, cost: CostModel
) -> tuple[PairedRun, RouterDecision, Calibration | None]:
    """The images to report on, the decision on them, and how its threshold came about."""
    router, target, name = config.router, config.router.target, config.router.score or ENERGY
    if target is None:
        if router.threshold is None:
            return run, at_rate(run, name, default_rate(run)), None
        return run, decide(score_of(run, name), router.threshold), None
    calibration_part, reported_part = split(run, target.fraction, config.run.seed)
    chosen_on, reported = select(run, task, calibration_part), select(run, task, reported_part)
    point = choose(chosen_on, task, sweep(chosen_on, task, name, cost), target)
    calibration = Calibration(target, target.fraction, config.run.seed, len(chosen_on), point)
    return reported, decide(score_of(reported, name), point.threshold), calibration
