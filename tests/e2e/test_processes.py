"""Commands as processes of their own: killed or interrupted they go on to the same, and two train as one."""

import contextlib
import csv
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
import yaml
from common import DIGITS, DIGITS_TRAINING, ROOT, SMALL_EFFICIENTDET
from safetensors.torch import load_file

from ebjr_det.__main__ import main

SCENES_TRAINING = yaml.safe_dump({
    "task": "detection",
    "data": {"dataset": "digit_scenes", "split": "calibration", "limit": 7},
    "model": {"arch": "effdet/efficientdet_d0", "image_size": 128, "options": SMALL_EFFICIENTDET},
    "schedule": {"batch_size": 3, "warmup_steps": 2, "ema_decay": 0.5},
})  # fmt: skip
SMALL = ("model.width=2", "schedule.batch_size=8")
LONG = {
    # of a training: every how many steps it is judged and saved, and how many there are
    "digits": (40, 20, 200),
    "scenes": (10, 2, 20),
}
PLAIN = """
from torch import nn

def build(num_classes, width=8):
    layers = nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * width, num_classes)
    return nn.Sequential(*layers)
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
PEERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([
    "albumentations", "ebjr_det.api.evaluate", "ebjr_det.api.specialize", "ebjr_det.inference.pair",
    "ebjr_det.tasks.classification.train", "ebjr_det.tasks.detection.train", "ebjr_det.training.loop",
    "matplotlib.figure", "sklearn.datasets", "timm.optim", "timm.scheduler", "timm.utils", "torch._dynamo",
    "torch.distributed.run",
])  # fmt: skip


def run(call: Callable[[], object], args: list[str], streams: list[Path], peers: Mapping[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell are deaf to Ctrl-C
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(peers)
    sys.argv = ["ebjr-det", *args]
    call()


class Running:
    """A process of a command, forked from one that has its modules: importing them takes seconds."""

    def __init__(
        self,
        folder: Path,
        *args: object,
        call: Callable[[], object] = main,
        peers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        folder.mkdir(exist_ok=True)
        name = f"{time.monotonic_ns()}"
        self.streams = [folder / f"{name}.{kind}" for kind in ("out", "err")]
        given = [*map(str, args)], self.streams, dict(peers)
        self.process = PROCESSES.Process(target=run, args=(call, *given))
        self.process.start()

    def ended(self) -> tuple[int | None, str, str]:
        """Its exit code, its answer and its complaint."""
        self.process.join(timeout=300)
        return self.process.exitcode, *(path.read_text() for path in self.streams)

    def stopped(self, sign: signal.Signals, begun: Callable[[], bool]) -> tuple[int | None, str, str]:
        """The same of one that gets a signal once it has begun."""
        while not begun() and self.process.is_alive():
            time.sleep(0.01)
        os.kill(self.process.pid, sign)
        return self.ended()


def changed(*changes: str) -> list[str]:
    return [f"--set={change}" for change in changes]


def assert_same(broken: Path, whole: Path, *names: str) -> None:
    for name in names:
        digests = {hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in (broken, whole)}
        assert len(digests) == 1, name


def assert_interrupted(ended: tuple[int | None, str, str]) -> None:
    code, printed, complaint = ended
    assert (code, printed) == (130, "")
    assert "Traceback" not in complaint
    assert complaint.strip().splitlines()[-1].startswith("ebjr-det: Interrupted, nothing half-written.")


# --- Breaks ---


@pytest.mark.slow
@pytest.mark.parametrize(("name", "text"), [("digits", DIGITS_TRAINING), ("scenes", SCENES_TRAINING)])
def test_a_training_interrupted_and_killed_goes_on_to_the_same_weights_and_log(name, text, command, tmp_path):
    """Ctrl-C, then kill -9, once a state is saved: momentum, one cycle, average, norms and best go on."""
    config, broken, whole = (tmp_path / name for name in ("train.yaml", "broken", "whole"))
    config.write_text(text)
    judged, saved, steps = LONG[name]
    lengths = f"steps={steps}", f"validate_every={judged}", f"save_every={saved}", "threads=1"
    small = SMALL if name == "digits" else ()
    args = ["train", config, *changed(*small, *(f"schedule.{length}" for length in lengths)), "--out"]
    path = broken / "state.pt"

    def newer(earlier: int) -> bool:
        return path.exists() and path.stat().st_mtime_ns > earlier

    assert_interrupted(Running(tmp_path / "said", *args, broken).stopped(signal.SIGINT, path.exists))
    assert not [path for path in broken.iterdir() if path.name.startswith(".")], "no temporary file is left"
    first, before = torch.load(path, weights_only=True), path.stat().st_mtime_ns
    assert first["step"] % saved == 0
    again = Running(tmp_path / "said", *args, broken, "--resume")
    assert again.stopped(signal.SIGKILL, lambda: newer(before))[0] == -signal.SIGKILL
    assert not (broken / "weights.safetensors").exists(), "stopped too late to show anything"
    state = torch.load(path, weights_only=True)
    assert first["step"] < state["step"] < steps
    if name == "digits":
        assert 0 < state["best"]["step"] <= state["step"]
    assert command(*args, broken, "--resume") == command(*args, whole) == 0
    assert_same(broken, whole, "weights.safetensors", "log.csv", "config.yaml")
    rows = list(csv.DictReader((whole / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(judged, steps + 1, judged))
    size = int(rows[0]["pictures"]) // judged
    assert [int(row["pictures"]) for row in rows] == [int(row["step"]) * size for row in rows]


def test_a_specialisation_killed_goes_on_to_the_same_student_and_pair(
    command, refused, tmp_path, monkeypatch
):
    config = ROOT / "configs" / "specialize_digits.yaml"
    lengths = changed(
        "schedule.steps=40",
        "schedule.validate_every=20",
        "schedule.save_every=5",
        "schedule.batch_size=8",
        "pair.run.bootstrap=2",
    )
    whole, broken = (tmp_path / name / "run" for name in ("whole", "broken"))
    state = broken / "student" / "state.pt"
    for out in (whole, broken):
        out.parent.mkdir()
    monkeypatch.chdir(broken.parent)
    process = Running(tmp_path / "said", "specialize", config, *lengths, "--out", "run")
    assert process.stopped(signal.SIGKILL, state.exists)[0] == -signal.SIGKILL
    assert not (broken / "pair.yaml").exists(), "killed too late to show anything"
    assert 0 < torch.load(state, weights_only=True)["step"] < 40
    assert "Add --resume" in refused("specialize", config, *lengths, "--out", broken)
    other = [*changed("popular_share=0.6"), "--out", broken, "--resume"]
    line = refused("specialize", config, *lengths, *other)
    assert "Expected `popular_share` as in the training that" in line
    for out, flags in ((broken, ["--resume"]), (whole, [])):
        monkeypatch.chdir(out.parent)
        assert command("specialize", config, *lengths, "--out", "run", *flags) == 0
    written = "student/weights.safetensors", "student/log.csv", "pair.yaml", "popular.yaml", "config.yaml"
    assert_same(broken, whole, *written)


def test_an_evaluation_interrupted_and_killed_resumes_to_the_identical_result(tmp_path: Path, command):
    """Ctrl-C, then kill -9, while parts are written; the joined run equals an unbroken one, to the bit."""
    quick = "run.flush_seconds=0", "data.limit=240", "run.bootstrap=2", "latency.measure=false"
    costs = "student.macs=1e6", "teacher.macs=1e6"
    args = ["evaluate", DIGITS, "--batch-size", "4", *changed(*quick, *costs), "--out"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"

    def parts() -> int:
        return len(list((broken / "parts").glob("[0-9]*.npz")))

    process = Running(tmp_path / "said", *args, broken)
    assert_interrupted(process.stopped(signal.SIGINT, lambda: parts() >= 10))
    process = Running(tmp_path / "said", *args, broken, "--resume")
    assert process.stopped(signal.SIGKILL, lambda: parts() >= 30)[0] == -signal.SIGKILL
    assert not (broken / "run.npz").exists(), "stopped too late to show anything"
    assert parts() >= 30
    assert command(*args, broken, "--resume") == command(*args, whole) == 0
    assert_same(broken, whole, "run.npz", "curve.json", "routes.csv")
    assert not (broken / "parts").exists()


# --- Several processes ---


def torchrun() -> None:
    from torch.distributed.run import main

    main(sys.argv[1:])


@pytest.fixture
def two(tmp_path: Path):
    """A function: arguments of a command -> the ends of two processes with what `torchrun` tells each."""
    told = tmp_path / "told"
    told.mkdir()
    args = [*TORCHRUN[3:], "--no-python", "sh", "-c", f"env > {told}/$RANK"]
    code, _, complaint = Running(tmp_path / "said", *args, call=torchrun).ended()
    assert code == 0, complaint
    variables = [dict(line.split("=", 1) for line in (told / rank).read_text().splitlines() if "=" in line)
                 for rank in "01"]  # fmt: skip
    peers = [{name: own[name] for name in PEERS} for own in variables]

    def ends(*args: object) -> list[tuple[int | None, str, str]]:
        both = [Running(tmp_path / "said", *args, peers=own) for own in peers]
        return [process.ended() for process in both]

    return ends


def test_two_processes_train_what_one_trains_and_write_once(two, command, tmp_path, monkeypatch):
    """A network without norms: the mean of the gradients of two halves is that of the whole batch.

    A batch that cannot be dealt out is refused, and no folder is made.
    """
    (tmp_path / "networks_of_mine.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    (config := tmp_path / "train.yaml").write_text(DIGITS_TRAINING)
    refused, alone, together = (tmp_path / name for name in ("refused", "alone", "together"))
    changes = (
        "schedule.ema_decay=0.0",
        "schedule.keep=last",
        "schedule.steps=40",
        "schedule.validate_every=10",
    )
    args = ["train", config, *changed("model={arch: 'networks_of_mine:build'}", *changes), "--out"]
    fault = "Expected `schedule.batch_size` to be a multiple of the 2 processes, got 7."
    for code, printed, complaint in two(*args, refused, *changed("schedule.batch_size=7")):
        assert (code, printed, complaint) == (2, "", f"ebjr-det: {fault}\n")
    assert not refused.exists()
    (code, printed, complaint), (other_code, other_printed, _) = two(*args, together, "--json")
    assert (code, other_code, other_printed) == (0, 0, ""), complaint
    weights = (together / "weights.safetensors").read_bytes()
    assert json.loads(printed)["sha256"] == hashlib.sha256(weights).hexdigest()
    assert command(*args, alone) == 0
    first, second = (load_file(folder / "weights.safetensors") for folder in (alone, together))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-6, msg=key)
    logs = [list(csv.DictReader((folder / "log.csv").open())) for folder in (alone, together)]
    assert [row["step"] for row in logs[1]] == ["10", "20", "30", "40"]
    for own, other in zip(*logs, strict=True):
        assert float(own["loss"]) == pytest.approx(float(other["loss"]), rel=1e-4), "of all, not of the first"


@pytest.mark.slow
def test_two_killed_processes_go_on_to_the_same_weights(tmp_path):
    """With norms, whose statistics are the first process's."""
    (config := tmp_path / "train.yaml").write_text(DIGITS_TRAINING)
    lengths = changed("schedule.steps=300", "schedule.validate_every=25", "schedule.save_every=25")
    program = [*TORCHRUN, "-m", "ebjr_det", "train", config, *lengths, "--out"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    process = subprocess.Popen([*program, broken], stderr=subprocess.DEVNULL, process_group=0)
    while not (broken / "state.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert (broken / "state.pt").exists()
    assert not (broken / "weights.safetensors").exists(), "killed too late to show anything"
    for out, flags in ((broken, ["--resume"]), (whole, [])):
        subprocess.run([*program, out, *flags], check=True, capture_output=True)
    assert_same(broken, whole, "weights.safetensors", "log.csv", "config.yaml")
