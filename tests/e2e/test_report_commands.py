"""`report` and `compare` as users run them: byte for byte from a run's own files, or one line and nothing."""

import json
import re
import shutil
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

SCRIPT = "<script>alert(1)</script>"


def detection_files(folder: Path) -> list[Path]:
    """Ground truth and two detectors' boxes of 30 pictures; a class name that must be escaped."""
    generator = np.random.default_rng(0)
    corners = generator.integers(0, 150, (30, 2))
    sides = generator.integers(30, 100, (30, 2))
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 320, "height": 320} for i in range(1, 31)]
    objects = [
        {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": box}
        for i, box in enumerate(np.hstack([corners, sides]).tolist(), start=1)
    ]
    categories = [{"id": 1, "name": SCRIPT}, {"id": 2, "name": "plain"}]
    paths = [folder / f"{name}.json" for name in ("truth", "student", "teacher")]
    paths[0].write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
    for path, noise in zip(paths[1:], (12, 3), strict=True):
        found = [
            {
                "image_id": o["image_id"],
                "category_id": o["category_id"],
                "bbox": [*np.add(o["bbox"][:2], generator.normal(0, noise, 2)).tolist(), *o["bbox"][2:]],
                "score": float(generator.uniform(0.1, 1)),
            }
            for o in objects
        ]
        path.write_text(json.dumps(found))
    return paths


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, command) -> dict[str, Path]:
    """One finished replay of each task."""
    folder = tmp_path_factory.mktemp("replays")
    truth, student, teacher = detection_files(folder)
    costs = ["--student-macs", "1e9", "--teacher-macs", "9e9", "--bootstrap", "5"]
    args = ["--annotations", truth, "--student", student, "--teacher", teacher, *costs]
    assert command("replay", "detection", *args, "--out", folder / "boxes") == 0
    generator = np.random.default_rng(0)
    labels = generator.integers(5, size=80)
    logits = generator.normal(size=(80, 5)) + np.eye(5)[labels]
    for name, array in (("s", logits), ("t", logits + 2 * np.eye(5)[labels]), ("labels", labels)):
        np.save(folder / f"{name}.npy", array)
    args = ["--student-logits", folder / "s.npy", "--teacher-logits", folder / "t.npy", *costs]
    assert (
        command(
            "replay", "classification", *args, "--labels", folder / "labels.npy", "--out", folder / "classes"
        )
        == 0
    )
    return {"detection": folder / "boxes", "classification": folder / "classes"}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_report_is_redrawn_byte_for_byte_from_the_runs_own_files(task, runs, tmp_path: Path, command):
    before = bytes_of(runs[task])
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("run.npz", "analysis.json", "config.yaml", "environment.json"):
        shutil.copy(runs[task] / name, copy / name)
    assert command("report", copy) == 0
    after = bytes_of(copy)
    assert set(after) == set(before)
    summary = {name: json.loads(files["summary.json"]) for name, files in (("b", before), ("a", after))}
    assert summary["a"].pop("run_dir") != summary["b"].pop("run_dir")
    assert summary["a"] == summary["b"]
    assert {name for name in before if name != "summary.json" and before[name] != after[name]} == set()


def test_with_out_the_report_goes_elsewhere_and_the_run_stays_as_it_is(runs, tmp_path: Path, command):
    before = bytes_of(runs["detection"])
    assert command("report", runs["detection"], "--out", tmp_path / "other") == 0
    assert bytes_of(runs["detection"]) == before
    assert (tmp_path / "other" / "report.html").read_bytes() == before["report.html"]


def test_files_that_no_report_writes_stay_in_a_folder_that_reports_go_to(runs, tmp_path: Path, command):
    mine = dict.fromkeys(("sales_by_macs.csv", "AP_by_macs.svg", "by_deferral_rate.txt"), b"mine")
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    for _ in range(2):
        assert command("report", runs["classification"], "--out", tmp_path) == 0
    assert mine.items() <= bytes_of(tmp_path).items()


@pytest.mark.parametrize("curve", ["", "[]", '{"score": "entropy", "points": []}'])
def test_a_curve_of_the_users_own_tells_of_no_earlier_report(curve, runs, tmp_path: Path, command):
    (tmp_path / "curve.json").write_text(curve)
    (tmp_path / "accuracy_by_latency_ms.png").write_text("mine")
    assert command("report", runs["classification"], "--out", tmp_path) == 0
    assert (tmp_path / "accuracy_by_latency_ms.png").read_text() == "mine"


def test_files_of_an_earlier_report_that_this_one_does_not_have_go(runs, tmp_path: Path, command):
    """Also where the report between was broken off: its curve is there before all else."""
    for task in ("detection", "classification", "detection"):
        assert command("report", runs[task], "--out", tmp_path) == 0
        assert set(bytes_of(tmp_path)) == {
            name
            for name in bytes_of(runs[task])
            if name not in ("run.npz", "analysis.json", "config.yaml", "environment.json")
        }


def test_the_page_needs_no_network_and_escapes_what_users_wrote(runs):
    page = (runs["detection"] / "report.html").read_text()
    assert SCRIPT not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = b64encode(sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    )
    assert page.count("<script") == 2  # the other one holds the slider's points
    assert not re.search(r"""(src|href)=(?!["']?(data:|#))""", page)
    assert not re.search(r"@import|url\((?!#)", page)


@pytest.mark.parametrize("damage", ["analysis.json", "run.npz"])
def test_a_folder_without_a_whole_run_is_refused_and_stays_as_it_is(
    damage, runs, tmp_path: Path, capsys, command
):
    copy = tmp_path / "copy"
    shutil.copytree(runs["detection"], copy)
    (copy / damage).write_bytes(b"{")
    before = bytes_of(copy)
    assert command("report", copy) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert bytes_of(copy) == before


def test_compare_puts_runs_side_by_side(runs, tmp_path: Path, answer):
    other = tmp_path / "other"
    shutil.copytree(runs["detection"], other)
    answer = answer("compare", runs["detection"], other, "--out", tmp_path / "both")
    summary = json.loads((runs["detection"] / "summary.json").read_text())
    assert len(answer["runs"]) == 2
    assert answer["runs"][0]["quality"] == summary["joint"]["quality"]
    assert answer["runs"][0]["macs"] == summary["joint"]["macs"]
    names = {"comparison.md", "comparison.json", "comparison.png", "comparison.svg"}
    assert {path.name for path in (tmp_path / "both").iterdir()} == names


def test_compare_refuses_other_tasks_one_run_and_no_run(runs, tmp_path: Path, capsys, command):
    out = tmp_path / "out"
    for folders, says in (
        ((runs["detection"], runs["classification"]), "runs of one task"),
        ((runs["detection"],), "at least two"),
        ((runs["detection"], runs["detection"]), "at least two"),
        ((runs["detection"], tmp_path / "nothing"), "nothing"),
    ):
        assert command("compare", *folders, "--out", out) == 2
        message = capsys.readouterr().err.strip()
        assert len(message.splitlines()) == 1
        assert says in message
        assert not out.exists()
