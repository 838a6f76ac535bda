"""Does `ebjr-det predict` stay in its memory? Its peak after 500 pictures against that after all of them.

    python eval/benchmarks/memory.py [--pictures 10000] [--images DIR]

Exports the quickstart's pair, at a threshold that defers 30 % of a sample of the pictures, and runs
`ebjr-det predict` on a folder in a process of its own, whose resident memory and its peak (VmRSS, VmHWM of
/proc/PID/status) are read twice a second beside the number of pictures that are answered and drawn. The
folder holds as many links to the pictures of DIR, in a seeded order, each round of them with every picture
once; without --images they are digit scenes in sizes from 0.5 to 4 times their own. Drawn pictures are
deleted behind it.

`ratio` is the peak at the end over that after 500 pictures. What it does not say by itself stands beside it:
a peak never falls, and the process keeps freed memory, so `rss_mib` tells where the memory stands and
`peak_mib_at` how it got there; warm-up is all before 500, also in what is drawn (`distinct_seen_at_500` says
whether every source, and so the largest, had been seen by then). Prints one JSON object.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from PIL import Image
from rounds import ran_with
from tqdm import tqdm

from ebjr_det.api.settings import load_settings
from ebjr_det.cli.exits import run_safely
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.inference.live import build_live, choose_threshold
from ebjr_det.io.files import to_json
from ebjr_det.io.picture_folders import find_pictures
from ebjr_det.io.pictures import open_picture, stored_size

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
COMMAND = [sys.executable, "-m", "ebjr_det"]
WARM = 500
MARKS = (1, 10, 50, 100, 250, 500, 1000, 2000, 5000, 10_000)
SAMPLE = 100
EVERY = 0.5
FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
SCENES = 60


def sources(images: Path | None, folder: Path) -> list[Path]:
    """The pictures to link to: those given, or scenes in several sizes."""
    if images is not None:
        return [path.resolve() for path in find_pictures([str(images)])]
    from ebjr_det.tasks.detection.data import build_data

    data = build_data("digit_scenes", split="test", limit=SCENES)
    found = []
    for index in range(len(data)):
        scene, factor = data.load(index), FACTORS[index % len(FACTORS)]
        path = folder / f"{index:03d}.jpg"
        size = (round(scene.width * factor), round(scene.height * factor))
        scene.resize(size, Image.Resampling.BICUBIC).save(path, quality=95)
        found.append(path)
    return found


def linked(paths: Sequence[Path], count: int, folder: Path) -> list[int]:
    """Links in a folder, and which source each is, in their order."""
    generator = np.random.default_rng(0)
    order: list[int] = []
    while len(order) < count:
        order += generator.permutation(len(paths)).tolist()
    for place, source in enumerate(order[:count]):
        (folder / f"{place:06d}{paths[source].suffix}").symlink_to(paths[source])
    return order[:count]


def export(folder: Path) -> None:
    """The quickstart's pair as a folder."""
    command: list[str | Path] = [*COMMAND, "export", CONFIG, "--threshold", "0", "--out", folder]
    subprocess.run(command, check=True, stdout=sys.stderr)


def threshold_for(pair: Path, paths: Sequence[Path], rate: float) -> float:
    """Of the exported student, on a sample of the pictures."""
    settings, _ = load_settings(pair)
    scoring, chosen = choose_threshold(settings, 0.0, None)
    live = build_live(settings, scoring, chosen, list)
    student, score = live.joint.student, live.joint.score
    scores = [score(student([student.preprocess(open_picture(path))])) for path in paths[:SAMPLE]]
    return threshold_for_rate(np.concatenate(scores), rate)


def memory_of(process: int) -> tuple[float, float] | None:
    """Resident memory and its peak, MiB; None of a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    told = dict(line.split(":", 1) for line in lines)
    if "VmHWM" not in told:
        return None
    rss, peak = (int(told[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return rss, peak


def swept(folder: Path, done: int) -> int:
    """How many pictures are drawn, by their numbers; all but the newest are deleted."""
    names = (
        sorted(entry.name for entry in os.scandir(folder) if entry.name[:6].isdigit())
        if folder.is_dir()
        else []
    )
    for name in names[:-20]:
        (folder / name).unlink()
    return max(done, int(names[-1][:6])) if names else done


def gpu_memory() -> Callable[[int], tuple[float, ...]]:
    """A function that gives the MiB that a process has taken of the first GPU, NaN where the driver does not
    tell (yet); nothing where there is no GPU.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
    except Exception:  # no such package, driver or card
        return lambda process: ()

    def taken(process: int) -> tuple[float, ...]:
        used = {one.pid: one.usedGpuMemory for one in pynvml.nvmlDeviceGetComputeRunningProcesses(card)}
        return ((used.get(process) or float("nan")) / 2**20,)

    return taken


