"""What clients see while the teacher of a two-tier pair is killed, stopped, gone, late or told to end.

    python eval/serving/tiers.py FOLDER [--seconds 9]

FOLDER is an export of the pair of digits. Student and teacher are processes of their own (`--teacher`,
`--tier teacher`); 8 clients here send one test digit after the other, all to the teacher, with one try each,
while one more asks for `force=teacher`. The fault comes after a third of the requests' time and goes after
two thirds; then requests go on until the teacher answers again. `late` is 2 s at a proxy between the tiers.
`limit_ms` is the largest patience that the server's metrics showed during the fault plus the student's p99
at 8 clients. `exact` counts answers of two tiers that differ from one process. Prints one JSON object.
"""

import argparse
import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any

import numpy as np
from PIL import Image
from senders import digits

import ebjr_det
from ebjr_det.serving.client import Refused

CLIENTS, LATE = 8, 2.0
SERVE = [sys.executable, "-u", "-m", "ebjr_det", "serve"]


class Server:
    """A server in a process of its own, its log in a file."""

    def __init__(self, *options: str) -> None:
        self.options = options
        self.start("0")

    def start(self, port: str) -> None:
        """Start, and wait until it listens."""
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        command = [*SERVE, *self.options, "--port", port]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def send(self, sign: signal.Signals) -> None:
        """A signal to the process."""
        self.process.send_signal(sign)

    def end(self) -> int:
        """Wait for the end, and give the exit status."""
        with suppress(ProcessLookupError):
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        return self.process.wait(60)

    def restart(self) -> None:
        """Serve again at the same port."""
        self.process.wait(60)
        self.start(self.url.rpartition(":")[2])

    def inferences(self) -> int:
        """Answered inferences by its log."""
        self.log.seek(0)
        lines = [json.loads(line) for line in self.log if line.startswith(b"{")]
        return sum(line["status"] == 200 and line["path"].endswith("/infer") for line in lines)


class Proxy:
    """A process with a port that passes everything on to another one, answers after `delay` seconds."""

    def __init__(self, url: str) -> None:
        context = get_context("spawn")
        self.delay, ports = context.Value("d", 0.0), context.SimpleQueue()
        arguments = int(url.rpartition(":")[2]), self.delay, ports
        context.Process(target=pass_on, args=arguments, daemon=True).start()
        self.url = f"http://127.0.0.1:{ports.get()}"

    def wait(self, seconds: float) -> None:
        """Let answers wait so long from now on."""
        self.delay.value = seconds


