"""Detectors of one's own that answer with `Detections`: at work, and judged as their result files are."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import find_objects, gaussian_filter, label, maximum

import ebjr_det
from ebjr_det import Detections, ReplaySettings, SavedOutputs, build_annotated, build_output
from ebjr_det.io.records import load_run
from ebjr_det.tasks.detection.datasets.digit_scenes import draw_scene, lay_out

SCENES = range(12)


class Blobs:
    """Bright blobs of a picture, looked at in steps of so many pixels."""

    def __init__(self, name: str, step: int) -> None:
        self.name, self.step = name, step

    def preprocess(self, image):
        return np.asarray(image.convert("L"), float)[:: self.step, :: self.step]

    def __call__(self, inputs):
        return build_output([self.detect(picture) for picture in inputs])

    def detect(self, picture):
        contrast = gaussian_filter(picture, 1) - gaussian_filter(picture, 48 / self.step)
        blobs, count = label(contrast > 25)
        corners = [[x.start, y.start, x.stop, y.stop] for y, x in find_objects(blobs)]
        scores = np.array(maximum(contrast, blobs, range(1, count + 1))) / 256 if count else np.zeros(0)
        boxes = np.array(corners, float).reshape(-1, 4) * self.step
        return Detections(boxes, scores.clip(0.01, 0.99), np.arange(count) % 2)  # of two classes


def scenes() -> dict:
    """Annotated scenes as COCO's object."""
    objects = [
        {"image_id": scene, "category_id": 1 + int(kind) % 2, "bbox": box, "iscrowd": 0}
        for scene in SCENES
        for box, kind in zip(*(column.tolist() for column in _laid_out(scene)), strict=True)
    ]
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 256, "height": 256} for n in SCENES],
        "annotations": [{**entry, "id": number} for number, entry in enumerate(objects, start=1)],
        "categories": [{"id": 1, "name": "even"}, {"id": 2, "name": "odd"}],
    }


def _laid_out(scene: int):
    truth = lay_out("test", scene)
    return truth.boxes, truth.labels


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The run of two of them that were in memory, on pictures in memory."""
    pictures = [draw_scene("test", scene) for scene in SCENES]
    config = {
        "task": "detection",
        "data": build_annotated(pictures, scenes()),
        "student": {"model": Blobs("quick", 4), "macs": 1e6},
        "teacher": {"model": Blobs("thorough", 1), "macs": 16e6},
        "router": {"score": "energy_curvature"},
        "latency": {"batches": 4},
        "run": {"bootstrap": 5},
    }
    return ebjr_det.evaluate(config, tmp_path_factory.mktemp("blobs") / "run").folder


def test_it_is_judged_as_its_result_files_are(run, tmp_path):
    files = {name: run / f"{name}.json.gz" for name in ("annotations", "student", "teacher")}
    settings = ReplaySettings(replicates=5)
    ebjr_det.replay(SavedOutputs("detection", files), tmp_path / "run", settings)
    live, replayed = (load_run(folder / "run.npz") for folder in (run, tmp_path / "run"))
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (run, tmp_path / "run")]
    for side in ("student", "teacher"):
        assert summaries[0][side]["metrics"] == pytest.approx(summaries[1][side]["metrics"], abs=1e-12)
    assert summaries[0]["student"]["quality"] != summaries[0]["teacher"]["quality"]
    for name, values in live.scores.items():
        np.testing.assert_allclose(values, replayed.scores[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_scores_of_all_classes_are_not_had_from_scores_alone(run):
    assert "rival_class" not in load_run(run / "run.npz").scores
    output = Blobs("quick", 4)([Blobs("quick", 4).preprocess(draw_scene("test", 0))])
    with pytest.raises(ebjr_det.EbjrError, match="rival_class"):
        ebjr_det.build_router("energy_curvature").deferral_scores(output, "rival_class")


TORCHVISION = """
import numpy as np
import torch
from torchvision.models import get_model

from ebjr_det import Detections, build_output


class Torchvision:
    def __init__(self, name, network):
        self.name, self.network = name, network.eval()

    def preprocess(self, image):
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255

    def __call__(self, inputs):
        with torch.inference_mode():
            answers = self.network(inputs)
        columns = ([a[key].numpy() for key in ("boxes", "scores", "labels")] for a in answers)
        return build_output([Detections(b, s, labels - 1) for b, s, labels in columns])


def ssdlite(categories, device, weights):
    arguments = {"weights_backbone": None, "num_classes": len(categories) + 1}
    network = get_model("ssdlite320_mobilenet_v3_large", **arguments)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return Torchvision("SSDlite", network)
"""


def write_weights(path: Path) -> None:
    """Random ones whose scores differ from picture to picture."""
    import torch
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model("ssdlite320_mobilenet_v3_large", weights_backbone=None, num_classes=3)
    for name, weights in network.named_parameters():
        if name.startswith("head.classification_head"):
            torch.nn.init.normal_(weights, std=0.5)
    for module in network.modules():
        module.momentum = None  # of batch norms: statistics of the one batch below
    network.train().backbone(torch.rand(2, 3, 320, 320))
    torch.save(network.state_dict(), path)


@pytest.mark.slow
def test_a_torchvision_network_is_live_in_few_lines(tmp_path, monkeypatch, command):
    """By its name in a configuration, through the commands and in Python."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "torchvision_of_mine.py").write_text(TORCHVISION)
    (tmp_path / "pictures").mkdir()
    for scene in SCENES[:4]:
        draw_scene("test", scene).save(tmp_path / "pictures" / f"{scene}.png")
    write_weights(tmp_path / "mine.pth")
    truth = scenes()
    truth["images"] = truth["images"][:4]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "pair.yaml").write_text(
        "task: detection\n"
        "data: {dataset: coco, annotations: truth.json, images: pictures}\n"
        "student: {arch: torchvision_of_mine:ssdlite, options: {weights: mine.pth}}\n"
        "teacher: {arch: torchvision_of_mine:ssdlite, options: {weights: mine.pth}}\n"
        "router: {score: energy_curvature}\n"
        "latency: {measure: false}\n"
        "run: {bootstrap: 5, workers: 0}\n"
    )
    assert command("evaluate", "pair.yaml", "--out", "run") == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["student"]["macs"] > 1e8
    assert command("predict", "run", "pictures", "--out", "answers") == 0
    entries = json.loads((tmp_path / "answers" / "images.json").read_text())
    recorded = load_run(tmp_path / "run" / "run.npz").scores["energy_curvature"]
    assert len(np.unique(recorded)) > 1
    np.testing.assert_allclose([entry["deferral_score"] for entry in entries], recorded, rtol=1e-5)
    pair = ebjr_det.load("run")
    assert len(pair(["pictures/0.png"], threshold=-np.inf).predictions[0]) > 0
    assert len([line for line in TORCHVISION.splitlines() if line.strip()]) <= 20
