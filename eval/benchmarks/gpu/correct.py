"""Sections about what is right: the device, the contract tests, answers, the verbs."""

import json
import os
import sys
import tempfile
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from parts import Row, Rows, attempt, on_gpu, ran, verb
from rounds import ran_with

from ebjr_det.core.types import Output
from ebjr_det.evaluation.benchmark.machine import gpu_state
from ebjr_det.inference.pair import Pair
from ebjr_det.runtimes.choose import drift
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.runtimes.onnx import PROVIDERS
from ebjr_det.runtimes.registry import RUNTIMES, build_network, installed, stacked
from ebjr_det.tasks.settings import load_config

CONTRACT = "tests/contract/test_every_runtime.py"
QUICK = "not compile or tiny or (stream and compile_bf16 and digits)"
PICTURES, BATCH = 24, 8


def device(args: Namespace) -> Rows:
    """Card, driver, versions, settings that change numbers."""
    yield "environment", attempt(lambda: ran_with(args.device, os.getloadavg()))
    cudnn: Any = torch.backends.cudnn
    yield "torch", {
        "cuda": torch.version.cuda, "cudnn": cudnn.version(), "cudnn_benchmark": cudnn.benchmark,
        "tf32_convolutions": cudnn.allow_tf32, "tf32_products": torch.backends.cuda.matmul.allow_tf32,
    }  # fmt: skip
    if on_gpu(args):
        yield "card", attempt(lambda: card(args.device))


def card(device: str) -> Row:
    """What the GPU says of itself."""
    about = torch.cuda.get_device_properties(device)
    asked = ["nvidia-smi", "--query-gpu=driver_version,power.limit,temperature.gpu", "--format=csv,noheader"]
    return {
        **(gpu_state(device) or {}), "memory_mib": about.total_memory / 2**20,
        "capability": [about.major, about.minor], "processors": about.multi_processor_count,
        "smi": ran(asked, 20)[1].strip(),
    }  # fmt: skip


def contract(args: Namespace) -> Rows:
    """The contract tests of every runtime on the device; whole pairs are compiled for one runtime alone."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "pytest",
            CONTRACT,
            "-m",
            "",
            "-p",
            "no:cacheprovider",
        ]
        command += ["-o", "filterwarnings=default", "--tb=short", "-q", f"--junitxml={report}"]
        command += ["-k", "not slow and not compile" if args.small else QUICK]
        row, text = ran(command, args.seconds - 15, env={**os.environ, "EBJR_DET_TEST_DEVICE": args.device})
        print(text[-6000:], file=sys.stderr)
        row.pop("failed", None)
        cases = [*ElementTree.parse(report).iter("testcase")] if report.is_file() else []  # noqa: S314
    yield "tests", row | ({"tests": len(cases)} if cases else {"failed": text[-600:]})
    for case in cases:
        fault = next((child for child in case if child.tag in ("failure", "error")), None)
        if fault is not None:
            yield str(case.get("name")), {"failed": " ".join(str(fault.get("message")).split())[:600]}


def answers(args: Namespace) -> Rows:
    """Trained pairs in every runtime of the device against eager torch on the CPU: drift, bits, decisions."""
    for name in ("digits", "quickstart"):
        pairs = [
            Pair.build(load_config(f"configs/{name}.yaml", [f"run.device={to}"]))
            for to in ("cpu", args.device)
        ]
        for side in ("student", "teacher"):
            exact, model = (getattr(pair, side) for pair in pairs)
            images = [model.preprocess(pairs[0].data.load(index)) for index in range(PICTURES)]
            wanted = columns(exact.eager, exact.batch(images))
            for runtime in RUNTIMES.values():
                kind = args.device.split(":")[0]
                if kind in runtime.devices and installed(runtime) and not left_out(runtime.name, name, args):
                    row = attempt(partial(compared, runtime.name, model, exact, images, wanted, args.device))
                    yield f"{name} {side}, {runtime.name}", row
            if on_gpu(args):
                loose = TorchNetwork(model.graph, args.device)
                loose.tf32 = True
                moved = drift(columns(loose, model.batch(images)), wanted)
                yield f"{name} {side}, eager in TF32", {"drift_from_cpu": moved}


def left_out(runtime: str, pair: str, args: Namespace) -> bool:
    """What would take too long to compile, or what the machine has only for the CPU (told by a section)."""
    if runtime == "onnxruntime" and on_gpu(args):
        import onnxruntime

        return PROVIDERS["cuda"] not in onnxruntime.get_available_providers()
    return runtime.startswith("compile") and (args.small or pair != "digits" or runtime == "compile_fp16")


def columns(network: Any, batch: Any) -> list[Any]:
    """All outputs, copied to the host."""
    return [np.array(stacked(column)) for column in network(batch)]


def in_parts(network: Any, batch: Any, size: int) -> list[Any]:
    """All outputs, of batches of a size."""
    parts = [columns(network, batch[start : start + size]) for start in range(0, len(batch), size)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def same(first: list[Any], second: list[Any]) -> bool:
    """Whether all bits are."""
    return all(one.tobytes() == other.tobytes() for one, other in zip(first, second, strict=True))


def compared(runtime: str, model: Any, exact: Any, images: list[Any], wanted: list[Any], device: str) -> Row:
    """One network: order and bits between calls and batch sizes, drift, and answers beside the CPU's."""
    batch = np.asarray(model.batch(images))
    network = build_network(runtime, model.graph, batch, device)
    whole, alone = in_parts(network, batch, BATCH), in_parts(network, batch, 1)
    odd = in_parts(network, batch[::-1].copy(), 5)
    moved, order = drift(whole, wanted), drift([column[::-1] for column in odd], whole)
    row: Row = {
        "drift_from_cpu": moved,
        "same_bits_again": same(whole, in_parts(network, batch, BATCH)),
        "same_bits_alone": same(whole, alone),
        "drift_alone": drift(alone, whole),
        "drift_backwards_in_fives": order,
        **agreement(model.decode(network(batch), images), exact.decode(tuple(wanted), images)),
    }
    limit = 0.1 if runtime.endswith(("bf16", "fp16")) else 0.005
    if not row["same_bits_again"] or max(moved, row["drift_alone"], order) > limit:
        row["failed"] = f"outputs move by more than {limit:g}, or from call to call"
    return row


