"""The verbs: a configuration or files in, a run folder and a result out. The command line adds nothing.

Every verb checks what it can before it computes, and returns the JSON object that `--json` prints.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from ebjr_det.calibration import Target, check_disjoint, choose, split
from ebjr_det.config import EvaluateConfig, RouterSection, dump_config, identity, load_config
from ebjr_det.cost import CostModel, Latency
from ebjr_det.environment import describe_environment
from ebjr_det.errors import ConfigError, EbjrError, InvalidInput, first_line
from ebjr_det.files import existing_file, writable_folder, write_text
from ebjr_det.records import PartStore, load_run, save_run
from ebjr_det.reporting.folder import CONFIG, PARTS, RUN, SUMMARY, to_json, write_report
from ebjr_det.reporting.report import Profile, Report, build_report
from ebjr_det.router import decide, threshold_for_rate
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
    out = Path(out)
    _open_folder(out, config, resume)
    run = _finished_run(pair, scores, out)
    cost = pair.cost()

    def score(logits: Logits) -> FloatArray:
        return deferral_scores(logits, router.score, **router.options)

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
    )
    return _finish(report, out, describe_environment(pair.device, config.run.seed))


def replay(
    task: str,
    files: Mapping[str, str | Path],
    out: str | Path,
    *,
    score: str = "free_energy",
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
        cost: of both models, if known.

    Raises:
        EbjrError: see the task's `replay`; nothing is written then.
    """
    if threshold is not None and rates:
        raise ConfigError("Expected either a threshold or rates, got both.")
    router = RouterSection(score=score)
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
        title=f"Replay: {paths['student'].stem} + {paths['teacher'].stem}",
        student=Profile("student"),
        teacher=Profile("teacher"),
        rates=rates or None,
        replicates=replicates,
        seed=seed,
    )
    _clear_replay_folder(out)
    settings: dict[str, Any] = {"replay": task, **{k: str(v) for k, v in paths.items()}, "score": score}
    settings |= {"threshold": threshold, "rates": list(rates) if rates else None, "seed": seed}
    write_text(out / CONFIG, yaml.safe_dump(settings, sort_keys=False))
    save_run(run, out / RUN)
    return _finish(report, out, describe_environment("cpu", seed))


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
        InvalidInput: the two sets share an image.
    """
    run, own_score, cost = _load_folder(Path(run_dir))
    task = build_task(run.task)
    name = score or own_score
    score_of(run, name)
    if report_on is None:
        chosen_on, reported_on = (select(run, task, part) for part in split(run, fraction, seed))
    else:
        chosen_on, reported_on = run, _load_folder(Path(report_on))[0]
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
    options = {router.score: router.options}

    def scores(logits: Logits) -> dict[str, FloatArray]:
        return {name: deferral_scores(logits, name, **options.get(name, {})) for name in SCORES}

    scores(Logits.one_row(np.zeros((1, 2))))
    return scores


def _target(router: RouterSection) -> Target | None:
    section = router.target
    return None if section is None else Target(section.kind, section.value, section.confidence)


def _finished_run(pair: Any, scores: Callable[[Logits], dict[str, FloatArray]], out: Path) -> PairedRun:
    parts = PartStore(out / PARTS)
    if (out / RUN).is_file():
        run = load_run(out / RUN)
    else:
        run = pair.run(scores, parts)
        save_run(run, out / RUN)
    parts.clear()
    if run.image_ids != tuple(pair.data.image_ids):
        raise InvalidInput(
            f"Expected the images that the run in `{out}` has seen, got others. Choose another --out."
        )
    return run


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


def _finish(report: Report, out: Path, environment: Mapping[str, Any]) -> Result:
    write_text(out / "environment.json", to_json(environment))
    formula = SCORES[report.curve.score].formula
    return Result(report, write_report(report, out, formula))


def _open_folder(out: Path, config: EvaluateConfig, resume: bool) -> None:
    """A new run folder, or with `resume` one whose records another such run would repeat."""
    writable_folder(out)
    path = out / CONFIG
    if path.is_file():
        if not resume:
            raise ConfigError(
                f"Expected an empty --out, got a run in `{out}`. Add --resume to go on with it."
            )
        before, now = identity(load_config(path)), identity(config)
        if before != now:
            other = next(key for key in now if before[key] != now[key])
            raise ConfigError(
                f"Expected `{other}` as in the run that `{out}` holds, {before[other]}, got {now[other]}. "
                "Choose another --out."
            )
    elif any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise ConfigError(f"Expected an empty --out, got files in `{out}`.")
    write_text(path, dump_config(config))


def _clear_replay_folder(out: Path) -> None:
    """A replay replaces an earlier replay, which its inputs can make again, and nothing else."""
    writable_folder(out)
    if (out / CONFIG).is_file() and (out / CONFIG).read_bytes().startswith(b"replay:"):
        for figure in [*out.glob("*_by_*.png"), *out.glob("*_by_*.svg")]:
            figure.unlink()
    elif any(out.iterdir()):
        raise ConfigError(f"Expected an empty --out or an earlier replay, got other files in `{out}`.")


def _load_folder(folder: Path) -> tuple[PairedRun, str, CostModel]:
    """A finished run with its deciding score and its costs, tried out before anything relies on it."""
    path = existing_file(folder / SUMMARY, "a finished run folder with its summary")
    run = load_run(folder / RUN)
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        score = score_of(run, str(summary["score"]))
        sides = summary["student"], summary["teacher"]
        cost = CostModel(*(side[key] for key in ("macs", "latency_ms") for side in sides))
        if len(build_task(run.task).reward(run.student, run.teacher)) != len(score):
            raise ValueError("records of another number of images")
    except EbjrError:
        raise
    except Exception as error:  # an edited or damaged file can raise anything
        raise InvalidInput(f"Expected a whole run in `{folder}`, got: {first_line(error)}.") from error
    return run, summary["score"], cost
