"""What `bulk predict` costs: memory and time a row, and what is needed to go on with very many of them.

    OMP_NUM_THREADS=1 python eval/bulk/costs.py FOLDER > eval/bulk/results/costs.json

FOLDER is made. Rows are made up: one small picture under many names, and a student of a few kB.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import pyarrow as pa
import pyarrow.parquet as pq
from proof import draw

import ebjr_det
from ebjr_det.api.load import samples_of
from ebjr_det.bulk.job import Job
from ebjr_det.bulk.manifest import write_manifest
from ebjr_det.bulk.sources import find_rows, stamp_of
from ebjr_det.bulk.storage import Storage
from ebjr_det.bulk.table import ShardCounts, read_counts, shard_file, write_shard
from ebjr_det.inference.live import build_live, choose_threshold
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.io.pictures import open_picture

MEMORY_ROWS, ROUNDS, FEW, MANY = (1_000, 10_000, 100_000), 5, 250, 1_750
RESTART_ROWS, SHARD = (10_000, 100_000), 10  # few rows a shard, for shards' own cost
THRESHOLD = 0.1


def memory(place: Path) -> dict[str, object]:
    """Peak of the resident memory of the command, in MiB, by rows of a list; the student alone answers."""
    peaks = {}
    for rows in MEMORY_ROWS:
        source = place / f"{rows}.txt"
        source.write_text("pictures/0000.png\n" * rows)
        words = (
            f"bulk predict digits {source} --out {place}/memory{rows} --threshold inf --set run.batch_size=64"
        )
        command = [sys.executable, "-m", "ebjr_det", *words.split()]
        started, peak = perf_counter(), 0.0
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                peak = max(peak, _peak_of(process.pid))
                time.sleep(0.05)
        if process.returncode:
            raise RuntimeError(f"{words}: {process.returncode}")
        peaks[rows] = {"mib": peak, "seconds": perf_counter() - started}
    return {"rows": peaks, "load": os.getloadavg()[0]}


def _peak_of(pid: int) -> float:
    """MiB at most so far; `ru_maxrss` would count this process, of which the other one was forked."""
    status = Path(f"/proc/{pid}/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024 if "VmHWM:" in status else 0.0


def overhead(place: Path) -> dict[str, object]:
    """Milliseconds a row in one process, in turn: many pictures less few, so that no start counts."""
    pictures = sorted(place.glob("pictures/*.png"))
    config = ebjr_det.load_config("digits")
    scoring, threshold = choose_threshold(config, THRESHOLD, None)

    def bare(files: list[Path], out: Path) -> None:
        live, run = build_live(config, scoring, threshold, samples_of(config)), config.run
        plan = Plan(run.batch_size, run.batch_size, run.workers)
        with closing(answers(live.joint, files, open_picture, plan, lambda item, error: None)) as stream:
            for _ in stream:
                pass

    def bulk(files: list[Path], out: Path) -> None:
        source = out.with_suffix(".txt")
        source.write_text("".join(f"{file}\n" for file in files))
        ebjr_det.bulk_predict(config, str(source), str(out), threshold=THRESHOLD)

    def predict(files: list[Path], out: Path) -> None:
        ebjr_det.predict(config, [str(file) for file in files], out, threshold=THRESHOLD)

    ways: dict[str, Callable[[list[Path], Path], None]] = {"bare": bare, "bulk": bulk, "predict": predict}
    clocks: dict[str, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}
    times: dict[str, dict[str, list[float]]] = {name: {clock: [] for clock in clocks} for name in ways}
    for turn in range(ROUNDS):
        for name, way in ways.items():
            seconds = []
            for count in (FEW, MANY):
                started = [clock() for clock in clocks.values()]
                way(pictures[:count], place / f"{name}{turn}_{count}")
                seconds.append(
                    [clock() - start for clock, start in zip(clocks.values(), started, strict=True)]
                )
            for clock, few, many in zip(clocks, *seconds, strict=True):
                times[name][clock].append(1000 * (many - few) / (MANY - FEW))
    medians = {
        name: {clock: median(values) for clock, values in clocked.items()} for name, clocked in times.items()
    }
    return {"ms_a_row": times, "median_ms": medians, "load": os.getloadavg()[0]}


def restart(place: Path) -> dict[str, object]:
    """What there is of jobs of made-up rows, and the seconds until one that is finished knows that it is."""
    return {"rows": {rows: _restarted(place, rows) for rows in RESTART_ROWS}, "load": os.getloadavg()[0]}


def _restarted(place: Path, rows: int) -> dict[str, object]:
    source, storage = place / f"made_up{rows}.txt", Storage(str(place / f"restart{rows}"))
    source.write_text("".join(f"s3://bucket/folder/{index:012d}.jpg\n" for index in range(rows)))
    table = _shard_of(place)

    def fill(shards: Iterator[int]) -> Iterator[ShardCounts]:
        for shard in shards:
            counts = ShardCounts(job.manifest.size(shard), 0, 0)
            write_shard(storage, shard, table, job.sha256, counts)
            yield counts

    job = Job.open(storage, {}, find_rows(str(source)), SHARD)
    job.run(fill, shard_file, read_counts)
    steps: dict[str, Callable[[], object]] = {
        "source": lambda: sum(1 for _ in find_rows(str(source))),
        "stamp": lambda: stamp_of(str(source)),
        "open": lambda: Job.open(storage, {}, find_rows(str(source)), SHARD),
        "listing": lambda: job.finished(shard_file),
        "listing_and_footers": lambda: job.run(lambda shards: iter(()), shard_file, read_counts),
        "rows_of_100_shards": lambda: [job.manifest.load(shard) for shard in range(100)],
    }
    seconds = {}
    for name, step in steps.items():
        wall, cpu = perf_counter(), process_time()
        step()
        seconds[name] = {"wall": perf_counter() - wall, "cpu": process_time() - cpu}
    size = sum(file.stat().st_size for file in Path(storage.url, "manifest").iterdir())
    return {
        "shards": job.manifest.shards,
        "manifest_bytes": size,
        "manifest_bytes_by_256": _bytes_by_256(place, rows, str(source)),
        "seconds": seconds,
    }


def _bytes_by_256(place: Path, rows: int, source: str) -> int:
    storage = Storage(str(place / f"by256_{rows}"))
    write_manifest(storage, find_rows(source), 256)
    return sum(file.stat().st_size for file in Path(storage.url, "manifest").iterdir())


def _shard_of(place: Path) -> pa.Table:
    """A table of as many answers as a shard has."""
    out = place / "few"
    config, settings = ebjr_det.load_config("digits"), ebjr_det.BulkSettings(shard=SHARD)
    if not out.exists():
        source = place / "few.txt"
        source.write_text("pictures/0000.png\n" * SHARD)
        ebjr_det.bulk_predict(config, str(source), str(out), settings, threshold=THRESHOLD)
    return pq.read_table(out / shard_file(0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=("memory", "overhead", "restart"))
    arguments = parser.parse_args()
    place = arguments.folder.absolute()
    if not place.exists():
        draw(place / "pictures")
    parts = {"memory": memory, "overhead": overhead, "restart": restart}
    chosen = parts if arguments.only is None else {arguments.only: parts[arguments.only]}
    print(json.dumps({name: part(place) for name, part in chosen.items()}, indent=2))
