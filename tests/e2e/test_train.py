"""`ebjr-det train` as a user meets it: what it tells, what it goes on from, and every mistake."""

import hashlib
import json
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from common import SMALL_EFFICIENTDET

from ebjr_det.training.state import save_state

CONFIG = """
data: {dataset: digits, split: train, part: [0.0, 0.9]}
validation: {dataset: digits, split: train, part: [0.9, 1.0]}
model: {arch: resnet, depth: 8, width: 2}
augment: {padding: 1, flip: 0.0}
schedule:
  {steps: 6, batch_size: 8, optimizer: sgd, nesterov: true, lr: 0.1, policy: one_cycle, validate_every: 3,
  save_every: 2, ema_decay: 0.9}
"""
DETECTION = """
task: detection
data: {dataset: digit_scenes, split: calibration, limit: 4}
model: {arch: effdet/efficientdet_d0, image_size: 128, options: SMALL}
schedule: {steps: 1}
""".replace("SMALL", json.dumps(SMALL_EFFICIENTDET))
PLAIN = """
import torch
from torch import nn

def build(num_classes, width=8):
    layers = nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * width, num_classes)
    return nn.Sequential(*layers)

class Scale(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, 3))

    def forward(self, images):
        return (images.mean(dim=(2, 3))[:, None] * self.weight).sum(dim=2)

def no_module(num_classes):
    return lambda images: images.mean(dim=(2, 3)) @ images.new_ones(3, num_classes)
"""
FILES = ("weights.safetensors", "log.csv", "config.yaml")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of a user's own."""
    (tmp_path / "networks_of_mine.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)


def changed(changes: tuple[str, ...]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- Answers ---


def test_the_resolved_configuration_is_printed_and_nothing_is_made(config, command, capsys, tmp_path):
    changes = changed(("schedule.lr=0.2", "model.popular=[3, 7]"))
    assert command("train", config, *changes, "--print-config", "--out", tmp_path / "out") == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["schedule"]["lr"], shown["schedule"]["keep"]) == (0.2, "best")
    assert shown["model"]["popular"] == [3, 7]
    assert shown["task"] == "classification"
    assert not (tmp_path / "out").exists()
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(shown))
    assert command("train", tmp_path / "again.yaml", "--print-config") == 0
    assert yaml.safe_load(capsys.readouterr().out) == shown


def test_json_is_the_only_thing_on_stdout_and_is_the_summary(config, command, capsys, tmp_path):
    assert command("train", config, "--out", tmp_path / "out", "--json", "--device", "cpu") == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert told["sha256"] == digest(tmp_path / "out" / "weights.safetensors")
    assert told["quality"] == "accuracy"
    assert (told["steps"], told["pictures"]) == (6, 48)
    assert "step 6: loss" in err
    (entry,) = yaml.safe_load((tmp_path / "out" / "manifest_entry.yaml").read_text()).values()
    assert entry["sha256"] == told["sha256"]
    assert f"{told['validation']['accuracy']:.4f} on the validation images" in entry["note"]


def test_people_read_two_lines(config, command, capsys, tmp_path):
    assert command("train", config, "--out", tmp_path / "out") == 0
    first, second = capsys.readouterr().out.strip().splitlines()
    assert "parameters, validation accuracy" in first
    assert second == str(tmp_path / "out" / "weights.safetensors")
    assert digest(Path(second)) == json.loads((tmp_path / "out" / "summary.json").read_text())["sha256"]


def test_trained_weights_serve_in_a_pair(config, command, capsys, tmp_path):
    assert command("train", config, "--out", tmp_path / "out", "--json") == 0
    weights = json.loads(capsys.readouterr().out)["weights"]
    model = {"arch": "resnet", "depth": 8, "width": 2, "checkpoint": weights}
    pair = {"data": {"dataset": "digits", "limit": 60}, "student": model, "teacher": {**model}}
    (tmp_path / "pair.yaml").write_text(yaml.safe_dump(pair | {"latency": {"measure": False}}))
    assert command("evaluate", tmp_path / "pair.yaml", "--out", tmp_path / "run", "--json") == 0


# --- Breaks ---


BESIDE = (
    "title=Another", "model.name=mine", "model.macs=5.0", "schedule.workers=2", "schedule.save_every=1",
    "schedule.threads=1",
)  # fmt: skip


