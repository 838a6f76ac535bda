"""Does everything work on a GPU, and how fast? Eight minutes at most, one JSON, no network.

    scripts/check_gpu --out FILE [--device cpu --small] [--only networks,pair] [-- COMMAND ...]

Sections, by their worth: the device; the contract tests of every runtime; answers (bits, order, drift
from the CPU); the verbs; D0 and D4 in every runtime; the live pair; memory of `predict`; joules; ONNX
Runtime. Each is a process of its own with a time of its own, so that one that fails, hangs or breaks the
GPU's state leaves the others as they are. Networks are compiled in another process while the contract
tests run. FILE is written after every row. A COMMAND comes last, as a section of its own. Weights are fresh
and spread as in `detectors.py`, or those that come with the project; pictures are scenes of digits.

Exit code 1 where anything failed, 2 where there is no such device.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
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
    "networks": 190,
    "pair": 120,
    "memory": 120,
    "joules": 60,
    "onnxruntime": 40,
}
"""How long each section may take."""
AHEAD, AHEAD_SECONDS = "ahead", 240
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
        self.begun = perf_counter()

    def begin(self, section: str) -> dict[str, Any]:
        """The section's own part."""
        part: dict[str, Any] = {"rows": {}}
        self.result["sections"][section] = part
        return part

    def add(self, part: dict[str, Any], name: str, row: dict[str, Any]) -> None:
        """One row."""
        part["rows"][name] = row
        self.save()

    def end(self, section: str, part: dict[str, Any], seconds: float, fault: str) -> None:
        """The section is over; `fault` says what ended it early, if anything did."""
        part |= {"seconds": round(seconds, 1), **({"fault": fault} if fault else {})}
        if fault:
            self.failed.append(f"{section}: {fault}")
        rows = part["rows"].items()
        self.failed += [f"{section}, {name}: {row['failed']}" for name, row in rows if "failed" in row]
        print(f"{section}: {len(rows)} rows in {seconds:.0f} s {fault}", file=sys.stderr)
        self.save()

    def save(self) -> None:
        """The file as it stands."""
        seconds = round(perf_counter() - self.begun, 1)
        write_text(self.path, to_json({**self.result, "failed": self.failed, "seconds": seconds}))


class Process:
    """A section at work: rows as lines on stdout; ended with all that it started when its time is over."""

    def __init__(self, command: list[str], seconds: float) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True, bufsize=1
        )
        self.expired = False
        self.timer = threading.Timer(seconds, self._expire)
        self.timer.start()

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
        return "its time was over" if self.expired else f"it ended with {code}" * bool(code)


def section(name: str, args: argparse.Namespace, report: Report) -> None:
    """Run one section and keep its rows."""
    begun, part = perf_counter(), report.begin(name)
    seconds = min(SECONDS[name] * args.patience, args.seconds - (perf_counter() - report.begun))
    if seconds < LEAST:
        report.end(name, part, 0.0, "not run: the time of all was over")
        return
    process = Process([*command_of(name, args), "--seconds", f"{seconds:.0f}"], seconds)
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
    return [sys.executable, str(Path(__file__).with_name("sections.py")), name, *options]


def appended(args: argparse.Namespace, report: Report) -> None:
    """The command that was given, last."""
    begun, part = perf_counter(), report.begin(COMMAND)
    process = Process(args.command, args.command_seconds)
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
    parser.add_argument("--command-seconds", type=float, default=150)
    parser.add_argument("command", nargs="*", help="a command of your own, after --")
    args = parser.parse_args()
    args.sections = args.only.split(",") if args.only else [*SECONDS]
    for name in args.sections:
        check_known(name, SECONDS, "a section")
    args.patience = SMALL if args.small else 1
    args.seconds *= args.patience
    return args


def checked(args: argparse.Namespace) -> int:
    """All sections; how many things failed."""
    resolve_device(args.device)
    writable_folder(args.out.parent)
    report = Report(args.out, {"command": sys.argv[1:], "revision": args.revision, "small": args.small})
    ahead = None
    if "networks" in args.sections and args.device != "cpu":
        ahead = Process(command_of(AHEAD, args), AHEAD_SECONDS)
    for name in args.sections:
        if name == "networks" and ahead is not None:
            print(*ahead.lines(), sep="", file=sys.stderr)
            print(f"compiled ahead: {ahead.end() or 'whole'}", file=sys.stderr)
        section(name, args, report)
    if args.command:
        appended(args, report)
    for line in report.failed:
        print(f"FAILED {line}", file=sys.stderr)
    print(f"{len(report.failed)} failed; {args.out}", file=sys.stderr)
    return len(report.failed)


def main() -> int:
    """0: all well, 1: something failed, 2: no such device."""
    args, failures = parse(), list[int]()
    return run_safely(lambda: failures.append(checked(args))) or int(failures[0] > 0)


if __name__ == "__main__":
    sys.exit(main())
