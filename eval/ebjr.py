"""EBJR's own command line: takes the published commands unchanged and prints the same lines.

    python eval/ebjr.py --evaluate --dataset cifar10 --arch densenet --depth 52 --growthRate 6 \
        --tarch densenet --tdepth 64 --tgrowthRate 12 --router_threshold 2.46 \
        --resume STUDENT.pth.tar --tresume TEACHER.pth.tar --data DIR

Its conventions, kept here and nowhere else: the score is +logsumexp(softmax(f)) in float32, an image stays
with the student at or above the threshold, and FLOPs are those of EBJR's counter in units of 10^8.
`--data` is the data's root; for ImageNet it holds val/<class>/<image>.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, NoReturn

import numpy as np
from tqdm import tqdm

from ebjr_det.cli.exits import run_safely
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.core.joint import JointModel
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.types import FloatArray, Matches, Output, concatenate
from ebjr_det.inference.pair import resolve_device
from ebjr_det.io.environment import keep_freed_memory
from ebjr_det.io.loader import batches_from
from ebjr_det.tasks.classification.data import build_data, collate
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.classification.model import TorchClassifier, build_model
from ebjr_det.tasks.classification.networks.preprocessing import IMAGENET_STATISTICS

IMAGENET_BLOCKS = {121: [6, 12, 24, 16], 169: [6, 12, 32, 32], 201: [6, 12, 48, 32]}
DATASETS = {
    "cifar10": {"dataset": "cifar10", "split": "test"},
    "cifar100": {"dataset": "cifar100", "split": "test"},
    "imagenet": {"dataset": "image_folder", "split": "val"},
}
RULE = "---------------------"
BAR = "{desc} |{bar:32}| ({n_fmt}/{total_fmt}) Total: {elapsed} | ETA: {remaining} | {unit}"


def released_score(output: Output) -> FloatArray:
    """The deferral score of the released code, in the float32 that it used."""
    return deferral_scores(output.logits, "probability_logsumexp", dtype="float32")


class _Parser(argparse.ArgumentParser):
    """Mistakes in one line, as everywhere."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"Expected the released options, got: {message}. --help lists them.")


