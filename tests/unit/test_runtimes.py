"""Which runtime is taken and what is said of it; what is kept on disk; the errors, each in one line."""

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput, OutOfMemory
from ebjr_det.inference.ready import make_ready
from ebjr_det.runtimes import registry
from ebjr_det.runtimes.cache import digest_of
from ebjr_det.runtimes.choose import choose_runtime, drift
from ebjr_det.runtimes.eager import TorchNetwork
from ebjr_det.runtimes.products import Products
from ebjr_det.runtimes.registry import RUNTIMES, Runtime, build_network
from ebjr_det.tasks.classification.model import TorchClassifier
from ebjr_det.tasks.settings import load_config

SAMPLES = np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)


class Small(nn.Module):
    outputs = ("logits",)

    def __init__(self, factor=1.0, mean=0.0):
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)

    def forward(self, images):
        return (self.factor * self.conv(images - self.mean).mean((2, 3)),)


def small(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small(**settings).eval()


class Clock:
    """Time that only networks spend."""

    now = 0.0

    def __call__(self):
        return self.now


@dataclass(frozen=True)
class Fake(Runtime):
    """Eager torch with noise, in made-up time."""

    clock: Clock | None = None
    seconds: float = 1.0
    noise: float = 0.0

    def build(self, graph, example, device):
        inner = TorchNetwork(graph, device)

        def run(batch):
            if self.clock is not None:
                self.clock.now += self.seconds
            return tuple(column + np.float32(self.noise) for column in inner(batch))

        return run


@pytest.fixture
def only(monkeypatch):
    """A function: fakes -> these are all the runtimes there are, on a clock of their own."""

    def set_up(**fakes):
        clock = Clock()
        monkeypatch.setattr("ebjr_det.runtimes.choose.perf_counter", clock)
        for name in [*RUNTIMES]:
            monkeypatch.delitem(RUNTIMES, name)
        for name, settings in {"eager": {"seconds": 2.0}, **fakes}.items():
            monkeypatch.setitem(RUNTIMES, name, Fake(name, name, "", clock=clock, **settings))

    return set_up


def choose(name, graph=None, **more):
    more |= {"model": "student s"}
    return choose_runtime(name, small() if graph is None else graph, SAMPLES, "cpu", **more)


def one_line(error):
    text = str(error.value)
    assert text.startswith("Expected")
    assert "\n" not in text
    return text


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError) as error:
        choose("onnxruntim")
    assert "Did you mean `onnxruntime`?" in one_line(error)


