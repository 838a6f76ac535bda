"""What are routers worth that were fitted without annotations? "Without labels" in `eval/routing/README.md`.

    python eval/routing/unlabelled.py DATA --logits FOLDER --out eval/routing/results/unlabelled.json

DATA is that of `run.py`; FOLDER holds `{cifar10,cifar100}_{student,teacher,labels}.npy`, logits and labels
of the published pairs as `replay` takes them. Every router is fitted on records without labels and judged by
real labels, out of five folds.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.api.fit_router import FitSource, choose_router
from ebjr_det.api.fit_settings import FitSettings
from ebjr_det.config import RouterSection
from ebjr_det.core.ranking import Ranking
from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.tradeoff import TradeoffCurve, score_of, select, sweep
from ebjr_det.core.types import FloatArray, Logits, Output, PairedRun, Task, concatenate
from ebjr_det.evaluation.bootstrap import interval, paired_bootstrap
from ebjr_det.evaluation.calibrated import split
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.files import to_json
from ebjr_det.routing.crossfit import FittedRouter, folds
from ebjr_det.tasks import load_task
from ebjr_det.tasks.classification import pseudo as classes_pseudo
from ebjr_det.tasks.detection import pseudo
from ebjr_det.tasks.detection.coco.annotations import Results, Truth, load_annotations, load_results
from ebjr_det.tasks.detection.metric import match_records

DETECTORS = ("fastestdet_352", "yolov5n_640", "yolo11n_640")
PAIRS = (
    ("yolov5n_640", "yolo11n_640"),
    ("fastestdet_352", "yolo11n_640"),
    ("fastestdet_352", "yolov5n_640"),
)
TRUTH = "instances_val2017_half_a_intboxes.json.gz"
RATES = (0.099, 0.172, 0.298, 0.397, 0.514, 0.826)
FOLDS, REPLICATES = 5, 200
CONFIDENT = 0.4
FEW = 125
"""Labelled pictures of which each fold's fit sees 100."""
Forms = Mapping[str, tuple[PairedRun, str]]
"""By name, records that routers are fitted on, and their rescaling."""


def cross_fit(real: PairedRun, fitted_on: PairedRun, rescaling: str) -> PairedRun:
    """The real records with scores, and scales, of routers that saw other pictures' other records."""
    task, routing = load_task(real.task).judge(), load_task(real.task).routing
    parts, scored = folds(len(real), FOLDS, 0), []
    worth = np.ones(real.student["truths"].shape[1] if "truths" in real.student else 1)
    position = {image: index for index, image in enumerate(fitted_on.image_ids)}
    for part in parts:
        rest = np.setdiff1d(np.arange(len(real)), part)
        train = np.array([position[i] for i in (real.image_ids[n] for n in rest) if i in position])
        router: FittedRouter = routing.fit_router(
            select(fitted_on, task, train), rescaling=rescaling, worth=worth
        )
        fold = select(real, task, part)
        fold = replace(fold, student=router.rescale_records(fold.student))
        scored.append(replace(fold, scores={**fold.scores, **router.scores_of_set(fold)}))
    back = np.argsort(np.concatenate(parts))
    scores = {name: np.concatenate([fold.scores[name] for fold in scored])[back] for name in scored[0].scores}
    return replace(real, scores=scores, student=task.take(concatenate([f.student for f in scored]), back))


def gaps(curve: TradeoffCurve, ends: tuple[float, float]) -> list[float]:
    """G at `RATES`, as shares of the gap between two qualities."""
    return [(curve.at_rate(rate).quality - ends[0]) / (ends[1] - ends[0]) for rate in RATES]


def ends_of(run: PairedRun, task: Task) -> tuple[float, float]:
    """Quality of student and teacher alone."""
    path = task.mixtures(run.student, run.teacher).path(np.arange(len(run)), np.array([0, len(run)]))
    return float(path[0]), float(path[1])


def mean_gaps(runs: Sequence[PairedRun], real: PairedRun, task: Task) -> tuple[FloatArray, FloatArray]:
    """Mean G of each run's `learned`, [runs], and on each of the same resamples, [replicates, runs]."""
    plain = replace(real, scores={"learned": runs[0].scores["learned"]})
    rankings = [
        Ranking(task.mixtures(run.student, run.teacher), score_of(run, "learned")) for run in (plain, *runs)
    ]
    judges = [partial(ranking.at, np.array([0.0, *RATES, 1.0])) for ranking in rankings]
    numbers = paired_bootstrap(judges, len(real), REPLICATES, 0, side_by_side=True)

    def of(values: FloatArray) -> FloatArray:
        values = values.reshape(*values.shape[:-1], len(rankings), -1)
        low, high = values[..., :1, 0], values[..., :1, -1]
        return np.asarray((values[..., 1:, 1:-1].mean(axis=-1) - low) / (high - low))

    return of(numbers[0]), of(numbers[1])


