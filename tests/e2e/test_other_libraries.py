"""Pairs of networks that other tools have written, evaluated, exported and served; mistakes in one line."""

import json

import pytest
import yaml
from tiny_detectors import save_classifier, save_transformers
from tiny_graphs import write_graph, yolo_rows

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
