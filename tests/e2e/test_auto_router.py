"""`score: auto`: chosen on the calibration part alone, used by every verb, told with its reasons."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from common import QUICKSTART

import ebjr_det
from ebjr_det.api import auto_router
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.scores import CURVATURE, ENERGY
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.certify import share_interval
from ebjr_det.evaluation.router_comparison import compare_routers
from ebjr_det.io.records import load_run
from ebjr_det.reporting.notation import percent, share
from ebjr_det.routing.file import RouterFile
from ebjr_det.tasks import load_task

IMAGES = range(1, 241)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, make_detectors):
    """Result files of 240 pictures of two detectors."""
    return make_detectors(tmp_path_factory.mktemp("auto"), IMAGES, 0)


@pytest.fixture(scope="module")
def replayed(pictures, tmp_path_factory, command) -> Path:
    """A replay that chose its router."""
    out = tmp_path_factory.mktemp("replayed") / "out"
    costs = ["--student-macs", "1e9", "--teacher-macs", "9e9"]
    assert command("replay", "detection", *pictures.options, *costs, "--bootstrap", 20, "--out", out) == 0
    return out


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def parts_of(run: PairedRun) -> tuple[np.ndarray, np.ndarray]:
    """Which images calibrate and which are reported, by default."""
    return split(run, 1 / 3, 0)


def test_a_third_chooses_and_the_others_are_reported(replayed):
    run, summary = load_run(replayed / "run.npz"), summary_of(replayed)
    calibration, reported = parts_of(run)
    router = RouterFile.load(replayed / "router.safetensors")
    assert router.header.image_ids == tuple(run.image_ids[index] for index in calibration)
    assert (
        (summary["images"], summary["selection"]["images"]) == (len(reported), len(calibration)) == (160, 80)
    )
    assert summary["score"] == summary["selection"]["score"] == router.header.score
    assert sorted(summary["router"]["left_out"]) == sorted(router.header.image_ids)
    assert summary["calibration"]["target"] == {"kind": "deferral_rate", "value": 0.3, "confidence": None}
    assert summary["threshold_from"] == "target"


def test_the_share_that_came_stands_beside_what_chance_would_give(replayed, capsys, command):
    summary = summary_of(replayed)
    above = round(summary["calibration"]["deferral_rate"] * 80)
    low, high = summary["share_interval"]
    assert (low, high) == share_interval(above, 80, 160)
    assert low <= summary["joint"]["deferral_rate"] <= high
    capsys.readouterr()
    assert command("report", replayed, "--verbose") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"95 of 100 such samples lie between {share(low)} and {percent(high)}" in said
    assert "UNLIKE CHANCE" not in said


def test_it_is_what_fit_router_and_a_replay_of_the_other_pictures_give(
    replayed, pictures, tmp_path, command, answer
):
    """The two steps by hand, on files of each part."""
    run = load_run(replayed / "run.npz")
    ids = [[int(run.image_ids[index]) for index in part] for part in parts_of(run)]
    fitting, others = (only(pictures, tmp_path / name, part) for name, part in zip("ab", ids, strict=True))
    router = tmp_path / "router.safetensors"
    fit = ["--folds", auto_router.FOLDS, "--bootstrap", 100, "--out", router]
    assert command("fit-router", "detection", *fitting.options, *fit) == 0
    by_hand, chosen = RouterFile.load(router), RouterFile.load(replayed / "router.safetensors")
    assert (by_hand.header.score, by_hand.header.rescaling) == (chosen.header.score, chosen.header.rescaling)
    np.testing.assert_allclose(by_hand.reference, chosen.reference, rtol=1e-9)
    threshold = summary_of(replayed)["joint"]["threshold"]
    args = ["--router", router, "--threshold", threshold, "--bootstrap", 20, "--out", tmp_path / "out"]
    said, summary = answer("replay", "detection", *others.options, *args), summary_of(replayed)
    for side in ("student", "teacher", "joint"):
        assert said[side]["quality"] == pytest.approx(summary[side]["quality"], abs=1e-12)
    assert said["joint"]["deferral_rate"] == summary["joint"]["deferral_rate"]
    assert said["scores"] == pytest.approx(summary["scores"], abs=1e-9)


def only(files, folder: Path, ids: list[int]):
    """The files of some of the pictures."""
    folder.mkdir()
    truth = json.loads(files.annotations.read_text())
    truth["images"] = [image for image in truth["images"] if image["id"] in ids]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    changed = files.changed(folder, "annotations", truth)
    for side in ("student", "teacher"):
        boxes = [b for b in json.loads(getattr(files, side).read_text()) if b["image_id"] in ids]
        changed = changed.changed(folder, side, boxes)
    return changed


def test_nothing_of_the_reported_pictures_is_looked_at(classifiers, tmp_path, command):
    """Other labels and other answers of the teacher there: the same router, to the byte."""
    *options, _, labels = classifiers(IMAGES, 0)
    loaded = dict(np.load(labels))
    shuffled = loaded["labels"].copy()
    args = ["replay", "classification", *options, "--bootstrap", 5]
    assert command(*args, "--labels", labels, "--out", tmp_path / "first") == 0
    _, reported = parts_of(load_run(tmp_path / "first" / "run.npz"))
    shuffled[reported] = np.roll(shuffled[reported], 1)
    np.savez(tmp_path / "other.npz", labels=shuffled, image_ids=loaded["image_ids"])
    assert command(*args, "--labels", tmp_path / "other.npz", "--out", tmp_path / "second") == 0
    first, second = (tmp_path / name / "router.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    qualities = [summary_of(tmp_path / name)["student"]["quality"] for name in ("first", "second")]
    assert qualities[0] > qualities[1] + 0.1


def test_a_report_is_drawn_anew_from_the_folder_to_the_byte(replayed, tmp_path):
    ebjr_det.report(replayed, tmp_path / "again")
    for name in ("table.md", "curve.json", "routes.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (replayed / name).read_bytes()
    first, second = summary_of(replayed), summary_of(tmp_path / "again")
    assert first | {"run_dir": ""} == second | {"run_dir": ""}


def test_the_verdict_tells_what_was_chosen_and_what_ebjr_gets_at_the_same_share(replayed, capsys, command):
    capsys.readouterr()
    assert command("report", replayed) == 0
    said = " ".join(capsys.readouterr().out.split())
    summary = summary_of(replayed)
    assert f"{summary['score']}" in said
    assert re.search(r"score and threshold were chosen among \d+ scores on 80 other images\.", said)
    assert command("report", replayed, "--verbose") == 0
    assert "on 80 other pictures: the" in " ".join(capsys.readouterr().out.split())
    assert "pair, EBJR's own score" in said
    published = summary["published_score"]
    assert (published["score"], published["deferral_rate"]) == (ENERGY, summary["joint"]["deferral_rate"])
    curve = json.loads((replayed / "curve.json").read_text())["curves"][ENERGY]
    quality = np.interp(published["deferral_rate"], curve["deferral_rate"], curve["quality"])
    assert published["quality"] == pytest.approx(quality, abs=1e-12)
    table = (replayed / "table.md").read_text()
    (row,) = (line for line in table.splitlines() if line.startswith("| joint, EBJR's own score |"))
    assert f" {published['quality']:.4f} " in row
    assert f" {100 * published['deferral_rate']:.2f} " in row


def test_published_is_the_score_of_ebjr(pictures, tmp_path, answer):
    args = [*pictures.options, "--bootstrap", 5, "--out", tmp_path / "out"]
    said = answer("replay", "detection", *args, "--score", "published")
    assert (said["score"], said["images"], said["published_score"]) == (ENERGY, 240, None)


def test_with_a_confidence_one_half_chooses_the_router_and_the_other_the_threshold(tmp_path, answer):
    target = "{kind: max_drop, value: 0.2, confidence: 0.9, fraction: 0.5}"
    args = [f"--set=router={{target: {target}}}", "--set=run.bootstrap=5", "--set=latency.measure=false"]
    said = answer("evaluate", "digits", *args, "--out", tmp_path / "out")
    fitted, certified = said["selection"]["images"], said["calibration"]["images"]
    assert fitted + certified == len(said["router"]["left_out"]) == said["images"]
    assert abs(fitted - certified) <= 1


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, command) -> Path:
    """A run of scenes that chose its router."""
    out = tmp_path_factory.mktemp("evaluated") / "run"
    args = ["--set=data.limit=110", "--set=router.target.fraction=0.5", "--set=run.bootstrap=5"]
    latency = ["--set=latency.batches=2", "--set=student.macs=1e8", "--set=teacher.macs=1e9"]
    assert command("evaluate", QUICKSTART, "--set=router.score=auto", *args, *latency, "--out", out) == 0
    return out


def test_an_evaluation_measures_what_a_decision_takes(evaluated):
    summary = summary_of(evaluated)
    assert (summary["images"], summary["selection"]["images"]) == (55, 55)
    assert 0 < summary["selection"]["decision_ms"] < 1000


def test_a_run_is_at_work_with_the_router_that_it_chose(evaluated, scene_pictures, tmp_path, command):
    assert command("predict", evaluated, scene_pictures, "--out", tmp_path / "out") == 0
    threshold = summary_of(evaluated)["joint"]["threshold"]
    for entry in json.loads((tmp_path / "out" / "images.json").read_text()):
        deferred = entry["deferral_score"] > threshold
        assert entry["answered_by"] == ("teacher" if deferred else "student")


def test_a_run_is_exported_with_the_router_that_it_chose(routed_digits):
    run = routed_digits.parent / "run"
    summary, pair = summary_of(run), json.loads((routed_digits / "pair.json").read_text())
    assert (pair["router"]["score"], pair["threshold"]) == (summary["score"], summary["joint"]["threshold"])
    assert (routed_digits / "router.safetensors").read_bytes() == (run / "router.safetensors").read_bytes()


def test_a_finished_run_is_analysed_again_under_another_target(evaluated, tmp_path, command, capsys):
    shutil.copytree(evaluated, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    args = [
        "--set=router.target.value=0.6",
        "--set=latency.measure=false",
        "--resume",
        "--out",
        tmp_path / "run",
    ]
    assert command("evaluate", config, *args) == 0, capsys.readouterr().err
    first, second = summary_of(evaluated), summary_of(tmp_path / "run")
    assert second["joint"]["threshold"] < first["joint"]["threshold"]
    assert second["selection"]["score"] == first["selection"]["score"]


def test_too_few_calibration_pictures_are_said_and_the_curvature_decides(others, tmp_path, command, capsys):
    capsys.readouterr()
    out = tmp_path / "out"
    assert command("replay", "detection", *others.options, "--bootstrap", 5, "--out", out) == 0
    assert (
        "at least 50 calibration pictures, here are 17: `energy_curvature` decides" in capsys.readouterr().err
    )
    summary = summary_of(out)
    assert (summary["score"], summary["images"], summary["selection"]) == (CURVATURE, 50, None)
    assert not (out / "router.safetensors").exists()


@pytest.mark.parametrize(("noise", "chosen"), [(0.0, CURVATURE), (0.01, CURVATURE), (9.0, "margin")])
def test_the_simplest_within_one_standard_error_is_taken(pair, noise, chosen):
    """The curvature goes before the margin, which orders these images a little better, but not much."""
    run, task = pair(300), load_task("classification").judge()
    reward = task.mixtures(run.student, run.teacher).reward()
    spoilt = reward - noise * np.random.default_rng(0).random(len(run))
    coin = np.random.default_rng(1).random(len(run))
    run = replace(run, scores={"margin": reward * 1.0, CURVATURE: spoilt, "max_softmax": coin})
    comparison = compare_routers(run, task, lambda rescaling, learn: run, ["none"], replicates=50)
    assert comparison.score == chosen
    best = comparison.contenders[0]
    assert (best.behind, best.error) == (0, 0)
    assert best.area == max(contender.area for contender in comparison.contenders)
    named = compare_routers(run, task, lambda rescaling, learn: run, ["none"], "margin")
    assert (named.score, named.contenders) == ("margin", ())


def test_a_threshold_of_ones_own_goes_with_the_curvature(pictures, tmp_path, answer):
    args = [*pictures.options, "--bootstrap", 5, "--out", tmp_path / "out"]
    said = answer("replay", "detection", *args, "--threshold", 0.5)
    assert (said["score"], said["images"], said["threshold_from"]) == (CURVATURE, 240, "given")


def test_an_unknown_word_for_a_score_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="Expected a known score"):
        ebjr_det.load_config("digits", ["router.score=automatic"]) and ebjr_det.evaluate(
            ebjr_det.load_config("digits", ["router.score=automatic"]), tmp_path / "out"
        )


def test_where_nothing_can_be_fitted_the_curvature_decides_and_says_so(pictures, tmp_path, command, capsys):
    """A student that finds next to nothing has no boxes to be rescaled by."""
    lone = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.3}]
    args = [*pictures.changed(tmp_path, "student", lone).options, "--bootstrap", 5]
    capsys.readouterr()
    assert command("replay", "detection", *args, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "Note: no router can be chosen, `energy_curvature` decides. Expected boxes of the student" in said
    assert (summary_of(tmp_path / "out")["score"], summary_of(tmp_path / "out")["images"]) == (CURVATURE, 240)


def test_the_first_rate_is_the_target(pictures, tmp_path, answer):
    args = [*pictures.options, "--bootstrap", 5, "--out", tmp_path / "out"]
    said = answer("replay", "detection", *args, "--rates", "0.1,0.5")
    assert (said["calibration"]["target"]["value"], len(said["points"])) == (0.1, 2)
    assert abs(said["joint"]["deferral_rate"] - 0.1) < 0.15


def test_a_share_that_chance_does_not_give_is_told(replayed, tmp_path, command, capsys):
    """The threshold of a run set as if it had deferred nearly all of the calibration pictures."""
    shutil.copytree(replayed, tmp_path / "run")
    analysis = json.loads((tmp_path / "run" / "analysis.json").read_text())
    analysis["calibration"]["point"]["deferral_rate"] = 0.9
    (tmp_path / "run" / "analysis.json").write_text(json.dumps(analysis))
    capsys.readouterr()
    assert command("report", tmp_path / "run") == 0
    assert "UNLIKE CHANCE" in capsys.readouterr().out


def test_a_certificate_that_half_of_the_part_cannot_give_is_refused_before_the_first_batch(
    tmp_path, command, capsys
):
    """Of 600 calibration images 300 choose the router, and a drop of 1 % takes 368 others."""
    target = "{kind: max_drop, value: 0.01, confidence: 0.95, fraction: 0.5}"
    capsys.readouterr()
    assert command("evaluate", "digits", f"--set=router={{target: {target}}}", "--out", tmp_path / "out") == 3
    assert "Expected 368 images to certify" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


MISTAKES = {
    "a word that is nearly one": (["--score", "autoo"], "Did you mean `auto`?"),
    "no boxes": (
        ["--top-k", "0"],
        "`top_k` to be right: a whole number of at least 1, `auto`, or null for all",
    ),
    "a rate that is none": (["--rates", "nan"], "Expected a deferral rate in [0, 1], got nan"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(mistake, pictures, tmp_path, refused):
    options, line = MISTAKES[mistake]
    assert line in refused("replay", "detection", *pictures.options, *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_with_another_router_than_it_chose_is_refused(
    evaluated, replayed, scene_pictures, tmp_path, refused
):
    shutil.copytree(evaluated, tmp_path / "run")
    shutil.copy(replayed / "router.safetensors", tmp_path / "run")
    for args in (("predict", tmp_path / "run", scene_pictures), ("report", tmp_path / "run")):
        assert "got another. Name the one that was meant" in refused(*args, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
