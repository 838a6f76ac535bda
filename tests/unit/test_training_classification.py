"""Training a classifier: what it sees, that it learns, what a specialised one draws and is judged by."""

import csv
import hashlib

import numpy as np
import pytest
import torch
from common import DIGITS_TRAINING

import ebjr_det
from ebjr_det.core.errors import ConfigError
from ebjr_det.tasks.classification.augmentation import FILL, TrainingSet, build_augmentation, columns
from ebjr_det.tasks.classification.data import ImageSet, build_data
from ebjr_det.tasks.classification.model import build_model
from ebjr_det.tasks.classification.popular import narrow
from ebjr_det.tasks.classification.train import _shift, build_learner
from ebjr_det.tasks.contract import LearnerSettings
from ebjr_det.tasks.popular import Popular
from ebjr_det.tasks.settings import load_train_config
from ebjr_det.training.loop import Trainer
from ebjr_det.training.order import Order

QUICK = ("schedule.steps=6", "schedule.validate_every=2", "schedule.save_every=2", "schedule.batch_size=8")
LOSS = {"label_smoothing": 0.0, "distillation": 0.5, "temperature": 4.0}
STILL = {"padding": 0, "border": 0.0, "flip": 0.0, "color": 0.0}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "train.yaml").write_text(DIGITS_TRAINING)
    return lambda *changes: load_train_config(tmp_path / "train.yaml", changes)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows_of(folder):
    return list(csv.DictReader((folder / "log.csv").open()))


class Cut(BaseException):
    """Not an Exception: nothing may catch it on the way."""


# --- Pictures ---


def pictures_of(image, **augment):
    data = ImageSet(("a",), np.array([2]), ("x", "y", "z"), lambda _: image)
    identity = [lambda changed: torch.from_numpy(np.ascontiguousarray(changed))]
    return TrainingSet(data, build_augmentation(**STILL | augment), identity, Order(1, 0))


def noise(height=9, width=7):
    return np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)


def crops(image, padding):
    """Every crop of the picture's own size from the padded picture, by its corner."""
    height, width = image.shape[:2]
    padded = np.full((height + 2 * padding, width + 2 * padding, 3), FILL, dtype=np.uint8)
    padded[padding : padding + height, padding : padding + width] = image
    size = range(2 * padding + 1)
    return {padded[y : y + height, x : x + width].tobytes(): (y, x) for y in size for x in size}


@pytest.mark.parametrize("padding", [1, 2, 4])
def test_padding_is_a_crop_from_the_padded_picture_every_one_as_likely(padding):
    image = noise()
    pictures, known = pictures_of(image, padding=padding), crops(image, padding)
    count = 30 * len(known)
    found = np.zeros((2 * padding + 1, 2 * padding + 1))
    for k in range(count):
        (picture,), label = pictures[k]
        assert label == 2
        found[known[picture.numpy().tobytes()]] += 1
    assert (found > 0).all()
    chi_squared = ((found - 30) ** 2 / 30).sum()
    cells = found.size - 1
    assert chi_squared < cells + 5 * np.sqrt(2 * cells)


def test_without_changes_a_picture_stays_as_it_is_and_flips_are_flips():
    image = noise()
    assert all((pictures_of(image)[k][0][0].numpy() == image).all() for k in range(5))
    assert (pictures_of(image, flip=1.0)[0][0][0].numpy() == image[:, ::-1]).all()
    half = [(pictures_of(image, flip=0.5)[k][0][0].numpy() == image).all() for k in range(200)]
    assert 70 < sum(half) < 130


def test_a_border_is_cut_off_each_side_and_colours_change_colours_alone():
    image = noise(40, 40)
    sizes = [pictures_of(image, border=0.25)[k][0][0].shape[:2] for k in range(50)]
    assert all(20 <= side <= 40 for size in sizes for side in size)
    assert len(set(sizes)) > 10
    tinted = pictures_of(np.full((4, 4, 3), 100, np.uint8), color=1.0)
    assert {tuple(tinted[k][0][0].shape) for k in range(5)} == {(4, 4, 3)}
    assert len({tinted[k][0][0].numpy().tobytes() for k in range(10)}) > 1


