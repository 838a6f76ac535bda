"""A training is judged by its file, as inference reads it; and every class of the data is learned."""

import json
import re

import numpy as np
import pytest
import torch
from common import DIGITS_TRAINING, pycocotools_judge
from PIL import Image
from safetensors.torch import load_file, save_file

from ebjr_det.training import loop

SCENES = """
task: detection
data: {dataset: digit_scenes, split: calibration, limit: 8}
validation: {dataset: digit_scenes, split: test, limit: 24}
model:
  arch: effdet/efficientdet_d0
  image_size: 128
  options:
    {backbone_name: test_resnet, backbone_args: {}, fpn_channels: 48, fpn_cell_repeats: 2,
    box_class_repeats: 2, anchor_scale: 2.0}
initial: scenes-student
schedule: {steps: 2, batch_size: 4, warmup_steps: 1, lr: 1.0e-6, validate_every: 2, device: cpu}
"""
SQUARES = """
task: detection
data: {dataset: coco, annotations: train.json, images: pictures}
validation: {dataset: coco, annotations: val.json, images: pictures}
model:
  arch: effdet/efficientdet_d0
  image_size: 128
  options:
    {backbone_name: test_resnet, backbone_args: {}, fpn_channels: 48, fpn_cell_repeats: 1,
    box_class_repeats: 1, anchor_scale: 4.0}
augment: {scale: [0.9, 1.1], flip: 0.5, color: 0.0}
schedule:
  {steps: 200, batch_size: 8, warmup_steps: 30, lr: 3.0e-3, ema_decay: 0.98, validate_every: 200,
  weights: float16, device: cpu}
"""


# --- What is read back ---


def test_weights_that_do_not_reproduce_their_quality_are_told(command, tmp_path, monkeypatch, capsys, answer):
    """The file gets its classes shifted by one output, as by a wrong map between writing and reading."""
    write = loop.write_weights

    def shifted(path, weights, **how):
        last = list(weights)[-2:]  # weight and bias of the classifier
        write(path, {**weights, **{name: weights[name].roll(1, 0) for name in last}}, **how)

    (tmp_path / "train.yaml").write_text(DIGITS_TRAINING)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_weights", shifted)
        assert command("train", tmp_path / "train.yaml", "--out", tmp_path / "out") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "read as `evaluate` reads it, to have accuracy 0.9" in line
    assert "It stays where it is" in line
    assert (tmp_path / "out" / "weights.safetensors").is_file()
    assert not (tmp_path / "out" / "summary.json").exists()
    summary = answer("train", tmp_path / "train.yaml", "--out", tmp_path / "out", "--resume")
    assert summary["validation"]["accuracy"] > 0.85
    assert len(summary["validation_by_class"]) == 10