def test_one_that_is_not_installed_tells_what_to_install(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        choose("onnxruntime")
    assert "pip install 'onnx>=" in one_line(error)


def test_one_for_another_device_is_refused():
    with pytest.raises(ConfigError) as error:
        choose("fp16")
    assert "serves cuda only" in one_line(error)


def test_auto_takes_the_fastest_that_agrees_and_says_what_it_left_out(only, capsys):
    only(slow={"seconds": 3.0}, quick={"seconds": 1.0}, wrong={"seconds": 0.1, "noise": 9.0})
    name, network = choose("auto")
    assert name == "quick"
    np.testing.assert_allclose(
        network(SAMPLES)[0], build_network("eager", small(), SAMPLES, "cpu")(SAMPLES)[0]
    )
    said = capsys.readouterr().err
    assert said.startswith("student s: runtime quick, of eager 2e+03 ms; slow 3e+03 ms")
    assert "wrong 100 ms" in said
    assert "(drifts by more than 0.02)" in said


def test_auto_leaves_out_what_cannot_be_built_and_says_why(only, monkeypatch, capsys):
    only(broken={})

    def refuse(*_):
        raise InvalidInput("Expected a disk, got none.")

    monkeypatch.setattr(Fake, "build", lambda self, *a: refuse() if self.name == "broken" else _eager(*a))
    assert choose("auto")[0] == "eager"
    assert "broken (Expected a disk, got none)" in capsys.readouterr().err


def _eager(graph, example, device):
    return TorchNetwork(graph, device)


@pytest.mark.parametrize(("most", "advice"), [(3, "Set the batch size to 2"), (0, "Not even one fits")])
def test_a_batch_beyond_the_memory_of_the_device_is_refused_with_one_that_fits(most, advice):
    def graph(images):
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return (images.sum((1, 2, 3)),)

    with pytest.raises(OutOfMemory) as error:
        TorchNetwork(graph, "cpu")(np.zeros((8, 3, 2, 2), np.float32))
    assert f"got one of 8 pictures. {advice}" in one_line(error)


def test_one_that_drifts_is_taken_where_it_is_named_with_a_warning(only, capsys):
    only(wrong={"noise": 9.0})
    assert choose("wrong")[0] == "wrong"
    assert capsys.readouterr().err.startswith("Warning: runtime `wrong` moves the outputs of `student s` by ")
    choose("wrong", tolerance=1e6)
    assert capsys.readouterr().err == ""


def test_drift_of_what_is_not_finite_is_infinite():
    column = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert drift([column], [column]) == 0
    assert drift([column + 1], [column]) == pytest.approx(1 / column.std())
    for bad in (np.nan, np.inf):
        broken = column.copy()
        broken[1, 1] = bad
        assert drift([broken], [column]) == drift([column], [broken]) == drift([broken], [broken]) == np.inf


def test_auto_stays_with_eager_where_its_own_outputs_are_nan(only):
    only(quick={"seconds": 1.0})
    assert choose("auto", small(factor=float("nan")))[0] == "eager"


class Odd(nn.Module):
    outputs = ("logits",)

    def forward(self, images):
        return (torch.ops.ebjr_test.odd(images).flatten(1),)


@pytest.fixture(scope="module")
def unknown_operator():
    @torch.library.custom_op("ebjr_test::odd", mutates_args=())
    def odd(images: torch.Tensor) -> torch.Tensor:
        return images + 1

    odd.register_fake(torch.empty_like)
    return Odd().eval()


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_operator_that_onnx_does_not_know_is_one_line(name, unknown_operator):
    pytest.importorskip(name)
    pytest.importorskip("onnxscript")
    with pytest.raises(ConfigError) as error:
        build_network(name, unknown_operator, SAMPLES, "cpu")
    assert "Choose another runtime." in one_line(error)


def test_a_model_without_a_graph_keeps_eager():
    config = load_config("configs/digits.yaml", ["teacher.runtime=onnxruntime"])
    models = [TorchClassifier(name, lambda x: x.mean((2, 3)), torch.as_tensor) for name in ("s", "t")]
    with pytest.raises(ConfigError) as error:
        make_ready(config, tuple(models), lambda: pytest.fail("asked for pictures"), "cpu")
    assert "Set `teacher.runtime`." in one_line(error)


def test_the_digest_tells_apart_what_outputs_depend_on():
    graphs = [small(), small(factor=2.0), small(mean=0.5), small()]
    with torch.no_grad():
        graphs[3].conv.bias[0] += 1
    told = [digest_of(graph, SAMPLES, "") for graph in graphs]
    told += [digest_of(small(), SAMPLES, "note"), digest_of(small(), SAMPLES[..., :7], "")]
    assert len(set(told)) == 6
    assert digest_of(small(), SAMPLES[:1], "") == told[0]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("EBJR_DET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("damage", [b"", b"no graph", "half"])
def test_a_damaged_file_in_the_cache_is_written_anew(name, damage, cache):
    pytest.importorskip(name)
    wanted = np.array(build_network(name, small(), SAMPLES, "cpu")(SAMPLES)[0])
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)
    np.testing.assert_array_equal(build_network(name, small(), SAMPLES, "cpu")(SAMPLES)[0], wanted)
    assert len(path.read_bytes()) == len(whole)
    assert [*cache.iterdir()] == [path]


def test_a_whole_file_in_the_cache_is_not_written_again(cache):
    build_network("onnxruntime", small(), SAMPLES, "cpu")
    (path,) = cache.iterdir()
    before = path.stat().st_mtime_ns
    build_network("onnxruntime", small(), SAMPLES, "cpu")
    assert path.stat().st_mtime_ns == before


def test_a_cache_that_cannot_be_written_to_is_one_line(cache):
    cache.write_text("a file")
    with pytest.raises(EbjrError) as error:
        build_network("onnxruntime", small(), SAMPLES, "cpu")
    assert one_line(error).endswith("Set EBJR_DET_CACHE.")


def test_several_threads_make_one_network_ready(cache):
    graph, found = small(), []

    def build():
        found.append(np.array(build_network("onnxruntime", graph, SAMPLES, "cpu")(SAMPLES)[0]))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(one.tobytes() == found[0].tobytes() for one in found)
    assert registry.logging.root.manager.disable == 0


SIGNALS = """
import faulthandler, os, signal
from test_runtimes import SAMPLES, build_network, small

faulthandler.enable()  # brings a stack for signals, which OpenVINO replaces
pair = [build_network("openvino", small(), SAMPLES, "cpu") for _ in range(2)]
for network in pair:
    network(SAMPLES)
while pair:
    del pair[0], network
    network = None
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_heard_after_two_models_of_openvino_are_gone(cache):
    pytest.importorskip("openvino")
    build_network("onnxruntime", small(), SAMPLES, "cpu")  # writes the graph that OpenVINO reads
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_compiling_without_a_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr("ebjr_det.runtimes.inductor.shutil.which", lambda name: None)
    with pytest.raises(ConfigError) as error:
        build_network("compile", small(factor=3.0), SAMPLES, "cpu")
    assert "Install g++." in one_line(error)


def test_threads_that_multiply_differently_wait_for_each_other_and_leave_the_switch_as_it_was():
    switch, products, seen = torch.backends.cudnn, Products(), []
    before = switch.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    inside, leave = threading.Barrier(3, timeout=10), threading.Event()

    def within(tf32, wait):
        with products(tf32):
            if wait:
                inside.wait()
                assert leave.wait(10)
            seen.append((tf32, switch.allow_tf32, torch.backends.cuda.matmul.allow_tf32))

    threads = [threading.Thread(target=within, args=(False, True)) for _ in range(2)]
    other = threading.Thread(target=within, args=(True, False))
    for thread in threads:
        thread.start()
    inside.wait()
    other.start()
    other.join(0.05)
    assert seen == []
    leave.set()
    for thread in (*threads, other):
        thread.join(10)
    assert seen == [(False,) * 3, (False,) * 3, (True,) * 3]
    assert (switch.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
