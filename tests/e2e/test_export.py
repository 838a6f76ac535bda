"""`export`, and an exported folder at work without torch: the live pair's answers, and one line where not."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from common import DIGITS, QUICKSTART, ROOT, SCENES_PAIR
from onnx import TensorProto, helper
from PIL import Image

import ebjr_det
from ebjr_det.api.export_int8 import _scores, _threshold_for
from ebjr_det.api.settings import load_settings, reference_scores
from ebjr_det.config import RouterSection
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel, answers_of
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.inference.calibration_part import CalibrationPart
from ebjr_det.inference.export_file import ROUTER, thinned
from ebjr_det.inference.exported import load_exported
from ebjr_det.inference.scoring import Scoring
from ebjr_det.tasks.adapted import plain
from ebjr_det.tasks.classification.data import build_data
from ebjr_det.tasks.classification.router import ClassificationRouter
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.settings import load_config

NAMES = ("predictions.json", "images.json")
ORT = [f"--set={side}.runtime=onnxruntime" for side in ("student", "teacher")]
LIBRARIES = ("torch", "torchvision", "timm", "effdet", "sklearn", "albumentations", "cv2")
BLOCKED = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {LIBRARIES!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
from ebjr_det.__main__ import main
main()
"""


def without_torch(*args: object) -> subprocess.CompletedProcess[str]:
    """`ebjr-det` in a process in which no library of networks can be imported."""
    command = [sys.executable, "-c", BLOCKED, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file by its path; a picture's are those of its own name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read(folder: Path, name: str) -> list[dict]:
    return json.loads((folder / name).read_text())


def sealed(folder: Path, content: dict) -> None:
    """Write `pair.json` with the digests that its content and its files have now: a consistent forgery."""
    content = {key: value for key, value in content.items() if key != "sha256"}
    for side in ("student", "teacher"):
        path = folder / content[side]["file"]
        content[side]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    told = json.dumps(content, sort_keys=True).encode()
    content["sha256"] = hashlib.sha256(told).hexdigest()
    (folder / "pair.json").write_text(json.dumps(content))


def forged(source: Path, folder: Path, where: str, value: object) -> Path:
    """A copy of an exported folder in which one setting has another value and all checksums fit."""
    shutil.copytree(source, folder)
    content = json.loads((folder / "pair.json").read_text())
    *keys, last = where.split(".")
    inner = content
    for key in keys:
        inner = inner[key]
    inner[last] = value
    sealed(folder, content)
    return folder


@pytest.fixture
def digits(exported_digits, tmp_path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(exported_digits, tmp_path / "digits"))


# --- Reference scores ---


def test_reference_scores_travel_and_the_format_without_them_is_read(
    digits, refused, digit_pictures, tmp_path
):
    content, reference = read(digits, "pair.json"), np.arange(100) / 100
    assert (content["version"], content["reference"]) == (2, None)
    sealed(digits, content | {"reference": reference.tolist()})
    assert ebjr_det.load(digits, rate=0.3).threshold == threshold_for_rate(reference, 0.3)
    del content["reference"]
    sealed(digits, content | {"version": 1})
    assert ebjr_det.load(digits).threshold == content["threshold"]
    ask = ("predict", digits, digit_pictures, "--rate", 0.3, "--out", tmp_path / "out")
    assert "or the export of a run, got neither" in refused(*ask)


def test_the_reference_scores_of_a_run_are_those_that_its_threshold_was_chosen_on(routed_digits):
    run = routed_digits.parent / "run"
    _, threshold = load_settings(run)
    scores = reference_scores(run, threshold)
    joint = json.loads((run / "summary.json").read_text())["joint"]
    assert (scores > threshold).mean() == joint["deferral_rate"]
    assert reference_scores(run, None) is reference_scores(ROOT / "configs", 0.3) is None
    assert thinned(np.arange(30_000.0)[::-1])[::9999] == [0, 29_999]


@pytest.mark.parametrize(("share", "deferred"), [(0.0, 0), (0.3, 1), (1.0, 4)])
def test_a_threshold_in_eight_bits_is_finite_and_defers_as_much(share, deferred):
    scores = np.array([0.1, 0.2, 0.2, 0.3])
    threshold = _threshold_for(scores, share)
    assert np.isfinite(threshold)
    assert (scores > threshold).sum() == deferred


class Halving(ClassificationRouter):
    """A router that sees half of each logit."""

    def rescale(self, output):
        return replace(output, logits=replace(output.logits, values=output.logits.values / 2))


def test_scores_in_eight_bits_are_those_of_a_student_that_is_rescaled_once():
    config, live = load_config(DIGITS, ["data.limit=60"]), ebjr_det.load(DIGITS, threshold=0)
    scoring = replace(Scoring.load("classification", RouterSection(score="entropy")), fitted=Halving(None))
    data = build_data(**dict(config.data))
    part = CalibrationPart(config, data)
    joint = JointModel(plain(live.student), live.teacher, scoring, 0)
    scores = _scores(joint.student, plain(live.student).run, scoring, part)
    pictures = [joint.student.preprocess(data.load(index)) for index in part.indices]
    np.testing.assert_allclose(scores, scoring.score(joint.student(pictures)), atol=1e-5)


def test_a_threshold_of_eight_bits_beside_a_graph_in_float_is_said(tmp_path, command, capsys):
    options = ["--set=student.runtime=onnxruntime_int8", "--set=router.score=max_softmax", "--threshold=-0.9"]
    assert command("export", DIGITS, "--out", tmp_path / "out", *options) == 0
    assert "those of runtime `onnxruntime_int8` of the student" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("by", ["onnxruntime_int8", "openvino_int8"])
def test_a_folder_with_eight_bits_runs_in_them_without_torch_and_else_in_float(
    by, command, digit_pictures, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("nncf")
    folder, sides = tmp_path / "out", [f"--set={side}.runtime={by}" for side in ("student", "teacher")]
    loose = ["--set=router.score=max_softmax", "--set=run.int8_loss=0.2"]
    command("export", DIGITS, "--out", folder, "--int8", "--threshold", -0.9, *sides, *loose)
    content = read(folder, "pair.json")
    assert (content["version"], content["int8"]["threshold"]) == (4, -0.9)
    assert [graph["by"] for graph in content["int8"]["graphs"].values()] == [by.removesuffix("_int8")] * 2
    done = without_torch("predict", folder, digit_pictures, "--out", tmp_path / "served", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["threshold"] == -0.9
    monkeypatch.setattr("ebjr_det.inference.exported.has_instructions", lambda: False)
    assert ebjr_det.load(folder).threshold == content["threshold"]
    assert "the student runs in float: this processor has no instructions" in capsys.readouterr().err
    (folder / "student-int8.onnx").write_bytes(b"other")
    with pytest.raises(InvalidInput, match="as it was exported, got a changed file"):
        ebjr_det.load(folder)


# --- The live pair's answers ---


@pytest.mark.parametrize("task", [pytest.param("scenes", marks=pytest.mark.slow), "digits"])
def test_without_torch_the_answers_are_those_of_the_live_pair(task, request, command, tmp_path):
    folder, pictures = (request.getfixturevalue(n) for n in (f"exported_{task}", f"{task[:-1]}_pictures"))
    config, threshold, changes = {
        "scenes": (QUICKSTART, -0.6, SCENES_PAIR),
        "digits": (DIGITS, -0.95, ["router.score=max_softmax"]),
    }[task]
    done = without_torch("predict", folder, pictures, "--out", tmp_path / "served", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 0 < told["deferred"] < told["images"]
    for name, options in {"onnx": ORT, "eager": []}.items():
        args = [*(f"--set={change}" for change in changes), *options, "--out", tmp_path / name]
        assert command("predict", config, pictures, "--threshold", threshold, *args) == 0
    assert files_of(tmp_path / "served") == files_of(tmp_path / "onnx")
    for name in NAMES:
        ours, theirs = (read(tmp_path / each, name) for each in ("served", "eager"))
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys()
            for key, value in one.items():
                close = pytest.approx(other[key], abs=1e-4 if key != "bbox" else 1e-2)
                assert value == (other[key] if isinstance(value, str) else close), key


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_graph_of_an_efficientdet_is_a_detector_by_itself(side, exported_scenes, scene_pictures):
    """`arch: onnx/FILE` finds out whose outputs these are, and answers as the exported pair."""
    named, *models = load_exported(exported_scenes).build()
    pair = dict(zip(("student", "teacher"), models, strict=True))
    options = {"anchors": {"anchor_scale": 2.0}}
    alone = build_model(named, f"onnx/{exported_scenes / side}.onnx", options=options)
    pictures = [Image.open(path).convert("RGB") for path in sorted(scene_pictures.glob("*.png"))[:3]]
    assert alone.facts(pictures[0])["layout"] == "efficientdet"
    expected = answers_of(pair[side], [pair[side].preprocess(picture) for picture in pictures])
    output = answers_of(alone, [alone.preprocess(picture) for picture in pictures])
    for answer, other in zip(output.predictions, expected.predictions, strict=True):
        assert len(answer) > 0
        np.testing.assert_array_equal(answer.labels, other.labels)
        np.testing.assert_array_equal(answer.boxes, other.boxes)
        np.testing.assert_array_equal(answer.scores, other.scores)


def test_demo_films_an_exported_pair_without_torch(exported_scenes, scene_pictures, tmp_path):
    film = tmp_path / "film.mp4"
    done = without_torch(
        "demo", exported_scenes, f"{scene_pictures}/*.png", "--out", film, "--fps", 5, "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["frames"], film.stat().st_size > 1000) == (6, True)
    assert 0 < told["deferred"] < 6
    assert told["macs"]["teacher"] == load_exported(exported_scenes).teacher.macs


@pytest.mark.parametrize("task", ["scenes", "digits"])
def test_an_image_has_the_same_outputs_in_any_batch(task, request):
    folder = request.getfixturevalue(f"exported_{task}")
    generator = np.random.default_rng(0)
    for side in ("student", "teacher"):
        session = onnxruntime.InferenceSession(folder / f"{side}.onnx", providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        kind = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[given.type]
        batch = (generator.random((5, *given.shape[1:])) * 255).astype(kind)
        together = session.run(None, {given.name: batch})
        for index in range(5):
            alone = session.run(None, {given.name: batch[index : index + 1]})
            for whole, one in zip(together, alone, strict=True):
                np.testing.assert_array_equal(whole[index], one[0])


def test_a_threshold_can_be_given_to_an_exported_pair(
    exported_digits, digit_pictures, command, tmp_path, capsys
):
    for threshold, share in (("-inf", 12), ("inf", 0)):
        capsys.readouterr()
        args = ["--threshold", threshold, "--out", tmp_path / "out", "--json"]
        assert command("predict", exported_digits, digit_pictures, *args) == 0
        assert json.loads(capsys.readouterr().out)["deferred"] == share


# --- Other pairs ---


def agree(
    folder: Path, config: Path, pictures: Path, out: Path, command, *options: object, served=()
) -> None:
    """The exported pair writes what the live one does in ONNX Runtime."""
    assert command("predict", folder, pictures, *served, "--out", out / "served") == 0
    assert command("predict", config, pictures, *options, *ORT, "--out", out / "live") == 0
    for name in NAMES:
        assert (out / "served" / name).read_bytes() == (out / "live" / name).read_bytes()


@pytest.mark.slow
def test_a_specialised_student_is_exported(digit_pictures, command, tmp_path, capsys):
    few = [f"--set=schedule.{name}" for name in ("steps=20", "validate_every=20", "save_every=20")]
    special = tmp_path / "special"
    assert command("specialize", ROOT / "configs" / "specialize_digits.yaml", *few, "--out", special) == 0
    pair, none = special / "pair.yaml", "--set=router.target=null"
    assert command("export", pair, none, "--threshold=-0.6", "--out", tmp_path / "out") == 0
    told = load_exported(tmp_path / "out")
    assert told.student.popular == ["1", "4", "7"]
    agree(tmp_path / "out", pair, digit_pictures, tmp_path, command, none, "--threshold=-0.6")
    done = without_torch("predict", tmp_path / "out", digit_pictures, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / NAMES[1]).read_bytes() == (tmp_path / "served" / NAMES[1]).read_bytes()
    for wrong in ([1, 4], [1, 4, 99], ["1", "4", "x"], [-1, 4, 7], []):
        bad = forged(tmp_path / "out", tmp_path / f"bad{wrong}", "student.popular", wrong)
        capsys.readouterr()
        assert command("predict", bad, digit_pictures, "--out", tmp_path / "bad") == 2, wrong
        assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def routed(command, tmp_path_factory):
    """A run of digits, a router fitted on it, and the pair exported with it."""
    folder = tmp_path_factory.mktemp("routed")
    quick = ["--set=run.bootstrap=2", "--set=latency.measure=false"]
    assert command("evaluate", DIGITS, "--set=data.part=[0.0, 0.5]", *quick, "--out", folder / "run") == 0
    router = folder / "router.safetensors"
    assert command("fit-router", "run", folder / "run", "--folds", 2, "--bootstrap", 2, "--out", router) == 0
    args = ["--router", router, "--rate", 0.4, "--set=router.target=null", "--out", folder / "out"]
    assert command("export", DIGITS, *args) == 0
    return folder


def test_a_fitted_router_goes_with_the_pair(routed, digit_pictures, command, tmp_path):
    out, options = routed / "out", ["--router", routed / ROUTER, "--rate", 0.4, "--set=router.target=null"]
    assert (out / ROUTER).read_bytes() == (routed / ROUTER).read_bytes()
    agree(out, DIGITS, digit_pictures, tmp_path, command, *options)
    done = without_torch("predict", out, digit_pictures, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / NAMES[1]).read_bytes() == (tmp_path / "served" / NAMES[1]).read_bytes()


def test_a_router_of_an_earlier_export_goes(routed, command, tmp_path):
    out = shutil.copytree(routed / "out", tmp_path / "out")
    assert command("export", DIGITS, "--threshold=-0.9", "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["pair.json", "student.onnx", "teacher.onnx"]
    again = ["--router", routed / "out" / ROUTER, "--rate", 0.4, "--set=router.target=null"]
    assert command("export", DIGITS, *again, "--out", out) == 0
    assert command("export", DIGITS, "--router", out / ROUTER, *again[2:], "--out", out) == 0  # its own


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_router_is_refused(how, routed, digit_pictures, refused, tmp_path):
    out = Path(shutil.copytree(routed / "out", tmp_path / "out"))
    content = bytearray((out / ROUTER).read_bytes())
    content[-1] ^= 1
    (out / ROUTER).unlink() if how == "missing" else (out / ROUTER).write_bytes(content)
    assert ROUTER in refused("predict", out, digit_pictures, "--out", tmp_path / "answers")


def test_of_a_finished_run_the_threshold_is_exported(routed, tmp_path, answer):
    told = answer("export", routed / "run", "--out", tmp_path / "out")
    known = load_settings(routed / "run")[1]
    assert told["threshold"] == known == load_exported(tmp_path / "out").router.threshold


SMALL_TIMM = {"arch": "timm/test_resnet", "random_weights": True}
SMALL_TORCHVISION = {"arch": "torchvision/squeezenet1_1", "random_weights": True}


@pytest.mark.slow
def test_a_librarys_preprocessing_is_exported(scene_pictures, command, tmp_path):
    config = tmp_path / "pair.json.yaml"
    content = {"data": {"dataset": "digits"}, "student": SMALL_TIMM, "teacher": SMALL_TORCHVISION}
    content["router"] = {"score": "entropy", "threshold": 2.3}
    config.write_text(json.dumps(content))
    assert command("export", config, "--out", tmp_path / "out") == 0
    exported = load_exported(tmp_path / "out")
    assert all(side.around["preprocessing"]["crop"] for side in (exported.student, exported.teacher))
    for threshold in ("inf", "-inf"):  # all answered by the one, then by the other
        given = [f"--threshold={threshold}"]
        agree(tmp_path / "out", config, scene_pictures, tmp_path, command, *given, served=given)


# --- Folders that are not as they were ---


@pytest.mark.parametrize("name", ["student.onnx", "teacher.onnx", "pair.json"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_file_is_refused(name, how, digits, digit_pictures, refused, tmp_path):
    content = bytearray((digits / name).read_bytes())
    content[-30] ^= 1
    (digits / name).unlink() if how == "missing" else (digits / name).write_bytes(content)
    assert name in refused("predict", digits, digit_pictures, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no json",
        "[]",
        "3",
        "null",
        '"x"',
        "{}",
        '{"version": 1}',
        "[" * 100_000,
        '{"version": 1e999}',
        "9" * 9999,
        '{"version": 1, "run": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
        b"\xff\xfe",
        b"\x00" * 50,
        '{"version": 1, "title": "' + "x" * 2**24 + '"}',
    ],
    ids=range(15),
)
def test_a_pair_json_that_is_none_is_refused(content, digits, digit_pictures, refused, tmp_path):
    path = digits / "pair.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "pair.json" in refused("predict", digits, digit_pictures, "--out", tmp_path / "out")


def pairs(forgeries: dict[str, list]) -> list[tuple[str, object]]:
    return [(where, value) for where, values in forgeries.items() for value in values]


DIGIT_FORGERIES = {
    # setting -> values
    "version": [6, None],
    "reference": [[], ["x"], [float("nan")], 7],
    "threshold": [float("nan"), None, "1"],
    "student.file": ["../x.onnx", "/etc/passwd", "..", "pair.json"],
    "classes": [{}, {"a": "b"}, {"0": "a", "7": "b"}],
    "task": ["detection", "segmentation"],
    "run": [{"batch_size": -1}, {"other": 1}],
    "router.score": ["none"],
    "router.top_k": [-3],
    "router.options": [{"temperature": 1}, json.loads('{"a":' * 900 + "1" + "}" * 900)],
    "student.macs": [float("inf")],
    "teacher.popular": [[1]],
    "student.outputs": [["other"]],
    "student.inputs": [{}],
    "student.inputs.shape": [["batch", 3, 9, 9]],
    "student.inputs.type": ["float64"],
    "student.around": [{}],
    "student.around.preprocessing": [[]],
    "student.around.preprocessing.std": [[0, 0, 0]],
    "student.around.preprocessing.mean": [[1.0]],
    "student.around.preprocessing.resize": [10**9, 9],
    "student.around.preprocessing.crop": [[1, 10**9]],
    "student.around.preprocessing.interpolation": ["x"],
}


@pytest.mark.parametrize(("where", "value"), pairs(DIGIT_FORGERIES), ids=lambda value: str(value)[:30])
def test_a_consistent_forgery_of_a_classifier_is_refused(
    where, value, exported_digits, digit_pictures, refused, tmp_path
):
    folder = forged(exported_digits, tmp_path / "forged", where, value) if "file" not in where else None
    if folder is None:  # a path is refused before anything is read there
        folder = Path(shutil.copytree(exported_digits, tmp_path / "forged"))
        content = json.loads((folder / "pair.json").read_text())
        content["student"]["file"] = value
        content.pop("sha256")
        told = json.dumps(content, sort_keys=True).encode()
        (folder / "pair.json").write_text(json.dumps(content | {"sha256": hashlib.sha256(told).hexdigest()}))
    refused("predict", folder, digit_pictures, "--out", tmp_path / "out", alone=False)
    assert not list((tmp_path / "out").glob("*.json"))


AROUND = "student.around"
SCENE_FORGERIES = {
    # setting -> values
    "letterbox.size": [[-128, 128], [64, 64], [10**9, 10**9]],
    "letterbox.mean": [[0.1], [9.0, 9.0, 9.0]],
    "letterbox": [{"other": 1}],
    "anchors.image_size": [[256, 256], [-1, -1]],
    "anchors.max_level": [10**9],
    "anchors.min_level": [-5],
    "anchors.num_scales": [10**9, 0, 2],
    "anchors.anchor_scale": [[], "x"],
    "anchors.aspect_ratios": [[], [[1.0]]],
    "suppression.max_detections": [-1, 10**12],
    "suppression.max_detection_points": [-7, 2.5],
    "classes.columns": [[99] * 10, list(range(-1, 9)), [0], [], [[0]]],
    "classes.outputs": [10**12, 11, -1],
}


@pytest.mark.parametrize(("where", "value"), pairs(SCENE_FORGERIES), ids=lambda value: str(value)[:30])
def test_a_consistent_forgery_of_a_detector_is_refused(
    where, value, exported_scenes, scene_pictures, refused, tmp_path
):
    folder = forged(exported_scenes, tmp_path / "forged", f"{AROUND}.{where}", value)
    refused("predict", folder, scene_pictures, "--out", tmp_path / "out")
    shutil.rmtree(folder)


def test_the_order_of_classes_in_the_file_does_not_matter(exported_digits, digit_pictures, command, tmp_path):
    classes = {str(index): str(index) for index in reversed(range(10))}
    folder = forged(exported_digits, tmp_path / "turned", "classes", classes)
    named = load_exported(folder).build()[0]
    assert named.class_names == tuple("0123456789")


def graph_with_external_values(path: Path, location: str, inside_constant: bool) -> None:
    """A graph of digits whose logits come from another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[10], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "40")):
        tensor.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Add", ["column", "w"], ["logits"]),
    ]
    if inside_constant:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    rest = [
        helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        rest if inside_constant else [*rest, tensor],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("inside_constant", [False, True], ids=["initializer", "constant"])
@pytest.mark.parametrize("location", ["values.bin", "../values.bin", "{tmp}/values.bin", "link.bin"])
def test_values_in_another_file_are_never_read(
    location, inside_constant, digits, digit_pictures, refused, tmp_path
):
    for folder in (digits, tmp_path):
        np.arange(10, dtype=np.float32).tofile(folder / "values.bin")
    (digits / "link.bin").symlink_to(tmp_path / "values.bin")
    graph_with_external_values(digits / "student.onnx", location.format(tmp=tmp_path), inside_constant)
    sealed(digits, json.loads((digits / "pair.json").read_text()))
    line = refused("predict", digits, digit_pictures, "--out", tmp_path / "out")
    assert "values in another file" in line


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x80" * 99, b"\x80\x04\x95", None])
def test_a_graph_that_is_none_is_refused(content, digits, digit_pictures, refused, tmp_path):
    whole = (digits / "student.onnx").read_bytes()
    (digits / "student.onnx").write_bytes(whole[:-1000] if content is None else content)
    sealed(digits, json.loads((digits / "pair.json").read_text()))
    assert "student.onnx" in refused("predict", digits, digit_pictures, "--out", tmp_path / "out")


def test_a_picture_of_another_size_than_the_graphs_is_told_in_one_line(
    exported_digits, scene_pictures, refused, tmp_path
):
    line = refused("predict", exported_digits, scene_pictures, "--out", tmp_path / "out", alone=False)
    assert "pictures of 8 x 8" in line
    assert not list((tmp_path / "out").glob("*.json"))


# --- What cannot be asked of an exported folder ---


@pytest.mark.parametrize("verb", ["evaluate", "benchmark", "export"])
def test_other_verbs_refuse_an_exported_folder(verb, exported_digits, refused, tmp_path):
    assert str(exported_digits) in refused(verb, exported_digits, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "student.arch=x"], "`run` only"),
        (["--set", "router.score=margin"], "`run` only"),
        (["--runtime", "eager"], "`run` only"),
        (["--set", "run.batch_size=0"], "batch_size"),
        (["--set", "run.device=tpu"], "tpu"),
        (["--threshold", "nan"], "NaN|nan"),
        (["--rate", "0.3"], "router"),
    ],
)
def test_settings_that_an_exported_pair_does_not_take(
    options, told, exported_digits, digit_pictures, refused, tmp_path
):
    line = refused("predict", exported_digits, digit_pictures, *options, "--out", tmp_path / "out")
    assert any(word in line for word in told.split("|"))


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="has a GPU")
def test_a_gpu_that_is_not_there_is_told(exported_digits, digit_pictures, refused, tmp_path):
    line = refused("predict", exported_digits, digit_pictures, "--device", "cuda", "--out", tmp_path / "out")
    assert "onnxruntime-gpu" in line


# --- What cannot be exported ---


MODULE = """
import numpy as np, torch
from torch import nn

class Odd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(np.sort(x.detach().numpy(), axis=1))

@torch.library.custom_op("exporttest::odd", mutates_args=())
def odd(x: torch.Tensor) -> torch.Tensor:
    return x * 2

@odd.register_fake
def _(x):
    return torch.empty_like(x)

class Net(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.layer, self.call = nn.Linear(192, 10), call

    def forward(self, x):
        return self.layer(self.call(x.flatten(1)))

def plain(**_):
    return Net(torch.relu)

def function(**_):
    return Net(Odd.apply)

def operator(**_):
    return Net(odd)

class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(10))

    def forward(self, x):
        return x.flatten(1)[:, :10] * self.weight

def uncounted(**_):
    return Weighted()
"""


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A function: names in the module -> a configuration of that student, and teacher."""
    (tmp_path / "odd_networks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, teacher: str = "") -> Path:
        around = {"preprocessing": {"mean": [0.5] * 3, "std": [0.5] * 3}}
        student, teacher = ({"arch": f"odd_networks:{one}"} | around for one in (name, teacher or name))
        content = {"data": {"dataset": "digits"}, "student": student, "teacher": teacher}
        (tmp_path / "odd.yaml").write_text(json.dumps(content | {"router": {"threshold": 0.0}}))
        return tmp_path / "odd.yaml"

    yield write
    sys.modules.pop("odd_networks", None)


@pytest.mark.parametrize("name", ["function", "operator"])
def test_an_operator_that_onnx_does_not_know_is_told(name, odd, refused, tmp_path):
    assert "written as ONNX" in refused("export", odd(name), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_multiply_adds_that_cannot_be_counted_are_told_before_any_graph_is_written(
    odd, refused, tmp_path, monkeypatch
):
    written = []
    monkeypatch.setattr("ebjr_det.runtimes.onnx.write_onnx", lambda *args: written.append(args))
    line = refused("export", odd("plain", teacher="uncounted"), "--out", tmp_path / "out")
    assert "`teacher.macs`" in line
    assert written == []
    assert not (tmp_path / "out").exists()


def test_a_place_for_an_export_is_asked_for_before_any_model_is_built(refused, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr("ebjr_det.inference.pair.build_models", lambda *args: built.append(args))
    (tmp_path / "notes.txt").write_text("mine")
    assert "other files" in refused("export", DIGITS, "--threshold=-0.9", "--out", tmp_path)
    refused("export", DIGITS, "--threshold=-0.9", "--out", tmp_path / "notes.txt")
    line = refused("export", DIGITS, "--threshold=-0.9", "--out", tmp_path / "notes.txt" / "out")
    assert "Expected a folder that can be written to" in line
    assert built == []
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("notes.txt", "mine")]


@pytest.mark.slow
def test_a_callable_with_preprocessing_in_numbers_is_exported(odd, command, digit_pictures, tmp_path):
    assert command("export", odd("plain"), "--out", tmp_path / "out") == 0
    assert without_torch("predict", tmp_path / "out", digit_pictures, "--out", tmp_path / "a").returncode == 0


def test_models_with_code_around_their_network_are_refused(refused, tmp_path):
    section = {"arch": "torchvision/ssdlite320_mobilenet_v3_large", "random_weights": True}
    content = {
        "task": "detection",
        "data": {"dataset": "digit_scenes"},
        "student": section,
        "teacher": section,
    }
    (tmp_path / "pair.yaml").write_text(json.dumps(content | {"router": {"threshold": 0.0}}))
    line = refused("export", tmp_path / "pair.yaml", "--out", tmp_path / "out")
    assert "code of its own" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--threshold", "inf"], "finite"),
        (["--threshold=-inf"], "finite"),
        (["--threshold", "nan"], "finite"),
        (["--set=router.target=null"], "threshold"),
        (["--rate", "0.2"], "fitted"),
        (["--threshold", "0", "--rate", "0.2"], "both"),
        (["--threshold", "0", "--set", "student.arch=x"], "arch"),
    ],
)
def test_thresholds_and_settings_that_cannot_be_exported(options, told, refused, tmp_path):
    assert told in refused("export", DIGITS, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_category_ids_of_any_length_are_exported_exactly(scene_pictures, command, tmp_path):
    ids = sorted([0, -(10**15), 10**15, 2**53 + 1, 2**63 - 1, 2**63, 2**64 + 1, 10**30, 10**100, 7])
    truth = {
        "images": [{"id": 10**18, "file_name": "0.png", "width": 256, "height": 256}],
        "categories": [{"id": own, "name": str(at)} for at, own in enumerate(ids)],
        "annotations": [],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    where = {
        "dataset": "coco",
        "split": "null",
        "annotations": tmp_path / "truth.json",
        "images": scene_pictures,
    }
    data = [f"--set={change}" for change in SCENES_PAIR]
    data += [f"--set=data.{key}={value}" for key, value in where.items()]
    assert command("export", QUICKSTART, *data, "--threshold=-0.6", "--out", tmp_path / "out") == 0
    assert list(load_exported(tmp_path / "out").build()[0].categories) == ids
    for source, options in ((tmp_path / "out", []), (QUICKSTART, [*data, "--threshold=-0.6"])):
        assert command("predict", source, scene_pictures, *options, "--out", tmp_path / "told") == 0
        found = {entry["category_id"] for entry in read(tmp_path / "told", "predictions.json")}
        assert found <= set(ids)
        assert len(found) > 5


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_told_with_its_extra(
    package, exported_digits, digit_pictures, refused, tmp_path, monkeypatch
):
    third_party = import_module("ebjr_det.io.third_party")
    find = third_party.find_spec
    monkeypatch.setattr(third_party, "find_spec", lambda asked: None if asked == package else find(asked))
    line = refused("export", DIGITS, "--threshold=-0.9", "--out", tmp_path / "out")
    assert package in line
    assert all(f"'{name}>=" in line for name in ("onnx", "onnxscript", "onnxruntime"))
    assert not (tmp_path / "out").exists()
    if package == "onnxruntime":
        line = refused("predict", exported_digits, digit_pictures, "--out", tmp_path / "out")
        assert "pip install 'onnx>=" in line


def break_second(monkeypatch, target: str, error: BaseException) -> None:
    """The second call of a function of `ebjr_det.export` raises."""
    module = import_module("ebjr_det.api.export")
    real, calls = getattr(module, target), []

    def call(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 2:
            raise error
        return real(*args, **options)

    monkeypatch.setattr(module, target, call)


def test_an_export_that_fails_leaves_what_was_there(digits, command, tmp_path, monkeypatch, capsys):
    before = files_of(digits)
    with monkeypatch.context() as patch:
        break_second(patch, "_write_model", OSError(28, "No space left on device"))
        for out in (digits, tmp_path / "new"):
            capsys.readouterr()
            assert command("export", DIGITS, "--threshold=-0.5", "--out", out) == (2 if out == digits else 0)
    assert files_of(digits) == before
    with monkeypatch.context() as patch:
        break_second(patch, "_write_model", KeyboardInterrupt())
        assert command("export", DIGITS, "--threshold=-0.5", "--out", tmp_path / "other") == 130
    assert not (tmp_path / "other").exists()


def test_an_export_that_is_killed_while_files_are_replaced_is_refused_and_filled_again(
    digits, digit_pictures, command, refused, tmp_path, monkeypatch
):
    real, moved = Path.replace, []

    def replace(self: Path, target: Path) -> Path:
        moved.append(target)
        if ".export-" in str(self) and len([one for one in moved if one.parent == digits]) == 2:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        assert command("export", DIGITS, "--threshold=-0.5", "--out", digits) == 130
    assert not (digits / "pair.json").exists()
    refused("predict", digits, digit_pictures, "--out", tmp_path / "out")
    assert command("export", DIGITS, "--threshold=-0.5", "--out", digits) == 0
    assert load_exported(digits).router.threshold == -0.5


@pytest.mark.parametrize("told", [None, {}, {"version": 1, "names": ["a"]}], ids=["none", "empty", "own"])
def test_graphs_of_the_users_own_are_no_earlier_export(told, refused, tmp_path):
    mine = {"student.onnx": "mine", "teacher.onnx": "mine"}
    mine |= {} if told is None else {"pair.json": json.dumps(told)}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    line = refused("export", DIGITS, "--threshold=-0.9", "--out", tmp_path)
    assert f"an earlier export, got other files in `{tmp_path}`" in line
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == mine


def test_an_exported_pair_loads_without_what_draws_times_or_trains(exported_digits):
    code = (
        "import sys, ebjr_det; pair = ebjr_det.load(sys.argv[1]); assert len(pair.class_names) == 10\n"
        "heavy = 'ebjr_det.reporting', 'ebjr_det.evaluation.benchmark', 'matplotlib', 'torch'\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, exported_digits], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
