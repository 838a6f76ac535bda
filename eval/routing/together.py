"""What does the student's answer add to the teacher's on a deferred picture? "Together" on the page.

    python eval/routing/together.py DATA

DATA is that of `run.py`. A deferred picture has both answers, so the teacher's boxes stay and their scores
take into account whether the student agrees: logistic regression of a box's hits on its logit, on whether the
student has a box of its class there, that box's logit and overlap. Fitted and judged out of the same folds as
the router; then fitted on all pictures and judged on further ones.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from tqdm.auto import tqdm
from unlabelled import DETECTORS, FOLDS, PAIRS, RATES, REPLICATES, TRUTH, cross_fit

from ebjr_det.core.ranking import Ranking
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import FloatArray, Matches, PairedRun
from ebjr_det.evaluation.bootstrap import interval, paired_bootstrap
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json
from ebjr_det.routing.crossfit import FittedRouter, folds
from ebjr_det.tasks import load_task
from ebjr_det.tasks.detection.boxes import logits_of_scores
from ebjr_det.tasks.detection.coco.annotations import Results, Truth, load_annotations, load_results
from ebjr_det.tasks.detection.coco.matching import IOU_THRESHOLDS
from ebjr_det.tasks.detection.metric import match_records

TASK, ROUTING, CLASSES = load_task("detection").judge(), load_task("detection").routing, 80
NEAR = 0.5
"""Overlap (IoU) from which on a box of the student's speaks of the same object."""
Rescore = Callable[[FloatArray], FloatArray]


def in_record_order(results: Results) -> Results:
    """Boxes by class, then descending score: the order of match records."""
    order = np.lexsort((-results.scores, results.labels))
    return Results(results.boxes[order], results.scores[order], results.labels[order])


