"""`calibrate`: a threshold for a target, chosen on one set of images and reported on another."""

from pathlib import Path
from typing import Any

from ebjr_det.core.calibration import Target, check_disjoint, choose, split
from ebjr_det.core.router import decide
from ebjr_det.core.tradeoff import score_of, select, sweep
from ebjr_det.evaluation.report import unseen
from ebjr_det.evaluation.run_folder import check_same_pair, load_folder
from ebjr_det.tasks import load_task


def calibrate(
    run_dir: str | Path,
    target: Target,
    *,
    report_on: str | Path | None = None,
    score: str | None = None,
    fraction: float = 0.5,
    seed: int = 0,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """A threshold that meets the target on one set of images, and what it does on another.

    Args:
        run_dir: a run folder; without `report_on` a seeded `fraction` of it calibrates, the rest reports.
        report_on: another run folder of the same pair on other images.
        score: the deferral score, by default the run's own.
        batch_size: latencies are those of batches of this size, by default those of the run's report.

    Raises:
        Infeasible: no point meets the target; carries the nearest.
        InvalidInput: the two sets share an image, or come from different pairs.
    """
    run, analysis = load_folder(Path(run_dir))
    task, cost = load_task(run.task).judge(), analysis.cost
    cost = cost if batch_size is None else cost.at_batch(batch_size)
    run = unseen(run, task, analysis)
    name = score or analysis.score
    score_of(run, name)
    if report_on is None:
        chosen_on, reported_on = (select(run, task, part) for part in split(run, fraction, seed))
    else:
        chosen_on, (reported_on, other) = run, load_folder(Path(report_on))
        check_same_pair(analysis, other)
        reported_on = unseen(reported_on, task, other)
        check_disjoint(chosen_on, reported_on)
    curve = sweep(chosen_on, task, name, cost)
    point = choose(chosen_on, task, curve, target)
    beside = sweep(reported_on, task, name, cost)
    report = beside.of_decision(decide(score_of(reported_on, name), point.threshold))
    return {
        "feasible": True,
        "target": target.__dict__,
        "score": name,
        "quality_name": task.quality_name,
        "teacher_macs": cost.teacher_macs,
        "threshold": point.to_dict()["threshold"],
        "calibration": {"images": len(chosen_on), **point.to_dict(), **_ends(curve)},
        "report": {"images": len(reported_on), **report.to_dict(), **_ends(beside)},
        "seed": seed,
        "run_dir": str(run_dir),
    }


def _ends(curve: Any) -> dict[str, float]:
    return {"student_quality": curve.student_quality, "teacher_quality": curve.teacher_quality}
