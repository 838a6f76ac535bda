"""Which output of a detector is which class: the same one taught, stored and read, and found by name."""

import json

import numpy as np
import pytest
import torch
from common import SMALL_EFFICIENTDET, one_object_a_class
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.models import get_model
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights

from ebjr_det.core.errors import CheckpointError, ConfigError, InvalidInput
from ebjr_det.core.types import Logits, Output
from ebjr_det.tasks.contract import LearnerSettings
from ebjr_det.tasks.detection.data import Named
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.networks.classes import UNUSED, ClassMap, coco_names
from ebjr_det.tasks.detection.train import build_learner
from ebjr_det.training.state import write_weights

COCO = {key: name for key, name in coco_names().items() if name not in UNUSED}
SETTINGS = {"arch": "effdet/efficientdet_d0", "image_size": 128, "options": SMALL_EFFICIENTDET}
SSD = "torchvision/ssdlite320_mobilenet_v3_large"


def detector(categories, **settings):
    torch.manual_seed(0)
    weights = {"random_weights": "checkpoint" not in settings}
    return build_model(Named(categories), **SETTINGS | weights | settings)


def learner_of(categories, model):
    augment = {"scale": [1.0, 1.0], "flip": 0.0, "color": 0.0}
    return build_learner(model, one_object_a_class(categories), None, LearnerSettings(0, augment, {}))


def taught_outputs(learner, count):
    """Image -> the outputs for which effdet's loss wants 1, taken where that loss is computed."""
    targets = []
    learner.bench.bench.loss_fn.register_forward_pre_hook(lambda _, given: targets.extend(given[2]))
    with torch.no_grad():
        learner.bench(*learner.collate([learner.pictures[k] for k in range(count)]))
    found = [{output for level in targets for output in level[k].unique().tolist()} for k in range(count)]
    return {learner.pictures.order.image_at(k): found[k] - {-1, -2} for k in range(count)}


def class_read_from(model, output):
    """The class of a box that a network finds with this output alone."""
    anchors = len(model.around.anchors.boxes)
    logits = np.full((1, anchors, model.config.num_classes), -10.0, np.float32)
    logits[0, anchors // 2, output] = 5.0
    raw = logits, np.zeros((1, anchors, 4), np.float32), np.zeros((1, 48), np.float32), logits.max(axis=2)
    (found,) = model.decode(raw, [model.preprocess(Image.new("RGB", (128, 128)))]).predictions
    return found.labels[0] if len(found) and found.scores[0] > 0.5 else None


# --- Taught and read ---


@pytest.mark.parametrize(
    "categories",
    [
        pytest.param({1: "person", 3: "car"}, id="some of COCO's"),
        pytest.param(COCO, id="all of COCO's"),
        pytest.param({1: "red", 3: "blue"}, id="no names of COCO's"),
        pytest.param({0: "person", 1: "car"}, id="COCO's names under other ids"),
    ],
)
def test_a_class_is_read_from_the_output_that_it_is_taught_to(categories):
    model = detector(categories)
    for label, outputs in taught_outputs(learner_of(categories, model), len(categories)).items():
        assert len(outputs) == 1
        assert class_read_from(model, *outputs) == label


def test_coco_s_names_are_taught_to_coco_s_outputs_so_that_published_weights_go_on():
    categories = {3: "car", 18: "dog", 90: "toothbrush"}
    model = detector(categories)
    assert taught_outputs(learner_of(categories, model), 3) == {0: {2}, 1: {17}, 2: {89}}
    other_ids = {0: "dog", 1: "car"}
    model = detector(other_ids, num_classes=90)
    assert taught_outputs(learner_of(other_ids, model), 2) == {0: {17}, 1: {2}}


def test_labels_that_go_elsewhere_are_refused_before_the_first_batch():
    names = {1: "person", 3: "car"}
    bench = learner_of(names, detector(names)).bench
    bench.check_targets(tuple(names.values()))
    bench.taught = torch.tensor([1, 2])  # positions, not outputs
    with pytest.raises(ConfigError, match=r"Expected boxes of `car` to train output 2.* got output 1"):
        bench.check_targets(tuple(names.values()))


# --- Compared by name ---


def test_coco_s_classes_are_found_by_name_whatever_their_ids_and_order():
    alphabetical = dict(enumerate(sorted(COCO.values())))
    for outputs, background in ((90, False), (91, True)):
        mapped = ClassMap.of(alphabetical, outputs, "x", background=background)
        found = [coco_names()[column + 1 - background] for column in mapped.columns]
        assert found == list(alphabetical.values())
    assert ClassMap.of({4: "Traffic_Light", 7: "person"}, 90, "x").columns.tolist() == [9, 0]
    assert ClassMap.of({4: "b", 7: "a"}, 3, "x", output_names=["", "a", "b"]).columns.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("categories", "says"),
    [
        ({0: "person", 1: "platypus"}, "got `platypus` among the data's 2"),
        ({0: "persn"}, "Did you mean `person`"),
        ({0: "person", 1: "Person"}, "`person` twice"),
        ({0: "N/A"}, "got `N/A`"),
        ({key: f"brand {key}" for key in range(6)}, "got `brand 0`, `brand 1`, `brand 2`, `brand 3`, ..."),
    ],
)
def test_names_that_a_network_does_not_have_are_one_line(categories, says):
    with pytest.raises(ConfigError, match=says) as caught:
        ClassMap.of(categories, 90, "x")
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def published_ssd(monkeypatch):
    """torchvision's own weights without a download, which says so on stdout as torch does."""

    def state(self, *_, **__):
        print("Downloading: weights")
        return get_model(SSD.split("/")[1], weights=None, weights_backbone=None).state_dict()

    monkeypatch.setattr(SSDLite320_MobileNet_V3_Large_Weights, "get_state_dict", state)


