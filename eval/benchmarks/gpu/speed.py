"""Sections about speed: D0 and D4 in every runtime, compiled, and as a live pair."""

import os
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import torch
from detectors import RATES, energy
from parts import MODELS, Row, Rows, attempt, clear, effdet, inputs_of, on_gpu, pictures, wait_for_go
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
TF32 = "eager in TF32"
RUNTIMES = ("bf16", "cuda_graphs", "cuda_graphs_bf16")
REHEARSED = ("channels_last", "bf16")
FAST = "cuda_graphs_bf16"
BATCH, WORKERS, PICTURES = 8, 8, 32
SECONDS = {1: 3.0, 8: 4.0, 32: 6.0}
"""For the turns of all runtimes of a network at a batch size."""
Built: TypeAlias = dict[str, Any]
"""Networks by runtime, eager torch first."""


def compiled(args: Namespace) -> Rows:
    """One network in one compiled runtime at some batch sizes, in turns with eager torch."""
    name, runtime, listed = args.job.split(":")
    sizes = [int(size) for size in listed.split("+")]
    os.nice(5)  # compilers leave the CPUs to what is asked beside them
    begun, model = perf_counter(), effdet(name, args)
    batches = {size: model.batch(inputs_of(model, size, args)) for size in sizes}
    network = build_network(runtime, model.graph, batches[sizes[0]], args.device)
    built: Built = {EAGER: model.eager, runtime: network}
    first = {size: first_calls(built, batch, args) for size, batch in batches.items()}
    yield f"{name}, {runtime}, {listed}", {"build_s": round(perf_counter() - begun, 1)}
    wait_for_go(args)
    for size, batch in batches.items():
        for row, value in timed(built, first[size], batch, SECONDS[size] / 2, args).items():
            yield f"{name}, batch {size}, {row}" + " beside the compiled" * (row == EAGER), value


def networks(args: Namespace) -> Rows:
    """Each network at each batch size in all runtimes that need no compiler, in turns."""
    sizes = SIZES[:2] if args.small else SIZES
    models = {name: effdet(name, args) for name in MODELS}
    batches = {
        (size, name): model.batch(inputs_of(model, size, args))
        for size in sizes
        for name, model in models.items()
    }
    built: dict[str, Built] = {}
    for name, model in models.items():
        loose = TorchNetwork(model.graph, args.device)
        loose.tf32 = True
        built[name] = {EAGER: model.eager, TF32: loose}
        for runtime in REHEARSED if args.small else RUNTIMES:
            begun = perf_counter()
            try:
                built[name][runtime] = build_network(runtime, model.graph, batches[1, name], args.device)
            except EbjrError as error:
                yield f"{name}, {runtime}", {"failed": str(error)}
            else:
                yield f"{name}, {runtime}", {"build_s": round(perf_counter() - begun, 1)}
    first = {(size, name): first_calls(built[name], batch, args) for (size, name), batch in batches.items()}
    wait_for_go(args)
    for (size, name), batch in batches.items():
        clear()
        rows = attempt(partial(timed, built[name], first[size, name], batch, SECONDS[size], args))
        for row, value in {"timed": rows}.items() if "failed" in rows else rows.items():
            yield f"{name}, batch {size}, {row}", value
    for name, model in models.items():
        yield f"{name}, batch 1, beside the network", attempt(partial(stages, model, 1, args))
    if on_gpu(args):
        built.clear()
        yield "d0, too little memory", attempt(partial(beyond, models["d0"], args))


def first_calls(built: Built, batch: Any, args: Namespace) -> dict[str, Row]:
    """Of each runtime: seconds and memory of its first call, and its drift from eager on one picture."""
    wanted: list[Any] | None = None
    rows: dict[str, Row] = {}
    for runtime, network in built.items():
        clear()
        if on_gpu(args):
            torch.cuda.reset_peak_memory_stats()
        begun, held = perf_counter(), reserved(args)
        try:
            moved = first_of(network(batch))
        except InvalidInput as error:
            rows[runtime] = {"out_of_memory": str(error)}
            continue
        seconds = round(perf_counter() - begun, 2)
        rows[runtime] = {"first_call_s": seconds, "memory_mib": reserved(args) - held}
        wanted = moved if wanted is None else wanted
        rows[runtime]["drift"] = drift(moved, wanted)
    return rows


