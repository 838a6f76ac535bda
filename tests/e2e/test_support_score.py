"""`nms_disagreement` as a user meets it: among the scores, deciding, fitted, and refused with a reason."""

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from common import QUICKSTART

from ebjr_det.io.records import load_run, save_run

NAME = "nms_disagreement"
FEW = ["run.bootstrap=5", "latency.measure=false", "router.target=null", "teacher.image_size=128"]
FEW += ["student.macs=1e8", "teacher.macs=1e9"]
FEW = [part for change in FEW for part in ("--set", change)]


def images(first: int, count: int) -> list[str]:
    return ["--set", f"data.ids={list(range(first, first + count))}"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command) -> Path:
    """A run of the quickstart's pair on few scenes, decided by the score."""
    out = tmp_path_factory.mktemp("runs") / "pair"
    how = [*FEW, *images(1, 20), "--set", f"router.score={NAME}"]
    assert command("evaluate", QUICKSTART, *how, "--out", out) == 0
    return out


def test_an_evaluation_reports_it_beside_the_other_scores(finished: Path):
    summary = json.loads((finished / "summary.json").read_text())
    assert {NAME, "free_energy", "energy_curvature", "crowding"} <= set(summary["scores"])
    scores = load_run(finished / "run.npz").scores
    assert (scores[NAME] > 0).all()
    assert len(np.unique(scores[NAME])) == 20
    assert "1 + sum_k s_k IoU_k" in (finished / "report.html").read_text()


def test_a_router_fitted_on_the_run_can_save_it_and_decides_live_with_it(
    finished: Path, tmp_path: Path, capsys, command
):
    file = tmp_path / "router.safetensors"
    how = ["--folds", 2, "--bootstrap", 5, "--score", NAME, "--out", file, "--json"]
    assert command("fit-router", "run", finished, *how) == 0
    assert NAME in capsys.readouterr().out
    out = tmp_path / "routed"
    assert command("evaluate", QUICKSTART, *FEW, *images(101, 10), "--router", file, "--out", out) == 0
    plain = tmp_path / "plain"
    assert command("evaluate", QUICKSTART, *FEW, *images(101, 10), "--out", plain) == 0
    routed, alone = (load_run(folder / "run.npz").scores[NAME] for folder in (out, plain))
    np.testing.assert_allclose(routed, alone, rtol=1e-6)


def test_replay_refuses_it_with_the_reason(fitted_on, tmp_path: Path, refused):
    line = refused("replay", "detection", *fitted_on.options, "--score", NAME, "--out", tmp_path / "out")
    assert f"Expected raw candidates for score `{NAME}`" in line
    assert "a result file holds no others" in line
    assert not (tmp_path / "out").exists()


def test_a_finished_run_without_it_says_so(finished: Path, tmp_path: Path, refused):
    folder = copytree(finished, tmp_path / "old")
    run = load_run(folder / "run.npz")
    del run.scores[NAME]
    save_run(run, folder / "run.npz")
    how = [*FEW, *images(1, 20), "--set", f"router.score={NAME}"]
    line = refused("evaluate", QUICKSTART, *how, "--out", folder, "--resume")
    assert f"Expected a score of this run, got `{NAME}`" in line


def test_scores_lists_it_with_what_it_needs(answer):
    (listed,) = [score for score in answer("scores") if score["name"] == NAME]
    assert listed["needs"] == ["candidates"]
    assert (listed["task"], listed["options"]) == ("detection", [])
    assert "2010.01695" in listed["source"]
