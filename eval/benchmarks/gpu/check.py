"""Does everything work on a GPU, and how fast? Eight minutes at most, one JSON, no network.

    scripts/check_gpu --out FILE [--device cpu --small] [--only networks,pair] [-- COMMAND ...]

Sections: the device, the contract tests of every runtime, answers (bits, order, drift from the CPU), the
verbs, memory of `predict`; then those that are timed: D0 and D4 in every runtime, compiled, as a live pair,
their joules; ONNX Runtime. Each is a process of its own with a time of its own, so that one that fails, hangs
or breaks the GPU's state leaves the others as they are. Those that are timed get ready (build, compile)
from the beginning, beside the others, and run one after the other once these have ended, or from second
`--ready` on; what is not ready then is told and ended. FILE is written after every row. A COMMAND comes
last, as a section of its own. Weights are fresh and spread as in `detectors.py`, or those that come with the
project; pictures are scenes of digits.

Exit code 1 where anything failed, 2 where there is no such device.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from ebjr_det.cli.exits import run_safely
from ebjr_det.core.errors import check_known
from ebjr_det.inference.pair import resolve_device
from ebjr_det.io.files import to_json, writable_folder, write_text

SECONDS = {
    "device": 40,
    "contract": 150,
    "answers": 90,
    "verbs": 150,
    "memory": 150,
    "networks": 60,
    "d0:compile_bf16:1+8+32": 10,
    "d4:compile_bf16:1": 6,
    "d4:compile_bf16:8+32": 12,
    "d4:compile:1": 6,
    "d0:compile:1+8+32": 10,
    "pair": 55,
    "joules": 34,
    "onnxruntime": 40,
}
"""How long each section may take; those that are timed from when they are ready."""
TIMED = [*SECONDS][[*SECONDS].index("networks") : -1]
COMPILED = "compiled"
SMALL = 4
"""How many times as long a rehearsal may take, which compiles on a few CPUs."""
COMMAND = "command"
LEAST = 20
"""Seconds with which no section is begun."""


class Report:
    """The result, written anew with every row.

    Attributes:
        failed: what failed, as lines for people.
    """

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path, self.result, self.failed = path, {**head, "sections": {}}, list[str]()
        self.begun, self.lock = perf_counter(), threading.RLock()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return perf_counter() - self.begun

    def begin(self, section: str) -> dict[str, Any]:
        """The section's own part."""
        part: dict[str, Any] = {"rows": {}}
        self.result["sections"][section] = part
        return part

    def add(self, part: dict[str, Any], name: str, row: dict[str, Any]) -> None:
        """One row."""
        with self.lock:
            part["rows"][name] = row
            self.save()

    def end(self, section: str, part: dict[str, Any], seconds: float, fault: str) -> None:
        """The section is over; `fault` says what ended it early, if anything did."""
        with self.lock:
            part |= {"seconds": round(seconds, 1), **({"fault": fault} if fault else {})}
            if fault:
                self.failed.append(f"{section}: {fault}")
            rows = part["rows"].items()
            self.failed += [f"{section}, {name}: {row['failed']}" for name, row in rows if "failed" in row]
            print(f"{section}: {len(rows)} rows in {seconds:.0f} s {fault}", file=sys.stderr)
            self.save()

    def save(self) -> None:
        """The file as it stands."""
        told = {**self.result, "failed": self.failed, "seconds": round(self.seconds, 1)}
        write_text(self.path, to_json(told))


class Process:
    """A section at work: rows as lines on stdout; ended with all that it started when its time is over."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.expired, self.late = False, ""

    def go(self, seconds: float) -> None:
        """Its time begins; if it waits for that, it goes on."""
        self.timer = threading.Timer(seconds, self._expire)
        self.timer.start()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def _expire(self) -> None:
        self.expired = True
        self.kill()

    def kill(self) -> None:
        """End it with all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)

    def lines(self) -> Iterator[str]:
        """What it prints, as it comes."""
        assert self.process.stdout is not None
        yield from self.process.stdout

    def end(self) -> str:
        """Wait for it; what ended it early, or nothing."""
        code = self.process.wait()
        self.timer.cancel()
        self.kill()  # what it may have left behind
        return (
            self.late or "its time was over"
            if self.expired or self.late
            else f"it ended with {code}" * bool(code)
        )


def section(name: str, args: argparse.Namespace, report: Report, process: Process | None = None) -> None:
    """Run one section, or one that is ready, and keep its rows."""
    begun, part = perf_counter(), report.begin(name)
    waited_for = process is None and name != "onnxruntime" and not {*TIMED}.isdisjoint(args.sections)
    end = min(args.ready, args.seconds) if waited_for else args.seconds
    seconds = min(SECONDS[name] * args.patience, end - report.seconds)
    if seconds < (LEAST if process is None else 2):
        report.end(name, part, 0.0, "not run: the time of all was over")
        return
    process = process or Process(command_of(name, args))
    process.go(seconds)
    for line in process.lines():
        try:
            title, row = json.loads(line)
        except ValueError:
            print(line, end="", file=sys.stderr)
            continue
        print(f"{name}: {title}: {json.dumps(row)[:300]}", file=sys.stderr)
        report.add(part, title, row)
    report.end(name, part, perf_counter() - begun, process.end())


