"""Pictures per second from files to detections: effdet's own evaluation loop with D4, against D0 + D4 here.

    python eval/benchmarks/against_effdet.py --images DIR --annotations FILE.json
        [--student-runtime onnxruntime] [--teacher-runtime onnxruntime] [--effdet-kept]

Their loop is that of `validate.py` in rwightman/efficientdet-pytorch, from the library's public parts:
`create_model(..., bench_task="predict")`, float32, `torch.no_grad()`; `create_dataset("coco", root, "val")`;
a torch `DataLoader` of 4 processes that open a file, convert it to RGB, parse its objects, resize it
bilinearly and pad it with the mean colour (`transforms_coco_eval`), and stack (`DetectionFastCollate`);
normalisation on the device; then `bench(input, img_info=target)`, whose post-processing is the library's,
and `evaluator.add_predictions`. Three things differ, all by need. Its batch is 128 by default, which D4 on
1024 pixels does not fit on small machines: here both loops have the same batch size, `--batch-size`. Its
`create_loader` normalises in a prefetcher that wants CUDA, and without that prefetcher its collate takes
arrays only and fails; so on a CPU the same loader is put together here and the same normalisation stands in
the loop. And COCO's numbers are not computed, by neither loop: the weights are fresh.

It runs as its script does, in a process that does not keep freed memory (see
`environment.keep_freed_memory`); `--effdet-kept` adds a second one that does, which tells how much of the
ratio is the allocator's. Each pass starts its loader's processes anew; `first_batch_s` is the time until its
first batch is answered.

Ours is `pipeline.answers` on the same files, decoding inside, threshold for 30 % chosen beforehand, untimed,
on the student's scores of the same pictures: in eager torch, and in the runtimes given. Same weights in all.
Before anything is timed, D4's detections of their loop and of ours are compared box by box: `agreement`,
asserted to be small. Passes take turns, each round another one first; a pass before the first is not
counted. Prints one JSON object.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from detectors import energy, put_on
from rounds import Other, questions, ran_with, ratio, reply, summary, turns
from runtimes import build

from ebjr_det.cli.exits import run_safely
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.inference.pair import resolve_device
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.io.environment import keep_freed_memory
from ebjr_det.io.files import to_json
from ebjr_det.io.pictures import open_picture
from ebjr_det.runtimes.choose import EAGER

TEACHER = "tf_efficientdet_d4"
WORKERS = 4  # of their loop, as there
PIXELS, SCORES = 0.01, 1e-4
SWAPPED = 0.02
"""What their detections and ours may differ by."""
THEIRS, KEPT = "effdet's loop, D4", "effdet's loop, D4, freed memory kept"


# Their loop, in a process of its own.


def loader_of(root: Path, size: tuple[int, int], batch_size: int, device: str) -> tuple[Any, Any]:
    """Data set and loader of `validate.py`; on a CPU without the prefetcher, which wants CUDA."""
    from effdet import create_dataset, create_loader
    from effdet.data.loader import DetectionFastCollate
    from effdet.data.transforms import transforms_coco_eval

    dataset = create_dataset("coco", root, "val")
    if device != "cpu":
        return dataset, create_loader(
            dataset, input_size=size, batch_size=batch_size, interpolation="bilinear", fill_color="mean",
            num_workers=WORKERS,
        )  # fmt: skip
    dataset.transform = transforms_coco_eval(size, "bilinear", use_prefetcher=True, fill_color="mean")
    collate = DetectionFastCollate()
    return dataset, torch.utils.data.DataLoader(
        dataset, batch_size, shuffle=False, num_workers=WORKERS, collate_fn=collate
    )


def normalized(loader: Any, device: str) -> Iterator[tuple[Any, Any]]:
    """What the prefetcher gives: floats less the mean by the standard deviation, in place."""
    if device != "cpu":
        yield from loader
        return
    from effdet.data.transforms import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    mean, std = (
        torch.tensor([value * 255 for value in values]).view(1, 3, 1, 1)
        for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    )
    for pixels, target in loader:
        yield pixels.float().sub_(mean).div_(std), target


def theirs(folder: Path, batch_size: int, device: str) -> None:
    """Answers questions with passes: seconds, and of the first one the detections in a file."""
    from effdet import create_evaluator, create_model

    warnings.filterwarnings("ignore", "This DataLoader will create")  # fewer cores than processes
    torch.backends.cudnn.benchmark = True
    bench = create_model(
        TEACHER, bench_task="predict", num_classes=90, pretrained=False, pretrained_backbone=False
    )
    bench.model.load_state_dict(torch.load(folder / "teacher.pth", weights_only=True))
    bench = bench.to(device).eval()
    size = tuple(bench.config.image_size)
    with contextlib.redirect_stdout(sys.stderr):  # pycocotools tells of its index
        dataset, loader = loader_of(folder, size, batch_size, device)
    for kept in questions():
        evaluator = create_evaluator("coco", dataset, pred_yxyx=False)
        first, start = None, perf_counter()
        with torch.no_grad():
            for pixels, target in normalized(loader, device):
                found = bench(pixels, img_info=target)
                evaluator.add_predictions(found, target)
                first = first or perf_counter() - start
        seconds = perf_counter() - start
        if kept:
            np.save(kept, np.stack(evaluator.predictions))
        reply({"seconds": seconds, "first_batch_s": first, "pictures": len(evaluator.predictions)})


# Ours.


def chosen_files(args: argparse.Namespace, folder: Path) -> list[Path]:
    """The first pictures of the annotations, laid out as COCO's val2017 in a folder for their loop."""
    told = json.loads(args.annotations.read_text(encoding="utf-8"))
    images = sorted(
        (one for one in told["images"] if (args.images / one["file_name"]).is_file()),
        key=lambda one: one["id"],
    )[: args.pictures]
    if not images:
        raise InvalidInput(f"Expected pictures of `{args.annotations}` in `{args.images}`, got none.")
    ids = {one["id"] for one in images}
    told["images"] = images
    told["annotations"] = [one for one in told["annotations"] if one["image_id"] in ids]
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "val2017").symlink_to(args.images.resolve(), target_is_directory=True)
    return [args.images / one["file_name"] for one in images]


