"""How long do COCO's numbers of every mixture of two detectors take? Beside pycocotools once a threshold.

    python eval/benchmarks/detection_sweep.py [--images 5000] [--boxes 100] [--classes 80] [--peer-points 3]

Made-up objects and detections with a seed. A process of its own compiles, matches both detectors, sorts, and
computes the twelve numbers at 101 and at all N + 1 operating points, and the rewards; its peak memory counts
the made-up data too. Then pycocotools evaluates a few of those mixtures from scratch, must agree, and its
time is scaled to all of them. Prints one JSON object.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ebjr_det.core.types import FloatArray
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json
from ebjr_det.tasks.detection.coco.accumulate import STATS
from ebjr_det.tasks.detection.coco.annotations import Results, Truth
from ebjr_det.tasks.detection.metric import AveragePrecision, match_records

OBJECTS = 7.3  # a picture, as in COCO
MODELS = ((0.6, 0.15), (0.85, 0.06))  # share of objects that each model finds; error in box sides
TOLERANCE = 1e-12


def made_up(
    images: int, boxes: int, classes: int, seed: int, models: Sequence[tuple[float, float]] = MODELS
) -> tuple[list[Truth], list[list[Results]]]:
    """Objects of skewed classes and log-uniform sizes, and what models of rising worth find."""
    generator = np.random.default_rng(seed)

    def anywhere(count: int) -> FloatArray:
        sides = np.exp(generator.uniform(np.log(8), np.log(300), (count, 2)))
        return np.concatenate([generator.uniform(0, 500, (count, 2)), sides], axis=1)

    def found(truth: Truth, share: float, error: float) -> Results:
        hit = generator.random(len(truth)) < share
        real = (
            truth.boxes[hit] + generator.normal(0, error, (hit.sum(), 4)) * truth.boxes[hit][:, [2, 3, 2, 3]]
        )
        invented = boxes - len(real)
        all_boxes = np.abs(np.concatenate([real, anywhere(invented)]))
        scores = np.concatenate([generator.beta(4, 2, len(real)), generator.beta(1, 6, invented)])
        labels = np.concatenate([truth.labels[hit], generator.integers(classes, size=invented)])
        return Results(all_boxes, scores.round(5), labels)

    truths = []
    for _ in range(images):
        count = min(generator.poisson(OBJECTS), boxes)
        real = anywhere(count)
        labels = (classes * generator.random(count) ** 2).astype(np.intp)
        truths.append(Truth(real, labels, 0.7 * real[:, 2] * real[:, 3], generator.random(count) < 0.01))
    return truths, [[found(truth, *traits) for truth in truths] for traits in models]


def ours(size: argparse.Namespace, kept: Path) -> dict[str, Any]:
    """Seconds and peak memory of this project's part; the numbers of all points go to `kept`."""
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = perf_counter()
        answer = call()
        seconds[name] = perf_counter() - start
        return answer

    task, order = AveragePrecision(), deferral_order(size.images)
    timed(
        "compile_s", lambda: evaluate_everything(task, *made_up(8, size.boxes, size.classes, 1), size.classes)
    )
    truths, models = made_up(size.images, size.boxes, size.classes, 0)
    records = timed("match_s", lambda: [match_records(found, truths, size.classes) for found in models])
    mixtures = timed("sort_s", lambda: task.mixtures(*records))
    some = np.linspace(0, size.images, 101).round().astype(np.intp)
    timed("points_101_s", lambda: mixtures.metrics(order, np.unique(some)))
    every = timed("points_all_s", lambda: mixtures.metrics(order, np.arange(size.images + 1)))
    timed("points_all_ap_only_s", lambda: mixtures.path(order))
    timed("reward_s", mixtures.reward)
    np.save(kept, np.stack([every[name] for name in STATS], axis=1))
    before = seconds["match_s"] + seconds["sort_s"]
    return {
        **seconds,
        "total_101_s": before + seconds["points_101_s"],
        "total_all_s": before + seconds["points_all_s"],
        "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def evaluate_everything(
    task: AveragePrecision, truths: list[Truth], models: list[list[Results]], classes: int
) -> None:
    """Run every compiled function once."""
    mixtures = task.mixtures(*(match_records(found, truths, classes) for found in models))
    mixtures.metrics(np.arange(len(truths)), np.arange(len(truths) + 1))
    mixtures.reward()


def deferral_order(images: int) -> NDArray[np.intp]:
    """In which order the images are deferred: a seeded coin."""
    return np.random.default_rng(2).permutation(images)


def peer(truths: Sequence[Truth], mixed: Sequence[Results], classes: int) -> tuple[FloatArray, float]:
    """The twelve numbers of a mixture by pycocotools, and the seconds of its `evaluate` and `accumulate`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotated = COCO()
    annotated.dataset = {
        "images": [{"id": image} for image in range(len(truths))],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": [
            {"image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for image, own in enumerate(truths)
            for label, box, area, crowd in zip(
                own.labels.tolist(), own.boxes.tolist(), own.areas.tolist(), own.crowd, strict=True
            )
        ],
    }
    for number, annotation in enumerate(annotated.dataset["annotations"], start=1):
        annotation["id"] = number
    entries = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for image, own in enumerate(mixed)
        for label, box, score in zip(
            own.labels.tolist(), own.boxes.tolist(), own.scores.tolist(), strict=True
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        annotated.createIndex()
        judge = COCOeval(annotated, annotated.loadRes(entries), "bbox")
        start = perf_counter()
        judge.evaluate()
        judge.accumulate()
        seconds = perf_counter() - start
        judge.summarize()
    return judge.stats, seconds


def compared(size: argparse.Namespace, numbers: FloatArray) -> dict[str, Any]:
    """What pycocotools needs at a few points, and that it agrees."""
    truths, (student, teacher) = made_up(size.images, size.boxes, size.classes, 0)
    order, seconds, largest = deferral_order(size.images), [], 0.0
    for count in tqdm(np.linspace(0.1, 0.9, size.peer_points) * size.images, desc="pycocotools"):
        deferred = set(order[: round(count)].tolist())
        mixed = [(teacher if image in deferred else student)[image] for image in range(size.images)]
        stats, taken = peer(truths, mixed, size.classes)
        largest = max(largest, float(np.abs(stats - numbers[round(count)]).max()))
        seconds.append(taken)
    assert largest <= TOLERANCE, largest
    return {
        "pycocotools_point_s": seconds,
        "pycocotools_all_points_scaled_s": float(np.mean(seconds)) * (size.images + 1),
        "points_compared": len(seconds),
        "largest_difference": largest,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the exact sweep of two detectors against pycocotools")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--peer-points", type=int, default=3)
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)  # in the process of our part
    size = parser.parse_args()
    if size.keep is not None:
        print(to_json(ours(size, size.keep)))
        return
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "numbers.npy"
        command = [sys.executable, __file__, *sys.argv[1:], "--keep", str(kept)]
        fresh = {**os.environ, "NUMBA_CACHE_DIR": folder}  # so that compiling is measured
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=fresh)
        numbers = np.load(kept)
    mine, peers = json.loads(done.stdout), compared(size, numbers)
    result = {
        "images": size.images,
        "boxes": size.boxes,
        "classes": size.classes,
        "points": size.images + 1,
        **mine,
        **peers,
        "ratio": peers["pycocotools_all_points_scaled_s"] / mine["total_all_s"],
        "environment": describe_environment("cpu", 0),
    }
    print(to_json(result))


if __name__ == "__main__":
    main()
