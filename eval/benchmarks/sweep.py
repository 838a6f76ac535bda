"""How long does the exact sweep take? Every operating point of every score, against one metric a point.

    python eval/benchmarks/sweep.py [--images 10000] [--classes 10]

Made-up logits with a seed. In one process: all scores from the logits, the sweep of all scores over all N+1
points, and for comparison the naive way (decide, mix, average, once a point) on a few hundred points of one
score, scaled up. Prints one JSON object.
"""

import argparse
from time import perf_counter

import numpy as np

from ebjr_det.core.router import decide
from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.tradeoff import mixture, sweep
from ebjr_det.core.types import Logits, PairedRun
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json
from ebjr_det.tasks import load_task

NAIVE_POINTS = 300


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="exact sweep against one metric a point")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=10)
    args = parser.parse_args()
    generator = np.random.default_rng(0)
    labels = generator.integers(args.classes, size=args.images)
    student = generator.normal(size=(args.images, args.classes)) + 2.5 * np.eye(args.classes)[labels]
    teacher = student + generator.normal(size=student.shape) + 2.0 * np.eye(args.classes)[labels]
    task = load_task("classification").judge()

    start = perf_counter()
    logits = Logits.one_row(student)
    scores = {name: deferral_scores(logits, name) for name in SCORES}
    scoring = perf_counter() - start

    ids = tuple(str(index) for index in range(args.images))
    matches = task.match(list(student), labels), task.match(list(teacher), labels)
    run = PairedRun(task.name, ids, scores, *matches)
    start = perf_counter()
    curves = [sweep(run, task, name) for name in scores]
    sweeping = perf_counter() - start

    curve = curves[0]
    picked = np.linspace(0, len(curve.quality) - 1, NAIVE_POINTS).astype(int)
    start = perf_counter()
    naive = [
        task.metrics(mixture(run, task, decide(scores[curve.score], curve.threshold[i]).defer))
        for i in picked
    ]
    seconds = (perf_counter() - start) / NAIVE_POINTS * sum(len(c.quality) for c in curves)
    assert [point["accuracy"] for point in naive] == curve.quality[picked].tolist()
    result = {
        "images": args.images,
        "scores": len(curves),
        "points": sum(len(curve.quality) for curve in curves),
        "scoring_s": scoring,
        "sweep_s": sweeping,
        "one_metric_a_point_s": seconds,
        "ratio": seconds / sweeping,
        "environment": describe_environment("cpu", 0),
    }
    print(to_json(result))


if __name__ == "__main__":
    main()
