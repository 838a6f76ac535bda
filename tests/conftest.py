"""Fixtures that serve every folder of tests, and how far hypothesis searches.

`pytest --hypothesis-profile=search` looks at many more examples than a normal run, at random.
"""

import gc
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from common import ROOT, SCENES_PAIR
from hypothesis import settings

from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.types import Logits, Output, PairedRun
from ebjr_det.io.files import atomic_write
from ebjr_det.runtimes import onnx
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.coco.annotations import Truth
from ebjr_det.tasks.detection.datasets import digit_scenes
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision, Target

sys.dont_write_bytecode = False  # compiling the package in every process takes a second each
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
settings.register_profile("suite", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile("suite")
gc.set_threshold(20_000, 20, 50)  # of the modules that are imported each look for garbage finds none


def pytest_collection_finish() -> None:
    """What was imported stays to the end, so no collection of garbage needs to look at it again."""
    gc.collect()
    gc.freeze()


def made_up_answers(images=60, classes=7, seed=0, ties=False):
    """Logits of a fair student and a better teacher, and the labels: float64 [images, classes], int [images].

    With `ties` about two of three images share the student's logits with another one, so every score ties,
    while labels and the teacher's logits stay their own.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    student, teacher = generator.normal(size=(2, images, classes))
    hint = np.eye(classes)[labels]
    student, teacher = student + 1.5 * hint, 2 * teacher + 5.0 * hint
    if ties:
        student = student[generator.integers(-(-images // 3), size=images)]
    return student, teacher, labels


def made_up_pair(images=60, classes=7, seed=0, ties=False):
    """The PairedRun of `made_up_answers`, with every registered score."""
    student, teacher, labels = made_up_answers(images, classes, seed, ties)
    logits, task = Logits.one_row(student), Accuracy()
    return PairedRun(
        task.name,
        tuple(f"image-{index:04d}" for index in range(images)),
        {name: deferral_scores(logits, name) for name in SCORES},
        task.match(student, labels),
        task.match(teacher, labels),
    )


def made_up_scenes(images=40, classes=4, seed=0):
    """Detections of a fair student and a better teacher, and their targets; the first picture is empty.

    Right boxes score higher on average than invented ones; scores have the 24 bits that a network gives.
    """
    generator = np.random.default_rng(seed)

    def scene(count):
        corners = generator.uniform(0, 300, (count, 2))
        boxes = np.concatenate([corners, generator.uniform(10, 120, (count, 2))], axis=1)
        truth = Truth(
            boxes, generator.integers(classes, size=count), boxes[:, 2] * boxes[:, 3], np.zeros(count, bool)
        )
        return Target(truth, classes)

    def found(target, noise, invented):
        real = target.truth.boxes + generator.normal(0, noise, target.truth.boxes.shape)
        boxes = np.concatenate([real, generator.uniform(5, 150, (invented, 4))])
        boxes[:, 2:] = boxes[:, :2] + np.abs(boxes[:, 2:])
        scores = np.concatenate([generator.beta(4, 3, len(real)), generator.beta(1, 4, invented)])
        labels = np.concatenate([target.truth.labels, generator.integers(classes, size=invented)])
        return Detections(boxes, scores.astype(np.float32).astype(np.float64), labels)

    targets = [scene(generator.integers(1, 6) if index else 0) for index in range(images)]
    student = [found(target, 9, 6 if index else 0) for index, target in enumerate(targets)]
    return student, [found(target, 2, 2) for target in targets], targets


def made_up_detectors(images=40, classes=4, seed=0):
    """The PairedRun of `made_up_scenes`, with a coin for a score."""
    student, teacher, targets = made_up_scenes(images, classes, seed)
    task = AveragePrecision()
    return PairedRun(
        task.name,
        tuple(f"image-{index:04d}" for index in range(images)),
        {"random": np.random.default_rng(seed).random(images)},
        task.match(student, targets),
        task.match(teacher, targets),
    )


def boxes_alone(predictions):
    """An Output of detections without any logits."""
    shape = len(predictions), 1
    return Output(list(predictions), Logits(np.zeros((*shape, 1)), np.zeros(shape, bool)))


@pytest.fixture(scope="session")
def scenes():
    """A function: images, classes, seed -> student's detections, teacher's detections, targets."""
    return made_up_scenes


@pytest.fixture(scope="session")
def detectors():
    """A function: images, classes, seed -> a PairedRun of `scenes`."""
    return made_up_detectors


@pytest.fixture(scope="session")
def answered():
    """A function: detections -> an Output that holds them."""
    return boxes_alone


@pytest.fixture(scope="session")
def answers():
    """A function: images, classes, seed, ties -> student's logits, teacher's logits, labels."""
    return made_up_answers


@pytest.fixture(scope="session")
def pair():
    """A function: images, classes, seed, ties -> a PairedRun of made-up logits with every score."""
    return made_up_pair


@pytest.fixture(scope="session")
def run_cache(tmp_path_factory):
    """A folder of this run and all its processes."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"


@pytest.fixture(scope="session")
def made_once(run_cache, tmp_path_factory):
    """A function: name, what makes a folder -> that folder, which the first process of this run makes."""

    def made(name, make):
        folder = run_cache / name
        if not folder.is_dir():
            make(own := tmp_path_factory.mktemp("made") / "own")
            folder.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # another process was first
                own.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session", autouse=True)
def _own_cache(run_cache):
    """What runtimes keep goes to a folder of this run, not to the user's."""
    folder = run_cache
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EBJR_DET_CACHE", str(folder))
        patch.setattr(onnx, "write_onnx", written_once(folder))
        yield


@pytest.fixture(scope="session", autouse=True)
def _scenes_drawn_once():
    """A scene is drawn when a test first looks at it."""
    with pytest.MonkeyPatch.context() as patch:
        drawn = lru_cache(300)(digit_scenes.draw_scene)
        patch.setattr(digit_scenes, "draw_scene", lambda split, index: drawn(split, index).copy())
        yield


@pytest.fixture(scope="session", autouse=True)
def _trainings_drawn_once(tmp_path_factory):
    """The figure of a training is drawn for the first of a title and copied for the next."""
    train = import_module("ebjr_det.api.train")
    draw, drawn = train.write_training_figure, {}

    def write_training_figure(stem, rows, *, title, quality):
        kind = (title, quality, tuple(quality in row for row in rows))
        if kind not in drawn:
            first = tmp_path_factory.mktemp("log") / stem.name
            drawn[kind] = draw(first, rows, title=title, quality=quality)
        return [Path(shutil.copy(path, stem.parent / path.name)) for path in drawn[kind]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "write_training_figure", write_training_figure)
        yield


def written_once(folder):
    """`write_onnx`, whose seconds a network takes once: the next time its graph is copied."""
    write = onnx.write_onnx

    def write_onnx(graph, example, path):
        from ebjr_det.runtimes.cache import digest_of

        graphs = folder / "graphs"
        kept = graphs / digest_of(graph, example, "written")
        if not kept.is_file():
            write(graph, example, path)
            graphs.mkdir(parents=True, exist_ok=True)
            with atomic_write(kept) as temporary:
                shutil.copyfile(path, temporary)
        else:
            shutil.copyfile(kept, path)

    return write_onnx


@pytest.fixture(scope="session")
def exported_scenes(made_once):
    """The folder of `common.SCENES_PAIR`, exported where it defers some scenes; copy to change."""
    return made_once("quickstart", _export("quickstart", -0.6, *SCENES_PAIR))


@pytest.fixture(scope="session")
def exported_digits(made_once):
    """The same of the pair of `digits.yaml`, which resizes no picture here."""
    plain = [
        f"{side}.preprocessing.{what}=null" for side in ("student", "teacher") for what in ("resize", "crop")
    ]
    return made_once("digits", _export("digits", -0.95, *plain, "router.score=max_softmax"))


def _export(name, threshold, *changes):
    import ebjr_det

    config = ebjr_det.load_config(ROOT / "configs" / f"{name}.yaml", changes)
    return lambda folder: ebjr_det.export(config, folder, threshold=threshold)


@pytest.fixture(scope="session")
def scene_pictures(tmp_path_factory):
    """A folder of six scenes as PNG files."""
    from ebjr_det.tasks.detection.datasets.digit_scenes import draw_scene

    folder = tmp_path_factory.mktemp("scenes")
    for index in range(6):
        draw_scene("test", index).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def digit_pictures(tmp_path_factory):
    """A folder of the first twelve test digits as PNG files."""
    from PIL import Image

    from ebjr_det.tasks.classification.data import build_data

    folder, data = tmp_path_factory.mktemp("digits"), build_data("digits", split="test", limit=12)
    for index in range(len(data)):
        Image.fromarray(data.load(index)).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the checkout; tests that need it are marked `shared`."""
    folder = Path(os.environ.get("EBJR_DET_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the shared data folder, not at {folder}: set EBJR_DET_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def cifar_root(shared_data, tmp_path_factory):
    """The official CIFAR python files, rebuilt once a session."""
    root = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, shared_data / "restore_cifar.py", root], check=True, capture_output=True)
    return root


@pytest.fixture
def published_weights(shared_data, monkeypatch):
    """The folder of EBJR's published checkpoints, known to the manifest."""
    folder = shared_data / "ebjr_checkpoints"
    monkeypatch.setenv("EBJR_DET_CHECKPOINTS", str(folder))
    return folder
