"""Sections about what is used up: memory of `predict`, joules a picture; and ONNX Runtime on the GPU."""

import tempfile
from argparse import Namespace
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import onnxruntime
from detectors import energy
from memory import CONFIG, linked, sources, summarized, threshold_for, watched
from parts import MODELS, Row, Rows, attempt, effdet, inputs_of, on_gpu, pictures, wait_for_go
from speed import BATCH, FAST, built_for, first_calls, run_by, timed

from ebjr_det.evaluation.benchmark.machine import metered
from ebjr_det.evaluation.benchmark.scenarios import Pace
from ebjr_det.evaluation.benchmark.subjects import points_at, scores_of, subjects_of
from ebjr_det.io.joules import STEADY, JouleCounter, joule_counter
from ebjr_det.runtimes.choose import EAGER
from ebjr_det.runtimes.onnx import PROVIDERS
from ebjr_det.runtimes.registry import build_network

FLAT = 1.1


def memory(args: Namespace) -> Rows:
    """`predict` over many scenes: the peak at the end over that after 500."""
    count = 700 if args.small else 5000
    for runtime in (EAGER,) if args.small else (EAGER, "cuda_graphs_bf16"):
        yield (
            f"predict, {runtime}",
            attempt(partial(predicted, count if runtime == EAGER else 1500, runtime, args)),
        )


def predicted(count: int, runtime: str, args: Namespace) -> Row:
    """One run; flat where neither the process's nor the GPU's peak rises."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes, links = folder / "scenes", folder / "pictures"
        scenes.mkdir()
        links.mkdir()
        found = sources(None, scenes)
        order = linked(found, count, links)
        threshold = threshold_for(CONFIG, found, 0.3)
        options = ["--device", args.device, "--runtime", runtime]
        rows = watched(CONFIG, links, folder / "out", threshold, count, options)
    row = summarized([one[:4] for one in rows], order, count)
    samples = row.pop("samples")
    row["samples"] = samples[:: max(1, len(samples) // 20)]
    if on_gpu(args):
        done, used = (
            np.array(column) for column in (*zip(*((one[0], one[4]) for one in rows), strict=True),)
        )
        early = used[: np.argmax(done >= 500) + 1]
        if np.isfinite(early).any():
            row |= {"gpu_mib_after_500": float(np.nanmax(early)), "gpu_mib_at_end": float(np.nanmax(used))}
            row["gpu_ratio"] = row["gpu_mib_at_end"] / row["gpu_mib_after_500"]
        else:
            row["gpu_mib"] = "the driver does not tell it for a process"
    risen = [key for key in ("ratio", "gpu_ratio") if row.get(key, 0) > FLAT]
    return row | ({"failed": f"{' and '.join(risen)} above {FLAT}"} if risen else {})


def joules(args: Namespace) -> Rows:
    """Energy of the card a picture: student, teacher, pair, with and without CUDA graphs."""
    counter = joule_counter(args.device)
    if counter is None:
        wait_for_go(args)
        yield "card", {"not_run": "nothing tells the energy here: no GPU, or no nvidia-ml-py"}
        return
    models = {side: effdet(size, args) for side, size in zip(("student", "teacher"), MODELS, strict=True)}
    scenes = pictures(32, args.small)
    runs = built_for(models, (FAST, EAGER), args)
    wait_for_go(args)
    begun, start = perf_counter(), counter()
    sleep(2 * STEADY)
    yield "idle", {"watts": (counter() - start) / (perf_counter() - begun)}
    for runtime, built in runs.items():
        run_by(models, built)
        points = points_at(scores_of(models["student"], energy, scenes, BATCH), (0.3,), None)
        subjects = subjects_of(models, energy, points, BATCH)
        yield runtime, attempt(partial(windows_of, subjects, scenes, counter))


def windows_of(subjects: Any, scenes: Any, counter: JouleCounter) -> Row:
    """Joules a picture of each, window by window and their median."""
    found = metered(subjects, scenes, BATCH, counter, Pace(0.0))
    return {name: {"median": float(np.median(each)), "each": each} for name, each in found.items()}


def onnx(args: Namespace) -> Rows:
    """D0 in ONNX Runtime with the device's provider beside eager torch."""
    provider = PROVIDERS[args.device.split(":")[0]]
    if provider not in onnxruntime.get_available_providers():
        yield "provider", {"not_run": f"this ONNX Runtime ({onnxruntime.__version__}) has no {provider}"}
        return
    model = effdet("d0", args)
    host = Namespace(**{**vars(args), "device": "cpu"})  # it takes arrays alone
    for size in (1, BATCH):
        batch = model.batch(inputs_of(model, size, args))
        name = "onnxruntime"
        built = {EAGER: model.eager, name: build_network(name, model.graph, batch, args.device)}
        first = first_calls(built, batch, host)
        yield f"d0, batch {size}", attempt(partial(timed, built, first, batch, 2.0, host))
