"""`evaluate`: run a pair on labelled images and report it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, TypeAlias

from ebjr_det.api.auto_router import RoutedRun, automatic_router
from ebjr_det.api.fit_router import FitSource
from ebjr_det.api.preflight import Ready, check_ahead, check_settings
from ebjr_det.api.report import Result, report_pair
from ebjr_det.api.tiers import TieredResult
from ebjr_det.api.traffic import traffic
from ebjr_det.config import EvaluateConfig, dump_config
from ebjr_det.config.tiers import inner_pair
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import decide
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.analysis import Analysis, Profile, titled
from ebjr_det.evaluation.run_folder import as_begun, check_folder, finished_run, open_folder, save_analysis
from ebjr_det.inference.calibration_part import eight_bits_of
from ebjr_det.inference.in_memory import NO_OBJECTS, Objects, told_apart
from ebjr_det.inference.latency import Latency, with_latency
from ebjr_det.inference.rates import at_rate, default_rate
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import WEIGHTS
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.records import PartStore
from ebjr_det.io.threads import on_threads

if TYPE_CHECKING:
    from ebjr_det.inference.pair import Pair


Record: TypeAlias = "Callable[[Pair, Scoring, PartStore], PairedRun]"


def evaluate(
    config: EvaluateConfig | Mapping[str, object], out: str | Path, *, resume: bool = False
) -> Result | TieredResult:
    """Run a pair on labelled images and report it.

    Both models see every image once, costs are counted, and latency is measured on the live path at the
    chosen threshold; under the mix of `traffic` the same records are weighted. A target is calibrated on a
    seeded part of the images, and everything reported then comes from the rest. Killed at any moment, it goes
    on with `resume` to the same result; a finished run is analysed again, also with another target, threshold
    or latency measurement.

    Args:
        config: of `load_config`, or a plain mapping with the keys of a configuration, in which `student` and
            `teacher` may be models (`types.Model`), or have one as `model` beside settings such as `macs`,
            and `data` a data set, as `build_labelled` and `build_annotated` make of pictures in memory, or
            has one as `set` beside settings such as `labels: false`. Of `tiers` records of all are kept, and
            the result is a `TieredResult`, as that of a replay of tiers.
        out: the folder of the run; it tells `<in memory>` in place of such objects.
        resume: go on with the run there; not with objects, of which nobody knows whether they are the same.

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
    settings, objects = told_apart(config)
    if resume and objects != NO_OBJECTS:
        raise ConfigError("Expected no `resume` beside models or data in memory, got it. Evaluate anew.")
    if inner_pair(settings) is not None:
        from ebjr_det.api.evaluate_tiers import evaluate_tiers

        return evaluate_tiers(settings, objects, Path(out), resume)
    return evaluate_by(settings, objects, Path(out), _record, resume)


def _record(pair: "Pair", scoring: Scoring, parts: PartStore) -> PairedRun:
    return pair.run(scoring.scores, parts)


@on_threads("run")
def evaluate_by(config: EvaluateConfig, objects: Objects, out: Path, record: Record, resume: bool) -> Result:
    """`evaluate`, whoever makes the records.

    Args:
        record: the pair, the scores that it is scored by, and where finished parts go -> the records.
    """
    from ebjr_det.inference.pair import Pair

    check_folder(out, resume)
    scoring = check_settings(config)
    config = as_begun(config, out) if resume else config
    section = config.router if config.router.automatic else scoring.section
    pair = Pair.build(config.model_copy(update={"router": section}), objects)
    ready = check_ahead(pair, scoring, out)
    scoring, config = ready.scoring, pair.config
    open_folder(out, config, resume)
    recorded = replace(pair, student=scoring.adapted(pair.student))
    eight_bits = eight_bits_of([pair.part])
    run = finished_run(out, pair.data, scoring.name, eight_bits, partial(record, recorded, scoring))
    routed = _routed(pair, ready, run, out)
    pair.part.check_apart(routed.reported.image_ids)
    pair = replace(pair, student=routed.scoring.adapted(pair.student))
    unreadable = tuple(sorted(set(pair.data.image_ids) - set(run.image_ids)))
    analysis = replace(_analyse(pair, ready, routed), unreadable=unreadable)
    save_analysis(out, analysis, dump_config(config), describe_environment(pair.device, config.run.seed))
    decision = decide(score_of(routed.reported, analysis.score), analysis.threshold)
    every = run if routed.selection is None else routed.scoring.routed(run)
    pair.write_artifacts(out, every, routed.reported, decision, analysis.score)
    rmtree(out / TRAFFIC, ignore_errors=True)
    result = report_pair(out, out)
    if config.traffic is None:
        return result
    sampling = {"replicates": config.run.bootstrap, "seed": config.run.seed}
    weighted = traffic([out], out / TRAFFIC, config.traffic, **sampling)
    return replace(result, traffic=weighted.report)


TRAFFIC = "traffic"
"""Folder of a run in which its numbers under a stated mix are."""


def _routed(pair: "Pair", ready: Ready, run: PairedRun, out: Path) -> RoutedRun:
    """The run under the router that the settings name, or that is chosen on the calibration part."""
    config, scoring, seed = pair.config, ready.scoring, pair.config.run.seed
    names, popular = pair.data.class_names, () if pair.popular is None else pair.popular.names
    weights = str(ready.facts["student"].get(WEIGHTS, ""))
    source = FitSource(
        run, names, len(names), pair.student.name, pair.teacher.name, config.title, scoring.section,
        popular=popular, student_weights=weights,
    )  # fmt: skip
    chosen = automatic_router(source, scoring, config.router, out, seed)
    return chosen or RoutedRun.as_configured(scoring, run, config.router.target, seed)


def _analyse(pair: "Pair", ready: Ready, routed: RoutedRun) -> Analysis:
    """How the run is looked at, with the latencies that the settings ask for."""
    config, scoring, target, cost = pair.config, routed.scoring, routed.target, ready.cost
    reported = routed.reported
    times: Mapping[str, Latency] = {}
    live_rate, by_batch, batch_load = None, dict[int, tuple[float, float]](), None
    if target is not None and target.kind == "latency_ms":
        start = at_rate(reported, scoring.name, default_rate(reported))
        times, live_rate = pair.measure(reported, scoring.score, start)
        cost = with_latency(cost, times)
    decision, point = routed.decision(cost)
    if config.latency.measure:
        times, live_rate = pair.measure(reported, scoring.score, decision)
        by_batch, batch_load = pair.measure_batches(reported)
    selection = routed.selection
    if config.latency.measure and selection is not None:
        selection = replace(selection, decision_ms=pair.measure_decision(scoring.score))
    options = config.router.options
    remarks = getattr(pair.data, "remarks", {})
    return Analysis(
        title=titled(config.title or f"{pair.student.name} + {pair.teacher.name}", reported),
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
        calibration=routed.calibration(point, config.run.seed),
        score_options={scoring.name: options} if options else {},
        references=tuple(config.references),
        class_names=pair.data.class_names,
        popular=() if pair.popular is None else pair.popular.names,
        router=routed.use,
        selection=selection,
        remarks={"data": remarks} if remarks else {},
        threshold_from="target" if target else "rate" if config.router.threshold is None else "given",
    )
