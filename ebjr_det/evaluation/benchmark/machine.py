"""The machine under a benchmark: time left on a bar, waiting to the point, state and energy of a GPU."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from tqdm.auto import tqdm

from ebjr_det.evaluation.benchmark.scenarios import Images, Pace, Subject, cycled
from ebjr_det.io.joules import STEADY, JouleCounter

SCENARIOS = 4
WINDOWS = 4
"""In which a device's energy is read."""
AWAKE = 2e-3
"""Seconds before a request's arrival from which it is waited for awake: sleeping ends late."""


@contextmanager
def progress(
    seconds: float, subjects: int, scenarios: int = SCENARIOS
) -> Iterator[tuple[Callable[[str], None], Pace]]:
    """A function that begins a scenario by its name, and the pace, on a bar with the time left."""
    share, begun = seconds * subjects, 0
    total = round(scenarios * share, 1)
    with tqdm(total=total, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}") as bar:

        def begin(name: str) -> None:
            nonlocal begun
            bar.set_description_str(name)
            bar.n = min(begun * share, total)
            bar.refresh()
            begun += 1

        def tick(passed: float) -> None:
            bar.update(max(min(passed, min(begun * share, total) - bar.n), 0.0))

        yield begin, Pace(seconds, sleep=wait, tick=tick)
        bar.n = total


def wait(seconds: float) -> None:
    """Wait so many seconds, the last of them awake."""
    end = perf_counter() + seconds
    if seconds > AWAKE:
        time.sleep(seconds - AWAKE)
    while perf_counter() < end:
        pass


def gpu_state(device: str) -> dict[str, str] | None:
    """Name, clocks and power of a GPU now, as far as `nvidia-smi` tells them."""
    if not device.startswith("cuda"):
        return None
    import torch

    properties = torch.cuda.get_device_properties(device)
    state = {"name": properties.name}
    program, unique = shutil.which("nvidia-smi"), getattr(properties, "uuid", None)
    if program is None or unique is None:
        return state
    query = ["--query-gpu=clocks.sm,clocks.mem,power.draw", "--format=csv,noheader", f"--id=GPU-{unique}"]
    try:
        done = subprocess.run([program, *query], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return state
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return state | dict(zip(("sm_clock", "memory_clock", "power"), values, strict=False))


def metered(
    subjects: Sequence[Subject], images: Images, size: int, joules: JouleCounter, pace: Pace
) -> dict[str, tuple[float, ...]]:
    """Joules an image of each subject, in windows of a second or more that take turns.

    Args:
        joules: the device's counter; see `io.joules`.
    """
    per_image: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    for index in range(WINDOWS):
        for subject in cycled(subjects, index, len(subjects)):
            count, start, begun = 0, joules(), pace.clock()
            while count == 0 or pace.clock() - begun < max(pace.seconds / WINDOWS, STEADY):
                subject.call(cycled(images, count, size))
                count += size
            per_image[subject.name].append((joules() - start) / count)
            pace.tick(pace.clock() - begun)
    return {name: tuple(windows) for name, windows in per_image.items()}