def judged(real: PairedRun, forms: Forms, task: Task) -> dict[str, Any]:
    """For every form G at `RATES`, their mean, the share of what labels get, and an interval of that."""
    ends = ends_of(real, task)
    runs = {
        name: cross_fit(real, run, rescaling)
        for name, (run, rescaling) in tqdm(forms.items(), desc="forms", leave=False)
    }
    estimate, drawn = mean_gaps(list(runs.values()), real, task)
    shares, resampled = estimate / estimate[0], drawn / drawn[:, :1]
    low, high = interval(shares, resampled, 0.95)
    rows = {}
    for index, (name, run) in enumerate(runs.items()):
        curve = sweep(run, task, "learned")
        values = gaps(curve, ends)
        rows[name] = {
            "rescaling": forms[name][1],
            "gap_recovered": values,
            "mean_gap_recovered": float(np.mean(values)),
            "share_of_labelled": float(shares[index]),
            "interval": [float(low[index]), float(high[index])],
            "coin_to_oracle": _coin_to_oracle(curve),
        }
    return rows


def _coin_to_oracle(curve: TradeoffCurve) -> float:
    coin = np.trapezoid(curve.random, curve.random_rate)
    oracle = np.trapezoid(curve.oracle, curve.oracle_rate)
    return float((curve.area() - coin) / (oracle - coin))


def curves(real: PairedRun, others: Mapping[str, PairedRun], scores: PairedRun, task: Task) -> dict[str, Any]:
    """The same decisions judged by real labels and by what stands in for them: ends and shares of the gap."""
    rows = {}
    for name, run in {"labels": real, **others}.items():
        run = replace(run, student={**run.student, **_scale_of(scores)}, scores=scores.scores)
        ends = ends_of(run, task)
        curve = sweep(run, task, "learned")
        rows[name] = {"student": ends[0], "teacher": ends[1], "gap_recovered": gaps(curve, ends)}
    return rows


def _scale_of(run: PairedRun) -> dict[str, Any]:
    """The student's rescaled scores, which no annotation changes."""
    return {"score": run.student["score"]} if "score" in run.student else {}


def confident(teacher: Sequence[Results]) -> tuple[Truth, ...]:
    """The teacher's boxes of a score of `CONFIDENT` and more, as truth: the plain form."""
    truths = []
    for results in teacher:
        sure = results.scores >= CONFIDENT
        boxes = results.boxes[sure]
        truths.append(
            Truth(boxes, results.labels[sure], boxes[:, 2:].prod(axis=1), np.zeros(len(boxes), dtype=bool))
        )
    return tuple(truths)


def detection(data: Path) -> dict[str, Any]:
    """The three pairs of detectors."""
    truth = load_annotations(data / "annotations" / TRUTH)
    files = {name: data / "detections" / f"{name}_half_a.json.gz" for name in DETECTORS}
    results = {name: load_results(path, truth) for name, path in files.items()}
    task, classes, tables = load_task("detection").judge(), len(truth.category_ids), {}
    labelled = set(np.random.default_rng(3).permutation(len(truth))[:FEW].tolist())
    for student, teacher in PAIRS:

        def records(truths: Sequence[Truth], student: str = student, teacher: str = teacher) -> PairedRun:
            ids, random = tuple(map(str, truth.image_ids)), np.random.default_rng(0).random(len(truth))
            matches = {name: match_records(results[name], truths, classes) for name in (student, teacher)}
            return PairedRun("detection", ids, {"random": random}, matches[student], matches[teacher])

        real = records(truth.truths)
        drawn = [records(pseudo.drawn_truths(results[teacher], truth.image_ids, seed)) for seed in range(3)]
        sure = records(confident(results[teacher]))
        objects = pseudo.drawn_truths(results[teacher], truth.image_ids)
        few = records([truth.truths[i] if i in labelled else objects[i] for i in range(len(truth))])
        alone = select(real, task, np.array(sorted(labelled)))
        forms = {
            "labels": (real, "affine"),
            f"teacher's boxes of {CONFIDENT} and more": (sure, "shift"),
            **{f"drawn objects, seed {seed}": (run, "affine") for seed, run in enumerate(drawn)},
            "labels of 100 pictures, drawn objects of the others": (few, "affine"),
            "labels of 100 pictures alone": (alone, "affine"),
        }
        crossed = cross_fit(real, drawn[0], "affine")
        estimates = {f"teacher's boxes of {CONFIDENT} and more": sure, "drawn objects": drawn[0]}
        tables[f"{student}_{teacher}"] = {
            "routers": judged(real, forms, task),
            "curves": curves(real, estimates, crossed, task),
            "auto": chosen(data, student, teacher),
        }
    return tables


