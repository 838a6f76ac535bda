"""The pair on Ray Serve beside the same pair in one process: bits, latency, faults, scaling, the end.

    python eval/serving/cluster.py FOLDER [--seconds 18] [--only killed,stopped,late,scaled]

FOLDER is an export of the pair of digits with a fitted router. Ray starts on this machine (`--ray`) with one
student and one teacher; `haproxy` is Ray's other proxy with its settings for throughput. One client asks for
the bits and the latencies. In the faults 8 clients send everything to the teacher, whose replica gets
SIGKILL, is stopped for a third of the time, or for 2 s again and again; `limit_ms` is the largest patience
of the fault plus the student's p99 under its own load. In `scaled` 8 clients send everything to the teacher
of the quickstart, which is slow; `replicas` are [second, students, teachers]. Prints one JSON object.
"""

import argparse
import io
import json
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import numpy as np
import psutil
from PIL import Image
from senders import Replies, closed, digits
from tiers import Load, Server, metric, p99

import ebjr_det
from ebjr_det.io.threads import variables_set

RATE, WARM = 0.3, 100
HAPROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
TEACH = {"threshold": -1e300}


@contextmanager
def on_ray(folder: str, *options: str) -> Iterator[Server]:
    """A server on a Ray of its own."""
    server = Server(folder, "--ray", *options)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(120)


def replicas(server: Server, side: str) -> list[psutil.Process]:
    """The processes of a tier."""
    processes: list[psutil.Process] = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if f"ServeReplica:pair:{side}" in " ".join(child.cmdline()):
                processes.append(child)
    return processes


def answers(load: Load) -> Counter[str]:
    """Who answered, and why not the teacher."""
    return Counter(f"{side} {reason}".strip() for _, _, side, reason in load.rows)


def one_client(url: str, contents: list[bytes]) -> dict[str, Any]:
    """Latency of one picture after the other."""
    closed(url, contents, WARM, 1)
    return closed(url, contents, len(contents), 1).percentiles() | {"load_average": os.getloadavg()[0]}


def in_process(folder: str, contents: list[bytes]) -> dict[str, Any]:
    """Latency of the pair itself, decoding included."""
    pair, replies = ebjr_det.load(folder, rate=RATE), Replies(0.0)
    for content in contents:
        started = perf_counter()
        pair([Image.open(io.BytesIO(content))])
        replies.seconds.append(perf_counter() - started)
    return replies.percentiles() | {"load_average": os.getloadavg()[0]}


def differing(folder: str, url: str, contents: list[bytes]) -> dict[str, Any]:
    """Answers that are not those of `load` to the bit."""
    pair, client, different = ebjr_det.load(folder, rate=RATE), ebjr_det.Client(url), 0
    sides: Counter[str] = Counter()
    for content in contents:
        expected, answer = pair([Image.open(io.BytesIO(content))]), client.infer([content])
        bits = [np.asarray(answer[name]).tobytes() for name in ("logits", "deferral_score")]
        expected_bits = [expected.predictions[0].tobytes(), expected.decision.scores.tobytes()]
        different += (bits, tuple(answer["answered_by"])) != (expected_bits, expected.answered_by)
        sides.update(answer["answered_by"])
    return {"pictures": len(contents), "different": different, "answers": dict(sides)}


def pictures_of(server: Server, side: str, reason: str) -> int:
    """Pictures by the metrics of all students."""
    return int(metric(server.url, f'ebjr_pictures_total{{answered_by="{side}",degraded="{reason}"'))


def killed(teacher: psutil.Process, seconds: float) -> None:
    """The process ends; Ray begins another one."""
    teacher.kill()
    sleep(seconds)


def stopped(teacher: psutil.Process, seconds: float) -> None:
    """The process is there and does nothing."""
    teacher.suspend()
    sleep(seconds)
    teacher.resume()


def late(teacher: psutil.Process, seconds: float) -> None:
    """The process answers every 2 s."""
    for _ in range(max(1, round(seconds / 2))):
        stopped(teacher, 2.0)
        sleep(0.05)


FAULTS: dict[str, Callable[[psutil.Process, float], None]] = {
    "killed": killed, "stopped": stopped, "late": late
}  # fmt: skip


