"""One section of the check, as a process of its own: each row is one line of JSON on stdout."""

import argparse
import json
import math
from typing import Any

import ebjr_det  # noqa: F401 - before torch and numpy, so that their threads sleep while they wait

# isort: split
import correct
import resources
import speed

from ebjr_det.io.environment import keep_freed_memory

SECTIONS = {
    "device": correct.device,
    "contract": correct.contract,
    "answers": correct.answers,
    "verbs": correct.verbs,
    "networks": speed.networks,
    "compiled": speed.compiled,
    "pair": speed.live_pair,
    "memory": resources.memory,
    "joules": resources.joules,
    "onnxruntime": resources.onnx,
}


def finite(value: Any) -> Any:
    """The same with texts for infinities and NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Run one and print its rows."""
    parser = argparse.ArgumentParser(description="one section of the check")
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=600, help="after which it is ended")
    parser.add_argument("--job", help="of `compiled`: network, runtime and batch sizes")
    parser.add_argument("--ready", help="a file that tells that all is built, with a line on stdin to go on")
    args = parser.parse_args()
    keep_freed_memory()
    for name, row in SECTIONS[args.section](args):
        print(json.dumps([name, finite(row)]), flush=True)


if __name__ == "__main__":
    main()
