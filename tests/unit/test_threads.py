"""Threads: libraries that sleep while they wait, as many threads as asked for, never more than CPUs."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch import nn

from ebjr_det.core.errors import ConfigError
from ebjr_det.io import threads
from ebjr_det.io.third_party import WEIGHTS_ONLY, foreign_errors
from ebjr_det.io.threads import limited_threads, on_threads, prepare, thread_count, usable_cpus
from ebjr_det.runtimes.registry import RUNTIMES, build_network, installed

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT", "OMP_NUM_THREADS")
LOADS_OPENMP = "import ebjr_det, ctypes, sys; assert 'torch' not in sys.modules; ctypes.CDLL(sys.argv[1])"


def openmp_of_torch() -> list[str]:
    """The OpenMP that came with torch."""
    loaded = [pool["filepath"] for pool in threadpool_info() if pool["user_api"] == "openmp"]
    return [path for path in loaded if "torch" in path]


def settings_of_openmp(code: str, **environment: str) -> dict[str, str]:
    """What OpenMP itself says that it goes by, in a fresh process."""
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code, *openmp_of_torch()],
        env={**clean, "OMP_DISPLAY_ENV": "VERBOSE", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.partition("=") for line in done.stderr.splitlines() if " = " in line]
    return {name.split()[-1]: value.strip(" '") for name, _, value in lines}


# --- Before a library is loaded ---


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings another OpenMP elsewhere")
@pytest.mark.parametrize(
    ("given", "policy", "spins"),
    [(None, "PASSIVE", "800"), ("ACTIVE", "ACTIVE", "30000000000"), ("PASSIVE", "PASSIVE", "0")],
)
def test_threads_soon_sleep_while_they_wait_unless_the_user_has_a_policy(given, policy, spins):
    """Of torch's OpenMP, loaded as torch does after this package."""
    found = settings_of_openmp(LOADS_OPENMP, **({} if given is None else {"OMP_WAIT_POLICY": given}))
    assert (found["OMP_WAIT_POLICY"], found["GOMP_SPINCOUNT"]) == (policy, spins)


@pytest.fixture
def nothing_set(monkeypatch):
    """No variable is set."""
    for name in NAMES:
        monkeypatch.setenv(name, "x")  # so that it is restored
        monkeypatch.delenv(name)
    return monkeypatch


def test_both_libraries_are_told_to_sleep(nothing_set):
    prepare(loaded=())
    assert [os.environ.get(name) for name in NAMES] == ["PASSIVE", "800", "4", None]


def test_values_of_the_user_stay(nothing_set):
    nothing_set.setattr(threads, "usable_cpus", lambda: 0)
    for name, value in zip(NAMES, ("ACTIVE", "9", "20", "7"), strict=True):
        nothing_set.setenv(name, value)
    prepare(loaded=())
    assert [os.environ[name] for name in NAMES] == ["ACTIVE", "9", "20", "7"]


def test_nothing_is_said_to_a_library_that_is_loaded_already(nothing_set):
    nothing_set.setattr(threads, "usable_cpus", lambda: 0)
    prepare(loaded=("torch", "numpy"))
    assert not [name for name in NAMES if name in os.environ]


def test_a_quota_below_the_cpus_is_told(nothing_set):
    nothing_set.setattr(threads, "allowed_cpus", lambda: 64)
    nothing_set.setattr(threads, "usable_cpus", lambda: 3)
    prepare(loaded=())
    assert os.environ["OMP_NUM_THREADS"] == "3"


