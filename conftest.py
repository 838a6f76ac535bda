"""What the examples of the verbs find in their folder: runs, logits and pictures of handwritten digits."""

from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from _pytest.doctest import DoctestItem
from PIL import Image

API = Path(__file__).parent / "ebjr_det" / "api"
TRAINING = """
data: {dataset: digits, split: train, part: [0.0, 0.8]}
validation: {dataset: digits, split: train, part: [0.8, 1.0]}
model: {arch: resnet, depth: 8, width: 2, preprocessing: {mean: [0.3, 0.3, 0.3], std: [0.4, 0.4, 0.4]}}
augment: {padding: 1, flip: 0.0}
schedule: {steps: 4, batch_size: 8, validate_every: 2, warmup_steps: 1}
"""
collect_ignore = ["ebjr_det/serving/cluster.py"]  # has no examples, and importing Ray takes seconds
QUICK = ("data.limit=80", "latency.measure=false", "run.bootstrap=10")


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: two runs of digits with other scores, logits and labels as files, a few pictures."""
    from ebjr_det import evaluate, load_config
    from ebjr_det.tasks.classification.data import build_data

    folder = tmp_path_factory.mktemp("examples")
    for name, score in (("digits", "max_softmax"), ("energy", "free_energy")):
        evaluate(load_config("digits", [*QUICK, f"router.score={score}"]), folder / "runs" / name)
    generator = np.random.default_rng(0)
    labels = generator.integers(4, size=200)
    student = generator.normal(size=(200, 4)) + 2 * np.eye(4)[labels]
    for name, values in (("student", student), ("teacher", student + np.eye(4)[labels]), ("labels", labels)):
        np.save(folder / f"{name}.npy", values)
    (folder / "pictures").mkdir()
    digits = build_data("digits")
    for index in range(4):
        Image.fromarray(digits.load(index)).save(folder / "pictures" / f"{index}.png")
    (folder / "train.yaml").write_text(TRAINING)
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_of_examples(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verbs' examples run in a copy of `examples`."""
    if isinstance(request.node, DoctestItem) and API in request.node.path.parents:
        copytree(request.getfixturevalue("examples"), tmp_path, dirs_exist_ok=True)
        monkeypatch.chdir(tmp_path)
