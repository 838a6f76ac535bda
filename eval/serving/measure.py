"""What a server promises, measured in one run.

    python eval/serving/measure.py RUN DIGITS SCENES [--only exact,curve,...]

RUN is a finished run of the pair of digits, DIGITS its export with a fitted router, SCENES an export of the
quickstart's pair of detectors, whose answers take long enough for senders to overwhelm it. Each server is a
process of its own on this machine, senders are threads here. Prints one JSON object; the load average before
each step is in it, and where other programs take the CPUs, times tell nothing.
"""

import argparse
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from exact import curve, exact, predicted, reloads
from laws import queue, share
from PIL import Image
from senders import Replies, closed, digits, open_loop, resident_mib, scenes, serving

import ebjr_det
from ebjr_det.io.threads import usable_cpus

DEADLINE = 0.2
"""Seconds that an answer is worth something, under overload."""


def latency(folder: str) -> dict[str, object]:
    """One client beside the pair itself in a process, both at a rate of 0.3."""
    contents, pair = digits(1000), ebjr_det.load(folder, rate=0.3)

    def in_process() -> dict[str, float]:
        replies = Replies(0.0)
        for content in contents:
            started = perf_counter()
            pair([Image.open(io.BytesIO(content))])
            replies.seconds.append(perf_counter() - started)
        return replies.percentiles()

    in_process()
    with serving(folder) as (_, url):
        closed(url, contents, 200, 1, deferral_rate=0.3)
        rounds = [
            (in_process(), closed(url, contents, 1000, 1, deferral_rate=0.3).percentiles()) for _ in "abc"
        ]
    gaps = [server["p50_ms"] - here["p50_ms"] for here, server in rounds]
    best = int(np.argmin(gaps))
    return {
        "in_process": rounds[best][0],
        "server": rounds[best][1],
        "p50_gaps_ms": np.round(gaps, 3).tolist(),
    }


def throughput(folder: str) -> dict[str, object]:
    """Clients that wait in turn at a rate of 0.3, beside `predict` at the same rate."""
    contents, result = digits(1200), dict[str, object]()
    with serving(folder) as (_, url), tempfile.TemporaryDirectory() as place:
        for clients in (1, 8, 32):
            replies = closed(url, contents, 2400, clients, deferral_rate=0.3)
            result[f"{clients} clients"] = {"per_second": round(replies.good(60), 1), **replies.percentiles()}
        command = predicted(folder, contents, Path(place, "out"), "--rate", "0.3")
    return result | {"predict_per_second": round(command["pictures_per_second"], 1)}


def overload(folder: str) -> dict[str, object]:
    """Answers within the deadline at twice the rate at which 8 clients that wait are answered."""
    contents = scenes(40)
    with serving(folder) as (_, url):
        closed(url, contents, 60, 8)
        peak = closed(url, contents, 400, 8)
        flood = open_loop(url, contents, 2 * peak.good(60), 15, max_latency_ms=1000 * DEADLINE)
    good = {"peak": round(peak.good(DEADLINE), 1), "overloaded": round(flood.good(DEADLINE), 1)}
    return {
        "answers_per_second": round(peak.good(60), 1),
        "good_per_second": good,
        "kept": round(flood.good(DEADLINE) / peak.good(DEADLINE), 3),
        "refused": flood.refused,
        "answered": len(flood.seconds),
        "by_teacher": {
            "peak": round(peak.share("answered_by", "teacher"), 3),
            "overloaded": round(flood.share("answered_by", "teacher"), 3),
        },
        "sent_late_p99_ms": round(1000 * float(np.percentile(flood.late, 99)), 1),
    }


def memory(folder: str, first: int = 2000, last: int = 50_000) -> dict[str, object]:
    """Resident memory after so many requests of 8 clients."""
    contents = digits(200)
    with serving(folder) as (process, url):
        closed(url, contents, first, 8, deferral_rate=0.3)
        early = resident_mib(process)
        for _ in range(8):
            closed(url, contents, (last - first) // 8, 8, deferral_rate=0.3)
        late = resident_mib(process)
    return {"mib": {str(first): early, str(last): late}, "times": round(late / early, 4)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("run", "digits", "scenes"):
        parser.add_argument(name)
    parser.add_argument("--only", help="steps, separated by commas")
    args = parser.parse_args()
    steps: dict[str, Callable[[], dict[str, object]]] = {
        "latency": lambda: latency(args.digits),
        "throughput": lambda: throughput(args.digits),
        "overload": lambda: overload(args.scenes),
        "queue": lambda: queue(args.scenes),
        "share": lambda: share(args.digits),
        "exact": lambda: exact(args.digits),
        "curve": lambda: curve(args.run, args.digits),
        "reloads": lambda: reloads(args.digits),
        "memory": lambda: memory(args.digits),
    }
    result: dict[str, object] = {"cpus": usable_cpus()}
    for name in args.only.split(",") if args.only else steps:
        load, started = os.getloadavg()[0], perf_counter()
        measured = steps[name]()
        result[name] = measured | {
            "load_before": round(load, 2),
            "took_s": round(perf_counter() - started, 1),
        }
        print(name, json.dumps(result[name]), file=sys.stderr, flush=True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
