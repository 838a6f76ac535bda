"""The verbs: a configuration or files in, a run folder and a result out. The command line adds nothing.

Every verb checks what it can before it computes, and returns the JSON object that `--json` prints.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from ebjr_det.calibration import Target, calibration_size, check_disjoint, choose, split
from ebjr_det.config import EvaluateConfig, RouterSection, dump_config, parse_section
from ebjr_det.cost import CostModel, Latency
from ebjr_det.environment import describe_environment
from ebjr_det.errors import ConfigError
from ebjr_det.files import write_text
from ebjr_det.records import save_run
from ebjr_det.reporting.folder import CONFIG, RUN, SUMMARY, to_json, write_report
from ebjr_det.reporting.report import Profile, Report, build_report
from ebjr_det.router import decide, threshold_for_rate
from ebjr_det.run_folder import check_same_pair, clear_replay_folder, finished_run, load_folder, open_folder
from ebjr_det.scores import SCORES, deferral_scores, get_score
from ebjr_det.tasks import build_task, room
from ebjr_det.tradeoff import score_of, select, sweep
from ebjr_det.types import FloatArray, Logits, PairedRun, RouterDecision, Task

DEFAULT_RATE = 0.3
"""Deferral rate of the chosen point when neither a threshold nor a target is given; needs no label."""


class Result(NamedTuple):
    """What a verb found: the report for people, and the JSON object for programs."""

    report: Report
    summary: dict[str, Any]


def evaluate(config: EvaluateConfig, out: str | Path, *, resume: bool = False) -> Result:
    """Run a pair on labelled images and report it.

    Both models see every image once, costs are counted, and latency is measured on the live path at the
    chosen threshold. A target is calibrated on a seeded part of the images, and everything reported then
    comes from the rest. Killed at any moment, it goes on with `resume` to the same result; a finished run is
    analysed again, also with another target, threshold or latency measurement.

    Raises:
        Infeasible: no point meets the target; the run is kept for another one.
        EbjrError: settings, data, weights and `out` are checked before anything is computed.
    """
    from ebjr_det.pair import Pair, with_latency

    router = config.router
    scores = _scores_function(router)
    target = _target(router)
    pair = Pair.build(config)
    config = pair.config
    if router.target is not None:
        calibration_size(len(pair.data), router.target.fraction)
    out = Path(out)
    open_folder(out, config, resume)
    run = finished_run(out, pair.data.image_ids, lambda parts: pair.run(scores, parts))
    cost = pair.cost()

    score = _score_function(router, router.score)
    times: Mapping[str, Latency] = {}
    live_rate = None
    if target is not None and target.kind == "latency_ms":
        times, live_rate = pair.measure(run, score, _at_rate(run, router.score, DEFAULT_RATE))
        cost = with_latency(cost, times)
    reported, decision, calibration = _decide(run, pair.task, config, target, cost)
    if config.latency.measure:
        times, live_rate = pair.measure(reported, score, decision)
    report = build_report(
        reported,
        pair.task,
        decision,
        router.score,
        with_latency(cost, times),
        title=config.title or f"{pair.student.name} + {pair.teacher.name}",
        student=pair.profile("student", times),
        teacher=pair.profile("teacher", times),
        replicates=config.run.bootstrap,
        seed=config.run.seed,
        live=times.get("joint"),
        live_deferral_rate=live_rate,
        calibration=calibration,
        score_options={router.score: router.options} if router.options else {},
    )
    return _finish(report, out, dump_config(config), describe_environment(pair.device, config.run.seed))


def replay(
    task: str,
    files: Mapping[str, str | Path],
    out: str | Path,
    *,
    score: str = "free_energy",
    top_k: int = 10,
    aggregate: str = "mean",
    threshold: float | None = None,
    rates: Sequence[float] | None = None,
    cost: CostModel | None = None,
    seed: int = 0,
    replicates: int = 1000,
) -> Result:
    """The whole analysis from saved outputs of any two models, no model needed.

    The chosen point is that of `threshold`, else of the first of `rates`, else of a deferral rate of 0.3.

    Args:
        task: a registered task; `files`: what its `replay.load_pair` reads, by name.
        score, top_k, aggregate: which score decides, and how those of an image's boxes become one.
        cost: of both models, or of neither.

    Raises:
        EbjrError: see the task's `replay`; nothing is written then.
    """
    if threshold is not None and rates:
        raise ConfigError("Expected either a threshold or rates, got both.")
    if cost is not None and (cost.student_macs is None) != (cost.teacher_macs is None):
        raise ConfigError("Expected the multiply-adds of both models or of neither, got one.")
    router = parse_section(RouterSection, {"score": score, "top_k": top_k, "aggregate": aggregate})
    out, paths = Path(out), {name: Path(file) for name, file in files.items()}
    run = room(task, "replay").load_pair(**paths, scores=_scores_function(router))
    judge = build_task(task)
    rate = rates[0] if rates else DEFAULT_RATE
    decision = _at_rate(run, score, rate) if threshold is None else decide(run.scores[score], threshold)
    report = build_report(
        run,
        judge,
        decision,
        score,
        cost or CostModel(),
        title=_printable(f"Replay: {paths['student'].stem} + {paths['teacher'].stem}"),
        student=Profile("student"),
        teacher=Profile("teacher"),
        rates=rates or None,
        replicates=replicates,
        seed=seed,
    )
    clear_replay_folder(out)
    settings: dict[str, Any] = {
        "replay": task,
        **{k: str(v) for k, v in paths.items()},
        **router.model_dump(),
    }
    settings |= {"threshold": threshold, "rates": list(rates) if rates else None, "seed": seed}
    text = yaml.safe_dump(settings, sort_keys=False)
    write_text(out / CONFIG, text)
    save_run(run, out / RUN)
    return _finish(report, out, text, describe_environment("cpu", seed))


def calibrate(
    run_dir: str | Path,
    target: Target,
    *,
    report_on: str | Path | None = None,
    score: str | None = None,
    fraction: float = 0.5,
    seed: int = 0,
) -> dict[str, Any]:
    """A threshold that meets the target on one set of images, and what it does on another.

    Args:
        run_dir: a run folder; without `report_on` a seeded `fraction` of it calibrates, the rest reports.
        report_on: another run folder of the same pair on other images.
        score: the deferral score, by default the run's own.

    Raises:
        Infeasible: no point meets the target; carries the nearest.
        InvalidInput: the two sets share an image, or come from different pairs.
    """
    run, summary, cost = load_folder(Path(run_dir))
    task = build_task(run.task)
    name = score or summary["score"]
    score_of(run, name)
    if report_on is None:
        chosen_on, reported_on = (select(run, task, part) for part in split(run, fraction, seed))
    else:
        chosen_on, (reported_on, other_summary, _) = run, load_folder(Path(report_on))
        check_same_pair(summary, other_summary)
        check_disjoint(chosen_on, reported_on)
    curve = sweep(chosen_on, task, name, cost)
    point = choose(chosen_on, task, curve, target)
    other = sweep(reported_on, task, name, cost)
    report = other.of_decision(decide(reported_on.scores[name], point.threshold))
    return {
        "feasible": True,
        "target": target.__dict__,
        "score": name,
        "threshold": point.to_dict()["threshold"],
        "calibration": {"images": len(chosen_on), **point.to_dict(), **_ends(curve)},
        "report": {"images": len(reported_on), **report.to_dict(), **_ends(other)},
        "seed": seed,
        "run_dir": str(run_dir),
    }


def _ends(curve: Any) -> dict[str, float]:
    return {"student_quality": curve.student_quality, "teacher_quality": curve.teacher_quality}


def _scores_function(router: RouterSection) -> Callable[[Logits], dict[str, FloatArray]]:
    """All registered scores, the deciding one with its options; wrong names and options fail here."""
    get_score(router.score)
    functions = {name: _score_function(router, name) for name in SCORES}

    def scores(logits: Logits) -> dict[str, FloatArray]:
        return {name: function(logits) for name, function in functions.items()}

    scores(Logits.one_row(np.zeros((1, 2))))
    return scores


def _score_function(router: RouterSection, name: str) -> Callable[[Logits], FloatArray]:
    options = router.options if name == router.score else {}
    return partial(deferral_scores, name=name, top_k=router.top_k, aggregate=router.aggregate, **options)


def _target(router: RouterSection) -> Target | None:
    section = router.target
    return None if section is None else Target(section.kind, section.value, section.confidence)


def _decide(
    run: PairedRun, task: Task, config: EvaluateConfig, target: Target | None, cost: CostModel
) -> tuple[PairedRun, RouterDecision, dict[str, Any] | None]:
    """The images to report on, the decision on them, and how its threshold came about."""
    router, name = config.router, config.router.score
    if target is None or router.target is None:
        if router.threshold is None:
            return run, _at_rate(run, name, DEFAULT_RATE), None
        return run, decide(run.scores[name], router.threshold), None
    first, rest = split(run, router.target.fraction, config.run.seed)
    chosen_on, reported = select(run, task, first), select(run, task, rest)
    point = choose(chosen_on, task, sweep(chosen_on, task, name, cost), target)
    how = {"target": target.__dict__, "images": len(first), "seed": config.run.seed, **point.to_dict()}
    return reported, decide(reported.scores[name], point.threshold), how


def _at_rate(run: PairedRun, score: str, rate: float) -> RouterDecision:
    values = run.scores[score]
    return decide(values, threshold_for_rate(values, rate))


def _finish(report: Report, out: Path, settings: str, environment: Mapping[str, Any]) -> Result:
    """Replace an earlier report as a whole: a summary is there only beside what it sums up."""
    (out / SUMMARY).unlink(missing_ok=True)
    write_text(out / CONFIG, settings)
    write_text(out / "environment.json", to_json(environment))
    formula = SCORES[report.curve.score].formula
    return Result(report, write_report(report, out, formula))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
