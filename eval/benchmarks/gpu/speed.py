"""Sections about speed: D0 and D4 in every runtime, compiled ahead, and the live pair."""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from detectors import RATES, energy
from parts import MODELS, Row, Rows, attempt, clear, effdet, inputs_of, on_gpu, pictures, put_on
from rounds import ratio, turns

from ebjr_det.core.errors import EbjrError, InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.evaluation.benchmark.ratios import joint_ratio
from ebjr_det.evaluation.benchmark.scenarios import Pace, closed_loop
from ebjr_det.evaluation.benchmark.subjects import points_at, scores_of, subjects_of
from ebjr_det.evaluation.benchmark.summary import closed_numbers
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.runtimes.choose import EAGER, drift
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.runtimes.registry import build_network, stacked

SIZES = (1, 8, 32)
RUNTIMES = ("cuda_graphs_bf16", "compile_bf16", "bf16", "cuda_graphs", "channels_last", "compile")
REHEARSED = ("channels_last", "bf16")
BARE = " without CUDA graphs"
COMPILED = ("compile_bf16", "compile")
BATCH, WORKERS, PICTURES = 8, 8, 32


def ahead(args: Namespace) -> Rows:
    """Compile what `networks` will time, all at once; torch keeps it on disk for the next process."""
    jobs = [f"{size}:{runtime}" for size in MODELS for runtime in COMPILED]
    if args.job is None:
        script = str(Path(__file__).with_name("sections.py"))
        command = [sys.executable, script, "ahead", "--device", args.device, "--job"]
        running = {job: subprocess.Popen([*command, job]) for job in jobs}
        yield "exit codes", {job: process.wait() for job, process in running.items()}
        return
    size, _, runtime = args.job.partition(":")
    begun, model = perf_counter(), effdet(size, args)
    batch = model.batch(inputs_of(model, BATCH, args))
    build_network(runtime, model.graph, batch, args.device)(batch)
    yield args.job, {"seconds": round(perf_counter() - begun, 1)}


def networks(args: Namespace) -> Rows:
    """Each network at each batch size: eager torch, then every runtime in turns with it."""
    sizes = SIZES[:2] if args.small else SIZES
    for name in MODELS:
        model = effdet(name, args)
        batches = {size: model.batch(inputs_of(model, size, args)) for size in sizes}
        for size, batch in batches.items():
            yield f"{name}, batch {size}, eager", attempt(partial(timed, model.eager, None, batch, args))
            yield f"{name}, batch {size}, beside the network", attempt(partial(stages, model, size, args))
        for runtime in REHEARSED if args.small else RUNTIMES:
            clear()
            begun = perf_counter()
            try:
                network = build_network(runtime, model.graph, batches[1], args.device)
            except EbjrError as error:
                yield f"{name}, {runtime}", {"failed": str(error)}
                continue
            yield f"{name}, {runtime}", {"build_s": round(perf_counter() - begun, 1)}
            for size, batch in batches.items():
                row = attempt(partial(timed, network, model.eager, batch, args))
                yield f"{name}, batch {size}, {runtime}", row
            if runtime in COMPILED and on_gpu(args):
                bare: Any = network
                bare = TorchNetwork(bare.graph, args.device, channels_last=True)
                for size, batch in batches.items():
                    row = attempt(partial(timed, bare, model.eager, batch, args))
                    yield f"{name}, batch {size}, {runtime}{BARE}", row
            del network
        if on_gpu(args):
            yield f"{name}, too little memory", attempt(partial(beyond, model, args))


def timed(network: Any, eager: Any, batch: Any, args: Namespace) -> Row:
    """Milliseconds a batch, from the host's memory and from the device's, over those of eager torch."""
    clear()
    sources = {"": batch}
    if on_gpu(args):
        torch.cuda.reset_peak_memory_stats()
        sources |= {" on the device": torch.as_tensor(batch).to(args.device)}
    subjects = {"network": network} if eager is None else {"network": network, EAGER: eager}
    begun, held = perf_counter(), reserved(args)
    try:
        moved = first_of(network(batch))
    except InvalidInput as error:
        return {"out_of_memory": str(error)}
    row: Row = {"first_call_s": round(perf_counter() - begun, 2), "memory_mib": reserved(args) - held}
    if eager is not None:
        row["drift"] = drift(moved, first_of(eager(batch)))
    calls = {
        who + place: partial(subject, source)
        for who, subject in subjects.items()
        for place, source in sources.items()
    }
    samples = in_turns(calls, 40, 0.5 if args.small else 1.5)
    for place in sources:
        row[f"ms{place}"] = summary(samples[f"network{place}"])
        if eager is not None:
            row[f"over_eager{place}"] = interval(samples[f"network{place}"], samples[f"{EAGER}{place}"])
    return row


def stages(model: Any, size: int, args: Namespace) -> Row:
    """Milliseconds a batch of what stands around the network, in one thread."""
    scenes, inputs = pictures(32, args.small)[:size], inputs_of(model, size, args)
    raw = model.forward(inputs)
    answer = model.decode(raw, inputs)
    calls = {
        "preprocessing": lambda: [model.preprocess(scene) for scene in scenes],
        "post_processing": lambda: model.decode(raw, inputs),
        "score": lambda: energy(answer),
    }
    return {name: summary(own) for name, own in in_turns(calls, 20, 1.0).items()}


