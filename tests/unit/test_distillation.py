"""Learning a teacher's answers: losses against their formulas in float64, and a teacher that never moves."""

import json

import numpy as np
import pytest
import torch
from common import SMALL_EFFICIENTDET, one_object_a_class
from safetensors.torch import save_file
from torch import nn

import ebjr_det
from ebjr_det.core.errors import ConfigError
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.classification.model import TorchClassifier
from ebjr_det.tasks.classification.train import build_learner
from ebjr_det.tasks.contract import LearnerSettings
from ebjr_det.tasks.detection import train as detection
from ebjr_det.tasks.detection.data import Named, build_data
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.popular import narrow, narrow_classes
from ebjr_det.tasks.popular import Popular
from ebjr_det.tasks.settings import load_train_config

STILL = {"padding": 0, "border": 0.0, "flip": 0.0, "color": 0.0}
AS_IT_IS = {"scale": [1.0, 1.0], "flip": 0.0, "color": 0.0}
NAMES = ("ant", "bee", "cat", "dog")
SMALL = {"image_size": 128, "options": SMALL_EFFICIENTDET, "random_weights": True}


def softmax(logits, temperature=1.0):
    logits = np.asarray(logits, np.float64) / temperature
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def kl(wanted, found):
    return (wanted * (np.log(wanted) - np.log(found))).sum(axis=1).mean()


# --- Classification ---


def linear(classes, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, classes))


def classifier(network):
    return TorchClassifier(
        "net", network, lambda image: torch.as_tensor(image.transpose(2, 0, 1) / 255).float()
    )


def images(classes=4):
    pixels = np.random.default_rng(0).integers(256, size=(6, 4, 4, 3), dtype=np.uint8)
    names = (*NAMES[: classes - 1], "other") if classes < 4 else NAMES
    labels = np.arange(6) % classes
    return ImageSet(tuple("abcdef"), labels, names, pixels.__getitem__)


def learner_of(student, teacher, popular=None, classes=4, popular_share=None, **loss):
    loss = {"label_smoothing": 0.0, "temperature": 4.0, "distillation": 0.5} | loss
    settings = LearnerSettings(0, STILL, loss, popular, popular_share)
    return build_learner(classifier(student), images(classes), None, settings, classifier(teacher))