def agreement(files: Sequence[Path], teacher: Any, size: int, kept: Path) -> dict[str, Any]:
    """D4's detections of both loops, box by box in their order.

    Neighbours whose scores are a rounding apart may stand the other way round, a share of `SWAPPED` at most;
    they are told, and left out of the difference of boxes.

    Raises:
        AssertionError: they differ by more than `PIXELS`, `SCORES` or `SWAPPED`.
    """
    boxes = scores = 0.0
    swapped = count = 0
    rows = np.load(kept)
    for at in range(0, len(files), size):
        inputs = [teacher.preprocess(open_picture(path)) for path in files[at : at + size]]
        for one, row in zip(
            teacher.detect(teacher.forward(inputs), inputs), rows[at : at + size], strict=True
        ):
            row = row[: len(one.scores)]
            apart = np.abs(one.boxes - row[:, :4]).max(axis=1, initial=0)
            other = (one.classes + 1 != row[:, 5]) | (apart > PIXELS)
            boxes = max(boxes, float(apart[~other].max(initial=0)))
            scores = max(scores, float(np.abs(one.scores - row[:, 4]).max(initial=0)))
            swapped += int(other.sum())
            count += len(row)
    assert count, rows.shape
    assert swapped <= SWAPPED * count, (count, boxes, scores, swapped)
    assert scores <= SCORES, (count, boxes, scores)
    return {
        "detections": count,
        "largest_difference_px": boxes,
        "largest_difference_score": scores,
        "swapped": swapped,
    }


def pass_of(joint: JointModel, files: Sequence[Path], plan: Plan) -> tuple[float, int]:
    """Seconds of all files, and how many were deferred."""
    start = perf_counter()
    found = [(one.prediction, one.deferred) for one in answers(joint, files, open_picture, plan)]
    return perf_counter() - start, sum(deferred for _, deferred in found)


def threshold_of(student: Any, files: Sequence[Path], size: int, rate: float) -> float:
    """On the student's scores of the same pictures in the same batches."""
    scores = []
    for at in range(0, len(files), size):
        inputs = [student.preprocess(open_picture(path)) for path in files[at : at + size]]
        scores.append(energy(student(inputs)))
    return threshold_for_rate(np.concatenate(scores), rate)


