"""How fast is each runtime? EfficientDet-D0 and D4 in every one that is installed, beside eager torch.

    python eval/benchmarks/runtimes.py --images DIR [--models d0,d4] [--runtimes all] [--published]

Real pictures, a batch of one (on CUDA also of 32). For each runtime: milliseconds a picture of the network
(`forward`), of post-processing (`decode`) and of routing (energy of the ten best boxes, and the decision),
the ratio of its network to eager's with an interval, and its drift from eager. A runtime is built and
compared before any is timed. Then all take turns on the same picture, round by round, another one first;
each runs once untimed right before it is timed, since threads of the one before may still spin. One whose
first calls take more than `SLOW` times eager's is told with one call and left out of the rounds.

On the CPU `eager, default allocator` is eager torch in a process of its own that does not keep freed memory
(see `environment.keep_freed_memory`), which is how plain torch comes; it takes its turns among the others.

`share_after_network` is (post-processing + routing) / (network + post-processing + routing);
`share_of_whole` has preprocessing in the denominator too. Both are medians over the rounds. The weights are
fresh and spread as in `detectors.py`. Prints one JSON object.
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import ebjr_det  # noqa: F401 - before torch and numpy, so that their threads sleep while they wait

# isort: split
import numpy as np
import torch
from detectors import energy, spread
from rounds import Other, questions, ran_with, ratio, reply, summary, turns
from tqdm import tqdm

from ebjr_det.cli.exits import run_safely
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import decide
from ebjr_det.inference.pair import resolve_device
from ebjr_det.io.environment import keep_freed_memory
from ebjr_det.io.files import to_json
from ebjr_det.io.picture_folders import find_pictures
from ebjr_det.io.pictures import open_picture
from ebjr_det.runtimes.choose import EAGER, drift
from ebjr_det.runtimes.registry import RUNTIMES, build_network, find_runtime, installed, stacked
from ebjr_det.tasks.detection.data import build_named
from ebjr_det.tasks.detection.model import build_model

PLAIN = "eager, default allocator"
STAGES = ("network", "post_processing", "routing")
SLOW = 4.0


def build(size: str, pictures: Sequence[Any], device: str, published: bool) -> Any:
    """EfficientDet of a size, `d0` to `d7`."""
    torch.manual_seed(0)
    weights: dict[str, Any] = {"pretrained": True} if published else {"random_weights": True}
    model = build_model(
        build_named("coco", split="val2017"), f"effdet/tf_efficientdet_{size}", device=device, **weights
    )
    if not published:
        spread(model, pictures[:8])
    return model


def once(model: Any, inputs: Sequence[Any]) -> dict[str, float]:
    """Milliseconds an image by stage."""
    start = perf_counter()
    raw = model.forward(inputs)
    forwarded = perf_counter()
    output = model.decode(raw, inputs)
    decoded = perf_counter()
    decide(energy(output), 0.0)
    ended = perf_counter()
    laps = (forwarded - start, decoded - forwarded, ended - decoded)
    return {stage: 1e3 * lap / len(inputs) for stage, lap in zip(STAGES, laps, strict=True)}


def warm_then_timed(model: Any, inputs: Sequence[Any]) -> dict[str, float]:
    """The second of two calls."""
    model.forward(inputs)
    return once(model, inputs)


def lot(inputs: Sequence[Any], number: int, size: int) -> list[Any]:
    """The inputs of a round: as many as a batch has, another first each round."""
    return [inputs[(number + at) % len(inputs)] for at in range(size)]


def pictures_of(args: argparse.Namespace) -> list[Any]:
    """The first pictures of the folder."""
    return [open_picture(Path(path)) for path in find_pictures([args.images])[: args.pictures]]


def outputs(model: Any, network: Any, inputs: Sequence[Any]) -> list[Any]:
    """Columns of a network on single pictures."""
    rows = [[stacked(column) for column in network(model.batch([one]))] for one in inputs]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def build_all(
    model: Any, names: Sequence[str], inputs: Sequence[Any], device: str, what: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The networks by runtime, and what is known of each before it is timed, or why it is not there."""
    networks: dict[str, Any] = {}
    told: dict[str, dict[str, Any]] = {}
    wanted, eager_ms = outputs(model, model.eager, inputs), 0.0
    for name in tqdm(names, desc=f"{what}: building", file=sys.stderr, dynamic_ncols=True):
        start = perf_counter()
        try:
            network = build_network(name, model.graph, model.batch(inputs), device)
        except ConfigError as error:
            told[name] = {"failed": str(error)}
            continue
        told[name] = {"build_s": perf_counter() - start}
        model.run = network
        first = warm_then_timed(model, inputs[:1])["network"]
        eager_ms = first if name == EAGER else eager_ms
        if first > SLOW * eager_ms:
            told[name] |= {"left_out": f"more than {SLOW:g} times eager", "network_ms_of_one_call": first}
        else:
            networks[name] = network
        told[name]["drift"] = drift(outputs(model, network, inputs), wanted)
    return networks, told