def overlaps(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """[n, m] IoU of boxes x, y, width, height."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = boxes[:, 2:].prod(axis=1)[:, None] + others[:, 2:].prod(axis=1)
    return np.asarray(common / np.maximum(areas - common, 1e-9))


def agreement(teacher: Results, student: Results) -> FloatArray:
    """[boxes, 4] of the teacher's boxes: logit; 1, logit, IoU of the student's surest one there, or zeros."""
    columns = np.zeros((len(teacher), 4))
    columns[:, 0] = logits_of_scores(teacher.scores)
    if len(student):
        shared = overlaps(teacher.boxes, student.boxes)
        near = (shared >= NEAR) & (teacher.labels[:, None] == student.labels)
        logits = np.where(near, logits_of_scores(student.scores), -np.inf)
        best, has = logits.argmax(axis=1), near.any(axis=1)
        rows = np.flatnonzero(has)
        columns[rows, 1:] = np.stack(
            [np.ones(len(rows)), logits[rows, best[rows]], shared[rows, best[rows]]], axis=1
        )
    return columns


def fit(columns: FloatArray, matches: Matches, rows: NDArray[np.bool_]) -> tuple[Rescore, list[float]]:
    """Scores of the teacher's boxes, on the teacher's own scale, from their agreement; and the weights."""
    bits = np.uint64(1) << np.arange(len(IOU_THRESHOLDS), dtype=np.uint64)
    counted = rows & (matches["ignored"][:, None] & bits == 0).all(axis=1)
    hit = (matches["matched"][counted][:, None] & bits != 0).mean(axis=1)

    def logistic(x: FloatArray) -> tuple[FloatArray, float]:
        model = LogisticRegression(C=1e4, solver="newton-cholesky")
        model.fit(np.tile(x, (2, 1)), np.repeat([1, 0], len(x)), sample_weight=np.append(hit, 1 - hit) + 1e-9)
        return model.coef_[0], float(model.intercept_[0])

    (slope,), constant = logistic(columns[counted][:, :1])
    weights, start = logistic(columns[counted])
    weights, start = weights / slope, (start - constant) / slope
    return lambda x: np.asarray(expit(x @ weights + start)), [start, *weights.tolist()]


def rescored(teacher: Sequence[Results], scores: FloatArray) -> list[Results]:
    """The teacher's boxes with these scores."""
    parts = np.split(scores, np.cumsum([len(results) for results in teacher])[:-1])
    return [Results(r.boxes, s, r.labels) for r, s in zip(teacher, parts, strict=True)]


def records(answers: Sequence[Results], others: Sequence[Results], truths: Sequence[Truth]) -> PairedRun:
    """Match records of a student and a teacher."""
    ids = tuple(map(str, range(len(truths))))
    student, teacher = (match_records(results, truths, CLASSES) for results in (answers, others))
    return PairedRun("detection", ids, {"random": np.zeros(len(truths))}, student, teacher)


def compared(plain: PairedRun, routed: PairedRun, together: PairedRun) -> dict[str, Any]:
    """G of `learned` at the rates and at 100 %, with the teacher's answers as they are and with both; paired
    intervals. G is that of student and teacher alone, whose gap is the unit.
    """
    scores = score_of(routed, "learned")
    mixtures = [TASK.mixtures(run.student, run.teacher) for run in (plain, routed, together)]
    judges = [partial(Ranking(m, scores).at, np.array([0.0, *RATES, 1.0])) for m in mixtures]
    estimate, drawn = paired_bootstrap(judges, len(plain), REPLICATES, 0)

    def gaps(values: FloatArray) -> FloatArray:
        values = values.reshape(*values.shape[:-1], len(judges), -1)
        low, high = values[..., :1, :1], values[..., :1, -1:]
        return np.asarray((values[..., 1:, 1:] - low) / (high - low))

    gap, resampled = gaps(estimate), gaps(drawn)
    gain, gains = (g[..., 1, :-1].mean(axis=-1) - g[..., 0, :-1].mean(axis=-1) for g in (gap, resampled))
    return {
        "teacher": {"gap_recovered": gap[0].tolist(), "mean_gap_recovered": float(gap[0, :-1].mean())},
        "together": {"gap_recovered": gap[1].tolist(), "mean_gap_recovered": float(gap[1, :-1].mean())},
        "mean_gained": [float(gain), *interval(gain, gains, 0.95).tolist()],
        "all_deferred": [float(gap[1, -1]), *interval(gap[1, -1], resampled[:, 1, -1], 0.95).tolist()],
        "AP": dict(zip(("student", "teacher"), estimate[[0, len(RATES) + 1]].tolist(), strict=True))
        | {"together, all deferred": float(estimate[-1])},
    }


def out_of_fold(student: list[Results], teacher: list[Results], truths: Sequence[Truth]) -> dict[str, Any]:
    """A pair on `half_a`: router, rescaling and agreement of other pictures."""
    real = records(student, teacher, truths)
    columns = np.concatenate([agreement(*answers) for answers in zip(teacher, student, strict=True)])
    image = np.repeat(np.arange(len(real)), real.teacher["counts"])
    scores, weights = np.empty(len(columns)), []
    for part in folds(len(real), FOLDS, 0):
        test = np.isin(image, part)
        rescore, fitted = fit(columns, real.teacher, ~test)
        scores[test] = rescore(columns[test])
        weights.append(fitted)
    routed = cross_fit(real, real, "affine")
    together = match_records(rescored(teacher, scores), truths, CLASSES)
    return {**compared(real, routed, replace(routed, teacher=together)), "weights": weights}


def further(
    fitted_on: list[list[Results]],
    truths: Sequence[Truth],
    pictures: list[list[Results]],
    real: Sequence[Truth],
) -> dict[str, Any]:
    """Fitted on all of `half_a`, judged on others; `fitted_on` and `pictures`: both models' answers."""
    run, new = (records(a[0], a[1], t) for a, t in ((fitted_on, truths), (pictures, real)))
    router: FittedRouter = ROUTING.fit_router(run, rescaling="affine", worth=np.ones(CLASSES))
    routed = replace(new, student=router.rescale_records(new.student))
    routed = replace(routed, scores=router.scores_of_set(routed))
    columns, unseen = (
        np.concatenate([agreement(*answers) for answers in zip(teacher, student, strict=True)])
        for student, teacher in (fitted_on, pictures)
    )
    rescore, _ = fit(columns, run.teacher, np.ones(len(columns), dtype=bool))
    together = match_records(rescored(pictures[1], rescore(unseen)), real, CLASSES)
    return {"images": len(real), **compared(new, routed, replace(routed, teacher=together))}


def measured(data: Path) -> dict[str, Any]:
    """The three pairs of detectors on both sets of pictures."""
    environment = describe_environment("cpu", 0)
    del environment["command"]  # names a folder of this machine
    truth = load_annotations(data / "annotations" / TRUTH)
    small = load_annotations(data / "annotations" / "instances_val2017_204.json")
    new = [i for i, image in enumerate(small.image_ids) if image not in set(truth.image_ids)]
    answers = {
        half: {
            name: [in_record_order(r) for r in load_results(data / f"detections/{name}_{half}.json.gz", t)]
            for name in DETECTORS
        }
        for half, t in (("half_a", truth), ("204", small))
    }
    pairs = {}
    for pair in tqdm(PAIRS, desc="pairs"):
        known, others = ([answers[half][name] for name in pair] for half in ("half_a", "204"))
        unseen = [[results[i] for i in new] for results in others]
        pairs["_".join(pair)] = {
            "half_a, out of fold": out_of_fold(known[0], known[1], truth.truths),
            "further pictures": further(known, truth.truths, unseen, [small.truths[i] for i in new]),
        }
    return {"environment": environment, "rates": RATES, "pairs": pairs}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    result = measured(parser.parse_args().data)
    (Path(__file__).parent / "results" / "together.json").write_text(to_json(result) + "\n")


if __name__ == "__main__":
    main()