def batch_of(learner):
    return learner.collate([learner.pictures[k] for k in range(6)])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_classifiers_loss_is_hintons(temperature, share):
    student, teacher = linear(4, 0), linear(4, 1)
    learner = learner_of(student, teacher, distillation=share, temperature=temperature)
    inputs, teachers, labels = batch_of(learner)
    with torch.no_grad():
        found = learner.bench(inputs, teachers, labels)
        own, theirs = student(inputs).numpy(), teacher(teachers).numpy()
    label_loss = -np.log(softmax(own)[range(6), labels]).mean()
    teacher_loss = temperature**2 * kl(softmax(theirs, temperature), softmax(own, temperature))
    assert float(found["label_loss"]) == pytest.approx(label_loss, rel=1e-5)
    assert float(found["teacher_loss"]) == pytest.approx(teacher_loss, rel=1e-4)
    assert float(found["loss"]) == pytest.approx((1 - share) * label_loss + share * teacher_loss, rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("popular_share", [None, 0.9])
def test_a_specialised_student_learns_the_narrowed_probabilities(temperature, popular_share):
    """Those of the classes that are not popular added up, weighed by what is shown, then softened."""
    popular = Popular((1, 3), NAMES)
    student, teacher = linear(3, 0), linear(4, 1)
    learner = learner_of(
        student, teacher, popular, 3, popular_share, distillation=1.0, temperature=temperature
    )
    inputs, teachers, labels = batch_of(learner)
    with torch.no_grad():
        found = learner.bench(inputs, teachers, labels)["loss"]
        own, theirs = student(inputs).numpy(), teacher(teachers).numpy()
    all_four = softmax(theirs)
    wanted = np.stack([all_four[:, 1], all_four[:, 3], all_four[:, 0] + all_four[:, 2]], axis=1)
    if popular_share is not None:  # four of the six images are popular
        wanted *= [0.9 / (4 / 6), 0.9 / (4 / 6), 0.1 / (2 / 6)]
    wanted **= 1 / temperature
    wanted /= wanted.sum(axis=1, keepdims=True)
    assert float(found) == pytest.approx(temperature**2 * kl(wanted, softmax(own, temperature)), rel=1e-4)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    student, teacher = linear(4, 0), linear(4, 0)
    learner = learner_of(student, teacher, distillation=1.0)
    loss = learner.bench(*batch_of(learner))["loss"]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert all(value.grad.abs().max() < 1e-6 for value in student.parameters())


@pytest.fixture
def config(tmp_path):
    (tmp_path / "train.yaml").write_text(
        """
data: {dataset: digits, split: train, limit: 40}
model: {arch: resnet, depth: 8, width: 2}
teacher: {arch: resnet, depth: 8, width: 4, random_weights: true}
schedule: {steps: 4, batch_size: 8, validate_every: 2}
"""
    )
    return lambda *changes: load_train_config(tmp_path / "train.yaml", changes)


def test_the_teacher_never_changes_and_never_trains(config, tmp_path, monkeypatch):
    """Not its weights, not what its norms have seen, whatever mode the student is in."""
    from ebjr_det.tasks.classification import train as classification
    from ebjr_det.training.loop import Trainer

    teachers, begun = [], []
    build, step = classification.build_learner, Trainer._one_step

    def building(*args, **options):
        teachers.append(options["teacher"].network)
        begun.append({key: value.clone() for key, value in teachers[0].state_dict().items()})
        return build(*args, **options)

    def checked(self, batch):
        found = step(self, batch)
        assert self.learner.network.training
        assert not any(module.training for module in teachers[0].modules())
        own = {id(value) for group in self.optimizer.param_groups for value in group["params"]}
        assert not own & {id(value) for value in teachers[0].parameters()}
        return found

    monkeypatch.setattr(classification, "build_learner", building)
    monkeypatch.setattr(Trainer, "_one_step", checked)
    ebjr_det.train(config(), tmp_path / "out")
    after = teachers[0].state_dict()
    assert any("running_mean" in key for key in after)
    assert all(torch.equal(value, after[key]) for key, value in begun[0].items())
    assert all(value.grad is None for value in teachers[0].parameters())
    state = torch.load(tmp_path / "out" / "state.pt", weights_only=True)
    assert state["network"].keys() == teachers[0].state_dict().keys(), "the student's alone, same depth"
    assert {"label_loss", "teacher_loss"} < state["log"][0].keys()


# --- Detection ---


def detector(data, seed, **changes):
    torch.manual_seed(seed)
    options = SMALL["options"] | changes.pop("options", {})
    arch = changes.pop("arch", "effdet/efficientdet_d0")
    model = build_model(data, arch, **SMALL | {"options": options} | changes)
    with torch.no_grad():  # fresh heads say the same everywhere
        model.network.class_net.predict.conv_pw.weight.normal_(0, 60)
        model.network.class_net.predict.conv_pw.bias.zero_()
    return model


def learner_of_detectors(popular=None, temperature=2.0, share=0.4, **changes):
    whole = build_data("digit_scenes", split="calibration", limit=2)
    data = whole if popular is None else narrow(whole, popular)
    classes = whole if popular is None else narrow_classes(whole, popular)
    student, teacher = detector(classes, 0), detector(whole, 1, **changes)
    settings = LearnerSettings(0, AS_IT_IS, {"distillation": share, "temperature": temperature}, popular)
    learner = detection.build_learner(student, data, None, settings, teacher)
    return learner, student, teacher


def rows_of(levels, outputs):
    rows = [level.permute(0, 2, 3, 1).reshape(len(level), -1, outputs) for level in levels]
    return torch.cat(rows, dim=1).detach().numpy().astype(np.float64)


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("specialised", [False, True])
def test_a_detectors_loss_is_quality_focal_loss_on_the_teachers_scores(temperature, specialised):
    names = build_data("digit_scenes", split="calibration", limit=1).class_names
    popular = Popular.of([1, 4], names) if specialised else None
    learner, student, teacher = learner_of_detectors(popular, temperature)
    student.network.eval()  # its norms do not move between the two looks
    pixels, boxes, labels = learner.collate([learner.pictures[k] for k in range(2)])
    found = learner.bench(pixels, boxes, labels)
    batch = student.graph.normalize(pixels)
    own = rows_of(student.network(batch)[0], student.classes.outputs)
    theirs = rows_of(teacher.network(batch)[0], len(names))
    if specialised:
        rest = [index for index in range(len(names)) if index not in (1, 4)]
        theirs = np.concatenate([theirs[..., [1, 4]], theirs[..., rest].max(axis=-1, keepdims=True)], axis=-1)
    s, t = sigmoid(own / temperature), sigmoid(theirs / temperature)
    cross_entropy = -(t * np.log(s) + (1 - t) * np.log(1 - s))
    expected = (np.abs(t - s) ** 2 * cross_entropy).sum() / sum(map(len, boxes))
    assert expected > 0.01
    assert float(found["teacher_loss"]) == pytest.approx(expected, rel=1e-3)
    plain = detection.build_learner(student, learner.pictures.data, None, LearnerSettings(0, AS_IT_IS, {}))
    own_loss = plain.bench(pixels, boxes, labels)["loss"]
    assert float(found["loss"]) == pytest.approx(0.6 * float(own_loss) + 0.4 * expected, rel=1e-3)


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_each_class_is_taught_from_the_teachers_output_of_it_to_the_students(share, tmp_path):
    """The student has COCO's 90 outputs, of which two are read; the teacher four in an order of its own."""
    pair, told = {17: "cat", 18: "dog"}, ["bee", "dog", "ant", "cat"]
    random = detector(Named(dict(enumerate(told))), 1)
    save_file(random.network.state_dict(), tmp_path / "w.safetensors", {"classes": json.dumps(told)})
    trained = {"checkpoint": str(tmp_path / "w.safetensors"), "random_weights": False}
    data = one_object_a_class(pair)
    student, teacher = detector(data, 0), detector(data, 1, **trained)
    assert (student.classes.outputs, student.classes.columns.tolist()) == (90, [16, 17])
    assert (teacher.classes.outputs, teacher.classes.columns.tolist()) == (4, [3, 1])
    settings = LearnerSettings(0, AS_IT_IS, {"distillation": share, "temperature": 2.0})
    learner = detection.build_learner(student, data, None, settings, teacher)
    student.network.eval()  # its norms do not move between the two looks
    pixels, boxes, labels = learner.collate([learner.pictures[k] for k in range(2)])
    found = learner.bench(pixels, boxes, labels)
    batch = student.graph.normalize(pixels)
    s = sigmoid(rows_of(student.network(batch)[0], 90)[..., [16, 17]] / 2)
    t = sigmoid(rows_of(teacher.network(batch)[0], 4)[..., [3, 1]] / 2)
    cross_entropy = -(t * np.log(s) + (1 - t) * np.log(1 - s))
    expected = (np.abs(t - s) ** 2 * cross_entropy).sum() / sum(map(len, boxes))
    assert expected > 0.01
    assert float(found["teacher_loss"].detach()) == pytest.approx(expected, rel=1e-3)
    found["loss"].backward()
    moved = student.network.class_net.predict.conv_pw.bias.grad.reshape(-1, 90).abs().amax(dim=0)
    reached = moved.nonzero().flatten().tolist()
    assert reached == ([16, 17] if share == 1.0 else list(range(90)))


def test_a_detectors_teacher_never_changes_and_never_trains():
    learner, student, teacher = learner_of_detectors()
    before = {key: value.clone() for key, value in teacher.network.state_dict().items()}
    learner.bench.train()
    losses = learner.bench(*learner.collate([learner.pictures[k] for k in range(2)]))
    losses["loss"].backward()
    assert student.network.training
    assert not any(module.training for module in teacher.network.modules())
    assert all(torch.equal(value, before[key]) for key, value in teacher.network.state_dict().items())
    assert all(value.grad is None for value in teacher.network.parameters())
    assert {id(value) for value in learner.bench.parameters()} == {
        id(value) for value in student.network.parameters()
    }


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_size": 256}, "`image_size`"),
        ({"options": {"num_scales": 2}}, "`num_scales`"),
        ({"options": {"aspect_ratios": [[1.0, 1.0]]}}, "`aspect_ratios`"),
        ({"arch": "effdet/tf_efficientdet_d0_ap"}, "mean and standard deviation"),
    ],
)
def test_a_teacher_that_sees_other_inputs_or_anchors_is_refused(changes, says):
    with pytest.raises(ConfigError, match=says) as caught:
        learner_of_detectors(**changes)
    assert len(str(caught.value).splitlines()) == 1


def test_a_teacher_of_another_kind_is_refused():
    data = build_data("digit_scenes", split="calibration", limit=2)
    other = build_model(data, "torchvision/ssdlite320_mobilenet_v3_large", random_weights=True)
    settings = LearnerSettings(0, AS_IT_IS, {"distillation": 0.5, "temperature": 1.0})
    with pytest.raises(ConfigError, match="`effdet/NAME` as the `teacher`"):
        detection.build_learner(detector(data, 0), data, None, settings, other)
