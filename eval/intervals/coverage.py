"""Which bootstrap interval holds what it promises? The table of `eval/intervals/README.md`.

    python eval/intervals/coverage.py [--data DATA] [--samples 200] [--replicates 200]

Draws many samples from a population whose numbers are known, makes every kind of interval of each from the
same resamples, and counts how often the interval holds the population's number. DATA holds COCO-format
`annotations/` and `detections/` as for `eval/routing/run.py`; without it only made-up populations are drawn.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from ebjr_det.core.ranking import Ranking
from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.tradeoff import score_of, select, sweep_all
from ebjr_det.core.types import FloatArray, Logits, PairedRun
from ebjr_det.evaluation.bootstrap import ROUGH_GRID, bootstrap, resamples
from ebjr_det.tasks import load_task
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.boxes import Boxes
from ebjr_det.tasks.detection.coco.annotations import Truth
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision, Target
from ebjr_det.tasks.detection.routing.box_scores import box_scores

CONFIDENCE, RATE, STUDENT_COST, TEACHER_COST = 0.95, 0.3, 1.0, 8.0
QUANTITIES = ("student", "pair at 30 %", "teacher", "margin at 30 %", "area", "area difference")
RESULTS = Path(__file__).parent / "results"
Plan: TypeAlias = tuple[PairedRun, Iterator[tuple[PairedRun, float]], tuple[str, str]]
"""A population, samples of it, each with its share of it, and the two scores to be compared."""


# --- Kinds of interval: replicates [replicates, quantities], estimate [quantities] -> low, high ---


def percentile(replicates: FloatArray, estimate: FloatArray) -> FloatArray:
    """Quantiles of the resamples (Efron 1979)."""
    return np.asarray(np.quantile(replicates, [0.025, 0.975], axis=0))


def basic(replicates: FloatArray, estimate: FloatArray) -> FloatArray:
    """Estimate minus the quantiles of (resample - estimate) (Davison and Hinkley 1997, 5.6)."""
    return np.asarray(2 * estimate - percentile(replicates, estimate)[::-1])


def centred(replicates: FloatArray, estimate: FloatArray) -> FloatArray:
    """The percentile interval, moved so that the mean of the resamples is the estimate."""
    return np.asarray(percentile(replicates, estimate) + estimate - replicates.mean(axis=0))


def normal(replicates: FloatArray, estimate: FloatArray) -> FloatArray:
    """Estimate minus bias, and 1.96 standard deviations of the resamples (Davison and Hinkley 1997, 5.2)."""
    middle = 2 * estimate - replicates.mean(axis=0)
    half = ndtri((1 + CONFIDENCE) / 2) * replicates.std(axis=0, ddof=1)
    return np.stack([middle - half, middle + half])


def shifted(replicates: FloatArray, estimate: FloatArray) -> FloatArray:
    """The percentile interval moved by twice the bias: centred as the basic one, skewed as percentiles."""
    return np.asarray(percentile(replicates, estimate) + 2 * (estimate - replicates.mean(axis=0)))


def bias_corrected(replicates: FloatArray, estimate: FloatArray) -> FloatArray:
    """BC (Efron 1981): quantiles at Phi(2 z0 +- z), z0 from the share of resamples below the estimate."""
    count = len(replicates)
    below = (replicates < estimate).mean(axis=0) + (replicates == estimate).mean(axis=0) / 2
    middle = ndtri(np.clip(below, 0.5 / count, 1 - 0.5 / count))
    ends = []
    for side in (-1, 1):
        level = ndtr(2 * middle + side * ndtri((1 + CONFIDENCE) / 2))
        ends.append([np.quantile(column, at) for column, at in zip(replicates.T, level, strict=True)])
    return np.array(ends)


KINDS: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "percentile": percentile,
    "basic": basic,
    "centred": centred,
    "normal": normal,
    "shifted": shifted,
    "bias-corrected": bias_corrected,
}


# --- What is estimated ---


def measure(pair: Ranking, other: Ranking, grid: int | None, copies: NDArray[np.intp]) -> FloatArray:
    """[quantities] of a sample; the hull is that of student and teacher alone."""
    rates, quality = pair.line(copies, grid)
    student, joint, teacher = pair.at(np.array([0.0, RATE, 1.0]), copies)
    cost = (STUDENT_COST + RATE * TEACHER_COST - STUDENT_COST) / (TEACHER_COST - STUDENT_COST)
    hull = student + max(teacher - student, 0.0) * cost
    area, beside = np.trapezoid(quality, rates), np.trapezoid(*other.line(copies, grid)[::-1])
    return np.array([student, joint, teacher, joint - hull, area, area - beside])


def curves(run: PairedRun, names: tuple[str, str]) -> tuple[Ranking, Ranking, int | None]:
    """The first score, the one that it is compared with, and how many rates a resample is judged at."""
    task = load_task(run.task).judge()
    mixtures = task.mixtures(run.student, run.teacher)
    first, second = (Ranking(mixtures, score_of(run, name)) for name in names)
    return first, second, None if task.mean else ROUGH_GRID


# --- Populations ---


def detectors(images: int, classes: int, seed: int) -> PairedRun:
    """Made-up scenes of 1 to 5 objects of skewed classes, a fair student and a better teacher."""
    generator = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, classes + 1)
    sides: dict[str, list[Detections]] = {"student": [], "teacher": []}
    targets = []
    for _ in range(images):
        count = generator.integers(1, 6)
        boxes = np.concatenate(
            [generator.uniform(0, 300, (count, 2)), generator.uniform(10, 120, (count, 2))], axis=1
        )
        labels = generator.choice(classes, count, p=share / share.sum())
        truth = Truth(boxes, labels, boxes[:, 2] * boxes[:, 3], np.zeros(count, bool))
        targets.append(Target(truth, classes))
        for side, noise, invented in (("student", 9, 6), ("teacher", 2, 2)):
            found = np.concatenate(
                [boxes + generator.normal(0, noise, boxes.shape), generator.uniform(5, 150, (invented, 4))]
            )
            found[:, 2:] = found[:, :2] + np.abs(found[:, 2:])
            sure = np.concatenate([generator.beta(4, 3, count), generator.beta(1, 4, invented)])
            which = np.concatenate([labels, generator.integers(classes, size=invented)])
            sides[side].append(Detections(found, sure, which))
    task = AveragePrecision()
    student, teacher = (task.match(own, targets) for own in sides.values())
    scores = {"random": generator.random(images), **box_scores(Boxes.of_records(student), None)}
    return PairedRun(task.name, tuple(map(str, range(images))), scores, student, teacher)


def classifiers(images: int, classes: int, seed: int) -> PairedRun:
    """Made-up logits of a fair student and a better teacher."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    student, teacher = generator.normal(size=(2, images, classes))
    hint = np.eye(classes)[labels]
    student, teacher = student + 1.5 * hint, 2 * teacher + 5.0 * hint
    task, logits = Accuracy(), Logits.one_row(student)
    scores = {name: deferral_scores(logits, name) for name in SCORES}
    ids = tuple(map(str, range(images)))
    first, second = (task.match(list(side), list(labels)) for side in (student, teacher))
    return PairedRun(task.name, ids, scores, first, second)