def chosen(data: Path, student: str, teacher: str) -> list[dict[str, Any]]:
    """What `auto` takes on one half, with annotations and without, and its G on the other; both ways."""
    plugin, paths = load_task("detection"), {"student": student, "teacher": teacher}
    files = {side: data / "detections" / f"{name}_half_a.json.gz" for side, name in paths.items()}
    truth, replay, task = data / "annotations" / TRUTH, plugin.replay, plugin.judge()
    names = replay.class_names(**files, annotations=truth)
    scoring = Scoring.load("detection", RouterSection()).bind(names)
    runs = {
        "labels": replay.load_pair({**files, "annotations": truth}, scoring.scores_of_raw),
        "drawn objects": replay.load_pair({**files, "pictures": truth}, scoring.scores_of_raw),
    }
    rows, halves = [], split(runs["labels"], 0.5, 0)
    for part, (first, second) in enumerate((halves, halves[::-1])):
        plain = select(runs["labels"], task, second)
        for form, run in runs.items():
            half = select(run, task, first)
            source = FitSource(half, names, len(names), "", teacher, "", RouterSection())
            comparison, router = choose_router(source, FitSettings())
            scored = replace(plain, student=router.rescale_records(plain.student))
            scored = replace(scored, scores={**scored.scores, **router.scores_of_set(scored)})
            values = gaps(sweep(scored, task, comparison.score), ends_of(plain, task))
            rows.append(
                {
                    "half": part,
                    "chosen_with": form,
                    "score": comparison.score,
                    "rescaling": comparison.rescaling,
                    "gap_recovered": values,
                    "mean_gap_recovered": float(np.mean(values)),
                }
            )
    return rows


def classification(folder: Path, name: str) -> dict[str, Any]:
    """A pair of classifiers."""
    labels = np.load(folder / f"{name}_labels.npy")
    models = {
        side: np.load(folder / f"{name}_{side}.npy").astype(np.float64) for side in ("student", "teacher")
    }
    outputs = {side: Output(list(logits), Logits.one_row(logits)) for side, logits in models.items()}
    task, teacher = load_task("classification").judge(), models["teacher"]
    scores = {score: deferral_scores(outputs["student"].logits, score) for score in SCORES}
    ids = tuple(map(str, range(len(labels))))

    def records(targets: Any) -> PairedRun:
        matches = {side: task.match(logits, targets) for side, logits in models.items()}
        return PairedRun("classification", ids, scores, matches["student"], matches["teacher"])

    real = records(labels)
    pooled = records(classes_pseudo.targets(outputs["student"], outputs["teacher"], teacher.shape[1], ids))
    classes = np.eye(teacher.shape[1])[teacher.argmax(axis=1)]
    alone = records(np.exp(teacher) / np.exp(teacher).sum(axis=1, keepdims=True))
    stand_ins = {"teacher's class": records(classes), "teacher's probabilities": alone, "pooled": pooled}
    forms = {"labels": (real, "none"), **{key: (run, "none") for key, run in stand_ins.items()}}
    crossed = cross_fit(real, pooled, "none")
    return {
        "routers": judged(real, forms, task),
        "max_softmax_coin_to_oracle": _coin_to_oracle(sweep(real, task, "max_softmax")),
        "curves": curves(real, stand_ins, crossed, task),
    }


def main() -> None:
    """Everything, in the order of the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--logits", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "unlabelled.json")
    args = parser.parse_args()
    pairs: dict[str, Callable[[], dict[str, Any]]] = {}
    if args.logits:
        pairs = {name: partial(classification, args.logits, name) for name in ("cifar10", "cifar100")}
    result = {name: make() for name, make in pairs.items()} | detection(args.data)
    args.out.write_text(to_json(result) + "\n")


if __name__ == "__main__":
    main()
