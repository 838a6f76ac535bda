"""A pair on other runtimes, as a user asks for them: the same answers."""

import json
from shutil import copytree

import numpy as np
import pytest
import yaml
from common import DIGITS, QUICKSTART, SCENES_PAIR

import ebjr_det
from ebjr_det.config.sections import TargetSection
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.split import split_ids
from ebjr_det.io.records import load_run
from ebjr_det.routing.file import RouterFile

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


EIGHT_BITS = {
    DIGITS: ("run.npz", ["router.score=max_softmax", "student.runtime=onnxruntime_int8"]),
    DIGITS.with_name("digits_tiers.yaml"): ("tiers.npz", ["tiers.1.runtime=onnxruntime_int8"]),
}
"""Configurations in eight bits, with the file of their records."""


@pytest.fixture(scope="module", params=EIGHT_BITS, ids=lambda path: path.stem)
def in_eight_bits(request, tmp_path_factory):
    """The configuration of a finished run in eight bits, its folder, and the name of its records."""
    name, changes = EIGHT_BITS[request.param]
    config = ebjr_det.load_config(request.param, [*QUICK[1::2], "data.limit=180", *changes])
    out = tmp_path_factory.mktemp("eight_bits") / "run"
    ebjr_det.evaluate(config, out)
    return config, out, name


def begun_again(folder, name, state, out):
    """A copy of a run's folder as it was before it had ended."""
    out = copytree(folder, out)
    if state != "finished":
        (out / state).mkdir()
        (out / name).rename(out / state / "000000.npz")
    if state == "shards":
        (out / state / "000000.npz").unlink()
    return out


def with_fraction(config, fraction):
    target = TargetSection("min_quality", 0.5, fraction=fraction)
    return config.model_copy(update={"router": config.router.model_copy(update={"target": target})})


@pytest.mark.parametrize("state", ["finished", "parts", "shards"])
def test_a_run_in_eight_bits_goes_on_with_those_that_it_began_with(
    state, in_eight_bits, tmp_path, monkeypatch
):
    config, folder, name = in_eight_bits
    out = begun_again(folder, name, state, tmp_path / "run")
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def go_on(config):
        if state == "shards":
            return ebjr_det.bulk_evaluate(config, out)
        return ebjr_det.evaluate(config, out, resume=True)

    with pytest.raises(InvalidInput, match=r"^Expected `calibration` as in the run[^\n]+pictures[^\n]+$"):
        go_on(with_fraction(config, 0.4))
    with monkeypatch.context() as changed:
        changed.setattr("ebjr_det.runtimes.int8.PRODUCTS_FROM", "json")  # another rule
        with pytest.raises(InvalidInput, match=r"^Expected `eight bits` as in .+, rules .+, rules [^\n]+$"):
            go_on(config)
    assert files == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    go_on(config)
    assert (out / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("in_eight_bits", [DIGITS], indirect=True, ids=["digits"])
def test_a_router_is_fitted_on_no_picture_that_calibrated_eight_bits(
    in_eight_bits, tmp_path, command, capsys
):
    config, folder, _ = in_eight_bits
    ids = load_run(folder / "run.npz").image_ids
    calibrating, others = split_ids(ids, config.router.target.fraction, config.run.seed)
    router = tmp_path / "router.safetensors"
    capsys.readouterr()
    assert (
        command("fit-router", "run", folder, "--folds", 2, "--bootstrap", 5, "--out", router, "--json") == 0
    )
    said, told = capsys.readouterr()
    assert sorted(RouterFile.load(router).header.image_ids) == sorted(ids[index] for index in others)
    count = len(calibrating)
    assert (
        f"Note: left out of the fit are {count} of {len(ids)} pictures, which calibrated eight bits." in told
    )
    evidence = json.loads(said)
    assert evidence["images"] == len(others)
    assert evidence["input_remarks"] == {"eight bits": {"images of their calibration, left out": count}}