# --- CPUs ---


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of eight CPUs; call it with the text of its files."""
    monkeypatch.setattr(threads, "allowed_cpus", lambda: 8)

    def write(**files: str) -> Path:
        for name, text in {"proc/self/cgroup": "0::/", **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return write


V2, V1 = "sys/fs/cgroup/", "sys/fs/cgroup/cpu/"
NESTED = {"proc/self/cgroup": "0::/user.slice/job.scope"}
OLD = {"proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/docker/ab12\n0::/", V2 + "cpu.max": "100000 100000"}
MACHINES = {
    "no quota": (8, {V2 + "cpu.max": "max 100000"}),
    "two CPUs' time": (2, {V2 + "cpu.max": "200000 100000"}),
    "a CPU and a half, rounded up": (2, {V2 + "cpu.max": "150000 100000"}),
    "less than one": (1, {V2 + "cpu.max": "20000 100000"}),
    "more than there are": (8, {V2 + "cpu.max": "3200000 100000"}),
    "the group's own": (3, NESTED | {V2 + "user.slice/job.scope/cpu.max": "300000 100000"}),
    "a group around it, which is narrower": (
        1,
        NESTED | {V2 + "user.slice/job.scope/cpu.max": "300000 100000", V2 + "user.slice/cpu.max": "1 1"},
    ),
    "version 1": (
        4,
        {"proc/self/cgroup": OLD["proc/self/cgroup"]}
        | {V1 + "cpu.cfs_quota_us": "400000", V1 + "cpu.cfs_period_us": "100000"},
    ),
    "version 1 without a quota": (
        8,
        {"proc/self/cgroup": "2:cpu:/"} | {V1 + "cpu.cfs_quota_us": "-1", V1 + "cpu.cfs_period_us": "100000"},
    ),
    "another controller's files": (8, {"proc/self/cgroup": "3:cpuset:/", V1 + "cpu.cfs_quota_us": "1"}),
    "words that nobody knows": (8, {"proc/self/cgroup": "what\n0::/", V2 + "cpu.max": "some more words"}),
    "no such files": (8, {}),
}


@pytest.mark.parametrize("case", MACHINES)
def test_usable_cpus_are_those_of_the_quota(machine, case):
    count, files = MACHINES[case]
    assert usable_cpus(machine(**files)) == count


def test_no_more_cpus_than_the_affinity_allows():
    assert usable_cpus() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("value", "count"), [("3", 3), ("3,2", 3), ("", 5), ("0", 5), ("many", 5)])
def test_a_pool_gets_as_many_threads_as_openmp(monkeypatch, value, count):
    monkeypatch.setattr(threads, "usable_cpus", lambda: 5)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert thread_count() == count


# --- A limit ---


@pytest.fixture
def three_cpus(monkeypatch):
    """A process that may use three CPUs."""
    monkeypatch.setattr(threads, "usable_cpus", lambda: 3)


def test_a_limit_reaches_torch_and_ends_with_its_block(three_cpus, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    with limited_threads(3):
        assert (torch.get_num_threads(), thread_count(), os.environ["OMP_NUM_THREADS"]) == (3, 3, "3")
        with limited_threads(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
    assert (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")) == (before, None)


def test_no_limit_changes_nothing(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "11")
    before = torch.get_num_threads()
    with limited_threads(None):
        assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (before, "11")


def test_more_threads_than_cpus_are_not_taken_and_it_is_said(three_cpus, capsys):
    with limited_threads(12):
        assert torch.get_num_threads() == 3
    assert capsys.readouterr().err == (
        "Note: 12 threads were asked for, 3 are taken: this process may use no more CPUs.\n"
    )


def test_a_limit_is_lifted_also_after_an_error(three_cpus):
    before = torch.get_num_threads()
    with pytest.raises(ConfigError), limited_threads(3):
        raise ConfigError("Expected nothing.")
    assert torch.get_num_threads() == before


class Convolution(nn.Module):
    """A network of one layer that is large enough for a kernel that asks OpenMP itself."""

    outputs = ("features",)

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(32, 64, 3)

    def forward(self, images):
        return (self.layer(images),)


def network_in(runtime: str):
    """A small network in a runtime."""
    if not installed(RUNTIMES[runtime]):
        pytest.skip(f"needs {runtime}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        graph = Convolution().eval()
    return build_network(runtime, graph, np.zeros((1, 32, 8, 8), np.float32), "cpu")


def openmp_threads() -> set[int]:
    """How many threads torch's OpenMP takes for the calling thread."""
    return {
        pool["num_threads"]
        for pool in threadpool_info()
        if pool["user_api"] == "openmp" and "torch" in pool["filepath"]
    }


def test_a_limit_that_came_after_torch_reaches_a_network_in_a_thread_of_its_own(three_cpus):
    """The teacher's, where it overlaps with the student."""
    images = np.zeros((1, 32, 128, 128), np.float32)
    network = build_network("eager", Convolution().eval(), images, "cpu")

    def call():
        network(images)
        return openmp_threads()

    for count in (3, 2):
        with limited_threads(count), ThreadPoolExecutor(1) as pool:
            assert pool.submit(call).result() <= {count}  # none where torch has no OpenMP


@pytest.mark.parametrize("count", [1, 3])
def test_a_limit_reaches_onnx_runtime_which_does_not_spin(three_cpus, count):
    with limited_threads(count):
        network = network_in("onnxruntime")
    options = network.session.get_session_options()
    assert options.intra_op_num_threads == count
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.execution_mode.name == "ORT_SEQUENTIAL"  # so that there is no second pool


@pytest.mark.parametrize("count", [1, 2])
def test_a_limit_reaches_openvino_whose_threads_lie_where_there_is_room(three_cpus, count):
    with limited_threads(count):
        network = network_in("openvino")
    compiled = network.request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == count
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


class Settings:
    """Settings of a verb."""

    class run:
        threads = 2


@pytest.mark.parametrize("given", ["by place", "by name"])
def test_a_verb_runs_on_the_threads_of_its_settings(three_cpus, given):
    @on_threads("run")
    def verb(config, other=1):
        """Says how many."""
        return torch.get_num_threads(), other

    found = verb(Settings, 5) if given == "by place" else verb(other=5, config=Settings)
    assert found == (2, 5)
    assert verb.__doc__ == "Says how many."


@pytest.mark.parametrize("first_out", [0, 1])
@pytest.mark.parametrize("fails", [False, True])
def test_threads_in_code_of_others_leave_the_process_as_it_was(monkeypatch, first_out, fails):
    monkeypatch.delenv(WEIGHTS_ONLY, raising=False)
    states, inside, leave = [], [Event(), Event()], [Event(), Event()]

    def state():
        return os.environ.get(WEIGHTS_ONLY), sys.stdout is before

    def within(index):
        with suppress(ConfigError), foreign_errors("a library at work"):
            inside[index].set()
            assert leave[index].wait(60)
            states.append(state())
            if fails:
                raise ValueError

    before = sys.stdout
    with ThreadPoolExecutor(2) as pool:
        visits = []
        for index in (0, 1):
            visits.append(pool.submit(within, index))
            assert inside[index].wait(60)
        for index in (first_out, 1 - first_out):
            leave[index].set()
            visits[index].result()
    assert states == [("1", False)] * 2
    assert state() == (None, True)
