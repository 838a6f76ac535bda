"""Detectors by name: weights loaded, classes fitted, and every wrong setting named."""

import pickle
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from common import SMALL_EFFICIENTDET
from PIL import Image
from safetensors.torch import save_file

from ebjr_det.core.errors import CheckpointError, ConfigError
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.networks.classes import ClassMap, are_coco, coco_names

SMALL = {"arch": "effdet/efficientdet_d0", "image_size": 128, "options": SMALL_EFFICIENTDET}


@dataclass
class Data:
    """The classes of a data set."""

    categories: dict[int, str] = field(default_factory=lambda: {1: "cat", 5: "cup", 9: "dog"})


def small(data=None, **settings):
    torch.manual_seed(settings.pop("seed", 0))
    return build_model(data or Data(), **SMALL | {"random_weights": "checkpoint" not in settings} | settings)


def answers(model):
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(90, 120, 3), dtype=np.uint8))
    return model([model.preprocess(image)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(small(seed=3).network.state_dict(), path)
    return path


# --- Weights ---


def test_weights_from_a_file_are_those_of_the_network_that_was_saved(weights, tmp_path):
    expected = answers(small(seed=3))
    got = answers(small(checkpoint=str(weights)))
    np.testing.assert_array_equal(got.logits.values, expected.logits.values)
    np.testing.assert_array_equal(got.predictions[0].boxes, expected.predictions[0].boxes)
    assert np.abs(answers(small(seed=4)).predictions[0].boxes - expected.predictions[0].boxes).max() > 1
    trained = {
        "epoch": 3,
        "state_dict": {f"module.{k}": v for k, v in small(seed=3).network.state_dict().items()},
    }
    torch.save(trained, tmp_path / "training.pth")
    again = answers(small(checkpoint=str(tmp_path / "training.pth")))
    np.testing.assert_array_equal(again.logits.values, expected.logits.values)


def test_a_checksum_is_checked(weights):
    with pytest.raises(CheckpointError, match=f"Expected sha256 {'a' * 64}"):
        small(checkpoint=str(weights), sha256="a" * 64)


def test_weights_of_other_classes_are_refused_by_the_shape_of_the_head(weights):
    with pytest.raises(CheckpointError, match=r"another class count.*class_net\.predict"):
        small(Data({1: "cat", 2: "cup"}), checkpoint=str(weights))


def test_damaged_and_malicious_weights_are_refused(weights, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        small(checkpoint=str(cut))

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=2))
    with pytest.raises(CheckpointError, match="refused"):
        small(checkpoint=str(tmp_path / "evil.pth"))
    assert not (tmp_path / "made").exists()
    with pytest.raises(CheckpointError, match="checkpoint file"):
        small(checkpoint=str(tmp_path))


def test_half_precision_weights_answer_nearly_the_same(weights, tmp_path):
    state = {
        key: value.half() if value.ndim > 1 else value
        for key, value in small(seed=3).network.state_dict().items()
    }
    save_file(state, tmp_path / "half.safetensors")
    model = small(checkpoint=str(tmp_path / "half.safetensors"))
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    np.testing.assert_allclose(
        answers(model).predictions[0].scores, answers(small(seed=3)).predictions[0].scores, atol=1e-2
    )


@pytest.mark.parametrize("arch", ["effdet/efficientdet_d0", "torchvision/ssdlite320_mobilenet_v3_large"])
def test_no_weights_are_an_error_unless_they_are_meant(arch):
    with pytest.raises(ConfigError, match=r"Expected weights for.*`random_weights: true`"):
        build_model(Data(), arch)


def test_published_weights_are_those_of_the_manifest():
    with pytest.raises(ConfigError, match=r"published weights of `efficientdet_d1`.*Did you mean"):
        build_model(Data(), "effdet/efficientdet_d1", pretrained=True)


def test_building_asks_no_hub(monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    small()
    build_model(Data(), "effdet/tf_efficientdet_d0", random_weights=True)
    build_model(Data(), "torchvision/ssdlite320_mobilenet_v3_large", random_weights=True)


# --- Settings ---


def test_settings_reach_the_network():
    model = small(image_size=256, max_detections=7, soft_nms=True)
    config = model.config
    assert tuple(config.image_size) == (256, 256)
    assert (config.max_det_per_image, config.soft_nms, config.num_classes) == (7, True, 3)
    assert model.name == "efficientdet_d0"
    assert small(name="mine").name == "mine"
    assert model.facts(None) == {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "image_size": [256, 256],
    }
    assert len(answers(small(max_detections=7)).predictions[0]) <= 7


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"arch": "efficientdet_d0"}, r"Expected a known `arch`, got `efficientdet_d0`"),
        ({"arch": "effdet/tf_efficientdet_d00"}, "Did you mean `tf_efficientdet_d0`"),
        ({"arch": "effdett/tf_efficientdet_d0"}, "Expected a known `arch`"),
        ({"arch": "timm/resnet18"}, "Expected a known `arch`"),
        ({"arch": ""}, "Expected a known `arch`"),
        ({"image_size": 100}, r"multiple of 128, got \[100, 100\]"),
        ({"options": SMALL_EFFICIENTDET | {"fpn_chanels": 3}}, "Did you mean `fpn_channels`"),
        ({"options": SMALL_EFFICIENTDET | {"fpn_channels": "wide"}}, "options from which"),
        ({"options": SMALL_EFFICIENTDET | {"fpn_channels": -1}}, "options from which"),
        ({"options": SMALL_EFFICIENTDET | {"backbone_name": "lcnet_51"}}, "options from which"),
        ({"options": SMALL_EFFICIENTDET | {"backbone_args": 3}}, "options from which"),
        ({"options": SMALL_EFFICIENTDET | {"num_scales": "x"}}, "options from which"),
        ({"options": SMALL_EFFICIENTDET | {"aspect_ratios": "x"}}, "options from which"),
        ({"options": SMALL_EFFICIENTDET | {"image_size": [100, 128]}}, "`image_size` beside `options`"),
        ({"options": SMALL_EFFICIENTDET | {"max_det_per_image": 9}}, "`max_detections` beside `options`"),
        ({"options": SMALL_EFFICIENTDET | {"num_classes": 4}}, "`num_classes` beside `options`"),
        ({"options": SMALL_EFFICIENTDET | {"soft_nms": True}}, "`soft_nms` beside `options`"),
        ({"options": SMALL_EFFICIENTDET | {"max_detection_points": 0}}, "max_detection_points"),
        ({"options": SMALL_EFFICIENTDET | {"max_detection_points": "many"}}, "max_detection_points"),
        ({"options": SMALL_EFFICIENTDET | {"mean": [0.5]}}, "mean"),
        ({"options": SMALL_EFFICIENTDET | {"std": [0.5, 0.5, 0]}}, "std"),
        ({"num_classes": 4}, "3 classes of the data, got a detector of 4"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_in_one_line(settings, says):
    with pytest.raises(ConfigError, match=says) as caught:
        small(**settings)
    assert len(str(caught.value).splitlines()) == 1


# --- A model of one's own ---


class Own:
    """The smallest detector that there is."""

    name = "own"

    def __init__(self, categories):
        self.categories = categories

    def preprocess(self, image):
        return image

    def __call__(self, inputs):
        return inputs


def own(categories, device, fail=False):
    if fail:
        raise RuntimeError("no luck\nat all")
    return Own(categories)


def nothing(categories, device):
    return None


def test_a_callable_gets_the_classes_and_brings_its_weights(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_detectors", sys.modules[__name__])
    assert build_model(Data(), "my_detectors:own").categories == Data().categories
    for settings, says in (
        ({"checkpoint": "x"}, "its own weights"),
        ({"pretrained": True}, "its own weights"),
        ({"options": {"fail": True}}, "RuntimeError: no luck"),
        ({"options": {"nope": 1}}, "nope"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            build_model(Data(), "my_detectors:own", **settings)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ConfigError, match="a model with `name`, `preprocess` and a call, got NoneType"):
        build_model(Data(), "my_detectors:nothing")
    with pytest.raises(ConfigError, match="my_detectors:gone"):
        build_model(Data(), "my_detectors:gone")


# --- Classes ---


def test_outputs_in_order_with_or_without_a_background():
    assert ClassMap.of(Data().categories, 3, "x").columns.tolist() == [0, 1, 2]
    assert ClassMap.of(Data().categories, 4, "x", background=True).columns.tolist() == [1, 2, 3]
    some = {17: "cat", 18: "dog"}
    assert are_coco(some)
    assert not are_coco({17: "dog"})
    assert ClassMap.of(some, 90, "x").columns.tolist() == [16, 17]
    assert ClassMap.of(some, 91, "x", background=True).columns.tolist() == [17, 18]
    assert coco_names()[17] == "cat"


def test_only_boxes_of_classes_are_kept_with_their_rows_and_padding_is_no_row():
    mapped = ClassMap(np.array([2, 0]), 3)
    logits = np.arange(12, dtype=np.float32).reshape(4, 3)
    boxes = np.arange(16, dtype=np.float32).reshape(4, 4)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    empty = boxes[:0], scores[:0], np.zeros(0, int), logits[:0]
    output = mapped.output([(boxes, scores, np.array([0, 1, 2, 0]), logits), empty])
    first, second = output.predictions
    assert first.labels.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(first.boxes, boxes[[0, 2, 3]].astype(float))
    np.testing.assert_array_equal(output.logits.values[0], logits[[0, 2, 3]][:, [2, 0]])
    assert len(second) == 0
    assert output.logits.valid.tolist() == [[True] * 3, [False] * 3]
    nothing_at_all = mapped.output([empty, empty])
    assert nothing_at_all.logits.values.shape == (2, 1, 2)
    assert not nothing_at_all.logits.valid.any()