def at_least(least: int) -> Callable[[str], int]:
    """A whole number that is not below `least`."""

    def parsed(text: str) -> int:
        if (number := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{number} is below {least}")
        return number

    return parsed


def parse() -> argparse.Namespace:
    """The released options; those that only training used are accepted and have no effect."""
    parser = _Parser(description="EBJR on CIFAR-10, CIFAR-100 and ImageNet")
    parser.add_argument("-d", "--dataset", default="cifar10", help="cifar10, cifar100 or imagenet")
    parser.add_argument("--data", default="data", help="root of the data (default: data)")
    parser.add_argument("-j", "--workers", type=at_least(0), default=0, help="loader processes")
    parser.add_argument("--test-batch", type=at_least(1), default=1, help="images a batch, 1 as published")
    parser.add_argument("--limit", type=at_least(1), help="only the first images")
    parser.add_argument("--resume", default="checkpoints/cifar10/densenet-bc-52-6/model_best.pth.tar")
    parser.add_argument("--tresume", default="checkpoints/cifar10/densenet-bc-64-12/model_best.pth.tar")
    for prefix, who, depth, growth in (("", "student", 52, 6), ("t", "teacher", 64, 12)):
        short = ["-a"] if not prefix else ["-ta"]
        parser.add_argument(f"--{prefix}arch", *short, default="densenet", help=f"the {who}'s network")
        parser.add_argument(f"--{prefix}depth", type=int, default=depth)
        parser.add_argument(f"--{prefix}growthRate", type=int, default=growth)
        parser.add_argument(f"--{prefix}block-name", default="BasicBlock", help="BasicBlock or Bottleneck")
    parser.add_argument("--widen-factor", type=int, default=4)
    parser.add_argument("--compressionRate", type=int, default=2)
    parser.add_argument("--router_threshold", "--th", type=float, default=2.46)
    parser.add_argument("-e", "--evaluate", action="store_true", default=True)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    unused = {"-c": "--checkpoint", "-tc": "--tcheckpoint", "--gpu-id": "--gpu-id"}
    for flag, name in (unused | {"--drop": "--dropout"}).items():
        parser.add_argument(*dict.fromkeys((flag, name)), help=argparse.SUPPRESS)
    for flag in ("--manualSeed", "--cardinality"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    return parser.parse_args()


def network(args: argparse.Namespace, prefix: str) -> dict[str, Any]:
    """Arguments of `build_model` for the student (prefix empty) or the teacher (`t`)."""
    arch, depth = getattr(args, f"{prefix}arch"), getattr(args, f"{prefix}depth")
    growth = getattr(args, f"{prefix}growthRate")
    name = f"{arch}-{depth}"
    if args.dataset == "imagenet":
        return {"name": name, **_imagenet_network(arch, depth, growth)}
    shape: Mapping[str, Mapping[str, Any]] = {
        "densenet": {"growth": growth, "options": {"compression": args.compressionRate}},
        "wrn": {"width": args.widen_factor},
        "resnet": {"block": _block(getattr(args, f"{prefix}block_name"))},
        "preresnet": {"block": _block(getattr(args, f"{prefix}block_name"))},
    }
    if arch not in shape:
        raise ConfigError(f"Expected a known --{prefix}arch, got `{arch}`. {did_you_mean(arch, shape)}")
    return {"arch": arch, "name": name, "depth": depth, **shape[arch]}


def _imagenet_network(arch: str, depth: int, growth: int) -> dict[str, Any]:
    if arch == "resnet":
        return {"arch": f"torchvision/resnet{depth}"}
    if arch != "densenet" or depth not in IMAGENET_BLOCKS:
        raise ConfigError(f"Expected densenet 121, 169 or 201, or resnet, for imagenet, got {arch} {depth}.")
    mean, std = IMAGENET_STATISTICS
    blocks = {"growth_rate": growth, "block_config": IMAGENET_BLOCKS[depth], "num_init_features": 64}
    return {
        "arch": "torchvision.models.densenet:DenseNet",
        "options": blocks,
        "preprocessing": {"resize": 256, "crop": 224, "mean": mean, "std": std},
    }


def _block(name: str) -> str:
    return name.lower().removesuffix("block")


def main() -> None:
    """Build the pair, print its size and cost, run it live, print the totals."""
    args = parse()
    if args.dataset not in DATASETS:
        raise ConfigError(
            f"Expected a known --dataset, got `{args.dataset}`. {did_you_mean(args.dataset, DATASETS)}"
        )
    keep_freed_memory()
    device = resolve_device(args.device)
    print(f"==> Preparing dataset {args.dataset}", flush=True)
    data = build_data(root=args.data, limit=args.limit, **DATASETS[args.dataset])  # type: ignore[arg-type]
    models: list[TorchClassifier] = []
    for prefix, what, weights in (("", "model", args.resume), ("t", "teacher model", args.tresume)):
        print(f"==> creating {what} '{getattr(args, f'{prefix}arch')}'")
        options = network(args, prefix)
        model = build_model(data, device=device, checkpoint=weights or None, **options)
        assert isinstance(model, TorchClassifier)
        models.append(model)
    facts = [model.facts(data.load(0)) for model in models]
    print(f"    Total params: {facts[0]['parameters'] / 1e6:.2f}M")
    print(f"    Total teacher params: {facts[1]['parameters'] / 1e6:.2f}M")
    print("==> Resuming from checkpoint..")
    for who, fact in zip(("Student", "Teacher"), facts, strict=True):
        print(f"{RULE}\n{who}: \nParams: {fact['parameters'] / 1e6:.2f}M")
        print(f"FLOPs (10^8): {fact['ebjr_flops'] / 1e8}")
    # float32 of the threshold, because that is what comparing a float32 tensor with a number does in torch.
    student, teacher = models
    joint = JointModel(student, teacher, released_score, -float(np.float32(args.router_threshold)))
    print("\nEvaluation only", flush=True)
    stayed, seconds, matches = run(joint, data, args)
    count = len(data)
    share = stayed / count
    flops = CostModel(facts[0]["ebjr_flops"] / 1e8, facts[1]["ebjr_flops"] / 1e8).macs(1 - share)
    print(f"{RULE}\n#Samples: {count}")
    print(f"Samples Processed by Student (%): {share * 100}")
    print(f"Samples Processed by Teacher (%): {(1.0 - share) * 100}")
    print(f"Accuracy (%): {100 * Accuracy().metrics(matches)['accuracy']:.4f}".rstrip("0").rstrip("."))
    print(f"FLOPs (10^8): {flops}")
    print(f"Average Latency (s): {seconds / count}")


def run(joint: JointModel, data: Any, args: argparse.Namespace) -> tuple[int, float, Matches]:
    """The live pair over the whole set: images that stayed with the student, seconds, match records."""
    task, records, stayed, seconds, right = Accuracy(), [], 0, 0.0, np.zeros(2)
    transforms = (joint.student.preprocess, joint.teacher.preprocess)
    stream = batches_from(0, data, transforms, args.test_batch, args.workers, collate=collate)
    with tqdm(total=len(data), desc="Processing", bar_format=BAR, ascii=" #") as bar:
        for _, inputs, teacher_inputs, labels in stream:
            start = perf_counter()
            answers, decision = joint.judge(inputs)
            predictions = joint.joined(answers, decision, teacher_inputs.__getitem__)
            seconds += perf_counter() - start
            stayed += int((~decision.defer).sum())
            records.append(task.match(predictions, labels))
            right += [records[-1][key].sum() for key in ("correct", "top5_correct")]
            top1, top5 = 100 * right / (bar.n + len(labels))
            bar.unit = f"top1: {top1: .4f} | top5: {top5: .4f}"
            bar.update(len(labels))
    return stayed, seconds, concatenate(records)


if __name__ == "__main__":
    sys.exit(run_safely(main))