def coco(data: Path, student: str, teacher: str) -> PairedRun:
    """Two real detectors on 1,444 pictures of val2017."""
    from ebjr_det.tasks.detection.replay import load_pair

    run = load_pair(
        {
            "student": data / "detections" / f"{student}_half_a.json.gz",
            "teacher": data / "detections" / f"{teacher}_half_a.json.gz",
            "annotations": data / "annotations" / "instances_val2017_half_a_intboxes.json.gz",
        },
        scores=lambda output: {"free_energy": deferral_scores(output.logits, "free_energy", top_k=10)},
    )
    scores = {**run.scores, **box_scores(Boxes.of_records(run.student), None)}
    return PairedRun(run.task, run.image_ids, scores, run.student, run.teacher)


def parts(run: PairedRun, images: int, samples: int) -> Iterator[tuple[PairedRun, float]]:
    """Disjoint samples of a large population, in random order, and their share of it that matters: none."""
    order = np.random.default_rng(1).permutation(len(run))
    for part in order[: samples * images].reshape(samples, images):
        yield select(run, load_task(run.task).judge(), np.sort(part)), 0.0


def draws(run: PairedRun, images: int, samples: int) -> Iterator[tuple[PairedRun, float]]:
    """Random samples without repeats of a small population, and their share of it."""
    generator = np.random.default_rng(1)
    for _ in range(samples):
        part = generator.choice(len(run), images, replace=False)
        yield select(run, load_task(run.task).judge(), np.sort(part)), images / len(run)


def made_up(make: Callable[[int, int, int], PairedRun], classes: int, images: int, samples: int) -> Plan:
    """A large made-up population and samples of it."""
    run = make(images * samples, classes, 0)
    names = ("margin", "free_energy") if make is classifiers else ("energy_curvature", "random")
    return run, parts(run, images, samples), names


def real(data: Path, images: int, samples: int) -> Plan:
    """Real detections and samples of them."""
    run = coco(data, "fastestdet_352", "yolo11n_640")
    return run, draws(run, images, samples), ("energy_curvature", "free_energy")