def timed(built: Built, first: dict[str, Row], batch: Any, seconds: float, args: Namespace) -> dict[str, Row]:
    """Milliseconds a batch, from the host's memory and from the device's, over those of eager torch."""
    sources = {"": batch}
    if on_gpu(args):
        sources |= {" on the device": torch.as_tensor(batch).to(args.device)}
    able = [runtime for runtime in built if "out_of_memory" not in first[runtime]]
    calls = {
        runtime + place: partial(built[runtime], source)
        for runtime in able
        for place, source in sources.items()
    }
    samples = in_turns(calls, 40, 0.5 if args.small else seconds)
    rows = {runtime: dict(row) for runtime, row in first.items()}
    for runtime in able:
        for place in sources:
            own = samples[runtime + place]
            rows[runtime][f"ms{place}"] = summary(own)
            if runtime != EAGER and EAGER in able:
                rows[runtime][f"over_eager{place}"] = interval(own, samples[EAGER + place])
    return rows


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
    fast = "bf16" if args.small else FAST
    runs = built_for(models, (fast, EAGER), args)
    points = {}
    for runtime, built in runs.items():
        run_by(models, built)
        points[runtime] = points_at(scores_of(models["student"], energy, scenes, BATCH), RATES, None)
    wait_for_go(args)
    for runtime, built in runs.items():
        run_by(models, built)
        for size in (1, BATCH):
            row = attempt(partial(joined, models, points[runtime], scenes, size, args))
            yield f"{runtime}, batch {size}", row
        if runtime == fast:
            threshold = points[runtime]["joint 30 %"].threshold
            yield f"{runtime}, streams", attempt(partial(streams, models, threshold, scenes, args))


def built_for(models: Mapping[str, Any], runtimes: Sequence[str], args: Namespace) -> dict[str, Built]:
    """The network of each side by runtime, which has answered every size of a batch up to BATCH."""
    runs: dict[str, Built] = {runtime: {} for runtime in runtimes}
    for side, model in models.items():
        batch = model.batch(inputs_of(model, BATCH, args))
        for runtime in runtimes:
            network = build_network(runtime, model.graph, batch, args.device)
            for size in (1, 2, 4, BATCH):
                network(batch[:size])
            runs[runtime][side] = network
    return runs


def run_by(models: Mapping[str, Any], built: Built) -> None:
    """Let each side's model run by its network."""
    for side, model in models.items():
        model.run = built[side]


def joined(models: Any, points: Any, scenes: Any, size: int, args: Namespace) -> Row:
    """Student, teacher and pair on the same pictures, preprocessing included, beside the parts."""
    subjects = subjects_of(models, energy, points, size)
    pace = Pace(0.1 if args.small else 1.5, least=4, warmup=1)
    calls = closed_loop(subjects, scenes, size if args.small or size == 1 else 4 * size, pace)
    student, teacher = calls["student"], calls["teacher"]
    rows = {
        name: closed_numbers(own, joint_ratio(student, teacher, own) if name in points else None)
        for name, own in calls.items()
    }
    for name, row in rows.items():  # the pair over its parts, were the teacher all of them
        alone = replace(calls[name], deferred=(0,) * len(calls[name].ms))
        row["over_teacher"] = asdict(joint_ratio(teacher, teacher, alone))
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
    deferred = {name: [one.deferred for one in answers(*way_of(way, scenes))] for name, way in ways.items()}
    calls = {name: partial(drained, way, scenes) for name, way in ways.items()}
    samples = in_turns(calls, 8, 2 if args.small else 10)
    rows = {
        name: {
            "pictures_per_s": 1e3 * len(scenes) / float(np.median(own)),
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
