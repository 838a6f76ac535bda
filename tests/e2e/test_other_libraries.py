"""Pairs of networks that other tools have written, evaluated, exported and served; mistakes in one line."""

import json
from fractions import Fraction

import numpy as np
import pytest
import yaml
from PIL import Image
from starlette.testclient import TestClient
from tiny_detectors import KINDS, save_classifier, save_transformers
from tiny_graphs import write_graph, yolo_rows

import ebjr_det
from ebjr_det.io.records import load_run
from ebjr_det.io.video.writing import write_video
from ebjr_det.runtimes.registry import RUNTIMES, installed

DIGITS = {index: str(index) for index in range(10)}
METADATA = {"names": str(DIGITS), "task": "detect"}


@pytest.fixture
def settings(tmp_path):
    """A pair of two ONNX graphs on a few scenes, as a configuration file."""
    for name, seed in (("small", 0), ("large", 1)):
        rows = yolo_rows(10, size=(64, 64), seed=seed)
        write_graph(tmp_path / f"{name}.onnx", {"output0": rows.T}, (64, 64), metadata=METADATA)
    content = {
        "task": "detection",
        "data": {"dataset": "digit_scenes", "limit": 12},
        "student": {"arch": f"onnx/{tmp_path}/small.onnx"},
        "teacher": {"arch": f"onnx/{tmp_path}/large.onnx", "options": {"fit": "stretch"}},
        "router": {"score": "energy_curvature"},
        "latency": {"measure": False},
        "run": {"batch_size": 5, "bootstrap": 2, "device": "cpu"},
    }
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_pair_of_graphs_is_evaluated_exported_and_served(
    settings, tmp_path, command, scene_pictures, capsys
):
    assert command("evaluate", settings, "--out", tmp_path / "run") == 0
    facts = json.loads((tmp_path / "run" / "analysis.json").read_text())["student"]["extras"]
    assert facts["head"] == "sigmoid of probabilities; boxes cxcywh in pixels; suppression above IoU 0.7"
    assert facts["fit"] == "letterbox"
    assert command("export", settings, "--out", tmp_path / "pair", "--threshold", "0.5") == 0
    for pair, threshold in ((tmp_path / "pair", []), (settings, ["--threshold", "0.5"])):
        assert (
            command("predict", pair, scene_pictures, *threshold, "--out", tmp_path / f"of {pair.name}") == 0
        )
    for file in ("images.json", "predictions.json"):
        served, live = ((tmp_path / f"of {name}" / file).read_text() for name in ("pair", settings.name))
        assert served == live
        assert len(json.loads(live)) > 1


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "yolos" else pytest.mark.slow) for kind in KINDS]
)
def test_a_network_of_transformers_and_a_graph_are_exported_and_served(
    kind, settings, tmp_path, command, scene_pictures
):
    folder = save_transformers(kind, tmp_path / kind, names=DIGITS)
    pair = ["--set", f"student.arch=transformers/{folder}"]
    assert command("evaluate", settings, *pair, "--out", tmp_path / "run") == 0
    scores = np.sort(load_run(tmp_path / "run" / "run.npz").scores["energy_curvature"])
    pair += ["--threshold", scores[2:4].mean()]
    assert command("predict", settings, scene_pictures, *pair, "--out", tmp_path / "live") == 0
    assert command("export", settings, *pair, "--out", tmp_path / "pair") == 0
    files = sorted(scene_pictures.iterdir())
    answer = ebjr_det.load(tmp_path / "pair")(files)
    live = json.loads((tmp_path / "live" / "images.json").read_text())
    assert [row["answered_by"] for row in live] == list(answer.answered_by)
    assert set(answer.answered_by) == {"student", "teacher"}
    served = ebjr_det.build_serving(tmp_path / "pair", ebjr_det.ServeSettings(access_log=False))
    with TestClient(served) as client:
        for file, expected in zip(files, answer.predictions, strict=True):
            png = {"Content-Type": "image/png"}
            said = client.post("/v2/models/pair/infer", content=file.read_bytes(), headers=png).json()
            boxes = next(output["data"] for output in said["outputs"] if output["name"] == "boxes")
            np.testing.assert_allclose(np.reshape(boxes, (-1, 4)), expected.boxes, rtol=1e-6)


def test_a_video_is_filmed_by_a_pair_of_graphs(settings, tmp_path, command, scene_pictures, capsys):
    with write_video(tmp_path / "clip.mp4", (256, 256), Fraction(10)) as clip:
        for file in sorted(scene_pictures.iterdir()):
            clip.add(Image.open(file))
    film = tmp_path / "film.mp4"
    wrapped = ["--set", "router.other_logit=false"]  # as a fitted router wraps its student
    options = ["--threshold=-inf", "--set", "student.runtime=auto", *wrapped, "--json", "--out", film]
    assert command("demo", settings, tmp_path / "clip.mp4", *options) == 0
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert said["frames"] == said["deferred"] == 6
    assert "onnxruntime" in printed.err, "what was tried is told"
    assert ("openvino" in printed.err) == installed(RUNTIMES["openvino"])


@pytest.mark.parametrize(
    ("arch", "complaint"),
    [
        ("onnx/{0}/classifier.onnx", "Expected a detector in"),
        ("onnx/{0}/strange.onnx", "got output0 [1, 40, 9]"),
        ("onnx/{0}/nowhere.onnx", "nowhere.onnx"),
        ("transformers/{0}/vit", "got an image classifier"),
        ("transformers/{0}/other", "got `0`, `1`, `2`, `3`, ... among the data's 10"),
    ],
)
def test_a_mistake_is_one_line(arch, complaint, settings, tmp_path, refused):
    write_graph(tmp_path / "classifier.onnx", {"logits": range(10)}, (64, 64))
    write_graph(tmp_path / "strange.onnx", {"output0": yolo_rows(5)}, (64, 64), metadata=METADATA)
    save_classifier(tmp_path / "vit")
    save_transformers("yolos", tmp_path / "other")
    message = refused(
        "evaluate", settings, "--set", f"student.arch={arch.format(tmp_path)}", "--out", tmp_path / "run"
    )
    assert complaint in message
    assert not (tmp_path / "run").exists()
