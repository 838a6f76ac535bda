"""How long does the exact front of three tiers take, and how much memory? On made-up records with a seed.

    python eval/benchmarks/chains.py detection [--images 5000] [--boxes 100] [--classes 80]
    python eval/benchmarks/chains.py classification [--images 5000] [--classes 100]

Both topologies of all three models, from match records on; the peak memory counts the made-up data too.
Prints one JSON object.
"""

import argparse
import resource
from collections.abc import Callable
from functools import partial
from time import perf_counter, process_time
from typing import Any

import numpy as np
from detection_sweep import evaluate_everything, made_up

from ebjr_det.core.cost import Cost
from ebjr_det.core.tiers import Chain, TieredRun
from ebjr_det.core.types import Matches
from ebjr_det.evaluation.tiers.front import front
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json
from ebjr_det.io.threads import thread_count
from ebjr_det.tasks import load_task
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.metric import AveragePrecision, match_records

NAMES = ("small", "middle", "large")
COSTS: dict[Cost, tuple[float, ...]] = {"macs": (1.0, 3.0, 10.0)}
DETECTORS = ((0.6, 0.15), (0.72, 0.1), (0.85, 0.06))
HINTS = (2.0, 3.0, 4.0)  # added to the logit of the right class


def detectors(size: argparse.Namespace) -> list[Matches]:
    """Match records of three detectors; compiles what is compiled."""
    evaluate_everything(AveragePrecision(), *made_up(8, size.boxes, size.classes, 1), size.classes)
    truths, models = made_up(size.images, size.boxes, size.classes, 0, DETECTORS)
    return [match_records(found, truths, size.classes) for found in models]


def classifiers(size: argparse.Namespace) -> list[Matches]:
    """Match records of three classifiers."""
    generator = np.random.default_rng(0)
    labels = generator.integers(size.classes, size=size.images)
    noise = generator.normal(size=(len(HINTS), size.images, size.classes))
    hinted = [logits + hint * np.eye(size.classes)[labels] for logits, hint in zip(noise, HINTS, strict=True)]
    return [Accuracy().match(list(logits), labels.tolist()) for logits in hinted]


def timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What a call returns, and its seconds: by the clock, and of all processors."""
    start, start_cpu = perf_counter(), process_time()
    answer = call()
    return answer, {"seconds": perf_counter() - start, "cpu_seconds": process_time() - start_cpu}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the exact front of three tiers")
    parser.add_argument("task", choices=["classification", "detection"])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=100)
    parser.add_argument("--classes", type=int)
    size = parser.parse_args()
    size.classes = size.classes or (80 if size.task == "detection" else 100)
    records, matching = timed(lambda: (detectors if size.task == "detection" else classifiers)(size))
    generator = np.random.default_rng(3)
    scores = {name: {"made_up": generator.random(size.images)} for name in NAMES[:2]}
    ids = tuple(map(str, range(size.images)))
    run = TieredRun(size.task, ids, dict(zip(NAMES, records, strict=True)), scores)
    task, results = load_task(size.task).judge(), dict[str, dict[str, float]]()
    same = NAMES, ("made_up", "made_up")
    for chain in (Chain(*same, "cascade"), Chain(*same, "leap")):
        points, seconds = timed(partial(front, run, task, chain, COSTS, thread_count()))
        results[chain.topology] = {**seconds, "points_on_front": len(points)}
    print(
        to_json(
            {
                "task": size.task,
                "images": size.images,
                "boxes": size.boxes if size.task == "detection" else None,
                "classes": size.classes,
                "make_and_match": matching,
                **results,
                "peak_rss_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                "environment": describe_environment("cpu", 0),
            }
        )
    )


if __name__ == "__main__":
    main()