@pytest.mark.parametrize(
    "categories",
    [
        pytest.param(dict(enumerate(COCO.values())), id="ids from 0"),
        pytest.param(dict(enumerate(sorted(COCO.values()))), id="another order"),
        pytest.param({1: "person", 3: "car"}, id="some"),
        pytest.param({0: "zebra", 1: "bicycle"}, id="some under other ids"),
        pytest.param(COCO, id="COCO"),
    ],
)
def test_torchvision_s_weights_are_mapped_by_their_own_names(categories, published_ssd, capsys):
    model = build_model(Named(categories), SSD, pretrained=True)
    told = SSDLite320_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
    assert [told[column] for column in model.classes.columns] == [*categories.values()]
    assert model.classes.outputs == 91
    assert capsys.readouterr().out == "", "stdout is for results"


@pytest.mark.parametrize(
    ("categories", "settings", "says"),
    [
        ({1: "red", 2: "blue"}, {}, "got `red`, `blue`"),
        ({1: "person", 2: "blue"}, {}, "got `blue`"),
        ({key: f"class {key}" for key in range(90)}, {}, "got `class 0`"),
        ({1: "person"}, {"num_classes": 1}, "`num_classes` to be the 90"),
    ],
)
def test_torchvision_s_weights_for_other_classes_are_one_line(categories, settings, says, published_ssd):
    with pytest.raises(ConfigError, match=says) as caught:
        build_model(Named(categories), SSD, pretrained=True, **settings)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("told", "classes", "columns"),
    [
        (["", "Car", "car", "dog"], ["Car", "Dog"], [1, 3]),
        (["", "Car", "car", "dog"], ["car", "Car"], [2, 1]),
        (["", "Car", "car", "dog"], ["CAR"], "got `CAR`, which is `Car` and `car`"),
        (["", "hot-dog", "hot dog"], ["dog", "hot_dog"], "got `dog`"),
        (["", "car", "dog"], ["car", "CAR"], "distinct names for `x`, got `car` twice"),
    ],
)
def test_a_class_as_it_is_written_goes_before_one_that_is_known_as_the_same(told, classes, columns):
    categories = dict(enumerate(classes))
    if isinstance(columns, list):
        assert ClassMap.of(categories, len(told), "x", output_names=told).columns.tolist() == columns
        return
    with pytest.raises(ConfigError, match=columns):
        ClassMap.of(categories, len(told), "x", output_names=told)


def test_published_efficientdets_are_refused_for_ninety_other_classes(tmp_path, monkeypatch):
    path = tmp_path / "tf_efficientdet_d0_34-f153e0cf.pth"
    torch.save(detector(COCO).network.state_dict(), path)
    monkeypatch.setattr("ebjr_det.io.checkpoints.finding.check_sha256", lambda *_: None)
    model = detector({0: "dog", 1: "person"}, checkpoint=str(path))
    assert model.classes.columns.tolist() == [17, 0]
    with pytest.raises(ConfigError, match="got `class 0`"):
        detector({key: f"class {key}" for key in range(90)}, checkpoint=str(path))


class Black:
    """A detector of one's own: as many logits as it is told, one box of the label that it is told."""

    name = "black"

    def __init__(self, width, label):
        self.width, self.label = width, label

    def preprocess(self, image):
        return image

    def __call__(self, inputs):
        found = Detections(np.array([[0.0, 0, 9, 9]]), np.array([0.5]), np.array([self.label]))
        shape = len(inputs), 1
        valid = np.full(shape, self.width > 0)
        return Output([found] * len(inputs), Logits(np.zeros((*shape, max(1, self.width))), valid))


def black(categories, device, width, label):
    return Black(width, label)


