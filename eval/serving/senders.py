"""A server in a process of its own, and those who ask it: clients that wait in turn, and ones that do not."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

import ebjr_det
from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.pictures import as_picture
from ebjr_det.tasks.classification.data import build_data
from ebjr_det.tasks.detection.datasets.digit_scenes import draw_scene

Contents: TypeAlias = Sequence[bytes | list[bytes]]
"""A picture or several for each request in turn."""


def encoded(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def digits(count: int) -> list[bytes]:
    """The first test digits, encoded."""
    data = build_data("digits", split="test")
    return [encoded(as_picture(data.load(index % len(data)))) for index in range(count)]


def scenes(count: int) -> list[bytes]:
    """Drawn scenes, encoded."""
    return [encoded(draw_scene("test", index)) for index in range(count)]


@contextmanager
def serving(folder: str, *options: str) -> Iterator[tuple[int, str]]:
    """A server with these options of `serve`: its process and its address."""
    command = [sys.executable, "-u", "-m", "ebjr_det", "serve", folder, "--port", "0", "--no-access-log"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.pid, server.stdout.readline().split()[-1]
        finally:
            server.terminate()
            server.wait()


@dataclass(frozen=True)
class Replies:
    """What came back: seconds of each answer, the answers' outputs, and how many requests were refused.

    Attributes:
        total: seconds from the first request to the last answer; late: by how much each request was sent
            after its time, where it had one.
    """

    total: float
    seconds: list[float] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    refused: int = 0

    def percentiles(self) -> dict[str, float]:
        """p50 and p99 in milliseconds."""
        p50, p99 = np.percentile(np.array(self.seconds) * 1000, (50, 99))
        return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}

    def good(self, within: float) -> float:
        """Answers within so many seconds, a second."""
        return sum(seconds <= within for seconds in self.seconds) / self.total

    def share(self, name: str, value: str) -> float:
        """The share of answered pictures with this value in this output."""
        values = [one for answer in self.answers for one in answer[name]]
        return values.count(value) / len(values)


def closed(url: str, contents: Contents, count: int, clients: int, **rule: float | str) -> Replies:
    """So many requests by clients that each wait for their answer."""
    return _asked(url, contents, [0.0] * count, clients, rule)


def open_loop(url: str, contents: Contents, rate: float, seconds: float, **rule: float | str) -> Replies:
    """Requests that come at a constant rate, whether or not the earlier ones are answered."""
    return _asked(url, contents, (np.arange(int(rate * seconds)) / rate).tolist(), 64, rule)


def _asked(
    url: str, contents: Contents, times: Sequence[float], clients: int, rule: dict[str, float | str]
) -> Replies:
    lock, started = threading.Lock(), perf_counter()
    replies, turns = Replies(0.0), iter(range(len(times)))
    refused: list[int] = []

    def ask() -> None:
        client = ebjr_det.Client(url, tries=1)
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            sleep(max(0.0, started + times[turn] - perf_counter()))
            sent = perf_counter()
            replies.late.append(sent - started - times[turn])
            try:
                content = contents[turn % len(contents)]
                answer = client.infer(content if isinstance(content, list) else [content], **rule)
            except InvalidInput:
                refused.append(turn)
                continue
            replies.seconds.append(perf_counter() - sent)
            replies.answers.append(answer)

    together(ask, clients)
    total = perf_counter() - started
    return Replies(total, replies.seconds, replies.answers, replies.late, len(refused))


def together(call: Callable[[], None], count: int) -> None:
    """Call a function in so many threads, and wait for them."""
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def resident_mib(process: int) -> float:
    """Resident memory of a process. Source: proc(5)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
