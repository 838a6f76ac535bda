"""Does the live pair cost more than its parts? Joint at 30 % against student on N plus teacher on 0.3 N.

    python eval/benchmarks/live.py [--config configs/quickstart.yaml] [--batch-sizes 1,8] [--rounds 20]
        [--student-runtime NAME] [--teacher-runtime NAME] [--set data.root=DIR]

Any pair of either task on its real pictures, by default the quickstart's detectors; `configs/digits.yaml`
and `configs/cifar10_densenet.yaml` are classifiers. A round runs these on the same pictures, each round
another one first: the student on all; the teacher on the deferred ones only, in full batches of the same
size; `JointModel` on batch after batch; `stream.answers` without workers, by itself and with
`run.regroup=true`, which fills the teacher's batches whatever that does to last bits. Preprocessing is part
of each and decoding of files of none, so both sides of a ratio preprocess every picture once for the student
and every deferred one once for the teacher. The threshold is that of the rate on scores of batches of the
same size.

`joint`, `pipeline` and `regrouped` are the ratios to student + teacher, medians over the rounds with an
interval. `JointModel` gives the teacher the few deferred pictures of one batch; `joint_to_same_batches` is
its ratio to a teacher that sees the same lots, which tells what that costs from what the joint path adds.
Prints one JSON object.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rounds import ran_with, ratio, summary, turns

from ebjr_det.cli.exits import run_safely
from ebjr_det.core.joint import JointModel
from ebjr_det.core.router import decide, threshold_for_rate
from ebjr_det.inference.pair import Pair
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.inference.student import weights_of
from ebjr_det.io.environment import keep_freed_memory
from ebjr_det.io.files import to_json
from ebjr_det.tasks.settings import load_config

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
SIZES = {"detection": (1, 8), "classification": (64, 256)}
PICTURES = {"detection": 48, "classification": 1024}
Lots = Sequence[Sequence[Any]]


def cut(images: Sequence[Any], size: int) -> Lots:
    """Batches."""
    return [images[at : at + size] for at in range(0, len(images), size)]


def alone(model: Any, lots: Lots) -> None:
    """One model on pictures, as `JointModel` calls it."""
    for lot in lots:
        model([model.preprocess(image) for image in lot])


def jointly(joint: JointModel, lots: Lots) -> int:
    """`JointModel` on pictures; how many it deferred."""
    return sum(int(joint(lot).decision.defer.sum()) for lot in lots)


def streamed(joint: JointModel, images: Sequence[Any], size: int, regroup: bool | None = None) -> int:
    """The pipeline on pictures; how many it deferred."""
    plan = Plan(size, size, workers=0, regroup=regroup)
    return sum(one.deferred for one in answers(joint, images, lambda image: image, plan))


def measure(pair: Pair, images: Sequence[Any], size: int, args: argparse.Namespace) -> dict[str, Any]:
    """All of them at one batch size."""
    names = getattr(pair.data, "class_names", ())
    scoring = Scoring.load(pair.config.task, pair.config.router, live=True)
    scoring = scoring.bind(names, (), pair.student.name, weights_of(pair.student))
    student, teacher, lots = scoring.adapted(pair.student), pair.teacher, cut(images, size)
    scores = np.concatenate(
        [scoring.score(student([student.preprocess(image) for image in lot])) for lot in lots]
    )
    threshold = threshold_for_rate(scores, args.rate)
    defer = decide(scores, threshold).defer
    deferred = [images[at] for at in np.flatnonzero(defer).tolist()]
    marked = cut(list(zip(images, defer, strict=True)), size)
    same = [kept for lot in marked if (kept := [image for image, better in lot if better])]
    full = cut(deferred, size)
    joint = JointModel(student, teacher, scoring.score, threshold)
    calls: dict[str, Callable[[], Any]] = {
        "student": lambda: alone(student, lots),
        "teacher": lambda: alone(teacher, full),
        "joint": lambda: jointly(joint, lots),
        "pipeline": lambda: streamed(joint, images, size),
        "regrouped": lambda: streamed(joint, images, size, regroup=True),
    }
    if [len(lot) for lot in same] != [len(lot) for lot in full]:
        calls["teacher_same_batches"] = lambda: alone(teacher, same)
    for call in calls.values():  # warm
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _, name in turns([*calls], args.rounds, args.seconds, f"batch {size}"):
        start = perf_counter()
        count = calls[name]()
        seconds[name].append(perf_counter() - start)
        assert count in (None, len(deferred)), (name, count, len(deferred))
    parts = np.add(seconds["student"], seconds["teacher"]).tolist()
    like = np.add(seconds["student"], seconds.get("teacher_same_batches", seconds["teacher"])).tolist()
    return {
        "deferral_rate": len(deferred) / len(images),
        "teacher_batches": {"full": len(full), "same": len(same)},
        "joint": ratio(seconds["joint"], parts),
        "pipeline": ratio(seconds["pipeline"], parts),
        "regrouped": ratio(seconds["regrouped"], parts),
        "joint_to_same_batches": ratio(seconds["joint"], like),
        "seconds": {name: summary(own) for name, own in seconds.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="live pair against its parts")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--student-runtime", default="eager")
    parser.add_argument("--teacher-runtime", default="eager")
    parser.add_argument("--batch-sizes", help="by default 1,8 for detection, 64,256 for classification")
    parser.add_argument("--images", type=int, help="by default 48 or 1024")
    parser.add_argument("--rounds", type=int, default=30, help="at most, at each batch size")
    parser.add_argument("--seconds", type=float, default=110, help="for the rounds of one batch size")
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    load = os.getloadavg()
    keep_freed_memory()
    task = load_config(args.config, args.changes).task
    runtimes = [f"{side}.runtime={getattr(args, f'{side}_runtime')}" for side in ("student", "teacher")]
    limit = f"data.limit={args.images or PICTURES[task]}"
    config = load_config(args.config, [*args.changes, *runtimes, f"run.device={args.device}", limit])
    pair = Pair.build(config)
    images = [pair.data.load(index) for index in range(len(pair.data))]
    sizes = [int(size) for size in args.batch_sizes.split(",")] if args.batch_sizes else SIZES[task]
    result = {
        "config": args.config.name,
        "runtimes": {"student": pair.config.student.runtime, "teacher": pair.config.teacher.runtime},
        "images": len(images),
        "batch_sizes": {str(size): measure(pair, images, size, args) for size in sizes},
        "environment": ran_with(pair.device, load),
    }
    print(to_json(result))


if __name__ == "__main__":
    sys.exit(run_safely(main))
