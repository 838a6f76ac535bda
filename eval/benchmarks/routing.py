"""What does a learned router cost: to fit, and a decision on one picture?

    python eval/benchmarks/routing.py [--images 5000] [--boxes 100] [--classes 80]

Made-up detections as in `detection_sweep`. Times the rewards by class in five random contexts, the whole
fit, and the deciding score of one picture at a time, boxes in and number out, for several scores in turns.
Prints one JSON object.
"""

import argparse
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from ebjr_det.core.router import decide
from ebjr_det.core.types import PairedRun
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json
from ebjr_det.tasks.detection.coco.accumulate import Rows, random_contexts
from ebjr_det.tasks.detection.metric import match_records
from ebjr_det.tasks.detection.replay import output_of
from ebjr_det.tasks.detection.router import DetectionRouting

sys.path.insert(0, str(Path(__file__).parent))
from detection_sweep import made_up

SCORES = ("learned", "class_curvature", "energy_curvature")
DECISIONS = 300


def made_up_run(images: int, boxes: int, classes: int, seed: int) -> PairedRun:
    """Records of two made-up detectors."""
    truths, (student, teacher) = made_up(images, boxes, classes, seed)
    records = [match_records(found, truths, classes) for found in (student, teacher)]
    return PairedRun("detection", tuple(map(str, range(images))), {}, records[0], records[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the cost of a learned router")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--classes", type=int, default=80)
    size = parser.parse_args()
    worth = np.ones(size.classes)
    small = made_up_run(64, size.boxes, size.classes, 1)
    DetectionRouting().fit_router(small, rescaling="affine", worth=worth)  # compiles
    run = made_up_run(size.images, size.boxes, size.classes, 0)
    start = perf_counter()
    Rows.of(run.student, run.teacher).rewards(random_contexts(size.images))
    rewards = perf_counter() - start
    start = perf_counter()
    router = DetectionRouting().fit_router(run, rescaling="affine", worth=worth)
    whole = perf_counter() - start
    _, (student, _) = made_up(DECISIONS, size.boxes, size.classes, 2)
    outputs = [router.rescale(output_of([own])) for own in student]
    times: dict[str, list[float]] = {name: [] for name in SCORES}
    for output in outputs:
        for name, taken in times.items():
            start = perf_counter()
            decide(router.score(name, output), 0.0)
            taken.append(1e3 * (perf_counter() - start))
    decision = {
        name: {"p50_ms": float(np.median(taken)), "p90_ms": float(np.percentile(taken, 90))}
        for name, taken in times.items()
    }
    result = {**vars(size), "reward_s": rewards, "fit_s": whole, "decision": decision}
    print(to_json({**result, "environment": describe_environment("cpu", 0)}))


if __name__ == "__main__":
    main()