def test_a_detector_that_does_not_reproduce_its_ap_is_told(command, tmp_path, monkeypatch, capsys):
    """The same with the quickstart's student, which goes on from its own weights."""
    write = loop.write_weights

    def shifted(path, weights, **how):
        heads = [f"class_net.predict.conv_pw.{kind}" for kind in ("weight", "bias")]
        write(path, {**weights, **{name: weights[name].roll(1, 0) for name in heads}}, **how)

    (tmp_path / "train.yaml").write_text(SCENES)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_weights", shifted)
        assert command("train", tmp_path / "train.yaml", "--out", tmp_path / "out") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    found = re.search(r"read as `evaluate` reads it, to have AP (\S+) .*, within (\S+), got (\S+)\. It", line)
    expected, allowed, read = map(float, found.groups())
    assert expected > 0.1
    assert read < expected - allowed
    assert (tmp_path / "out" / "weights.safetensors").is_file()
    assert not (tmp_path / "out" / "summary.json").exists()
    assert command("train", tmp_path / "train.yaml", "--out", tmp_path / "out", "--resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["validation"]["AP"] == pytest.approx(expected, abs=1e-3)


def test_rounding_is_no_fault(command, tmp_path, monkeypatch):
    (tmp_path / "train.yaml").write_text(DIGITS_TRAINING)
    half = "schedule.weights=float16"
    assert command("train", tmp_path / "train.yaml", "--set", half, "--out", tmp_path / "out") == 0
    state = load_file(tmp_path / "out" / "weights.safetensors")
    assert torch.float16 in {value.dtype for value in state.values()}


def test_a_class_that_was_never_right_is_named(command, tmp_path, capsys):
    (tmp_path / "train.yaml").write_text(DIGITS_TRAINING)
    one_step = ("--set", "schedule.steps=1", "--set", "schedule.validate_every=1")
    assert command("train", tmp_path / "train.yaml", *one_step, "--out", tmp_path / "out", "--json") == 0
    out, err = capsys.readouterr()
    nothing = [name for name, value in json.loads(out)["validation_by_class"].items() if value == 0]
    assert len(nothing) > 4
    assert f"{len(nothing)} of 10 classes were never right on the validation images: {nothing[0]}," in err


def test_a_teacher_of_other_classes_is_refused_in_a_training_too(tmp_path, refused):
    from ebjr_det.tasks.classification.networks.cifar import NETWORKS

    state = NETWORKS["resnet"](num_classes=10, depth=8, width=2).state_dict()
    save_file(state, tmp_path / "w.safetensors", {"classes": json.dumps([*"1234567890"])})
    (tmp_path / "train.yaml").write_text(DIGITS_TRAINING)
    teacher = f"teacher={{arch: resnet, depth: 8, width: 2, checkpoint: {tmp_path / 'w.safetensors'}}}"
    assert "Expected weights for 10 classes (0, 1, 2, 3, ...)" in refused(
        "train", tmp_path / "train.yaml", "--set", teacher, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


# --- Every class is learned ---


def write_squares(folder, categories):
    """One red or blue square or both, on noise; red is the first category."""
    generator = np.random.default_rng(1)
    (folder / "pictures").mkdir()
    for part, count, start in (("train", 120, 1), ("val", 40, 1001)):
        images, boxes = [], []
        for number in range(start, start + count):
            pixels = generator.integers(90, 160, (128, 128, 3)).astype(np.uint8)
            for slot, kind in enumerate([0, 1] if number % 3 else [number % 2]):
                side = int(generator.integers(30, 50))
                left, right = ((4, 60), (66, 122))[slot]
                x = int(generator.integers(left, right - side + 3))
                y = int(generator.integers(2, 124 - side))
                pixels[y : y + side, x : x + side] = ((230, 20, 20), (20, 20, 230))[kind]
                boxes.append(
                    {"id": len(boxes) + 1, "image_id": number, "category_id": list(categories)[kind],
                     "bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
                )  # fmt: skip
            Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 128})
        named = [{"id": key, "name": name} for key, name in categories.items()]
        (folder / f"{part}.json").write_text(
            json.dumps({"images": images, "annotations": boxes, "categories": named})
        )


def judged_by_pycocotools(folder, weights):
    """Category id -> AP50 of the weights, read by `predict`'s path."""
    from ebjr_det.tasks.detection.coco.results import entries
    from ebjr_det.tasks.detection.data import build_data
    from ebjr_det.tasks.detection.model import build_model
    from ebjr_det.tasks.settings import load_train_config

    settings = load_train_config(folder / "train.yaml").model.built()
    data = build_data("coco", annotations=str(folder / "val.json"), images=str(folder / "pictures"))
    model = build_model(data, **settings | {"checkpoint": weights})
    found = []
    for index, image in enumerate(data.annotations.image_ids):
        (answer,) = model([model.preprocess(data.load(index))]).predictions
        found += entries(answer, image, list(data.categories))
    judged = pycocotools_judge(json.loads((folder / "val.json").read_text()), found)
    precision = judged.eval["precision"][0, :, :, 0, -1]  # IoU 0.5, [recalls, categories], any area
    return dict(zip(judged.params.catIds, precision.mean(axis=0).tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("categories", [{1: "person", 3: "car"}, {17: "cat", 18: "dog"}])
def test_both_classes_are_learned_whatever_their_ids(categories, tmp_path, monkeypatch, answer):
    write_squares(tmp_path, categories)
    (tmp_path / "train.yaml").write_text(SQUARES)
    monkeypatch.chdir(tmp_path)
    summary = answer("train", "train.yaml", "--out", "out")
    assert summary["validation"]["AP50"] > 0.9
    assert min(summary["validation_by_class"].values()) > 0.4
    found = judged_by_pycocotools(tmp_path, summary["weights"])
    assert found.keys() == categories.keys()
    assert min(found.values()) > 0.9
    assert np.mean(list(found.values())) == pytest.approx(summary["validation"]["AP50"], abs=1e-3)