def first_of(outputs: Any) -> list[Any]:
    """The first picture's entries, copied; of 32 pictures all outputs of D4 are gigabytes."""
    return [np.array(stacked(column[:1])) for column in outputs]


def reserved(args: Namespace) -> float:
    """MiB that torch has taken from the GPU at most since the last look was forgotten."""
    return torch.cuda.max_memory_reserved(args.device) / 2**20 if on_gpu(args) else 0.0


def in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each call, which return when their answers are there; one of each is not counted."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _, name in turns([*calls], rounds, seconds, "rounds"):
        begun = perf_counter()
        calls[name]()
        samples[name].append(1e3 * (perf_counter() - begun))
    return samples


def summary(samples: list[float]) -> Row:
    """Median, p90 and how many."""
    return {
        "median": float(np.median(samples)),
        "p90": float(np.percentile(samples, 90)),
        "calls": len(samples),
    }


def interval(above: list[float], below: list[float]) -> Row:
    """The median ratio and its 95 % interval."""
    return {key: value for key, value in ratio(above, below).items() if key != "each"}


def beyond(model: Any, args: Namespace) -> Row:
    """A batch for which a limit leaves no memory: refused with one that fits, and that one does."""
    clear()
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    batch = model.batch(inputs_of(model, 32, args))
    model.eager(batch[:8])
    limit = torch.cuda.max_memory_allocated() + (torch.cuda.max_memory_allocated() - base) // 2
    clear()
    share = (
        limit + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    ) / torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        model.eager(batch)
    except InvalidInput as error:
        fits = next(count for count in (16, 8, 4, 2, 1) if f" {count}, " in str(error))
        model.eager(batch[:fits])
        return {"message": str(error), "fits": fits}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return {"failed": "a batch of 32 fitted into the memory of 12"}


def live_pair(args: Namespace) -> Rows:
    """D0 and D4 as a pair at three deferral rates beside D4 alone and its parts; then as a stream."""
    models = {side: effdet(size, args) for side, size in zip(("student", "teacher"), MODELS, strict=True)}
    scenes = pictures(BATCH if args.small else PICTURES, args.small)
    scores = scores_of(models["student"], energy, scenes, BATCH)
    points = points_at(scores, RATES, None)
    for runtime in (EAGER, "bf16" if args.small else "cuda_graphs_bf16"):
        for model in models.values():
            put_on(model, runtime, args)
        for size in (1, BATCH):
            row = attempt(partial(joined, models, points, scenes, size, args))
            yield f"{runtime}, batch {size}", row
        threshold = points["joint 30 %"].threshold
        yield f"{runtime}, streams", attempt(partial(streams, models, threshold, scenes, args))
        clear()


def joined(models: Any, points: Any, scenes: Any, size: int, args: Namespace) -> Row:
    """Student, teacher and pair on the same pictures, preprocessing included, beside the parts."""
    subjects = subjects_of(models, energy, points, size)
    pace = Pace(0.1 if args.small else 2.0, least=4, warmup=1)
    calls = closed_loop(subjects, scenes, size if args.small or size == 1 else 4 * size, pace)
    student, teacher = calls["student"], calls["teacher"]
    rows = {
        name: closed_numbers(own, joint_ratio(student, teacher, own) if name in points else None)
        for name, own in calls.items()
    }
    for row in rows.values():
        row["over_teacher"] = row["mean_ms"] / rows["teacher"]["mean_ms"]
    return rows


def streams(models: Any, threshold: float, scenes: Any, args: Namespace) -> Row:
    """Pictures a second at 30 %: threads that preprocess, a stream for each model, gathered batches."""
    pair = JointModel(models["student"], models["teacher"], energy, threshold)
    alone = JointModel(models["teacher"], models["teacher"], energy, np.inf)
    workers = min(WORKERS, os.cpu_count() or 1)
    ways = {
        "teacher alone, one thread": (alone, Plan(BATCH, BATCH, 0)),
        "teacher alone": (alone, Plan(BATCH, BATCH, workers)),
        "one thread": (pair, Plan(BATCH, BATCH, 0)),
        "one stream": (pair, Plan(BATCH, BATCH, workers)),
        "two streams": (pair, Plan(BATCH, BATCH, workers, overlap=True)),
        "two streams, gathered": (pair, Plan(BATCH, BATCH, workers, overlap=True, regroup=True)),
    }
    many = scenes if args.small else [*scenes] * 2
    deferred = {name: [one.deferred for one in answers(*way_of(way, many))] for name, way in ways.items()}
    calls = {name: partial(drained, way, many) for name, way in ways.items()}
    samples = in_turns(calls, 8, 2 if args.small else 14)
    rows = {
        name: {
            "pictures_per_s": 1e3 * len(many) / float(np.median(own)),
            "over_teacher_alone": interval(own, samples["teacher alone"]),
        }
        for name, own in samples.items()
    }
    decisions = {tuple(flags) for name, flags in deferred.items() if not name.startswith("teacher")}
    return {"workers": workers, "deferral_rate": float(np.mean(deferred["one thread"])), "ways": rows} | (
        {"failed": "decisions differ between the ways"} if len(decisions) > 1 else {}
    )


def way_of(way: tuple[JointModel, Plan], scenes: Any) -> tuple[Any, ...]:
    """The arguments of `answers`."""
    return way[0], scenes, lambda scene: scene, way[1]


def drained(way: tuple[JointModel, Plan], scenes: Any) -> int:
    """All answers of a stream; how many."""
    return sum(1 for _ in answers(*way_of(way, scenes)))
