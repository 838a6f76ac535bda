"""Networks in eight bits: which layers stay in float, what calibrates them, what is kept, the refusals."""

import sys
from contextlib import ExitStack
from importlib.metadata import version

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ebjr_det.api.settings import calibrating_in, check_split
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.split import split_ids
from ebjr_det.inference.calibration_part import CalibrationPart, eight_bits_of
from ebjr_det.io.third_party import stdout_to_stderr
from ebjr_det.runtimes import choose, int8
from ebjr_det.runtimes.choose import Calibration, choose_runtime
from ebjr_det.runtimes.float_nodes import float_nodes
from ebjr_det.runtimes.int8 import LEAST, _prepared, build
from ebjr_det.runtimes.registry import build_network
from ebjr_det.tasks import load_task
from ebjr_det.tasks.settings import load_config

PICTURES = np.random.default_rng(0).normal(size=(LEAST, 3, 8, 8)).astype(np.float32)


class Small(nn.Module):
    outputs = ("logits",)

    def __init__(self, trunk=True):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        norm = nn.BatchNorm2d(16)  # of what is joined: folded into no convolution, as in a DenseNet
        self.trunk = nn.Sequential(norm, nn.ReLU(), nn.Conv2d(16, 16, 3)) if trunk else nn.Identity()
        self.head = nn.Linear(16, 4)

    def forward(self, images):
        first = self.first(images)
        return (self.head(self.trunk(torch.cat([first, torch.relu(first)], 1)).mean((2, 3))),)


@pytest.fixture(scope="module")
def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small().eval()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EBJR_DET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def graph_of(*operators, outputs):
    """Operators as (type, inputs, output); each is called as its output."""
    nodes = [helper.make_node(kind, inputs.split(), [end], name=end) for kind, inputs, end in operators]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    start = helper.make_tensor_value_info("images", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph(nodes, "g", [start], ends))


@pytest.mark.parametrize(
    ("operators", "outputs", "floats"),
    [
        # a detector: the trunk serves both outputs, a further output changes nothing
        (
            [("Conv", "images w", "first"), ("Conv", "first w", "trunk"), ("Conv", "trunk w", "logits"),
             ("Sigmoid", "trunk", "act"), ("Conv", "act w", "boxes"), ("ReduceMax", "logits", "maxima")],
            ("logits", "boxes", "maxima"), {"first", "logits", "act", "boxes", "maxima"},
        ),
        # a feature pyramid: what is behind an enlarged map, but an enlarged picture is only a picture
        (
            [("Resize", "images", "picture"), ("Conv", "picture w", "first"), ("Conv", "first w", "trunk"),
             ("Conv", "trunk w", "deep"), ("Resize", "deep", "large"), ("Add", "large trunk", "merged"),
             ("Conv", "merged w", "neck"), ("Conv", "neck w", "logits"), ("Conv", "neck w", "boxes")],
            ("logits", "boxes"), {"first", "large", "merged", "neck", "logits", "boxes"},
        ),
        # a classifier: the last product and what follows it
        (
            [("Conv", "images w", "first"), ("Relu", "first", "act"), ("Conv", "act w", "trunk"),
             ("Gemm", "trunk w", "last"), ("Mul", "last s", "logits")],
            ("logits",), {"first", "last", "logits"},
        ),
    ],
)  # fmt: skip
def test_the_first_product_a_pyramid_and_heads_stay_in_float(operators, outputs, floats):
    assert set(float_nodes(graph_of(*operators, outputs=outputs))) == floats


