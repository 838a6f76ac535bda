"""What these recipes share: turns, ratios with intervals, and what a result ran with.

Knows nothing about models and pictures.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from ebjr_det.evaluation.benchmark.ratios import LEAST, blocks
from ebjr_det.io.environment import describe_environment

LIBRARIES = ("onnx", "onnxruntime", "onnxscript", "openvino", "pycocotools")
FEWEST = 3
"""Rounds that are always made, whatever they take."""
REPLICATES = 2000


def turns(names: Sequence[str], rounds: int, seconds: float, what: str) -> Iterator[tuple[int, str]]:
    """(round, name) until all rounds are made, or so many seconds are over at the end of a round.

    Each round has every name, another one first; every other lap of rounds goes backwards, so that no name
    always follows the same one. The time left is shown on stderr.
    """
    begun = perf_counter()
    with tqdm(total=rounds * len(names), desc=what, file=sys.stderr, dynamic_ncols=True) as bar:
        for number in range(rounds):
            if number >= FEWEST and perf_counter() - begun > seconds:
                bar.set_postfix_str(f"{number} rounds in the time given")
                return
            lap, first = divmod(number, len(names))
            order = [*names[first:], *names[:first]]
            for name in order[:1] + (order[1:] if lap % 2 == 0 else order[:0:-1]):
                yield number, name
                bar.update()


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Median over the rounds of above / below, and its 95 % bootstrap interval over blocks of rounds.

    Both of a round belong together. No interval for fewer than four rounds, whose resamples say nothing.
    """
    each = np.asarray(above) / np.asarray(below)
    low = high = None
    if len(each) >= LEAST:
        medians = [np.median(each[index]) for index in blocks(len(each), REPLICATES, 0)]
        low, high = (float(end) for end in np.percentile(medians, [2.5, 97.5]))
    return {"median": float(np.median(each)), "low": low, "high": high, "each": each.tolist()}


def summary(samples: Sequence[float]) -> dict[str, Any]:
    """The median and every sample."""
    return {"median": float(np.median(samples)), "each": list(samples)}


def ran_with(device: str, load_before: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """`describe_environment`, the libraries of the runtimes, and the load before the first measurement."""
    found = describe_environment(device, seed)
    return {
        **found,
        "versions": found["versions"] | {name: known for name in LIBRARIES if (known := _version(name))},
        "load_average_before": list(load_before),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


class Other:
    """A recipe in a process of its own that answers one JSON line with one, and sleeps between its turns."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._read()  # it says that it is ready

    def ask(self, question: Any) -> Any:
        """What it answers. Raises RuntimeError where it has ended."""
        assert self.process.stdin is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the other process ended with {self.process.wait()}; see its words above")
        return json.loads(line)

    def __enter__(self) -> "Other":
        return self

    def __exit__(self, *_: object) -> None:
        """Closing its input ends it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def questions() -> Iterator[Any]:
    """In the other process: says that it is ready, then gives what it is asked; answer with `reply`."""
    reply("ready")
    for line in sys.stdin:
        yield json.loads(line)


def reply(answer: Any) -> None:
    """In the other process: the answer to the last question."""
    print(json.dumps(answer), flush=True)
