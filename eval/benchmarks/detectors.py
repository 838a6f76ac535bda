"""How long does a picture take? EfficientDet-D0, D4 and the live pair at three thresholds, in one run.

    python eval/benchmarks/detectors.py --images DIR [--pictures 40] [--published] [--device cuda]
        [--student-runtime NAME] [--teacher-runtime NAME]

Batch size 1, pictures from DIR, preprocessing and post-processing included, decoding not. Each picture goes
through all five before the next one, each time another first. Without --published the weights are fresh:
batch norm is estimated anew on the first pictures and the class head scaled, so that logits spread and
energies differ as those of a trained student do; the time of a network does not depend on its weights. The
three thresholds defer 10, 30 and 50 % of the pictures that are timed. What each runtime is worth:
`runtimes.py`. Prints one JSON object.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ebjr_det  # noqa: F401 - before torch and numpy, so that their threads sleep while they wait

# isort: split
import numpy as np
import torch

from ebjr_det.cli.exits import run_safely
from ebjr_det.core.joint import JointModel
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.types import FloatArray, Output
from ebjr_det.inference.latency import measure_latency
from ebjr_det.inference.pair import resolve_device
from ebjr_det.io.environment import describe_environment, device_name, keep_freed_memory
from ebjr_det.io.files import to_json
from ebjr_det.io.picture_folders import find_pictures
from ebjr_det.io.pictures import open_picture
from ebjr_det.runtimes.choose import choose_runtime
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.runtimes.registry import stacked
from ebjr_det.tasks.detection.data import build_named
from ebjr_det.tasks.detection.model import build_model

RATES = (0.1, 0.3, 0.5)
BEST = 3.0  # largest logit of a spread network: a score of .95; far above, scores round to 1 and tie


def energy(output: Output) -> FloatArray:
    """The default of `ebjr-det evaluate`: mean free energy of the ten best boxes."""
    return deferral_scores(output.logits, "free_energy", top_k=10)


def spread(model: Any, pictures: Sequence[Any]) -> None:
    """Give a fresh network batch statistics and outputs that differ from picture to picture."""
    network = model.network
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the plain average
                module.reset_running_stats()
        network.train()
        for picture in pictures:
            pixels = torch.from_numpy(model.batch([model.preprocess(picture)]))
            network(model.graph.normalize(pixels.to(model.device)))
        network.eval()
        inputs = [model.batch([model.preprocess(picture)]) for picture in pictures]
        best = max(float(stacked(model.eager(one)[0]).max()) for one in inputs)
        head = network.class_net.predict.conv_pw
        bias = float(head.bias.max())
        head.weight.mul_((BEST - bias) / (best - bias))


def put_on(model: Any, runtime: str, pictures: Sequence[Any], device: str) -> str:
    """Let the model run by the named runtime or, with `auto`, by the fastest; which it is."""
    inputs = model.batch([model.preprocess(picture) for picture in pictures])
    name, model.run = choose_runtime(runtime, model.graph, inputs, device, model=model.name)
    return name


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="latency of D0, D4 and the live pair")
    parser.add_argument("--images", required=True, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--published", action="store_true", help="the published weights")
    parser.add_argument("--student-runtime", default="eager")
    parser.add_argument("--teacher-runtime", default="eager")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    keep_freed_memory()
    device = resolve_device(args.device)
    pictures = [open_picture(Path(path)) for path in find_pictures([args.images])[: args.pictures]]
    named = build_named("coco", split="val2017")
    torch.manual_seed(0)
    weights: dict[str, Any] = {"pretrained": True} if args.published else {"random_weights": True}
    student, teacher = (
        build_model(named, f"effdet/tf_efficientdet_{size}", device=device, **weights)
        for size in ("d0", "d4")
    )
    if not args.published:
        spread(student, pictures[:8])
        spread(teacher, pictures[:8])
    student_runtime = put_on(student, args.student_runtime, pictures[:4], device)
    teacher_runtime = put_on(teacher, args.teacher_runtime, pictures[:2], device)
    scores = np.concatenate([energy(student([student.preprocess(p)])) for p in pictures])
    thresholds = [threshold_for_rate(scores, rate) for rate in RATES]
    pairs = {
        f"joint at {100 * rate:.0f} %": JointModel(student, teacher, energy, threshold)
        for rate, threshold in zip(RATES, thresholds, strict=True)
    }
    calls: dict[str, Any] = {
        "D0": lambda batch: student([student.preprocess(p) for p in batch]),
        "D4": lambda batch: teacher([teacher.preprocess(p) for p in batch]),
        **pairs,
    }
    times = measure_latency(
        calls,
        ([picture] for picture in pictures),
        batch_size=1,
        device=device_name(device),
        warmup=args.warmup,
    )
    result = {
        "runtimes": {"D0": student_runtime, "D4": teacher_runtime},
        "gmacs": {
            name: macs_of(model, pictures[0]) / 1e9 for name, model in (("D0", student), ("D4", teacher))
        },
        "weights": "published" if args.published else "fresh, spread",
        "deferral_rate": {name: float((scores > pair.threshold).mean()) for name, pair in pairs.items()},
        "latency": {name: latency.to_dict() for name, latency in times.items()},
        "joint_over_parts": {
            name: times[name].mean
            / (times["D0"].mean + float((scores > pair.threshold).mean()) * times["D4"].mean)
            for name, pair in pairs.items()
        },
        "environment": describe_environment(device, 0),
    }
    print(to_json(result))


if __name__ == "__main__":
    sys.exit(run_safely(main))