def test_the_trunk_is_in_eight_bits_the_head_is_not_and_the_cache_knows_its_pictures(
    small, cache, monkeypatch
):
    build(small, PICTURES, "cpu", by="onnxruntime")
    network = build(small, PICTURES, "cpu", by="onnxruntime")
    assert len(list(cache.glob("*.onnx"))) == 2  # in float and in eight bits
    assert network.activation_drift(PICTURES) < network.activation_drift(9 * PICTURES)
    nodes = onnx.load(network.path).graph.node
    read = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    of_products = [node for node in nodes if node.op_type in ("Conv", "Gemm")]
    assert [node.input[0] in read for node in of_products] == [False, True, False]
    written = {node.input[0] for node in nodes if node.op_type == "QuantizeLinear"}
    makers = {node.op_type for node in nodes if written.intersection(node.output)}
    assert makers == {"Conv", "Relu"}, "a batch norm or a concatenation is in eight bits"
    network.path.write_bytes(b"damaged")
    build(small, PICTURES, "cpu", by="onnxruntime")(PICTURES)
    build(small, PICTURES + 1, "cpu", by="onnxruntime")
    assert len(list(cache.glob("*.onnx"))) == 3
    monkeypatch.setattr("ebjr_det.runtimes.int8.PRODUCTS_FROM", "json")  # another rule
    build(small, PICTURES, "cpu", by="onnxruntime")
    assert len(list(cache.glob("*.onnx"))) == 4


def test_stdout_is_back_whoever_else_keeps_it_free_of_what_libraries_print(small, cache, monkeypatch, capsys):
    write, others, stdout = int8._by_onnxruntime, ExitStack(), sys.stdout

    def prints(*arguments):
        others.enter_context(stdout_to_stderr())  # another thread, which is longer within
        print("a library's bar")
        write(*arguments)

    monkeypatch.setattr(int8, "_by_onnxruntime", prints)
    build(small, PICTURES + 2, "cpu", by="onnxruntime")
    others.close()
    assert sys.stdout is stdout
    said, told = capsys.readouterr()
    assert (said, "a library's bar" in told) == ("", True)


def test_operators_without_names_are_told_apart(tmp_path):
    weights = [numpy_helper.from_array(np.ones((3, 3), np.float32), f"w{index}") for index in range(3)]
    nodes = [helper.make_node("MatMul", [f"t{index}", f"w{index}"], [f"t{index + 1}"]) for index in range(3)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("t0", "t3")]
    path = tmp_path / "unnamed.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)), path)
    model = _prepared(path)
    names = [node.name for node in model.graph.node]
    assert len({*names}) == 3
    assert [*dict.fromkeys(float_nodes(model))] == [names[0], names[2]]


def test_too_few_pictures_and_a_network_of_heads_are_one_line(small, cache):
    with pytest.raises(InvalidInput, match=f"^Expected at least {LEAST} pictures [^\n]+, got 3. Take more"):
        build_network("onnxruntime_int8", small, PICTURES[:3], "cpu")
    with pytest.raises(ConfigError, match=r"^Expected a convolution or product between [^\n]+$"):
        build_network("onnxruntime_int8", Small(trunk=False).eval(), PICTURES, "cpu")
    assert len(list(cache.glob("*"))) == 1  # in float


def test_a_processor_without_the_instructions_falls_back_and_says_so(small, cache, monkeypatch, capsys):
    monkeypatch.setattr(choose, "has_instructions", lambda: False)
    name, _ = choose_runtime("onnxruntime_int8", small, PICTURES, "cpu", model="student s")
    assert name == "onnxruntime"
    assert "`student s` runs in `onnxruntime`: this processor has no instructions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("in_int8", "labelled", "best", "told"),
    [
        (0.899, True, "onnxruntime_int8", "accuracy 0.8990 for 0.9000 in float (-0.0010)"),
        (0.897, True, "onnxruntime", "(-0.0030) (loses more than 0.002)"),
        (0.899, False, "onnxruntime", "no labelled calibration part tells its quality"),
    ],
)
def test_auto_takes_eight_bits_by_the_quality_that_is_kept(
    in_int8, labelled, best, told, monkeypatch, capsys, small
):
    seconds = {"eager": 3.0, "onnxruntime": 2.0, "onnxruntime_int8": 1.0}
    for name in [*choose.RUNTIMES]:
        if name not in seconds:
            monkeypatch.delitem(choose.RUNTIMES, name)
    monkeypatch.setattr(choose, "has_instructions", lambda: True)
    monkeypatch.setattr(choose, "_measure_ms", lambda networks, singles: {n: seconds[n] for n in networks})
    monkeypatch.setattr(choose, "build_network", lambda name, *_: lambda batch, name=name: (batch[:, 0, 0],))
    networks = []

    def quality(network):
        networks.append(network)
        return 0.9 if len(networks) == 1 else in_int8

    calibration = Calibration(lambda: PICTURES, quality if labelled else None, "accuracy", 0.002)
    name, _ = choose_runtime("auto", small, PICTURES, "cpu", model="student s", calibration=calibration)
    assert name == best
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("changes", [["router.target={kind: deferral_rate, value: 0.3, fraction: 0.25}"], []])
def test_the_calibration_part_is_that_of_the_report(changes):
    config = load_config("configs/digits.yaml", changes)
    data = load_task("classification").data.build_data(**dict(config.data))
    fraction = config.router.target.fraction
    part = CalibrationPart(config, data)
    assert part.indices == split_ids(data.image_ids, fraction, config.run.seed)[0].tolist()
    reporting_on_all = load_config("configs/digits.yaml", ["router.target=null", "router.threshold=0.3"])
    with pytest.raises(ConfigError, match=r"^Expected a calibration part [^\n]+Set `router.target`.$"):
        _ = CalibrationPart(reporting_on_all, data).indices
    of_tiers = CalibrationPart(reporting_on_all, data, 0.4).indices
    assert of_tiers == split_ids(data.image_ids, 0.4, config.run.seed)[0].tolist()