def measure(
    model: Any,
    networks: dict[str, Any],
    inputs: Sequence[Any],
    args: argparse.Namespace,
    size: int,
    what: str,
) -> dict[str, dict[str, list[float]]]:
    """Samples by runtime and stage."""
    names = [*networks, *([PLAIN] if args.device == "cpu" else [])]
    found: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in STAGES} for name in names}

    def all_rounds(other: Other | None) -> None:
        for number, name in turns(names, args.rounds, args.seconds, f"{what}: batch {size}"):
            if name == PLAIN:
                assert other is not None
                laps = other.ask([number, size])
            else:
                model.run = networks[name]
                laps = warm_then_timed(model, lot(inputs, number, size))
            for stage, lap in laps.items():
                found[name][stage].append(lap)

    if args.device != "cpu":
        all_rounds(None)
        return found
    with Other([__file__, *args.given, "--plain", what]) as other:
        all_rounds(other)
    return found


def preprocessing(model: Any, pictures: Sequence[Any], rounds: int = 3) -> list[float]:
    """Milliseconds a picture."""
    samples = []
    for picture in [*pictures[:1], *list(pictures) * rounds]:
        start = perf_counter()
        model.preprocess(picture)
        samples.append(1e3 * (perf_counter() - start))
    return samples[1:]


def row(own: dict[str, list[float]], eager: dict[str, list[float]], before: float) -> dict[str, Any]:
    """What is told of one runtime at one batch size."""
    network, post, routing = (np.asarray(own[stage]) for stage in STAGES)
    after = post + routing
    return {
        **{f"{stage}_ms": summary(own[stage]) for stage in STAGES},
        "network_over_eager": ratio(own["network"], eager["network"]),
        "share_after_network": float(np.median(after / (network + after))),
        "share_of_whole": float(np.median(after / (before + network + after))),
    }


def tried(what: str, args: argparse.Namespace) -> dict[str, Any]:
    """Everything of one model."""
    pictures = pictures_of(args)
    model = build(what, pictures, args.device, args.published)
    inputs = [model.preprocess(picture) for picture in pictures]
    before = preprocessing(model, pictures)
    networks, told = build_all(model, args.names, inputs, args.device, what)
    by_batch = {}
    for size in args.batches:
        samples = measure(model, networks, inputs, args, size, what)
        by_batch[f"batch {size}"] = {
            name: row(own, samples[EAGER], float(np.median(before))) for name, own in samples.items()
        }
    return {"preprocessing_ms": summary(before), "runtimes": told, **by_batch}


def plain(what: str, args: argparse.Namespace) -> None:
    """In a process of its own: eager torch, which gives its memory back."""
    pictures = pictures_of(args)
    model = build(what, pictures, args.device, args.published)
    inputs = [model.preprocess(picture) for picture in pictures]
    for number, size in questions():
        reply(warm_then_timed(model, lot(inputs, number, size)))


def parse() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description="every runtime against eager torch")
    parser.add_argument("--images", required=True, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--models", default="d0,d4")
    parser.add_argument("--runtimes", default="all", help="names, or all; eager is always in")
    parser.add_argument("--rounds", type=int, default=30, help="at most")
    parser.add_argument("--seconds", type=float, default=70, help="for the rounds of a model and batch")
    parser.add_argument("--batches", help="sizes; by default 1, and on CUDA 1,32")
    parser.add_argument("--published", action="store_true", help="the published weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--plain", help=argparse.SUPPRESS)  # in the process with the default allocator
    args = parser.parse_args()
    args.given = sys.argv[1:]
    args.device = resolve_device(args.device)
    kind = args.device.split(":")[0]
    here = [one.name for one in RUNTIMES.values() if kind in one.devices and installed(one)]
    asked = here if args.runtimes == "all" else [find_runtime(name).name for name in args.runtimes.split(",")]
    args.names = [EAGER, *(name for name in asked if name != EAGER)]
    sizes = args.batches or ("1" if kind == "cpu" else "1,32")
    args.batches = [int(size) for size in sizes.split(",")]
    return args


def main() -> None:
    """Measure and print."""
    args = parse()
    if args.plain:
        plain(args.plain, args)
        return
    load = os.getloadavg()
    keep_freed_memory()
    found = {}
    for what in args.models.split(","):
        found[what] = tried(what, args)
        gc.collect()
        if args.device != "cpu":
            torch.cuda.empty_cache()
    result = {
        "weights": "published" if args.published else "fresh, spread",
        "pictures": args.pictures,
        "models": found,
        "environment": ran_with(args.device, load),
    }
    print(to_json(result))


if __name__ == "__main__":
    sys.exit(run_safely(main))