def test_student_and_teacher_see_the_same_change_each_in_its_own_way():
    data = build_data("digits", split="train", limit=5)
    transforms = [torch.from_numpy, lambda image: torch.from_numpy(image.astype(np.int64) * 2)]
    augmentation = build_augmentation(**STILL | {"padding": 2, "flip": 0.5})
    pictures = TrainingSet(data, augmentation, transforms, Order(5, 0))
    own, teachers, labels = columns([pictures[k] for k in range(10)])
    assert torch.equal(own.long() * 2, teachers)
    assert labels.tolist() == [data.target(pictures.order.image_at(k)) for k in range(10)]


def test_picture_k_is_the_same_whatever_was_shown_before():
    first, second = (pictures_of(noise(), padding=4, flip=0.5, color=1.0) for _ in range(2))
    shown = [first[k][0][0] for k in range(6)]
    for k in (5, 2, 5):
        assert torch.equal(second[k][0][0], shown[k])


# --- A whole training ---


def test_training_learns_digits(config, tmp_path):
    summary = ebjr_det.train(config(), tmp_path / "out")
    assert summary.validation["accuracy"] > 0.85
    rows = rows_of(tmp_path / "out")
    assert float(rows[-1]["loss"]) < 0.5
    best = max(rows, key=lambda row: float(row["accuracy"]))
    assert summary.validation["accuracy"] == pytest.approx(float(best["accuracy"]))
    assert summary.kept_step == int(best["step"])
    whole = build_data("digits", split="test")
    settings = config().model.built() | {"checkpoint": summary.weights}
    model = build_model(whole, **settings)
    logits = model([model.preprocess(whole.load(index)) for index in range(len(whole))]).logits.values[:, 0]
    assert (logits.argmax(axis=1) == whole.labels).mean() > 0.8, "on digits that nothing looked at"


@pytest.mark.parametrize("at", [1, 3, 5])
def test_cut_off_it_goes_on_to_the_same_weights_and_log(config, tmp_path, monkeypatch, at):
    ebjr_det.train(config(*QUICK), tmp_path / "whole")
    step = Trainer._one_step

    def cut(self, batch):
        if self.step == at:
            raise Cut
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_one_step", cut)
        with pytest.raises(Cut):
            ebjr_det.train(config(*QUICK), tmp_path / "broken")
    ebjr_det.train(config(*QUICK), tmp_path / "broken", resume=True)
    for name in ("weights.safetensors", "log.csv"):
        assert digest(tmp_path / "broken" / name) == digest(tmp_path / "whole" / name), name


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(config, tmp_path):
    sums = [
        ebjr_det.train(config(*QUICK, f"schedule.seed={seed}"), tmp_path / str(turn)).sha256
        for turn, seed in enumerate((0, 0, 1))
    ]
    assert sums[0] == sums[1] != sums[2]


