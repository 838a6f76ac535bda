"""A pair on other runtimes, as a user asks for them: the same answers."""

import json

import numpy as np
import pytest
import yaml
from common import DIGITS, QUICKSTART, SCENES_PAIR

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("onnxscript")

OTHERS = ["--set", "student.runtime=onnxruntime", "--set", "teacher.runtime=openvino"]
QUICK = ["--set", "latency.measure=false", "--set", "run.bootstrap=5"]


def evaluated(command, config, out, *more):
    assert command("evaluate", config, "--out", out, *QUICK, *more) == 0
    run = np.load(out / "run.npz")
    return json.loads((out / "analysis.json").read_text()), {key: run[key] for key in run.files}


def test_evaluate_says_the_same_on_other_runtimes_and_names_them(command, tmp_path):
    eager, wanted = evaluated(command, DIGITS, tmp_path / "eager")
    other, found = evaluated(command, DIGITS, tmp_path / "other", *OTHERS)
    ours, theirs = (one["calibration"]["point"] for one in (other, eager))
    assert (ours["quality"], ours["deferral_rate"]) == (theirs["quality"], theirs["deferral_rate"])
    assert other["cost"]["teacher_macs"] == eager["cost"]["teacher_macs"]
    assert set(found) == set(wanted)
    for key, column in wanted.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(found[key], column, rtol=1e-3, atol=1e-3)
        else:
            np.testing.assert_array_equal(found[key], column)
    content = yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())
    assert [content[side]["runtime"] for side in ("student", "teacher")] == ["onnxruntime", "openvino"]


def same_box(one, two):
    named = all(one[key] == two[key] for key in ("image_id", "category_id"))
    return named and np.allclose([*one["bbox"], one["score"]], [*two["bbox"], two["score"]], atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("config", "changes", "threshold"),
    [(DIGITS, ["router.score=max_softmax"], -0.95), (QUICKSTART, SCENES_PAIR, -0.6)],
)
def test_predict_says_the_same_on_other_runtimes(config, changes, threshold, command, request, tmp_path):
    pictures = request.getfixturevalue("digit_pictures" if config == DIGITS else "scene_pictures")
    said, boxes = [], []
    for name, more in (("eager", []), ("other", OTHERS)):
        out = tmp_path / name
        settings = [*(f"--set={change}" for change in changes), "--threshold", threshold]
        assert command("predict", config, pictures, *settings, "--out", out, *more) == 0
        said.append(json.loads((out / "images.json").read_text()))
        boxes.append(json.loads((out / "predictions.json").read_text()))
    assert {one["answered_by"] for one in said[0]} == {"student", "teacher"}
    for eager, other in zip(*said, strict=True):
        assert other["answered_by"] == eager["answered_by"]
        np.testing.assert_allclose(other["deferral_score"], eager["deferral_score"], atol=1e-3)
    eager, other = boxes
    assert len(other) == len(eager) > 0
    for one in eager:
        if config == QUICKSTART and one["score"] > 0.1:  # others may change places
            assert any(same_box(one, two) for two in other)


def test_a_runtime_that_is_none_is_one_line(command, tmp_path, capsys):
    code = command("evaluate", DIGITS, "--out", tmp_path / "out", "--set", "student.runtime=onnxruntim")
    complained = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert "Did you mean `onnxruntime`?" in complained[-1]


@pytest.mark.slow
def test_a_run_in_eight_bits_is_never_reported_on_what_calibrated_them(command, tmp_path, capsys):
    evaluated(command, DIGITS, tmp_path, "--runtime", "onnxruntime_int8", "--set", "router.score=max_softmax")
    calibrate = ["calibrate", tmp_path, "--deferral-rate", "0.25"]
    assert command(*calibrate, "--fraction", "0.5") == 0
    capsys.readouterr()
    for other in (["--seed", "5"], ["--fraction", "0.1"]):
        assert command(*calibrate, *other) == 2
        complaint = capsys.readouterr().err
        assert complaint.count("\n") == 1
        assert "Expected a report on pictures that calibrate no network in eight bits" in complaint
