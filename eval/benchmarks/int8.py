"""Do eight bits keep the quality, and are they faster? The embedded pair and CIFAR-10's; D0 and D4.

    python eval/benchmarks/int8.py quality [--cifar DIR] > eval/benchmarks/results/int8_quality.json
    python eval/benchmarks/int8.py speed --images DIR > eval/benchmarks/results/int8_speed.json

`quality`: each pair is evaluated with both networks in `eager`, `onnxruntime_int8` and `openvino_int8`, its
router and threshold chosen anew each time for the rate of the configuration, on the same reported pictures.
Beside the quality of the models and the pair stands G, the share of the gap between them that the pair
recovers, also where 30 % are deferred by one score. The ranges come of the calibration part alone.

`speed`: `runtimes.py` on D0 and D4 with fresh weights, float runtimes beside those in eight bits, calibrated
on the pictures that are timed, since weights and ranges do not change the time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rounds import ran_with

from ebjr_det import evaluate, load_config
from ebjr_det.cli.exits import run_safely
from ebjr_det.core.tradeoff import sweep
from ebjr_det.evaluation.report import gap_recovered_at
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.io.files import to_json
from ebjr_det.io.notes import say
from ebjr_det.tasks import load_task

RUNTIMES = ("eager", "onnxruntime_int8", "openvino_int8")
BESIDE = "onnxruntime,openvino,openvino_bf16,compile,compile_bf16,onnxruntime_int8,openvino_int8"
CHANGES = ("latency.measure=false", "run.bootstrap=200", "run.batch_size=64")
SCORE, RATE = "energy_curvature", 0.3
THIRD = "router.target={kind: deferral_rate, value: 0.3, fraction: 0.33}"


def figures(name: str, runtime: str, changes: list[str], folder: Path) -> dict[str, Any]:
    """What a pair is worth with both networks in a runtime."""
    sides = [f"{side}.runtime={runtime}" for side in ("student", "teacher")]
    config = load_config(name, [*CHANGES, *changes, *sides])
    summary = evaluate(config, folder).to_dict()
    joint: Any = summary["joint"]
    run, _ = load_folder(folder)
    curve = sweep(run, load_task(config.task).judge(), SCORE)
    sides_of: Any = {side: summary[side] for side in ("student", "teacher")}
    found = {
        "images": summary["images"],
        **{side: one["quality"] for side, one in sides_of.items()},
        "pair": joint["quality"],
        "gap_recovered": joint["gap_recovered"],
        "deferral_rate": joint["deferral_rate"],
        "threshold": joint["threshold"],
        "score": summary["score"],
        f"gap_recovered_by_{SCORE}": gap_recovered_at(curve, RATE),
    }
    say(f"{name} {runtime}: {found}")
    return found


def quality(cifar: str | None) -> dict[str, Any]:
    """Both pairs in every runtime."""
    pairs: dict[str, list[str]] = {"quickstart": []}
    if cifar is not None:
        pairs["cifar10_densenet"] = [f"data.root={cifar}", "router.threshold=null", THIRD]
    with tempfile.TemporaryDirectory() as folder:
        return {
            name: {
                runtime: figures(name, runtime, changes, Path(folder) / f"{name} {runtime}")
                for runtime in RUNTIMES
            }
            for name, changes in pairs.items()
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="eight bits beside float")
    parser.add_argument("what", choices=["quality", "speed"])
    parser.add_argument("--cifar", help="folder of CIFAR-10's python files")
    parser.add_argument("--images", help="folder of pictures")
    parser.add_argument("--models", default="d0,d4")
    parser.add_argument("--seconds", default="70", help="for the rounds of a model")
    args = parser.parse_args()
    if args.what == "speed":
        recipe = [sys.executable, str(Path(__file__).with_name("runtimes.py")), "--pictures", "8"]
        options = ["--images", args.images, "--models", args.models, "--runtimes", BESIDE]
        done = subprocess.run([*recipe, *options, "--seconds", args.seconds], check=False)
        sys.exit(done.returncode)
    load = os.getloadavg()
    print(to_json({"pairs": quality(args.cifar), "environment": ran_with("cpu", load)}))


if __name__ == "__main__":
    sys.exit(run_safely(main))