def watched(
    pair: Path, pictures: Path, out: Path, threshold: float, count: int, options: Sequence[str] = ()
) -> list[tuple[Any, ...]]:
    """(pictures done, seconds, resident MiB, peak MiB[, MiB of the GPU]) twice a second until the end."""
    command: list[str | Path] = [*COMMAND, "predict", pair, pictures, "--out", out, "--json", *options]
    command += ["--threshold", str(threshold)]
    gpu = gpu_memory()
    rows: list[tuple[Any, ...]] = []
    with (out.parent / "told").open("w+") as told, tqdm(total=count, unit="img", file=sys.stderr) as bar:
        start = perf_counter()
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
        while process.poll() is None:
            folder = next(
                out.glob(".predict-*/pictures"), out / "pictures"
            )  # where it works until all is whole
            done = swept(folder, rows[-1][0] if rows else 0)
            now = memory_of(process.pid)
            if now is not None:
                rows.append((done, perf_counter() - start, *now, *gpu(process.pid)))
                bar.update(done - bar.n)
            sleep(EVERY)
        if process.returncode:
            told.seek(0)
            raise InvalidInput(f"Expected predict to end well, got: {told.read()[-500:]}")
    return rows


def summarized(rows: Sequence[tuple[Any, ...]], order: Sequence[int], count: int) -> dict[str, Any]:
    """Peaks and levels by pictures done. Raises InvalidInput for a run without two moments to compare."""
    done, seconds, rss, peak = np.array(rows).T[:4]
    if done[-1] <= WARM:
        raise InvalidInput(f"Expected well beyond {WARM} pictures, got {int(done[-1])} at the last look.")
    at = {mark: float(peak[np.argmax(done >= mark)]) for mark in MARKS if mark <= done[-1]}
    windows = {
        name: rss[(done > first) & (done <= last)]
        for name, first, last in (
            ("101 to 500", 100, WARM),
            ("501 to 1000", WARM, 2 * WARM),
            ("middle 500", count / 2 - 250, count / 2 + 250),
            ("last 500", count - WARM, count),
        )
    }
    return {
        "peak_mib_after_500": at[WARM],
        "peak_mib_at_end": float(peak[-1]),
        "ratio": float(peak[-1]) / at[WARM],
        "last_rise_of_peak_at": int(done[np.argmax(peak >= peak[-1])]),
        "peak_mib_at": {str(mark): value for mark, value in at.items()},
        "rss_mib": {name: float(np.median(own)) for name, own in windows.items() if len(own)},
        "distinct_seen_at_500": len(set(order[:WARM])),
        "pictures_per_second": float(done[-1] / seconds[-1]),
        "samples": [[int(row[0]), *(round(value, 2) for value in row[1:])] for row in rows],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="memory of predict on a long folder")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--images", type=Path, help="folder of pictures; by default digit scenes")
    parser.add_argument("--rate", type=float, default=0.3)
    args = parser.parse_args()
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair, scenes, pictures = (folder / part for part in ("pair", "scenes", "pictures"))
        scenes.mkdir()
        pictures.mkdir()
        found = sources(args.images, scenes)
        order = linked(found, args.pictures, pictures)
        export(pair)
        threshold = threshold_for(pair, found, args.rate)
        rows = watched(pair, pictures, folder / "out", threshold, args.pictures)
        sizes = [stored_size(path) for path in found]
        images = (folder / "out" / "images.json").read_text(encoding="utf-8")
    result = {
        "pictures": args.pictures,
        "distinct": len(found),
        "widths": [min(size[0] for size in sizes), max(size[0] for size in sizes)],
        "heights": [min(size[1] for size in sizes), max(size[1] for size in sizes)],
        "deferral_rate": images.count('"answered_by": "teacher"') / args.pictures,
        **summarized(rows, order, args.pictures),
        "environment": ran_with("cpu", load),
    }
    print(to_json(result))


if __name__ == "__main__":
    sys.exit(run_safely(main))