def agreement(answer: Output, wanted: Output) -> Row:
    """Share of pictures with the same answer, and how far energies lie apart over their spread."""
    from detectors import energy

    energies = [energy(output) for output in (answer, wanted)]
    return {
        "same_answers": float(np.mean(list(map(alike, answer.predictions, wanted.predictions)))),
        "energy_apart": float(np.abs(energies[0] - energies[1]).max() / (energies[1].std() or 1.0)),
    }  # fmt: skip


def alike(prediction: Any, wanted: Any) -> bool:
    """The same class; or as many sure boxes (score .3), of the same classes within a pixel."""
    if isinstance(prediction, np.ndarray):
        return bool(prediction.argmax() == wanted.argmax())
    sure = [one.scores >= 0.3 for one in (prediction, wanted)]
    boxes, labels = ([getattr(one, key)[keep] for one, keep in zip((prediction, wanted), sure, strict=True)]
                     for key in ("boxes", "labels"))  # fmt: skip
    return len(labels[0]) == len(labels[1]) and bool(
        (labels[0] == labels[1]).all() and (np.abs(boxes[0] - boxes[1]) <= 1).all()
    )


TRAINING = """
data: {dataset: digits, split: train, part: [0.0, 0.8]}
validation: {dataset: digits, split: train, part: [0.8, 1.0]}
model: {arch: resnet, depth: 8, width: 2, preprocessing: {mean: [0.3, 0.3, 0.3], std: [0.4, 0.4, 0.4]}}
augment: {padding: 1, flip: 0.0}
schedule: {steps: 60, batch_size: 64, validate_every: 30, warmup_steps: 5, amp: true}
"""


DETECTOR = ("schedule.steps=12", "schedule.batch_size=8", "schedule.validate_every=12", "validation.limit=40")


def verbs(args: Namespace) -> Rows:
    """Commands on the device and on the CPU: the same quality, and none that fails."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield "evaluate quickstart", evaluated("quickstart", 60 if args.small else 200, folder, args)
        options = ["--seconds", "1.5", "--images", "16", "--batch-sizes", "1,8", "--rates", "0.3", "--json"]
        row, text = on_device("benchmark", "quickstart", folder / "timed", args, *options)
        yield "benchmark quickstart", row | ({} if "failed" in row else {"summary": json.loads(text)})
        changes = [part for change in DETECTOR for part in ("--set", change)]
        row, _ = on_device("train", "eval/quickstart/student.yaml", folder / "detector", args, *changes)
        yield "train a detector", row
        (folder / "train.yaml").write_text(TRAINING)
        yield "train, autocast", on_device("train", folder / "train.yaml", folder / "trained", args)[0]
        yield "evaluate digits", evaluated("digits", 300, folder, args)


def on_device(name: str, what: str | Path, out: Path, args: Namespace, *options: str) -> tuple[Row, str]:
    """One command on the device."""
    return ran(verb(name, what, "--out", out, "--device", args.device, *options), 110)


def evaluated(config: str, limit: int, folder: Path, args: Namespace) -> Row:
    """One evaluation on the CPU and one on the device, at the same time."""
    changes = ("--set", f"data.limit={limit}", "--set", "run.bootstrap=20", "--json")

    def on(to: str, out: Path) -> Row:
        row, text = on_device("evaluate", config, out, Namespace(device=to), *changes)
        return row if "failed" in row else row | {"quality": qualities(json.loads(text))}

    with ThreadPoolExecutor(2) as pool:
        outs = (folder / f"{config} on the CPU", folder / f"{config} on the device")
        return difference(*pool.map(on, ("cpu", args.device), outs))


def qualities(result: Row) -> Row:
    """Student, teacher and pair as `evaluate --json` tells them."""
    return {key: value for key, value in flat(result) if key.rsplit(".", 1)[-1] == "quality"}


def flat(value: Any, path: str = "") -> Any:
    """Every number with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, int | float):
        yield path, value


def difference(cpu: Row, gpu: Row) -> Row:
    """Both, and a failure where quality moves by more than a rounding error would move it."""
    row: Row = {"cpu": cpu, "device": gpu}
    faults = [str(side["failed"]) for side in (cpu, gpu) if "failed" in side]
    if not faults:
        moved = [abs(value - gpu["quality"].get(key, np.inf)) for key, value in cpu["quality"].items()]
        row["quality_apart"] = max(moved, default=float("nan"))
        if not row["quality_apart"] <= 0.02:
            faults = ["quality differs by more than .02"]
    return row | ({"failed": "; ".join(faults)} if faults else {})