def coverage(
    population: PairedRun,
    samples: Iterator[tuple[PairedRun, float]],
    names: tuple[str, str],
    replicates: int,
) -> dict[str, Any]:
    """How often each kind of interval holds the population's numbers, misses on either side, mean widths.

    A sample of a share f of its population differs from it sqrt(1 - f) times as much as from an endless one;
    its difference is divided by that.
    """
    truth = measure(*curves(population, names), np.ones(len(population), np.intp))
    rows: dict[str, list[FloatArray]] = {kind: [] for kind in KINDS}
    errors, biases = [], []
    for seed, (run, share) in enumerate(samples):
        pair = partial(measure, *curves(run, names))
        estimate = pair(np.ones(len(run), np.intp))
        drawn = np.stack([pair(copies) for copies in islice(resamples(len(run), seed), replicates)])
        target = estimate + (truth - estimate) / np.sqrt(1 - share)
        errors.append(estimate - truth)
        biases.append(drawn.mean(axis=0) - estimate)
        for kind, make in KINDS.items():
            low, high = make(drawn, estimate)
            held = (low - 1e-12 <= estimate) & (estimate <= high + 1e-12)
            rows[kind].append(np.stack([target < low, target > high, high - low, ~held]))
    found = {
        kind: {
            name: {
                "held": float(1 - means[0, at] - means[1, at]),
                "target_below": float(means[0, at]),
                "target_above": float(means[1, at]),
                "width": float(means[2, at]),
                "estimate_outside": float(means[3, at]),
            }
            for at, name in enumerate(QUANTITIES)
        }
        for kind, own in rows.items()
        for means in [np.mean(own, axis=0)]
    }
    facts = {
        name: {
            "population": float(truth[at]),
            "bias_of_samples": float(np.mean(errors, axis=0)[at]),
            "spread_of_samples": float(np.std(errors, axis=0, ddof=1)[at]),
            "bias_of_resamples": float(np.mean(biases, axis=0)[at]),
        }
        for at, name in enumerate(QUANTITIES)
    }
    return {"samples": len(errors), "replicates": replicates, "facts": facts, "intervals": found}


def picked(samples: int, replicates: int, coins: int = 20, images: int = 200) -> dict[str, float]:
    """How often the best of many coins is called better than another coin, which it never is."""
    alone = together = 0
    for seed in range(samples):
        generator = np.random.default_rng(seed)
        sides = [generator.random(images) < share for share in (0.6, 0.85)]
        scores = {str(coin): generator.random(images) for coin in range(coins)}
        scores["other"] = generator.random(images)
        first, second = ({"correct": side, "top5_correct": side} for side in sides)
        run = PairedRun(Accuracy.name, tuple(map(str, range(images))), scores, first, second)
        task = load_task(run.task).judge()
        areas = {name: curve.area() for name, curve in sweep_all(run, task, list(scores)[:-1]).items()}
        best = max(areas, key=lambda name: areas[name])
        found = bootstrap(run, task, list(areas), reference="other", replicates=replicates, seed=seed)
        alone += found.area_difference[best][0] > 0
        together += found.area_difference_picked[best][0] > 0
    return {"samples": samples, "coins": coins, "alone": alone / samples, "picked": together / samples}


def write_table() -> None:
    """Shares held of all results that are there, as Markdown."""
    lines = ["| population | quantity | " + " | ".join(KINDS) + " |", "|-|-|" + "-:|" * len(KINDS)]
    for path in sorted(RESULTS.glob("*_*.json")):
        result = json.loads(path.read_text())
        for name in QUANTITIES:
            held = [
                f"{100 * result['intervals'][kind][name]['held']:.0f}" if kind in result["intervals"] else "-"
                for kind in KINDS
            ]
            lines.append(f"| {path.stem} | {name} | " + " | ".join(held) + " |")
    (RESULTS / "table.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """All populations, one JSON file each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--only")
    args = parser.parse_args()
    count, plans = args.samples, dict[str, Callable[[], Plan]]()
    for images in (100, 400):
        plans[f"classifiers_{images}"] = partial(made_up, classifiers, 7, images, count)
        plans[f"detectors_{images}"] = partial(made_up, detectors, 8, images, count)
    if args.data is not None:
        plans["coco_300"] = partial(real, args.data, 300, count)
    for name, plan in plans.items():
        if args.only in (None, name):
            found = coverage(*plan(), args.replicates)
            (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    if args.only in (None, "picked"):
        coins = picked(args.samples, args.replicates)
        (RESULTS / "picked.json").write_text(json.dumps(coins, indent=2) + "\n")
    write_table()


if __name__ == "__main__":
    main()