def faulty(
    server: Server, fault: Callable[[psutil.Process, float], None], contents: list[bytes], seconds: float
) -> dict[str, Any]:
    """What becomes of requests while the only teacher has a fault; `p99_ms` is that of the fault."""
    alone = Load(server.url, contents, {"force": "student"})
    with alone.running():
        sleep(seconds / 3)
    students = len(alone.rows)
    load = Load(server.url, contents, TEACH)
    with load.running():
        sleep(seconds / 3)
        start = monotonic()
        fault(replicas(server, "teacher")[0], seconds / 3)
        recovered = load.wait_for("teacher")
        sleep(seconds / 3)
    forced = Counter(str(status) for _, status in load.forced)
    clients = answers(load)
    clients["teacher"] += forced["200"]
    counted = {name: pictures_of(server, *name.partition(" ")[::2]) for name in clients | {"student": 0}}
    during = [row[1] for row in load.rows if start <= row[0] < start + seconds / 3]
    patience = max(value for moment, value in load.patience if start <= moment < start + seconds / 3)
    return {
        "requests": len(load.rows), "failed": len(load.failed), "answers": dict(clients),
        "counters_equal": counted == {"student": students, **clients}, "during_fault": len(during),
        "p99_ms": p99(during), "limit_ms": round(1000 * patience + p99([row[1] for row in alone.rows]), 1),
        "forced": dict(forced), "recovered_s": round(seconds / 3 + recovered, 1),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip


def ended(server: Server, contents: list[bytes], seconds: float, earlier: int) -> dict[str, Any]:
    """SIGTERM under load, after so many earlier answers; `cut` are logged answers that nobody got."""
    load = Load(server.url, contents, {"deferral_rate": RATE})
    with load.running():
        sleep(seconds / 3)
        server.process.send_signal(signal.SIGTERM)
        started = monotonic()
        code = server.process.wait(120)
    texts = [text.partition("got")[2].strip(": ").partition(".")[0] for text in load.failed]
    facts = {"answers": len(load.rows), "exit_code": code, "seconds": round(monotonic() - started, 1)}
    log = logged(server)  # in HAProxy mode lines of the replicas do not come here
    return facts | {
        "cut": log - earlier - len(load.rows) if log else None,
        "then_refused": dict(Counter(texts)),
    }


def logged(server: Server) -> int:
    """Answered inferences by the log."""
    server.log.seek(0)
    return sum(b'/infer", "status": 200' in line for line in server.log)


def scaled(contents: list[bytes], seconds: float) -> dict[str, Any]:
    """The replicas of each tier while all pictures go to a slow teacher."""
    counts: list[tuple[int, int, int]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = str(Path(place, "pair"))
        config = ebjr_det.load_config("quickstart", ["router.score=free_energy"])
        ebjr_det.export(config, folder, threshold=-0.6)
        with on_ray(folder, "--patience-ms", "5000") as server:
            load = Load(server.url, contents, TEACH)
            with load.running():
                started = monotonic()
                while (second := int(monotonic() - started)) < seconds:
                    count = (second, len(replicas(server, "student")), len(replicas(server, "teacher")))
                    if not counts or counts[-1][1:] != count[1:]:
                        counts.append(count)
                    sleep(1)
    facts = {"failed": len(load.failed), "answers": dict(answers(load)), "load_average": os.getloadavg()[0]}
    return {"replicas": counts, **facts}


def compared(folder: str, contents: list[bytes], seconds: float) -> dict[str, Any]:
    """Bits and latency of the pair, of `serve`, and of Ray with either proxy, one after the other."""
    result: dict[str, Any] = {"in_process": in_process(folder, contents)}
    server = Server(folder, "--rate", str(RATE), "--no-access-log")
    result["serve"] = one_client(server.url, contents)
    server.end()
    for name, variables in (("ray", {}), ("haproxy", HAPROXY)):
        with (
            variables_set(variables),
            on_ray(folder, "--rate", str(RATE), "--patience-ms", "10000") as server,
        ):
            bits = differing(folder, server.url, contents)
            result[name] = bits | one_client(server.url, contents)
            earlier = 2 * len(contents) + WARM
            result[f"{name}_sigterm"] = ended(server, contents, seconds, earlier)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=18.0)
    parser.add_argument("--only", default="compared,killed,stopped,late,scaled")
    args = parser.parse_args()
    contents, result, seconds = digits(args.requests), dict[str, Any](), args.seconds
    if "compared" in args.only:
        result |= compared(args.folder, contents, seconds)
    for name, fault in FAULTS.items():
        if name in args.only:
            with on_ray(args.folder, "--rate", str(RATE), "--patience-ms", "200") as server:
                result[name] = faulty(server, fault, contents, seconds)
    if "scaled" in args.only:
        result["scaled"] = scaled(contents, 4 * seconds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