def test_mixed_precision_learns_and_keeps_whole_weights(config, tmp_path):
    summary = ebjr_det.train(config("schedule.amp=true", "schedule.steps=60"), tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert float(rows[-1]["loss"]) < 2.0
    assert summary.validation["accuracy"] > 0.3
    state = torch.load(tmp_path / "out" / "state.pt", weights_only=True)
    assert {value.dtype for value in state["network"].values() if value.is_floating_point()} == {
        torch.float32
    }


def test_epochs_are_rounds_over_the_images(config, tmp_path):
    length = ("schedule.steps=null", "schedule.epochs=2", "data.part=null", "data.limit=20")
    summary = ebjr_det.train(config("schedule.batch_size=8", *length), tmp_path / "out")
    assert (summary.steps, summary.pictures) == (5, 40)


def test_smoothed_labels_cost_what_torch_says(config):
    torch.manual_seed(0)
    data = build_data("digits", split="train", limit=6)
    model = build_model(data, **config().model.built() | {"random_weights": True})
    images, labels = columns([([model.preprocess(data.load(k))], data.target(k)) for k in range(6)])
    smoothed = LearnerSettings(0, STILL, LOSS | {"label_smoothing": 0.3})
    learner = build_learner(model, data, None, smoothed)
    with torch.no_grad():
        found = learner.bench(images, labels)["loss"]
        logs = model.network(images).double().log_softmax(dim=1)
    wanted = 0.7 * torch.eye(10)[labels] + 0.3 / 10
    assert float(found) == pytest.approx(float(-(wanted * logs).sum(dim=1).mean()), rel=1e-5)


# --- Specialised students ---


def test_a_specialised_training_draws_the_share_and_is_judged_by_it(config):
    names = tuple("0123456789")
    popular = Popular.of([3, 7], names)
    data, watched = (
        narrow(build_data("digits", split="train", part=part), popular) for part in ([0, 0.8], [0.8, 1])
    )
    model = build_model(data, **config().model.built() | {"random_weights": True})
    learner = build_learner(model, data, watched, LearnerSettings(0, STILL, LOSS, popular, 0.8))
    drawn = np.array([data.target(learner.pictures.order.image_at(k)) for k in range(5000)])
    assert abs((drawn < 2).mean() - 0.8) < 4 * np.sqrt(0.8 * 0.2 / 5000)

    class Always(torch.nn.Module):
        def __init__(self, answer):
            super().__init__()
            self.answer = answer

        def forward(self, images):
            return torch.eye(3)[self.answer].expand(len(images), 3)

    other = learner.judge(Always(2))
    assert other == {"accuracy": pytest.approx(0.2), "popular": 0.0, "other": 1.0}
    third = (watched.labels == 0).sum() / (watched.labels < 2).sum()
    found = learner.judge(Always(0))
    assert found == {"accuracy": pytest.approx(0.8 * third), "popular": pytest.approx(third), "other": 0.0}
    plain = build_learner(model, data, watched, LearnerSettings(0, STILL, LOSS, popular))
    assert plain.judge(Always(2))["accuracy"] == (watched.labels == 2).mean()
    assert plain.pictures.order.weights is None


@pytest.mark.parametrize("lacks", ["popular", "other"])
def test_a_validation_without_one_side_is_refused_before_anything_is_trained(config, lacks):
    popular = Popular.of([3], tuple("0123456789"))
    data = narrow(build_data("digits", split="train"), popular)
    watched = data.subset(np.flatnonzero((data.labels < 1) == (lacks == "other"))[:5])
    model = build_model(data, **config().model.built() | {"random_weights": True})
    for share in (None, 0.5):
        with pytest.raises(ConfigError, match="images of popular and of other classes"):
            build_learner(model, data, watched, LearnerSettings(0, STILL, LOSS, popular, share))


def test_a_specialised_student_has_its_own_classes_and_can_begin_at_a_general_one(config, tmp_path, capsys):
    general = ebjr_det.train(config(*QUICK), tmp_path / "general")
    begun = f"initial={general.weights}"
    special = ("model.popular=[3, 7]", "popular_share=0.7", "schedule.steps=20", "schedule.validate_every=10")
    summary = ebjr_det.train(config(*QUICK, *special, begun), tmp_path / "special")
    assert "lacks 2 tensors, which start anew" in capsys.readouterr().err
    assert summary.popular == ["3", "7"]
    judged = summary.validation
    expected = 0.7 * judged["popular"] + 0.3 * judged["other"]
    assert judged["accuracy"] == pytest.approx(expected)
    assert {"popular", "other"} < rows_of(tmp_path / "special")[0].keys()


def test_a_teacher_of_a_specialised_training_expects_the_popular_share():
    """softmax(logits + shift) is Bayes' rule from the data's share of popular classes to the training's."""
    popular = Popular((0, 2), ("a", "b", "c", "d"))
    posterior = torch.tensor([0.2, 0.1, 0.7], dtype=torch.float64)
    prior, seen = torch.tensor([0.25, 0.25, 0.5]), torch.tensor([0.35, 0.35, 0.3])
    wanted = posterior * seen / prior
    found = torch.softmax(posterior.log() + _shift(popular, 0.7, 0.5), dim=0)
    torch.testing.assert_close(found, (wanted / wanted.sum()).double(), rtol=1e-6, atol=1e-6)
