"""Fixtures that serve every folder of tests, and how far hypothesis searches.

`pytest --hypothesis-profile=search` looks at many more examples than a normal run, at random.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from ebjr_det.scores import SCORES, deferral_scores
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.types import Logits, PairedRun

settings.register_profile("suite", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile("suite")


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


@pytest.fixture(scope="session")
def answers():
    """A function: images, classes, seed, ties -> student's logits, teacher's logits, labels."""
    return made_up_answers


@pytest.fixture(scope="session")
def pair():
    """A function: images, classes, seed, ties -> a PairedRun of made-up logits with every score."""
    return made_up_pair


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data beside the checkout; tests that need it are marked `shared`."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("EBJR_DET_SHARED_DATA", root.parent / "shared" / "data"))
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
