"""Training: every picture once a round, boxes that stay on their objects, breaks that change nothing."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import ebjr_det
from ebjr_det.core.errors import CheckpointError, ConfigError, InvalidInput
from ebjr_det.tasks.detection.augmentation import TrainingSet, build_augmentation
from ebjr_det.tasks.detection.coco.annotations import Annotations, Truth
from ebjr_det.tasks.detection.data import DetectionSet, build_data
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.train import judge
from ebjr_det.tasks.settings import load_train_config
from ebjr_det.training.loop import Trainer
from ebjr_det.training.order import Order

MEAN = (0.485, 0.456, 0.406)
CONFIG = """
task: detection
data: {dataset: digit_scenes, split: calibration, limit: 7}
model:
  arch: effdet/efficientdet_d0
  image_size: 128
  options:
    {backbone_name: lcnet_050, backbone_args: {}, fpn_channels: 48, fpn_cell_repeats: 1, box_class_repeats: 1}
schedule: {steps: 6, batch_size: 3, warmup_steps: 2, validate_every: 3, save_every: 2, ema_decay: 0.5}
"""
DROPS_PATHS = [
    "model.options.backbone_name=mobilenetv3_small_050",
    "model.options.backbone_args={drop_path_rate: 0.5}",
]


@pytest.fixture
def config(tmp_path):
    (tmp_path / "train.yaml").write_text(CONFIG)
    return lambda *changes: load_train_config(tmp_path / "train.yaml", changes)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Cut(BaseException):
    """Not an Exception: nothing may catch it on the way."""


# --- Which picture ---


def one_square(corner=(20, 30, 24, 16), size=(100, 80), count=1):
    """Black pictures with one white square each: x, y, width, height in pixels."""
    x, y, width, height = corner
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[y : y + height, x : x + width] = 255
    truth = Truth(
        np.array([corner], float), np.array([2]), np.array([float(width * height)]), np.zeros(1, bool)
    )
    ids = tuple(range(1, count + 1))
    annotations = Annotations(
        ids, tuple(map(str, ids)), np.full((count, 2), size), (1, 2, 3), ("a", "b", "c"), (truth,) * count
    )
    return DetectionSet(annotations, lambda _: Image.fromarray(pixels))


def pictures_of(data, seed=0, side=64, scale=(0.8, 1.25), flip=0.5, color=0.5):
    return TrainingSet(data, build_augmentation(side, MEAN, scale, flip, color), Order(len(data), seed))


@pytest.mark.parametrize("count", [1, 2, 13])
def test_every_round_shows_every_image_once_each_time_in_another_order(count):
    pictures = pictures_of(one_square(count=count))
    rounds = [[pictures.order.image_at(turn * count + k) for k in range(count)] for turn in range(4)]
    assert all(sorted(turn) == list(range(count)) for turn in rounds)
    if count == 13:
        assert len({tuple(turn) for turn in rounds}) == 4
        other = pictures_of(one_square(count=count), seed=1)
        assert [other.order.image_at(k) for k in range(count)] != rounds[0]


def test_picture_k_is_the_same_whatever_was_shown_before():
    data = build_data("digit_scenes", split="calibration", limit=4)
    first, second = pictures_of(data), pictures_of(data)
    shown = [first[k] for k in range(6)]
    for k in (5, 2, 5):
        for own, expected in zip(second[k], shown[k], strict=True):
            assert torch.equal(own, expected)
    assert not torch.equal(shown[0][0], pictures_of(data, seed=1)[0][0])
    same_image = [k for k in range(12) if first.order.image_at(k) == first.order.image_at(0)]
    assert not torch.equal(first[same_image[0]][0], first[same_image[1]][0]), "another round, another change"


# --- Boxes stay on their objects ---


@pytest.mark.parametrize("corner", [(20, 30, 24, 16), (0, 0, 30, 30), (70, 50, 30, 30), (0, 0, 100, 80)])
def test_a_white_square_stays_in_its_box_and_fills_it(corner):
    pictures = pictures_of(one_square(corner), color=0, scale=(0.8, 2.0))
    kept, flipped = 0, set()
    for k in range(60):
        pixels, boxes, labels = pictures[k]
        assert pixels.shape == (3, 64, 64)
        assert pixels.dtype == torch.uint8
        white = (pixels.amin(dim=0) > 200).numpy()
        if not len(boxes):
            assert white.sum() < 0.41 * corner[2] * corner[3] * (0.64 * 2) ** 2, (
                "a visible object without a box"
            )
            continue
        kept += 1
        assert labels.tolist() == [2], "the class of the data"
        (y1, x1, y2, x2), (rows, columns) = boxes[0].tolist(), np.nonzero(white)
        assert 0 <= y1 < y2 <= 64
        assert 0 <= x1 < x2 <= 64
        inside = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose([x1, y1, x2, y2], inside, atol=1.6)
        flipped.add(columns.mean() > 32)
    assert kept > 20
    if corner[0] == 0 and corner[2] < 100:
        assert flipped == {True, False}


def test_an_object_of_which_little_is_left_is_no_object():
    pictures = pictures_of(one_square((0, 0, 30, 30)), color=0, scale=(2.0, 2.0))
    counts = [len(pictures[k][1]) for k in range(40)]
    assert 0 < sum(counts) < 40


def test_crowds_and_boxes_without_an_area_are_not_trained_on():
    data = one_square()
    truth = Truth(
        np.array([[20, 30, 24, 16], [1, 1, 50, 50], [5, 5, 0, 9]], float),
        np.array([2, 0, 1]), np.ones(3), np.array([False, True, False]),
    )  # fmt: skip
    object.__setattr__(data.annotations, "truths", (truth,))
    pictures = pictures_of(data, scale=(0.8, 0.8))
    assert [pictures[k][2].tolist() for k in range(5)] == [[2]] * 5


def test_a_picture_without_objects_is_trained_on():
    data = one_square()
    object.__setattr__(
        data.annotations, "truths",
        (Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), np.zeros(0, bool)),),
    )  # fmt: skip
    pixels, boxes, labels = pictures_of(data)[0]
    assert (tuple(pixels.shape), tuple(boxes.shape), tuple(labels.shape)) == ((3, 64, 64), (0, 4), (0,))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (64, 64), (65, 63)])
def test_any_size_of_picture_becomes_the_networks(size):
    data = one_square((0, 0, 1, 1), size)
    assert pictures_of(data)[0][0].shape == (3, 64, 64)


@pytest.mark.parametrize("scale", [(0, 1), (1.25, 0.8), (-1, 1), (1, 1000), (float("nan"), 1)])
def test_a_scale_that_is_no_range_is_refused(scale):
    with pytest.raises(ConfigError, match=r"augment\.scale"):
        pictures_of(one_square(), scale=scale)


def test_an_unreadable_picture_gives_way_to_the_next_or_is_an_error(capsys):
    data = build_data("digit_scenes", split="calibration", limit=3)

    def load(index):
        if index == 1:
            raise InvalidInput("Expected a readable picture, got `1`.")
        return data.load(index)

    broken = DetectionSet(data.annotations, load)
    pictures = pictures_of(broken)
    k = next(k for k in range(3) if pictures.order.image_at(k) == 1)
    whole = pictures_of(data)
    whole.order.image_at = lambda _: 2
    for own, expected in zip(pictures[k], whole[k], strict=True):
        assert torch.equal(own, expected)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip() == "Left out: Expected a readable picture, got `1`."
    with pytest.raises(InvalidInput, match="readable picture, got `1`"):
        pictures_of(DetectionSet(data.annotations, load, skip_unreadable=False))[k]

    def fail(index):
        raise InvalidInput("no")

    with pytest.raises(InvalidInput, match="none among 3"):
        pictures_of(DetectionSet(data.annotations, fail))[0]


# --- Breaks ---


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([], id="no chance in the network"),
        pytest.param(DROPS_PATHS, id="paths dropped at random"),
    ],
)
def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(config, tmp_path, monkeypatch, changes):
    ebjr_det.train(config(*changes), tmp_path / "whole")
    step = Trainer._one_step

    def cut(self, *batch):
        if self.step == 5:
            raise Cut
        return step(self, *batch)

    monkeypatch.setattr(Trainer, "_one_step", cut)
    with pytest.raises(Cut):
        ebjr_det.train(config(*changes), tmp_path / "broken")
    monkeypatch.undo()
    assert not (tmp_path / "broken" / "weights.safetensors").exists()
    ebjr_det.train(config(*changes), tmp_path / "broken", resume=True)
    for name in ("weights.safetensors", "log.csv"):
        assert digest(tmp_path / "broken" / name) == digest(tmp_path / "whole" / name), name


def test_a_state_of_another_network_is_named_in_one_line(config, tmp_path):
    out = tmp_path / "out"
    ebjr_det.train(config("schedule.steps=2"), out)
    for content in (b"", b"not a state", torch_bytes({"step": 1}), torch_bytes({"network": {}, "step": 1})):
        (out / "state.pt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"state of this training in .*state\.pt") as caught:
            ebjr_det.train(config("schedule.steps=2"), out, resume=True)
        assert len(str(caught.value).splitlines()) == 1
    other = tmp_path / "other"
    ebjr_det.train(config("schedule.steps=2", "model.options.fpn_channels=32"), other)
    (out / "state.pt").write_bytes((other / "state.pt").read_bytes())
    with pytest.raises(CheckpointError, match="state of this training"):
        ebjr_det.train(config("schedule.steps=2"), out, resume=True)


def torch_bytes(content):
    import io

    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_resuming_asks_for_the_same_settings_and_a_new_start_for_an_empty_folder(config, tmp_path):
    out = tmp_path / "out"
    ebjr_det.train(config("schedule.steps=2"), out)
    with pytest.raises(ConfigError, match=r"`schedule.steps` as in the training that .* 2, got 3"):
        ebjr_det.train(config("schedule.steps=3"), out, resume=True)
    with pytest.raises(ConfigError, match="Add --resume"):
        ebjr_det.train(config("schedule.steps=2"), out)
    before = digest(out / "weights.safetensors")
    ebjr_det.train(config("schedule.steps=2"), out, resume=True)
    assert digest(out / "weights.safetensors") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="got files"):
        ebjr_det.train(config(), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


# --- What comes out ---


def test_the_average_of_the_weights_is_what_is_saved(config, tmp_path, monkeypatch):
    """After step k the average keeps min(0.5, 1 - k^(-2/3)) of itself; by hand in float64 along a trace."""
    trace, step = [], Trainer._one_step

    def traced(self, *batch):
        found = step(self, *batch)
        trace.append({k: v.detach().double().clone() for k, v in self.learner.network.state_dict().items()})
        return found

    monkeypatch.setattr(Trainer, "_one_step", traced)
    ebjr_det.train(config(), tmp_path / "out")
    saved = load_file(tmp_path / "out" / "weights.safetensors")
    for key in ("class_net.predict.conv_pw.weight", "backbone.bn1.running_var"):
        average = torch.zeros_like(trace[0][key])
        for k, row in enumerate(trace, start=1):
            decay = min(0.5, 1 - k ** (-2 / 3))
            average = decay * average + (1 - decay) * row[key]
        torch.testing.assert_close(saved[key].double(), average, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(average, trace[-1][key], rtol=1e-4)


def test_weights_in_half_precision_load_and_judge_nearly_the_same(config, tmp_path):
    data = build_data("digit_scenes", split="test", limit=3)
    judged = []
    for kind in ("float32", "float16"):
        summary = ebjr_det.train(config(f"schedule.weights={kind}", "schedule.steps=2"), tmp_path / kind)
        state = load_file(summary.weights)
        assert {v.dtype for v in state.values() if v.ndim > 1} == {getattr(torch, kind)}
        assert {v.dtype for v in state.values() if v.ndim == 1} == {torch.float32}
        settings = config().model.built()
        detector = build_model(data, **settings | {"checkpoint": summary.weights})
        inputs = [detector.preprocess(data.load(0))]
        judged.append((judge(detector, data).numbers["AP"], detector(inputs).predictions[0].scores))
    (first, full), (second, half) = judged
    assert abs(first - second) < 1e-2
    np.testing.assert_allclose(full, half, atol=1e-2)
    sizes = [(tmp_path / kind / "weights.safetensors").stat().st_size for kind in ("float16", "float32")]
    assert sizes[0] < 0.6 * sizes[1]


def test_the_summary_and_the_log_tell_what_was_trained(config, tmp_path):
    watched = "validation={dataset: digit_scenes, split: test, limit: 2}"
    summary = ebjr_det.train(config(watched), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary.to_dict()
    assert summary.sha256 == digest(tmp_path / "out" / "weights.safetensors")
    assert summary.bytes == (tmp_path / "out" / "weights.safetensors").stat().st_size
    assert (summary.steps, summary.pictures) == (6, 18)
    rows = list(csv.DictReader((tmp_path / "out" / "log.csv").open()))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert float(rows[-1]["AP"]) == pytest.approx(summary.validation["AP"], abs=1e-9)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.yaml", "environment.json", "log.csv", "log.png", "log.svg", "manifest_entry.yaml", "state.pt",
        "summary.json", "weights.safetensors",
    }  # fmt: skip


def test_initial_weights_of_other_classes_keep_all_but_the_head(config, tmp_path, monkeypatch, capsys):
    data = one_square()
    torch.manual_seed(9)
    settings = config().model.built()
    state = build_model(data, **settings | {"random_weights": True}).network.state_dict()
    save_file(state, tmp_path / "three.safetensors")
    begun = {}
    made = Trainer.__post_init__

    def begin(self):
        made(self)
        begun.update({k: v.detach().clone() for k, v in self.learner.network.state_dict().items()})

    monkeypatch.setattr(Trainer, "__post_init__", begin)
    ebjr_det.train(config("schedule.steps=1", f"initial={tmp_path / 'three.safetensors'}"), tmp_path / "out")
    anew = {key for key, value in begun.items() if value.shape != state[key].shape}
    assert anew == {"class_net.predict.conv_pw.weight", "class_net.predict.conv_pw.bias"}
    for key in begun.keys() - anew:
        assert torch.equal(begun[key], state[key]), key
    assert "lacks 2 tensors, which start anew: class_net.predict" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_ends_in_one_line(config, tmp_path):
    with pytest.raises(InvalidInput, match=r"finite loss, got nan at step \d+. Lower `lr`") as caught:
        ebjr_det.train(config("schedule.lr=1e30", "schedule.warmup_steps=0"), tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out" / "weights.safetensors").exists()


def test_training_learns(config, tmp_path):
    """A few steps lower the loss on the pictures that it sees."""
    changes = [
        "data.limit=2", "schedule.batch_size=2", "augment.flip=0", "augment.color=0",
        "augment.scale=[1,1]",
    ]  # fmt: skip
    ebjr_det.train(
        config(*changes, "schedule.steps=30", "schedule.validate_every=1", "schedule.warmup_steps=1",
               "schedule.lr=0.003"),
        tmp_path / "out",
    )  # fmt: skip
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "out" / "log.csv").open())]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_only_an_efficientdet_is_trained(config, tmp_path):
    changes = [
        "model.arch=torchvision/ssdlite320_mobilenet_v3_large",
        "model.image_size=null",
        "model.options={}",
    ]
    with pytest.raises(ConfigError, match="`effdet/NAME` to train"):
        ebjr_det.train(config(*changes), Path(tmp_path / "out"))
