"""A router in front of the student: its fit, where it pays, the live pair, and what is refused."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from common import DIGITS

import ebjr_det
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.io.records import load_run
from ebjr_det.routing.file import RouterFile
from ebjr_det.tasks.front import FrontRouter
from ebjr_det.tasks.settings import load_config

FIT = ("--size", 8, "--arch", "test_resnet", "--epochs", 1)


@pytest.fixture(scope="module")
def run(routed_digits) -> Path:
    """The folder of a finished run of two classifiers."""
    return routed_digits.parent / "run"


@pytest.fixture(scope="module")
def front(run, tmp_path_factory, command) -> Path:
    """A router in front, fitted on half of the run."""
    path = tmp_path_factory.mktemp("front") / "front.safetensors"
    assert command("fit-router", "front", run, *FIT, "--out", path) == 0
    return path


@pytest.fixture(scope="module")
def placed(run, front, tmp_path_factory, command):
    """The summary of the placements, and their folder."""
    out = tmp_path_factory.mktemp("placement") / "out"
    assert command("placement", run, "--front", front, "--bootstrap", 20, "--out", out) == 0
    return json.loads((out / "summary.json").read_text()), out


def test_the_file_tells_its_pair_and_what_it_has_seen(run, front):
    header, records = RouterFile.load(front).header, load_run(run / "run.npz")
    assert header.image_ids == tuple(np.array(records.image_ids)[split(records, 0.5, 0)[0]])
    assert (header.student, header.teacher) == ("resnet-8-2", "resnet-14-16")
    assert len(header.student_weights) == len(header.teacher_weights) == 64
    assert header.evidence["images"] + header.evidence["watching"] == len(header.image_ids)


def test_every_number_is_of_pictures_that_neither_fit_nor_choice_has_seen(run, front, placed):
    summary, _ = placed
    file = RouterFile.load(front)
    records, analysis = load_folder(run)
    unseen = np.flatnonzero([image not in file.header.image_ids for image in records.image_ids])
    names = np.array(records.image_ids)[unseen]
    data = ebjr_det.load_config(run / "config.yaml").data
    pictures = ebjr_det.tasks.load_task("classification").data.build_data(**dict(data))
    router = FrontRouter.of_file(file, front)
    small = [router.preprocess(pictures.load(pictures.image_ids.index(name))) for name in names]
    scores = router.scores(small)
    parts = split(
        replace(records, image_ids=tuple(names), scores={}, student={}, teacher={}, features=None), 0.5, 0
    )
    assert [summary["calibration_images"], summary["images"]] == list(map(len, parts))
    for row in summary["budgets"]["macs"]:
        best = max(placement["calibration_quality"] for placement in row["placements"])
        for placement in row["placements"]:
            chosen = placement["placement"] == row["chosen"]
            assert placement["calibration_quality"] == best or not chosen
            for part, name in zip(parts, ("calibration_quality", "quality"), strict=True):
                expected = quality_by_hand(records, analysis.score, scores, unseen, part, placement)
                assert placement[name] == pytest.approx(expected, abs=1e-12)


def quality_by_hand(records, score, scores, unseen, part, placement):
    """Accuracy where the front's score or the student's is above its threshold."""
    images = unseen[part]
    sent = np.zeros(len(images), bool)
    if placement["placement"] != "behind" and placement["front_threshold"] is not None:
        sent |= scores[part] > placement["front_threshold"]
    elif placement["placement"] != "behind":
        sent |= placement["sent_by_front"] == 1
    if placement["threshold"] is not None:
        sent |= records.scores[score][images] > placement["threshold"]
    elif placement["placement"] != "front":
        sent |= np.isclose(placement["sent_by_student"] + placement["sent_by_front"], 1)
    right = np.where(sent, records.teacher["correct"][images], records.student["correct"][images]).mean()
    return (1 - placement["coin"]) * right + placement["coin"] * records.teacher["correct"][images].mean()


def test_the_report_says_whether_it_pays_with_costs_and_times(placed):
    summary, out = placed
    assert {"report.html", "table.md", "summary.json", "accuracy_by_macs.png"} <= {
        p.name for p in out.iterdir()
    }
    text = (out / "table.md").read_text()
    assert "A router in front of the student does not pay here" in text  # it costs more than this student
    assert set(summary["times"]) == {"front", "student", "teacher"}
    assert all(len(rows) == 9 for rows in summary["budgets"].values())
    assert summary["costs"]["macs"]["front"] > summary["costs"]["macs"]["student"]


def test_the_front_is_timed_on_the_device_of_the_run(run, front, tmp_path, monkeypatch):
    config = (run / "config.yaml").read_text()
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/config.yaml").write_text(re.sub("device: .*", "device: cpu:0", config))
    devices, of_file = [], FrontRouter.of_file
    monkeypatch.setattr(FrontRouter, "of_file", lambda *words: devices.append(words[2:]) or of_file(*words))
    settings = ebjr_det.PlacementSettings(replicates=2)
    ebjr_det.placement(tmp_path / "run", front, tmp_path / "out", settings)
    assert devices[-1] == ("cpu:0",)


def test_the_live_pair_decides_as_the_report(run, front, placed, tmp_path, command, refused, capsys):
    records, analysis = load_folder(run)
    config = load_config(run / "config.yaml")
    pictures = ebjr_det.tasks.load_task("classification").data.build_data(**dict(config.data))
    images = [pictures.load(pictures.image_ids.index(name)) for name in records.image_ids[:100]]
    router = FrontRouter.of_file(RouterFile.load(front), front)
    scores = router.scores([router.preprocess(image) for image in images])
    head, threshold = float(np.quantile(scores, 0.7)) + 1e-4, analysis.threshold
    settings = (f"router.front={front}", f"router.front_threshold={head}")
    pair = ebjr_det.load(run, changes=settings)
    answer = pair(images)
    assert answer.decision.in_front.tolist() == (scores > head).tolist()
    behind = records.scores[analysis.score][:100] > threshold
    assert answer.decision.defer.tolist() == ((scores > head) | behind).tolist()

    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for index, image in enumerate(images[:12]):
        Image.fromarray(np.asarray(image)).save(tmp_path / "pictures" / f"{index:02d}.png")
    changes = [part for setting in settings for part in ("--set", setting)]
    pictures = tmp_path / "pictures"
    expected = [
        {"in_front": bool(score > head), "answered_by": by}
        for score, by in zip(scores[:12], answer.answered_by, strict=False)
    ]
    assert command("export", run, *changes, "--out", tmp_path / "exported") == 0
    for name, words in {"run": (run, *changes), "exported": (tmp_path / "exported",)}.items():
        assert command("predict", *words, pictures, "--out", tmp_path / f"{name}_live") == 0
        told = json.loads((tmp_path / f"{name}_live" / "images.json").read_text())
        assert [{key: entry[key] for key in expected[0]} for entry in told] == expected
        out = ("--out", tmp_path / f"{name}_bulk", "--shard", 5)
        assert command("bulk", "predict", *words, pictures, *out) == 0
        rows = pq.read_table(tmp_path / f"{name}_bulk/answers").to_pylist()
        assert [{key: row[key] for key in expected[0]} for row in rows] == expected
        assert [row["deferral_score"] for row in rows] == pytest.approx(
            [entry["deferral_score"] for entry in told], abs=1e-4
        )
        capsys.readouterr()
        assert command("demo", *words, pictures, "--out", tmp_path / f"{name}.mp4", "--json") == 0
        film = json.loads(capsys.readouterr().out)
        rates = [sum(entry["in_front"] for entry in expected) / 12, film["deferral_rate"]]
        costs = placed[0]["costs"]["macs"]
        cost = costs["front"] + (1 - rates[0]) * costs["student"] + rates[1] * costs["teacher"]
        assert film["macs"]["pair"] == pytest.approx(cost)
        assert (film["in_front"], rates[1]) == (12 * rates[0], answer.decision.defer[:12].mean())
    other, out = ("--set", f"router.front_threshold={head + 1}"), ("--out", tmp_path / "run_bulk")
    assert "`front` as in the job" in refused("bulk", "predict", run, *changes, *other, pictures, *out)
    assert "router.front" in refused("serve", tmp_path / "exported")
    content = (tmp_path / "exported/front.onnx").read_bytes()
    (tmp_path / "exported/front.onnx").write_bytes(content[:-1] + b"x")
    assert "front.onnx` as it was exported" in refused("predict", tmp_path / "exported", pictures, *out)


def changed(front: Path, folder: Path, **values: object) -> Path:
    """The router's file with another header."""
    file = RouterFile.load(front)
    replace(file, header=replace(file.header, **values)).save(folder / "changed.safetensors")
    return folder / "changed.safetensors"


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"student": "another"}, "a router made for student `resnet-8-2`"),
        ({"teacher": "another"}, "a router made for teacher `resnet-14-16`"),
        ({"teacher_weights": "ab" * 32}, "a router made for this teacher"),
        ({"task": "detection"}, "a router for classification"),
        ({"score": "learned"}, "Make one: ebjr-det fit-router front"),
        ({"settings": {"arch": "resnet18", "size": 8}}, "the weights of a front router's network"),
        ({"settings": {"arch": "hf-hub:any/one", "size": 8}}, "a network of timm"),
    ],
)
def test_a_front_of_another_pair_or_task_is_one_line(run, front, tmp_path, refused, values, complaint):
    path = changed(front, tmp_path, **values)
    assert complaint in refused("placement", run, "--front", path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_and_runs_that_cannot_be_are_one_line(run, front, tmp_path, refused, classifiers, command):
    (tmp_path / "bad.safetensors").write_bytes(front.read_bytes()[:999])
    for path in (tmp_path / "bad.safetensors", tmp_path / "none.safetensors"):
        assert str(path) in refused("placement", run, "--front", path, "--out", tmp_path / "out")
    files = classifiers(range(60), 0)
    assert command("replay", "classification", *files, "--bootstrap", 2, "--out", tmp_path / "replay") == 0
    out = ("--out", tmp_path / "new.safetensors")
    assert "replay" in refused("fit-router", "front", tmp_path / "replay", *out)
    for options, complaint in (
        (("--size", 7), "a size of 8"),
        (("--arch", "resnet18x"), "a network of timm"),
        (("--fraction", 0.01), "at least 40 pictures"),
        (("--epochs", 0), "at least one epoch"),
    ):
        assert complaint in refused("fit-router", "front", run, *options, *out)
    assert not (tmp_path / "new.safetensors").exists()
    assert "stands in front" in refused("predict", run, front, "--router", front, "--out", tmp_path / "out")
    named = ("--set", f"router.front={front}", "--set", "router.front_threshold=0")
    assert "router.front" in refused("evaluate", DIGITS, *named, "--out", tmp_path / "out")
    assert "front_threshold" in refused("evaluate", DIGITS, *named[:2], "--out", tmp_path / "out")