def command_of(name: str, args: argparse.Namespace) -> list[str]:
    """How a section is started."""
    options = ["--device", args.device, *(["--small"] if args.small else [])]
    script, (kind, _, rest) = str(Path(__file__).with_name("sections.py")), name.partition(":")
    job = [COMPILED, "--job", name] if rest else [kind]
    return [sys.executable, script, *job, *options, "--seconds", str(SECONDS[name] * args.patience)]


def appended(args: argparse.Namespace, report: Report) -> None:
    """The command that was given, last."""
    begun, part = perf_counter(), report.begin(COMMAND)
    process = Process(args.command)
    process.go(args.command_seconds)
    tail = [*process.lines()][-40:]
    report.add(part, " ".join(args.command), {"tail": tail})
    report.end(COMMAND, part, perf_counter() - begun, process.end())


def parse() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description="everything on a GPU")
    parser.add_argument("--out", type=Path, required=True, help="the JSON")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a rehearsal: small networks, few rounds")
    parser.add_argument("--only", help="sections, by commas")
    parser.add_argument("--revision", help="of the checkout, where its history is not beside it")
    parser.add_argument("--seconds", type=float, default=480, help="for all sections")
    parser.add_argument("--ready", type=float, default=240, help="second from which on nothing is waited for")
    parser.add_argument("--command-seconds", type=float, default=150)
    parser.add_argument("command", nargs="*", help="a command of your own, after --")
    args = parser.parse_args()
    kinds = {name: COMPILED if ":" in name else name for name in SECONDS}
    asked = args.only.split(",") if args.only else [*kinds.values()]
    for kind in asked:
        check_known(kind, kinds.values(), "a section")
    args.sections = [name for name, kind in kinds.items() if kind in asked]
    args.patience = SMALL if args.small else 1
    args.seconds, args.ready = args.seconds * args.patience, args.ready * args.patience
    return args


def checked(args: argparse.Namespace) -> int:
    """All sections; how many things failed."""
    resolve_device(args.device)
    writable_folder(args.out.parent)
    report = Report(args.out, {"command": sys.argv[1:], "revision": args.revision, "small": args.small})
    first, timed, last = (
        [name for name in args.sections if (name in TIMED) == is_timed and (name == "onnxruntime") == is_last]
        for is_timed, is_last in ((False, False), (True, False), (False, True))
    )
    with tempfile.TemporaryDirectory() as folder:
        marks = {name: Path(folder) / str(number) for number, name in enumerate(timed)}
        early = {
            name: Process([*command_of(name, args), "--ready", str(mark)]) for name, mark in marks.items()
        }
        try:
            run_all(first, early, marks, args, report)
        finally:
            for process in early.values():
                process.kill()
    for name in last:
        section(name, args, report)
    if args.command:
        appended(args, report)
    for line in report.failed:
        print(f"FAILED {line}", file=sys.stderr)
    print(f"{len(report.failed)} failed; {args.out}", file=sys.stderr)
    return len(report.failed)


def run_all(
    first: list[str],
    early: dict[str, Process],
    marks: dict[str, Path],
    args: argparse.Namespace,
    report: Report,
) -> None:
    """What need not be timed, while the others get ready; then these."""
    beside(first, args, report)
    while report.seconds < args.ready and not all(settled(early[name], marks[name]) for name in early):
        sleep(0.5)
    for name, process in early.items():
        if not settled(process, marks[name]):
            process.late = f"not ready by second {report.seconds:.0f}"
            process.kill()
    for name, process in early.items():
        section(name, args, report, process)


def beside(names: list[str], args: argparse.Namespace, report: Report) -> None:
    """Sections whose time does not matter: `memory` beside the others, which run one after the other."""

    def run(own: list[str]) -> None:
        for name in own:
            section(name, args, report)

    apart = [[name for name in names if (name == "memory") == alone] for alone in (True, False)]
    threads = [threading.Thread(target=run, args=(own,)) for own in apart]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def settled(process: Process, mark: Path) -> bool:
    """Whether it is ready, or never will be."""
    return mark.exists() or process.process.poll() is not None


def main() -> int:
    """0: all well, 1: something failed, 2: no such device."""
    args, failures = parse(), list[int]()
    return run_safely(lambda: failures.append(checked(args))) or int(failures[0] > 0)


if __name__ == "__main__":
    sys.exit(main())
