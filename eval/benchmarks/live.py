"""Does the live pair cost more than its parts? joint at 28 % against student on N plus teacher on 0.28 N.

    python eval/benchmarks/live.py [--data DIR] [--batch-size 256] [--rounds 5]

Runs the published CIFAR-10 pair on real pictures. Each round runs the student on all pictures, the teacher
on the deferred ones in batches of the same size, and the live pair on all, one after the other, so that a
machine that changes speed changes it for all three. Preprocessing is part of each. Prints one JSON object;
`ratio` is the median over the rounds of joint / (student + teacher).
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from ebjr_det.config import load_config
from ebjr_det.environment import describe_environment, keep_freed_memory
from ebjr_det.exits import run_safely
from ebjr_det.joint import JointModel
from ebjr_det.pair import Pair
from ebjr_det.reporting.folder import to_json
from ebjr_det.router import decide, threshold_for_rate
from ebjr_det.scores import deferral_scores
from ebjr_det.types import FloatArray, Output

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "cifar10_densenet.yaml"


def score(output: Output) -> FloatArray:
    """The deferral score that routes here; all cost the same."""
    return deferral_scores(output.logits, "max_softmax")


def alone(model: Any) -> Callable[[Sequence[Any]], Any]:
    """One model on pictures, as `JointModel` calls it."""
    return lambda images: model([model.preprocess(image) for image in images])


def timed(call: Callable[[Sequence[Any]], Any], images: Sequence[Any], size: int) -> float:
    """Seconds for all images in batches."""
    start = perf_counter()
    for at in range(0, len(images), size):
        call(images[at : at + size])
    return perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="live pair against its parts")
    parser.add_argument("--data", default="data")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=0.28)
    args = parser.parse_args()
    keep_freed_memory()
    changes = [f"data.root={args.data}", f"data.limit={args.images}"]
    pair = Pair.build(load_config(CONFIG, changes))
    images = [pair.data.load(index) for index in range(len(pair.data))]
    student, teacher = alone(pair.student), alone(pair.teacher)
    size = args.batch_size
    scores = np.concatenate([score(student(images[at : at + size])) for at in range(0, len(images), size)])
    threshold = threshold_for_rate(scores, args.rate)
    deferred = [images[i] for i in np.flatnonzero(decide(scores, threshold).defer)]
    joint = JointModel(pair.student, pair.teacher, score, threshold)
    joint(images[:size])
    rows = [
        (timed(student, images, size), timed(teacher, deferred, size), timed(joint, images, size))
        for _ in tqdm(range(args.rounds), desc="rounds")
    ]
    ratios = [together / (first + second) for first, second, together in rows]
    names = ("student_s", "teacher_on_deferred_s", "joint_s")
    result = {
        "images": len(images),
        "batch_size": size,
        "deferral_rate": len(deferred) / len(images),
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        **{name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)},
        "environment": describe_environment(pair.device, 0),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }
    print(to_json(result))


if __name__ == "__main__":
    sys.exit(run_safely(main))