def measure(args: argparse.Namespace, device: str, folder: Path) -> dict[str, Any]:
    """Everything but the environment."""
    files = chosen_files(args, folder)
    pictures = [open_picture(path) for path in files[:8]]
    student, teacher = (build(size, pictures, device, args.published) for size in ("d0", "d4"))
    torch.save(teacher.network.state_dict(), folder / "teacher.pth")
    size = args.batch_size
    plan = Plan(size, size, args.workers)
    told = ["--images", str(args.images), "--annotations", str(args.annotations), "--batch-size", str(size)]
    their = [__file__, *told, "--device", device, "--theirs", str(folder)]
    with ExitStack() as stack:
        others = {THEIRS: stack.enter_context(Other(their))}
        first = others[THEIRS].ask(str(folder / "theirs.npy"))
        agreed = agreement(files, teacher, size, folder / "theirs.npy")
        if args.effdet_kept:
            others[KEPT] = stack.enter_context(Other([*their, "--keep"]))
            others[KEPT].ask("")
        wanted = {
            "D0 + D4, eager": (EAGER, EAGER),
            f"D0 + D4, {args.student_runtime} + {args.teacher_runtime}": (
                args.student_runtime,
                args.teacher_runtime,
            ),
        }
        built: dict[str, Any] = {}
        for name, runtimes in wanted.items():
            for model, runtime in zip((student, teacher), runtimes, strict=True):
                put_on(model, runtime, pictures[:2], device)
            threshold = threshold_of(student, files, size, args.rate)
            built[name] = (student.run, teacher.run, JointModel(student, teacher, energy, threshold))
            pass_of(built[name][2], files, plan)
        seconds: dict[str, list[float]] = {name: [] for name in [*others, *built]}
        firsts: dict[str, list[float]] = {name: [] for name in others}
        shares: dict[str, float] = {}
        for _, name in turns([*seconds], args.rounds, args.seconds, f"{len(files)} pictures"):
            if name in others:
                answer = others[name].ask("")
                taken_s = answer["seconds"]
                firsts[name].append(answer["first_batch_s"])
            else:
                student.run, teacher.run, joint = built[name]
                taken_s, deferred = pass_of(joint, files, plan)
                shares[name] = deferred / len(files)
            seconds[name].append(taken_s)
    assert first["pictures"] == len(files), first
    return {
        "pictures": len(files),
        "batch_size": size,
        "workers": {"effdet": WORKERS, "ours": args.workers},
        "agreement": agreed,
        "deferral_rate": shares,
        "pictures_per_second": {
            name: summary([len(files) / one for one in own]) for name, own in seconds.items()
        },
        "first_batch_s": {name: summary(own) for name, own in firsts.items()},
        "seconds": {name: summary(own) for name, own in seconds.items()},
        "times_as_fast_as_effdet": {
            name: ratio(seconds[THEIRS], own) for name, own in seconds.items() if name != THEIRS
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="effdet's evaluation loop against the pair, from files")
    parser.add_argument("--images", type=Path, required=True, help="folder of the annotated pictures")
    parser.add_argument("--annotations", type=Path, required=True, help="COCO JSON")
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=5, help="of both loops")
    parser.add_argument("--workers", type=int, default=2, help="threads of ours; theirs has 4 processes")
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--student-runtime", default="onnxruntime")
    parser.add_argument("--teacher-runtime", default="onnxruntime")
    parser.add_argument("--effdet-kept", action="store_true", help="also their loop with freed memory kept")
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--seconds", type=float, default=170, help="for the rounds")
    parser.add_argument("--published", action="store_true", help="the published weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--theirs", type=Path, help=argparse.SUPPRESS)  # in their process
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = resolve_device(args.device)
    if args.theirs:
        if args.keep:
            keep_freed_memory()
        theirs(args.theirs, args.batch_size, device)
        return
    load = os.getloadavg()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, device, Path(folder))
    weights = "published" if args.published else "fresh, spread"
    print(to_json({"weights": weights, **result, "environment": ran_with(device, load)}))


if __name__ == "__main__":
    sys.exit(run_safely(main))