@pytest.mark.parametrize(
    ("width", "label", "says"),
    [(2, 1, None), (0, 0, None), (80, 1, "got 80 logits and label 1"), (2, 2, "got 2 logits and label 2")],
)
def test_a_detector_of_one_s_own_answers_in_the_data_s_classes(width, label, says):
    options = {"width": width, "label": label}
    model = build_model(Named({1: "person", 3: "car"}), f"{__name__}:black", options=options)
    if says is None:
        assert model([None]).predictions[0].labels.tolist() == [label]
        return
    with pytest.raises(InvalidInput, match=f"in the 2 classes of the data.* {says}"):
        model([None])


# --- Stored with the weights ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights as a training on {1 person, 3 car} writes them."""
    path = tmp_path_factory.mktemp("trained") / "weights.safetensors"
    model = detector({1: "person", 3: "car"})
    write_weights(
        path, model.network.state_dict(), half=False, classes=("person", "car"),
        outputs=model.classes.columns.tolist(),
    )  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("categories", "columns"),
    [
        ({1: "person", 3: "car"}, [0, 2]),
        ({0: "person", 1: "car"}, [0, 2]),
        ({0: "car", 1: "person"}, [2, 0]),
        ({7: "car"}, [2]),
        ({1: "Person"}, [0]),
    ],
)
def test_trained_weights_are_mapped_by_the_names_stored_with_them(categories, columns, trained):
    model = detector(categories, checkpoint=str(trained))
    assert model.classes.columns.tolist() == columns
    assert model.classes.outputs == 90


def test_trained_weights_do_not_know_what_they_were_not_taught(trained):
    with pytest.raises(ConfigError, match="got `dog` among the data's 2"):
        detector({1: "person", 18: "dog"}, checkpoint=str(trained))


def stored(path, told, model):
    save_file(model.network.state_dict(), path, {"classes": json.dumps(told)})
    return str(path)


def test_weights_of_the_version_before_were_taught_in_order(tmp_path):
    """It taught class number i of any data to output i, also where 90 outputs were read by COCO's ids."""
    path = stored(tmp_path / "w.safetensors", ["person", "car"], detector({1: "person", 3: "car"}))
    assert detector({1: "person", 3: "car"}, checkpoint=path).classes.columns.tolist() == [0, 1]
    path = stored(tmp_path / "three.safetensors", ["a", "b", "c"], detector({1: "a", 2: "b", 3: "c"}))
    assert detector({1: "c", 2: "a"}, checkpoint=path).classes.columns.tolist() == [2, 0]


def test_what_is_other_depends_on_all_the_classes_beside_it(tmp_path):
    path = stored(tmp_path / "w.safetensors", ["a", "b", "other"], detector({1: "a", 2: "b", 3: "other"}))
    assert detector({1: "b", 2: "a", 9: "other"}, checkpoint=path).classes.columns.tolist() == [1, 0, 2]
    with pytest.raises(CheckpointError, match=r"Expected weights for 2 classes.*Set `popular`"):
        detector({1: "a", 9: "other"}, checkpoint=path)


@pytest.mark.parametrize("names", [("a", "a"), ("Person", "person")])
def test_names_that_are_alike_stay_apart_in_the_order_of_their_training(names, tmp_path):
    categories = dict(enumerate(names))
    path = tmp_path / "w.safetensors"
    write_weights(path, detector(categories).network.state_dict(), half=False, classes=names, outputs=(0, 1))
    assert detector(categories, checkpoint=str(path)).classes.columns.tolist() == [0, 1]


def test_stored_outputs_that_are_not_there_are_one_line(tmp_path):
    path = stored(tmp_path / "w.safetensors", {"a": 0, "b": 7}, detector({1: "a", 2: "b"}))
    with pytest.raises(CheckpointError, match=r"among the 2 outputs of .* got output 7 for `b`"):
        detector({1: "a", 2: "b"}, checkpoint=path)


def test_classes_in_order_are_stored_as_a_list_and_others_with_their_outputs(trained, tmp_path):
    def told(path):
        with safe_open(path, "np") as opened:
            return {key: json.loads(value) for key, value in opened.metadata().items()}

    assert told(trained) == {"classes": {"person": 0, "car": 2}}
    write_weights(
        tmp_path / "w.safetensors", {"a": torch.zeros(1)}, half=False, classes=("x", "y"), outputs=(0, 1)
    )
    assert told(tmp_path / "w.safetensors") == {"classes": ["x", "y"]}


def test_the_weights_tell_how_many_outputs_there_are(tmp_path):
    """COCO's names may have a network of 90 outputs, or one of just these."""
    two = stored(tmp_path / "two.safetensors", None, detector({0: "person", 1: "car"}))
    assert detector({1: "person", 3: "car"}, checkpoint=two).classes.columns.tolist() == [0, 1]
    ninety = stored(tmp_path / "ninety.safetensors", None, detector({1: "person", 3: "car"}))
    assert detector({0: "car", 1: "person"}, checkpoint=ninety).classes.columns.tolist() == [2, 0]