def pass_on(target: int, delay: Any, ports: Any) -> None:
    """Serve as a proxy for ever; its port goes into `ports`."""

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: bool) -> None:
        with suppress(OSError):
            while part := await source.read(2**16):
                if back and delay.value:
                    await asyncio.sleep(delay.value)
                sink.write(part)
        sink.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, near = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(carry(reader, near, False), carry(far, writer, True))

    async def serve() -> None:
        server = await asyncio.start_server(connect, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


class Load:
    """Clients that ask until they are told to stop, and what they got: (moment, seconds, side, reason)."""

    def __init__(self, url: str, contents: list[bytes], rule: dict[str, Any]) -> None:
        self.url, self.contents, self.rule = url, contents, rule
        self.rows: list[tuple[float, float, str, str]] = []
        self.failed: list[str] = []
        self.forced: list[tuple[float, int]] = []
        self.patience: list[tuple[float, float]] = []
        self.over = threading.Event()
        calls: list[Callable[[], None]] = [self.ask] * CLIENTS
        calls += [self.force, self.watch] if "threshold" in rule else []
        self.threads = [threading.Thread(target=call) for call in calls]

    @contextmanager
    def running(self) -> Iterator[None]:
        """All clients at work."""
        for thread in self.threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in self.threads:
                thread.join()

    def ask(self) -> None:
        """One client."""
        client, index = ebjr_det.Client(self.url, tries=1), 0
        while not self.over.is_set():
            started, index = monotonic(), index + 1
            try:
                answer = client.infer([self.contents[index % len(self.contents)]], **self.rule)
            except Exception as error:
                self.failed.append(str(error))
                continue
            row = (answer["answered_by"][0], answer["degraded"][0])
            self.rows.append((started, monotonic() - started, *row))

    def force(self) -> None:
        """Ask for the teacher alone, ten times a second."""
        client = ebjr_det.Client(self.url, tries=1)
        while not self.over.wait(0.1):
            started = monotonic()
            try:
                client.infer(self.contents[:1], force="teacher")
                self.forced.append((started, 200))
            except Refused as refused:
                self.forced.append((started, refused.status or 0))

    def watch(self) -> None:
        """Read the patience, ten times a second."""
        while not self.over.wait(0.1):
            with suppress(OSError):
                self.patience.append((monotonic(), metric(self.url, "ebjr_patience_seconds")))

    def wait_for(self, side: str) -> float:
        """Seconds until an answer of a request that begins from now on is of this side."""
        started = monotonic()
        while not any(row[0] > started and row[2] == side for row in self.rows[-50:]):
            sleep(0.01)
        return monotonic() - started


def metric(url: str, start: str) -> float:
    """The sum of the metrics that begin so."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(start))


def p99(seconds: list[float]) -> float:
    """In milliseconds."""
    return round(1000 * float(np.percentile(seconds, 99)), 1)


def fault(
    name: str, folder: str, contents: list[bytes], seconds: float, student_p99: float
) -> dict[str, Any]:
    """One fault from beginning to end."""
    teacher = Server(folder, "--tier", "teacher")
    proxy = Proxy(teacher.url)
    student = Server(folder, "--teacher", proxy.url if name == "late" else teacher.url)
    load = Load(student.url, contents, {"threshold": -1e300})
    begin = {
        "killed": lambda: teacher.send(signal.SIGKILL),
        "refusing": lambda: teacher.send(signal.SIGTERM),
        "stopped": lambda: teacher.send(signal.SIGSTOP),
        "late": lambda: proxy.wait(LATE),
    }
    end = {"stopped": lambda: teacher.send(signal.SIGCONT), "late": lambda: proxy.wait(0.0)}
    with load.running():
        sleep(seconds / 3)
        start = monotonic()
        begin[name]()
        sleep(seconds / 3)
        stop = monotonic()
        end.get(name, teacher.restart)()
        recovered = load.wait_for("teacher")
        sleep(seconds / 3)
    counted = {
        f"{side} {reason}".strip(): int(
            metric(student.url, f'ebjr_pictures_total{{answered_by="{side}",degraded="{reason}"}}')
        )
        for _, _, side, reason in load.rows
    }
    clients = Counter(f"{side} {reason}".strip() for _, _, side, reason in load.rows)
    clients["teacher"] += sum(status == 200 for _, status in load.forced)
    during = [row[1] for row in load.rows if start <= row[0] < stop]
    patience = max(value for moment, value in load.patience if start - 0.2 <= moment < stop)
    forced = Counter(str(status) for moment, status in load.forced if start + 0.5 <= moment < stop)
    return {
        "requests": len(load.rows), "during_fault": len(during), "failed": len(load.failed),
        "answers": dict(clients), "counters_equal": dict(clients) == counted,
        "p99_ms": p99(during), "max_ms": round(1000 * max(during), 1),
        "patience_ms": round(1000 * patience, 1), "limit_ms": round(1000 * patience + student_p99, 1),
        "forced_during_fault": dict(forced), "recovered_s": round(recovered, 2),
        "exit_codes": [student.end(), teacher.end()], "load_average": os.getloadavg()[0],
    }  # fmt: skip


def ended(tier: str, folder: str, contents: list[bytes], seconds: float) -> dict[str, Any]:
    """SIGTERM to one tier under load; with so much patience that every answer of the teacher is counted."""
    teacher = Server(folder, "--tier", "teacher")
    student = Server(folder, "--teacher", teacher.url, "--patience-ms", "10000")
    load = Load(student.url, contents, {"threshold": -1e300})
    load.threads = load.threads[:CLIENTS]
    with load.running():
        sleep(seconds / 3)
        code = (teacher if tier == "teacher" else student).end()
        if tier == "teacher":
            sleep(seconds / 3)
        load.over.set()
    other = (student if tier == "teacher" else teacher).end()
    answers = Counter(f"{side} {reason}".strip() for _, _, side, reason in load.rows)
    result: dict[str, Any] = {"exit_codes": [code, other], "answers": dict(answers)}
    if tier == "student":  # a client whose server has ended gets no connection
        return result | {"logged": student.inferences(), "cut": student.inferences() - len(load.rows)}
    # two inferences have warmed the teacher
    cut = teacher.inferences() - 2 - answers["teacher"]
    return result | {"failed": len(load.failed), "logged": teacher.inferences(), "cut": cut}


def exact(folder: str, contents: list[bytes]) -> dict[str, int]:
    """Pictures, one a request, whose answer or decision differs in a bit from `load`'s in one process."""
    teacher = Server(folder, "--tier", "teacher")
    student = Server(folder, "--teacher", teacher.url, "--patience-ms", "10000")
    pair, client = ebjr_det.load(folder), ebjr_det.Client(student.url)
    differ = deferred = 0
    for content in contents:
        answer, expected = client.infer([content]), pair([Image.open(io.BytesIO(content))])
        same = np.asarray(answer["logits"]).tobytes() == expected.predictions[0].tobytes()
        same &= np.asarray(answer["deferral_score"]).tobytes() == expected.decision.scores.tobytes()
        same &= tuple(answer["answered_by"]) == expected.answered_by
        differ, deferred = differ + (not same), deferred + int(expected.decision.defer[0])
    student.end()
    teacher.end()
    return {"pictures": len(contents), "deferred": deferred, "differ": differ}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=9.0)
    args = parser.parse_args()
    contents, result = digits(200), dict[str, Any]()
    result["exact"] = exact(args.folder, digits(1000))
    server = Server(args.folder)
    load = Load(server.url, contents, {"force": "student"})
    with load.running():
        sleep(args.seconds / 3)
    student_p99 = p99([row[1] for row in load.rows])
    result["student_alone"] = {"requests": len(load.rows), "p99_ms": student_p99}
    server.end()
    for name in ("killed", "stopped", "refusing", "late"):
        result[name] = fault(name, args.folder, contents, args.seconds, student_p99)
        print(json.dumps({name: result[name]}), file=sys.stderr)
    for tier in ("student", "teacher"):
        result[f"sigterm_{tier}"] = ended(tier, args.folder, contents, args.seconds)
    result["load_average"], result["folder"] = os.getloadavg()[0], Path(args.folder).name
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
