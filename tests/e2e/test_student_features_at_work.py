"""A router with the student's features as a user has it: fitted on a run, live on other pictures."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from common import QUICKSTART

from ebjr_det.core.types import PairedRun
from ebjr_det.io.records import load_run, save_run
from ebjr_det.routing.file import RouterFile
from ebjr_det.tasks.detection.datasets.digit_scenes import draw_scene

QUICK = ["--folds", 2, "--bootstrap", 5]
CHEAP = ["latency.measure=false", "run.bootstrap=5", "run.batch_size=4", "run.workers=0"]
CHEAP += ["student.macs=1e8", "teacher.macs=1e9"]
SCORE = "learned_features"
WIDTH = 10 + 48  # quantiles of two energies, channels of the student's fused levels
FITTED, OTHERS = range(1, 25), range(31, 43)


def settings(ids: range, *changes: str) -> list[object]:
    listed = f"data.ids=[{','.join(map(str, ids))}]"
    return [QUICKSTART, *(f"--set={change}" for change in (listed, *CHEAP, "router.target=null", *changes))]


@pytest.fixture(scope="module")
def live(tmp_path_factory, command):
    """Run `first` of some scenes, `router.safetensors` fitted on it, run `second` that it routes."""
    folder = tmp_path_factory.mktemp("live")
    router = folder / "router.safetensors"
    assert command("evaluate", *settings(FITTED), "--out", folder / "first") == 0
    assert command("fit-router", "run", folder / "first", *QUICK, "--score", SCORE, "--out", router) == 0
    assert command("evaluate", *settings(OTHERS), "--router", router, "--out", folder / "second") == 0
    return folder


def test_a_run_keeps_the_features_and_the_table_ranks_both_learned_scores(live):
    for name, ids in (("first", FITTED), ("second", OTHERS)):
        run = load_run(live / name / "run.npz")
        assert run.features.shape == (len(ids), WIDTH)
    file = RouterFile.load(live / "router.safetensors")
    assert file.header.score == SCORE
    assert {"learned", SCORE} <= {row["score"] for row in file.header.evidence["scores"]}
    assert int(file.arrays["forest_features/columns"]) == int(file.arrays["forest/columns"]) + WIDTH
    summary = json.loads((live / "second" / "summary.json").read_text())
    assert (summary["score"], summary["images"]) == (SCORE, len(OTHERS))


def test_the_live_score_is_the_offline_one(live, tmp_path, command, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for scene in OTHERS:
        draw_scene("test", scene - 1).save(pictures / f"{scene:03d}.png")
    given = ["--router", live / "router.safetensors", "--rate", "0.4", "--out", tmp_path / "out", "--json"]
    cheap = [f"--set={change}" for change in CHEAP]
    capsys.readouterr()
    assert command("predict", QUICKSTART, pictures, *cheap, *given) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["score"], said["images"]) == (SCORE, len(OTHERS))
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    found = [entry["deferral_score"] for entry in entries]
    offline = load_run(live / "second" / "run.npz").scores[SCORE]
    assert len(np.unique(offline)) > 6
    np.testing.assert_allclose(found, offline, rtol=1e-6, atol=1e-9)
    deferred = [entry["answered_by"] == "teacher" for entry in entries]
    assert deferred == (np.array(found) > said["threshold"]).tolist()


def test_another_student_is_refused_in_one_line(live, tmp_path, refused):
    other = "student={arch: effdet/efficientdet_d0, name: 128 px, image_size: 128, random_weights: true}"
    router = live / "router.safetensors"
    args = [*settings(OTHERS, other), "--out", tmp_path / "out", "--router"]
    assert "other weights" in refused("evaluate", *args, router)
    file, silent = RouterFile.load(router), tmp_path / "silent.safetensors"
    replace(file, header=replace(file.header, student_weights="")).save(silent)
    assert "distributed otherwise" in refused("evaluate", *args, silent)
    draw_scene("test", 0).save(tmp_path / "scene.png")
    message = refused("predict", *args, silent, "--rate", 0.5, tmp_path / "scene.png", alone=False)
    assert f"{WIDTH} features" in message
    assert "another student" in message


def test_a_router_that_saw_no_features_names_what_it_lacks(live, tmp_path, command, refused):
    older = tmp_path / "older"
    shutil.copytree(live / "first", older)
    run = load_run(older / "run.npz")
    save_run(PairedRun(run.task, run.image_ids, run.scores, run.student, run.teacher), older / "run.npz")
    router = tmp_path / "older.safetensors"
    asked = ["fit-router", "run", older, *QUICK, "--out", router]
    assert "lack the student's features" in refused(*asked, "--score", SCORE)
    assert command(*asked) == 0
    file = RouterFile.load(router)
    assert SCORE not in {row["score"] for row in file.header.evidence["scores"]}
    args = [*settings(OTHERS), "--router", router, f"--set=router.score={SCORE}", "--out", tmp_path / "out"]
    assert "fitted with the student's features" in refused("evaluate", *args)
    assert not (tmp_path / "out").exists()
