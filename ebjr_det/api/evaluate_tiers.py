"""`evaluate` of more than two models: records of every one, and what chains of them reach at every budget."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ebjr_det.api.preflight import Ready, check_ahead, check_settings
from ebjr_det.api.tiers import TieredResult
from ebjr_det.config import EvaluateConfig, dump_config
from ebjr_det.config.target import Target
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.tiers import TieredRun
from ebjr_det.core.types import Task
from ebjr_det.evaluation.run_folder import (
    CONFIG,
    ENVIRONMENT,
    SUMMARY,
    TIERS,
    as_begun,
    check_folder,
    finished_tiers,
    open_folder,
)
from ebjr_det.evaluation.tiers.analysis import Chosen, Tier, TieredAnalysis, check_tier_target
from ebjr_det.evaluation.tiers.choice import Chooser, at_rate, at_work, chain_of
from ebjr_det.evaluation.tiers.report import Calibrated, build_tiered_report, calibrated
from ebjr_det.inference.calibration_part import eight_bits_of
from ebjr_det.inference.in_memory import Objects
from ebjr_det.inference.rates import DEFAULT_RATE
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.tiered import Tiers, pairs_of
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json, write_text
from ebjr_det.io.records import TierStore
from ebjr_det.io.threads import on_threads
from ebjr_det.reporting.tiers.write import write_tiers

FRACTION = 0.5
"""Share of the images that choose."""


Record: TypeAlias = Callable[[Tiers, Sequence[Scoring], TierStore], TieredRun]


@on_threads("run")
def evaluate_tiers(
    config: EvaluateConfig, objects: Objects, out: Path, resume: bool, record: Record = Tiers.run
) -> TieredResult:
    """Run every tier on labelled images, choose thresholds of all, and report chains of them by budget.

    Args:
        record: the tiers, their scores, and where finished parts go -> the records.

    Raises:
        Infeasible: no chain meets the target; the run is kept for another one.
        EbjrError: see `evaluate`.
    """
    check_folder(out, resume)
    config = as_begun(config, out) if resume else config
    scorings = _check(config)
    tiers = Tiers.build(config, objects, choosing_fraction(config))
    checked = [check_ahead(pair, score, out) for pair, score in zip(tiers.pairs, scorings, strict=True)]
    scorings, config = [ready.scoring for ready in checked], tiers.config
    open_folder(out, config, resume)
    pair, adapted = tiers.pairs[0], tiers.adapted(scorings)
    eight_bits = eight_bits_of(lower.part for lower in tiers.pairs)
    run = finished_tiers(out, pair.data, eight_bits, partial(record, adapted, scorings))
    run, remarks = _unseen(run, pair.task, scorings)
    analysis, fronts = _analyse(tiers, config, scorings, checked, run)
    for lower in tiers.pairs:
        lower.part.check_apart(fronts.reported.image_ids)
    data_remarks = getattr(pair.data, "remarks", {})
    analysis = replace(analysis, remarks={**({"data": data_remarks} if data_remarks else {}), **remarks})
    report = build_tiered_report(run, pair.task, analysis, fronts)
    for name in (SUMMARY, TIERS):
        (out / name).unlink(missing_ok=True)
    write_text(out / CONFIG, dump_config(config))
    write_text(out / ENVIRONMENT, to_json(describe_environment(pair.device, config.run.seed)))
    write_text(out / TIERS, analysis.to_json())
    return TieredResult(report, write_tiers(report, out, out), out)


def choosing_fraction(config: EvaluateConfig) -> float:
    """How much of the images chooses."""
    return FRACTION if config.router.target is None else config.router.target.fraction


def _check(config: EvaluateConfig) -> list[Scoring]:
    """What needs neither data nor models. Raises EbjrError for what an evaluation of tiers does not have."""
    pairs = pairs_of(config)
    for name, value in (("traffic", config.traffic), ("references", config.references)):
        if value:
            raise ConfigError(f"Expected no `{name}` beside tiers, got some. Evaluate a pair of them.")
    if not config.labelled:
        raise ConfigError("Expected labelled pictures for tiers, got `data.labels: false`.")
    if config.student.popular is not None:
        raise ConfigError("Expected tiers of all classes to evaluate, got one with `popular` classes.")
    if any(pair.router.target is not None for pair in pairs[1:]):
        raise ConfigError("Expected one target for all tiers, that of the first, got one of a later tier.")
    check_tier_target(config.router.target, timed=config.latency.measure)
    stated = [tier for tier, pair in enumerate(pairs) if pair.router.threshold is not None]
    if stated and config.router.target is not None:
        raise ConfigError(
            f"Expected either a target or thresholds of tiers, got both. Leave out tiers.{stated[0]}.router."
            "threshold."
        )
    return [check_settings(pair) for pair in pairs]


def _analyse(
    tiers: Tiers,
    config: EvaluateConfig,
    scorings: Sequence[Scoring],
    checked: Sequence[Ready],
    run: TieredRun,
) -> tuple[TieredAnalysis, Calibrated]:
    """How the run is looked at, with thresholds of all tiers for the target, as set, or at a rate."""
    target, pair = config.router.target, tiers.pairs[0]
    times = tiers.measure(np.arange(len(pair.data))) if config.latency.measure else {}
    macs = [*(ready.cost.student_macs for ready in checked), checked[0].cost.teacher_macs]
    names = [model.name for model in tiers.models]
    routers = [pair.config.router for pair in tiers.pairs]
    open_scores = [router.automatic for router in routers]
    analysis = TieredAnalysis(
        title=config.title or " > ".join(names),
        tiers=tuple(
            Tier(name, float(cost or 0), times[name].mean if name in times else None)
            for name, cost in zip(names, macs, strict=True)
        ),
        target=None if target is None else Target(target.kind, target.value),
        fraction=choosing_fraction(config),
        seed=config.run.seed,
        replicates=config.run.bootstrap,
        scores={
            name: scoring.name
            for name, scoring, is_open in zip(names, scorings, open_scores, strict=False)
            if not is_open
        },
    )
    fronts = calibrated(run, pair.task, analysis)
    if analysis.target is not None:
        chooser = Chooser(fronts.reported, pair.task, at_work(fronts.fronts, config.topology))
        chosen: Chosen = chooser.for_target(analysis.target, analysis.costs).chosen
    else:
        chain = chain_of(tuple(names), fronts.scores, config.topology or "cascade")
        chosen = at_rate(fronts.calibration, chain, [router.threshold for router in routers], DEFAULT_RATE)
    return replace(analysis, chosen=chosen), fronts


def _unseen(
    run: TieredRun, task: Task, scorings: Sequence[Scoring]
) -> tuple[TieredRun, dict[str, dict[str, int]]]:
    """The images that no tier's router was fitted on, and how many were left out for each.

    Raises InvalidInput where none are left, or a router is another student's.
    """
    unseen, remarks = set(run.image_ids), dict[str, dict[str, int]]()
    for name, scoring in zip(run.names, scorings, strict=False):
        _, use = scoring.unseen(run.pair(name, run.names[-1]), task)
        if use is not None and use.left_out:
            unseen -= set(use.left_out)
            remarks[f"router of {name}"] = {"images of its fit, left out": len(use.left_out)}
    if not unseen:
        raise InvalidInput("Expected images that no tier's router was fitted on, got none.")
    if len(unseen) == len(run):
        return run, remarks
    return run.select(task, np.flatnonzero([image in unseen for image in run.image_ids])), remarks
