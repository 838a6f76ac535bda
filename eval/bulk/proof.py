"""`bulk predict` to the same bytes: here, in processes, on Ray, after kill -9 at random moments.

    python eval/bulk/proof.py FOLDER > eval/bulk/results/proof.json
    python eval/bulk/proof.py --tiers FOLDER > eval/bulk/results/tiers.json

FOLDER is made, and has everything that is compared when this ends. Needs the extra [ray].
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import ebjr_det

PICTURES, UNREADABLE, SHARD, KILLS, RAY_KILLS, TIER_KILLS = 2000, 777, 16, 20, 3, 8
THRESHOLD = 0.1
PREDICT = f"predict digits pictures --shard {SHARD} --threshold {THRESHOLD}"
EVALUATE = "evaluate digits_tiers --shard 8 --set run.batch_size=8 --set latency.measure=false"


def draw(folder: Path) -> None:
    """Digits of scikit-learn as PNG files, from the 1,798th on mirrored; one is none."""
    folder.mkdir(parents=True)
    digits = (load_digits().images / 16 * 255).astype(np.uint8)
    for index in range(PICTURES):
        digit = digits[index % len(digits)]
        picture = Image.fromarray(digit if index < len(digits) else digit[:, ::-1]).convert("RGB")
        picture.save(folder / f"{index:04d}.png")
    (folder / f"{UNREADABLE:04d}.png").write_bytes(b"no picture")


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Proof:
    """Jobs on the pictures of a folder, each with an `out` of its own.

    Args:
        place: where `pictures` are, and every `out`.
        words: of the command; shards: where its finished shards are; names: of files that are compared.
    """

    def __init__(
        self, place: Path, words: str = PREDICT, shards: str = "answers/*.parquet", names: str = "*"
    ) -> None:
        self.place, self.words, self.shards, self.names = place, words, shards, names
        self.expected, self.chance = dict[str, bytes](), np.random.default_rng(0)

    @contextmanager
    def started(self, out: str, *options: str) -> Iterator[subprocess.Popen[str]]:
        """The command at work in a process group of its own; paths are relative."""
        words = f"bulk {self.words} --out {out} --json".split()
        command = [sys.executable, "-m", "ebjr_det", *words, *options]
        with (
            (self.place / "log.txt").open("a") as log,
            subprocess.Popen(
                command, cwd=self.place, start_new_session=True, stdout=subprocess.PIPE, stderr=log, text=True
            ) as process,
        ):
            yield process

    def finished(self, out: str, *options: str) -> dict[str, object]:
        """What the command tells at its end, and how many files differ from those of the first job."""
        with self.started(out, *options) as process:
            told, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{out}: exit {process.returncode}, see {self.place}/log.txt")
        result = json.loads(told)
        keys = ("images", "unreadable", "deferred", "shards", "resumed")
        counts = {key: result[key] for key in keys if key in result}
        return {**counts, **self.compared(out), "load": os.getloadavg()[0]}

    def compared(self, out: str) -> dict[str, object]:
        """How many files there are, and how many differ from those of the first job."""
        every = files_of(self.place / out)
        files = {name: content for name, content in every.items() if fnmatch(name, self.names)}
        self.expected = self.expected or files
        names = self.expected.keys() | files.keys()
        differing = sum(self.expected.get(name) != files.get(name) for name in names)
        return {"files": len(files), "differing": differing}

    def killed(self, out: str, kills: int, *options: str) -> list[int]:
        """Finished shards at each moment when a new process group of the command was killed with SIGKILL."""
        folder, moments, beginning = self.place / out, list[int](), 0.0
        for _ in range(kills):
            before = len(list(folder.glob(self.shards)))
            enough = before + int(self.chance.integers(0 if beginning else 1, PICTURES // SHARD // kills))
            started = time.monotonic()
            with self.started(out, *options) as process:
                while process.poll() is None and len(list(folder.glob(self.shards))) < enough:
                    time.sleep(0.001)
                beginning = beginning or time.monotonic() - started  # until the first shard is written
                time.sleep(self.chance.uniform(0, beginning if enough == before else 0.05))
                os.killpg(process.pid, signal.SIGKILL)
            moments.append(len(list(folder.glob(self.shards))))
        return moments


def measure(place: Path, address: str | None) -> dict[str, object]:
    """All jobs, each against the first."""
    draw(place / "pictures")
    proof, ray = Proof(place), ("--ray", *(("--address", address) if address else ()))
    report: dict[str, object] = {"here": proof.finished("here")}
    report["processes"] = proof.finished("processes", "--workers", "2")
    report["kills"] = proof.killed("resumed", KILLS)
    report["resumed"] = proof.finished("resumed")
    config = ebjr_det.load_config("digits")
    for out in (f"file://{place.absolute()}/address", "memory://address"):
        settings = ebjr_det.BulkSettings(shard=SHARD)
        os.chdir(place)
        ebjr_det.bulk_predict(config, "pictures", out, settings, threshold=THRESHOLD)
        report[out.partition(":")[0]] = {"differing": _differing(out, proof.expected)}
    report["ray"] = proof.finished("ray", *ray)
    report["ray_kills"] = proof.killed("ray_resumed", RAY_KILLS, *ray)
    report["ray_resumed"] = proof.finished("ray_resumed", *ray)
    return report


def measure_tiers(place: Path) -> dict[str, object]:
    """`bulk evaluate` of three tiers, whose records are compared with those of `evaluate`."""
    place.mkdir(parents=True, exist_ok=True)
    proof, out = Proof(place, EVALUATE, "shards/records/*.npz", "tiers.npz"), place / "evaluate"
    settings = [word for word in EVALUATE.split() if "=" in word]
    if not (out / "tiers.npz").is_file():
        ebjr_det.evaluate(ebjr_det.load_config("digits_tiers", settings), out)
    proof.compared("evaluate")
    report: dict[str, object] = {"here": proof.finished("tiers_here")}
    report["processes"] = proof.finished("tiers_processes", "--workers", "2")
    report["kills"] = proof.killed("tiers_resumed", TIER_KILLS)
    report["resumed"] = proof.finished("tiers_resumed")
    return report


def _differing(out: str, expected: dict[str, bytes]) -> int:
    """How many files at an address are not those."""
    import fsspec

    fs, root = fsspec.url_to_fs(out)
    files = {path.removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}
    return sum(expected.get(name) != files.get(name) for name in expected.keys() | files.keys())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", help="Of a Ray that runs already; by default each job starts one.")
    parser.add_argument("--tiers", action="store_true", help="`bulk evaluate` of three tiers instead.")
    arguments = parser.parse_args()
    place = arguments.folder.absolute()
    told = measure_tiers(place) if arguments.tiers else measure(place, arguments.address)
    print(json.dumps(told, indent=2))