class Unreadable:
    """A data set in which a picture cannot be read and is left out."""

    skip_unreadable, image_ids = True, tuple(f"{index:03d}" for index in range(100))

    def __len__(self):
        return len(self.image_ids)

    def load(self, index):
        if index == 99:
            raise InvalidInput("Expected a readable picture, got `099`.")
        return np.zeros((8, 8, 3), np.uint8)


def test_a_picture_that_calibrates_eight_bits_is_never_reported_on():
    changes = ["router.target={kind: deferral_rate, value: 0.3}", "student.runtime=onnxruntime_int8"]
    config, data = load_config("configs/digits.yaml", changes), Unreadable()
    part = CalibrationPart(config, data, reported=True)
    fraction, seed = config.router.target.fraction, config.run.seed
    of_all, of_read = (
        np.array(data.image_ids)[split_ids(data.image_ids[:count], fraction, seed)[1]] for count in (100, 99)
    )
    part.check_apart(of_all)
    with pytest.raises(InvalidInput, match=r"^Expected a report on pictures that calibrate no [^\n]+$"):
        part.check_apart(of_read)
    CalibrationPart(load_config("configs/digits.yaml", changes[:1]), data).check_apart(of_read)
    with pytest.raises(InvalidInput, match=r"^Expected pictures that can all be read[^\n]+`099`[^\n]+$"):
        part.of(None).batch()


class Shades(Unreadable):
    image_ids = Unreadable.image_ids[:99]

    def load(self, index):
        return np.full((8, 8, 3), index, np.uint8)


def test_what_makes_eight_bits_is_their_pictures_rules_and_libraries(monkeypatch):
    def made(*changes, fraction=0, tiers=1):
        settings = ["router.target={kind: deferral_rate, value: 0.3}", *changes]
        part = CalibrationPart(load_config("configs/digits.yaml", settings), Shades(), fraction)
        return eight_bits_of([part] * tiers)

    assert made() == {}
    runtime = "student.runtime=onnxruntime_int8"
    first = made(runtime)
    assert made(runtime, "router.target.value=0.5") == first
    both = made(runtime, "teacher.runtime=openvino_int8")
    others = [
        made(runtime, "run.seed=1"), made(runtime, "router.target.fraction=0.2"), made(runtime, fraction=0.1),
        made(runtime, tiers=2), both,
    ]  # fmt: skip
    assert len({*map(str, [first, *others])}) == 6
    assert both["calibration"] == first["calibration"]
    assert f"onnxruntime {version('onnxruntime')}, rules " in first["eight bits"]["onnxruntime_int8"]
    monkeypatch.setattr(int8, "version_of", lambda name: "0")
    assert made(runtime)["eight bits"] != first["eight bits"]


def test_a_replay_of_files_that_are_called_after_eight_bits_has_none(tmp_path):
    (tmp_path / "config.yaml").write_text("replay: classification\nstudent: onnxruntime_int8.npy\n")
    check_split(tmp_path, ["a", "b"], ["a"])
    assert calibrating_in(tmp_path, ["a", "b"]) == set()