@pytest.mark.parametrize("text", [CONFIG, DETECTION], ids=["classification", "detection"])
def test_it_goes_on_with_other_settings_that_weights_do_not_follow_from(
    text, config, command, tmp_path, monkeypatch
):
    config.write_text(text.replace("steps: 1}", "steps: 4, batch_size: 2}"))
    before = changed(("schedule.save_every=2", "schedule.threads=1"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert command("train", config, *before, "--out", tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr("ebjr_det.training.loop.save_state", stop_after_saving)
        assert command("train", config, *before, "--out", tmp_path / "broken") == 130
    assert not (tmp_path / "broken" / "weights.safetensors").exists()
    assert command("train", config, *changed(BESIDE), "--out", tmp_path / "broken", "--resume") == 0
    assert digest(tmp_path / "broken" / FILES[0]) == digest(tmp_path / "whole" / FILES[0])
    there = yaml.safe_load((tmp_path / "broken" / "config.yaml").read_text())
    assert (there["title"], there["schedule"]["workers"], there["model"]["macs"]) == ("Another", 2, 5.0)
    summary = json.loads((tmp_path / "broken" / "summary.json").read_text())
    assert (summary["title"], summary["macs"]) == ("Another", 5.0)


def stop_after_saving(path, state):
    """As if Ctrl-C came just then."""
    save_state(path, state)
    raise KeyboardInterrupt


def test_multiply_adds_that_cannot_be_counted_are_asked_for_before_the_first_step(
    config, networks, tmp_path, command, capsys, refused
):
    out, changes = tmp_path / "out", changed(("model={arch: 'networks_of_mine:Scale'}",))
    assert "`model.macs`" in refused("train", config, *changes, "--out", out)
    assert not out.exists()
    assert command("train", config, *changes, "--set", "model.macs=33", "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["macs"] == 33


# --- Mistakes ---

MISTAKES = {
    "both lengths": (("schedule.epochs=3",), "either steps or epochs, got both or neither"),
    "no length": (("schedule.steps=null",), "either steps or epochs, got both or neither"),
    "unknown key": (("schedule.batchsize=3",), "Did you mean `batch_size`"),
    "unknown section": (("shedule.steps=3",), "Did you mean `schedule`"),
    "unknown optimiser": (("schedule.optimizer=adam",), "schedule.optimizer"),
    "unknown policy": (("schedule.policy=linear",), "schedule.policy"),
    "a milestone at the end": (("schedule.milestones=[0.5, 1.0]",), "milestones between 0 and 1"),
    "nesterov without momentum": (("schedule.momentum=0.0",), "momentum above 0 for nesterov"),
    "seed out of range": (("schedule.seed=9223372036854775808",), "schedule.seed"),
    "share without popular": (("popular_share=0.5",), "`model.popular` classes beside `popular_share`"),
    "share of 1": (("popular_share=1.0",), "popular_share"),
    "unknown popular class": (("model.popular=[ten]",), "Expected a class of the data, got `ten`"),
    "popular class twice": (("model.popular=[3, '3']",), "got `3` more than once"),
    "all classes popular": (("model.popular=[0,1,2,3,4,5,6,7,8,9]",), "1 to 9 popular classes among 10"),
    "no popular class": (("model.popular=[]",), "1 to 9 popular classes among 10, got 0"),
    "popular index out of range": (("model.popular=[10]",), "0..9, got [10]"),
    "popular images left out": (("model.popular=[3]", "data.limit=1", "popular_share=0.5"), "other classes"),
    "a part that is none": (("data.part=[0.9, 0.1]",), "`part` to be two shares"),
    "no part of it": (("data.part=[0.501, 0.5011]",), "`part`"),
    "no module to train": (("model={arch: 'networks_of_mine:no_module'}",), "a torch module to train"),
    "no module with initial weights": (
        ("model={arch: 'networks_of_mine:no_module'}", "initial=digits-student"),
        "a torch module to train",
    ),
    "initial weights of another network": (
        ("model={arch: 'networks_of_mine:build'}", "initial=digits-student"),
        "weights of a similar network",
    ),
    "initial weights that are not there": (("initial=digits-studen",), "Did you mean `digits-student`"),
    "specialised teacher": (
        ("teacher={arch: resnet, depth: 8, width: 2, random_weights: true, popular: [3]}",),
        "a teacher of all classes",
    ),
    "teacher without weights": (("teacher={arch: resnet, depth: 8, width: 2}",), "weights for `resnet`"),
    "detector as teacher": (
        ("teacher={arch: effdet/efficientdet_d0, random_weights: true}",),
        "Expected a known `arch`, got `effdet/efficientdet_d0`",
    ),
    "device not here": (("schedule.device=cuda:99",), "cuda:99"),
    "unknown task": (("task=segmentation",), "Expected a known `task`"),
}


@pytest.mark.parametrize(("changes", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_and_leaves_nothing(config, networks, tmp_path, changes, says, refused):
    assert says in refused("train", config, *changed(changes), "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


DETECTION_MISTAKES = {
    "a share of popular classes": (("model.popular=[1]", "popular_share=0.5"), "classification alone"),
    "no effdet": (
        ("model={arch: torchvision/ssdlite320_mobilenet_v3_large}",),
        "Expected `effdet/NAME` to train",
    ),
    "classifier as teacher": (("teacher={arch: resnet, random_weights: true}",), "Expected a known `arch`"),
    "no effdet as teacher": (
        ("teacher={arch: torchvision/ssdlite320_mobilenet_v3_large, random_weights: true}",),
        "Expected `effdet/NAME` as the `teacher`",
    ),
    "teacher of another size": (
        ("teacher={arch: effdet/efficientdet_d0, image_size: 256, random_weights: true}",),
        "with the model's `image_size`",
    ),
    "augmentation of pictures with labels": (("augment.padding=4",), "augment.padding"),
    "a scale that is none": (("augment.scale=[1.2, 0.8]",), "augment.scale"),
}


@pytest.mark.parametrize(("changes", "says"), DETECTION_MISTAKES.values(), ids=DETECTION_MISTAKES.keys())
def test_a_mistake_with_a_detector_is_one_line_too(tmp_path, changes, says, refused):
    (tmp_path / "train.yaml").write_text(DETECTION)
    arguments = ("train", tmp_path / "train.yaml", *changed(changes), "--out", tmp_path / "out")
    assert says in refused(*arguments)
    assert not (tmp_path / "out").exists()


def test_a_validation_of_other_classes_is_one_line(config, tmp_path, refused):
    from PIL import Image

    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / name / "x.png")
    watched = f"validation={{dataset: image_folder, root: {tmp_path / 'set'}}}"
    assert "`validation` to have the 10 classes of `data`, got 2, such as a, b" in refused(
        "train", config, "--set", watched, "--out", tmp_path / "out"
    )


def test_a_missing_board_is_one_line(config, tmp_path, monkeypatch, refused):
    monkeypatch.setattr(import_module("ebjr_det.io.third_party"), "find_spec", lambda name: None)
    asked = ("--set", "schedule.tensorboard=true")
    assert "tensorboard for `schedule.tensorboard`, got no tensorboard. Install it: pip install" in refused(
        "train", config, *asked, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_goes_on_only_with_the_same_settings_and_a_whole_state(
    config, command, tmp_path, refused
):
    out = tmp_path / "out"
    assert command("train", config, "--out", out) == 0
    assert "Add --resume" in refused("train", config, "--out", out)
    for change, was in (("schedule.lr=0.2", "0.1"), ("model.width=3", "2"), ("data.limit=9", "None")):
        name, now = change.split("=")
        told = f"Expected `{name}` as in the training that `{out}` holds, {was}, got {now}. Choose another"
        assert told in refused("train", config, "--set", change, "--out", out, "--resume")
    (out / "state.pt").write_bytes((out / "state.pt").read_bytes()[:500])
    before = digest(out / "weights.safetensors")
    assert "state of this training in" in refused("train", config, "--out", out, "--resume")
    assert digest(out / "weights.safetensors") == before


def test_a_checksum_of_the_first_weights_is_none_of_the_last(config, tmp_path, answer):
    """`model.checkpoint` with its sha256 is where a training may start; what it ends with is another file."""
    first = answer("train", config, "--out", tmp_path / "first")
    begun = changed((f"model.checkpoint={first['weights']}", f"model.sha256={first['sha256']}"))
    second = answer("train", config, *begun, "--out", tmp_path / "second")
    assert second["sha256"] == digest(tmp_path / "second" / "weights.safetensors") != first["sha256"]
