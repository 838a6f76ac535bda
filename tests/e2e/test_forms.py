"""Sets and results of other tools at the command line and in Python: YOLO's files all the way."""

import json
from pathlib import Path

import numpy as np
import pytest
from formats import SIZES, objects_of, write_yolo

import ebjr_det
from ebjr_det import CostModel, Detections, ReplaySettings, SavedOutputs

QUICK = ("--score", "free_energy", "--bootstrap", 5, "--rates", "0.4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A YOLO set, and two detectors' text files: the student finds every other object."""
    root = tmp_path_factory.mktemp("yolo")
    write_yolo(root)
    rng = np.random.default_rng(1)
    for side, every in (("student", 2), ("teacher", 1)):
        (root / side / "labels").mkdir(parents=True)
        for stem, (width, height) in SIZES.items():
            lines = [
                f"{k} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height} {rng.random()}"
                for k, x, y, w, h in objects_of(stem)[::every]
            ]
            (root / side / "labels" / f"{stem}.txt").write_text(
                "\n".join([*lines, f"1 .5 .5 .3 .3 {rng.random()}"])
            )
    return root


def files_of(folder: Path) -> list[object]:
    sides = [part for side in ("student", "teacher") for part in (f"--{side}", folder / side / "labels")]
    return ["--annotations", folder / "data.yaml", "--split", "val", *sides]


def test_a_replay_of_yolos_files_shows_its_pictures_and_names_its_models(folder, tmp_path, answer):
    out = tmp_path / "run"
    images = ("--images", folder / "images" / "val")
    printed = answer("replay", "detection", *files_of(folder), *QUICK, *images, "--out", out)
    assert "student + teacher" in printed["title"]
    assert printed["teacher"]["quality"] > printed["student"]["quality"] > 0
    assert list((out / "gallery").iterdir())
    settings = (out / "config.yaml").read_text()
    assert str(folder / "data.yaml") in settings


def test_detections_in_memory_give_the_run_of_the_files(folder, tmp_path, answer):
    printed = answer("replay", "detection", *files_of(folder), *QUICK, "--out", tmp_path / "files")
    outputs: dict[str, object] = {"annotations": folder / "data.yaml"}
    for side in ("student", "teacher"):
        outputs[side] = {}
        for path in sorted((folder / side / "labels").iterdir()):
            width, height = SIZES[path.stem]
            rows = np.loadtxt(path, ndmin=2)
            centres, sides = rows[:, 1:3] * (width, height), rows[:, 3:5] * (width, height)
            boxes = np.round(np.hstack([centres - sides / 2, centres + sides / 2]), 9)
            outputs[side][path.stem] = Detections(boxes, rows[:, 5], rows[:, 0].astype(np.intp))
    settings = ReplaySettings(rates=(0.4,), replicates=5, cost=CostModel())
    saved = SavedOutputs("detection", outputs, options={"split": "val"})
    result = ebjr_det.replay(saved, tmp_path / "memory", settings)
    for side in ("student", "teacher"):
        assert result.summary[side]["quality"] == pytest.approx(printed[side]["quality"], abs=1e-12)


def test_convert_by_command_and_its_refusals(folder, tmp_path, answer, refused):
    out = tmp_path / "truth.json"
    printed = answer("convert", folder / "data.yaml", out, "--to", "coco", "--split", "val")
    assert printed == {"path": str(out), "pictures": 5, "boxes": 15}
    assert len(json.loads(out.read_text())["annotations"]) == 15
    line = refused("convert", folder / "data.yaml", out, "--to", "coco", "--split", "val")
    assert "Expected a new path" in line
    line = refused("convert", folder / "data.yaml", tmp_path / "x.json", "--to", "coco")
    assert "Expected a split of" in line
    assert not (tmp_path / "x.json").exists()


FAULTS = {
    "no split": (lambda f: f[:2] + f[4:], "Give one of train, val"),
    "a pickle": (lambda f: [*f[:-1], f[-1].parent / "r.pkl"], "results.bbox.json"),
    "another class numbering": (lambda f: [*f, "--class-ids", "from-2"], "a way to read class numbers"),
    "another image numbering": (lambda f: [*f, "--image-ids", "name"], "a way to read the numbers of images"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_users_mistake_is_one_line_and_leaves_nothing(fault, folder, tmp_path, refused):
    change, words = FAULTS[fault]
    line = refused("replay", "detection", *change(files_of(folder)), *QUICK, "--out", tmp_path / "run")
    assert words in line
    assert not (tmp_path / "run").exists()
