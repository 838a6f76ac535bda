"""Pictures that a camera turned or mirrored: their answers and their AP are those of the upright ones."""

import hashlib
import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from common import QUICKSTART, SMALL_EFFICIENTDET, STORED, stored_as
from PIL import Image

import ebjr_det
from ebjr_det.core.tradeoff import select
from ebjr_det.io.records import load_run
from ebjr_det.tasks.detection.augmentation import TrainingSet
from ebjr_det.tasks.detection.data import build_data
from ebjr_det.tasks.detection.datasets.digit_scenes import describe, draw_scene
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.train import judge
from ebjr_det.tasks.settings import load_config, load_train_config

COUNT = 2
SHAPES = {"square": 0, "wide": 64}  # pixels beside the scene
NOISE = {"png": 1e-9, "jpg": 0.02}  # of AP; a JPEG's blocks are rounded another way when it is turned
WAYS = [*product(["png"], SHAPES, STORED, [True]), *product(["jpg"], ["wide"], STORED, [True])]
WAYS += product(["png"], ["wide"], [1, 6], [False])


class Shown(NamedTuple):
    """A scene as a file of a set."""

    name: str
    scene: int
    shape: str
    sized: bool


def scene_of(index: int, shape: str) -> Image.Image:
    scene = draw_scene("test", index)
    whole = Image.new("RGB", (scene.width + SHAPES[shape], scene.height), (90, 90, 90))
    whole.paste(scene, (0, 0))
    return whole


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The same scenes eight times in two shapes, as PNG: no level differs once they are turned; and as JPEG.

    `png/SHAPE/mixed` has a scene of each orientation, `png/SHAPE/upright` the same scenes.
    """
    folder = tmp_path_factory.mktemp("turned")
    for shape in SHAPES:
        scenes = [scene_of(index, shape) for index in range(len(STORED))]
        for orientation, (index, scene) in product(STORED, enumerate(scenes[:COUNT])):
            for suffix in NOISE:
                save(scene, orientation, folder / suffix / shape / str(orientation) / f"{index}.{suffix}")
        for index, (orientation, scene) in enumerate(zip(STORED, scenes, strict=True)):
            save(scene, orientation, folder / "png" / shape / "mixed" / f"{index}.png")
            save(scene, 1, folder / "png" / shape / "upright" / f"{index}.png")
        for sizes, count in product((True, False), (COUNT, len(STORED))):
            shown = [Shown(f"{index}.png", index, shape, sizes) for index in range(count)]
            write_truth(folder / f"{shape}_{sizes}_{count}.json", shown)
    return folder


def save(scene: Image.Image, orientation: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    stored, exif = stored_as(scene, orientation)
    stored.save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))


def write_truth(path: Path, shown: Iterable[Shown]) -> None:
    truths, images, boxes = describe("test").truths, [], []
    for key, (name, scene, shape, sized) in enumerate(shown, start=1):
        size = {"width": 256 + SHAPES[shape], "height": 256} if sized else {}
        images.append({"id": key, "file_name": name} | size)
        for box, label in zip(truths[scene].boxes.tolist(), truths[scene].labels, strict=True):
            own = {"image_id": key, "category_id": int(label) + 1, "bbox": box, "area": box[2] * box[3]}
            boxes.append(own | {"id": len(boxes) + 1, "iscrowd": 0})
    categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


def turned(root: Path, shape: str, stored: object, sizes: bool = True, count: int = COUNT) -> dict[str, str]:
    return {
        "dataset": "coco",
        "annotations": str(root / f"{shape}_{sizes}_{count}.json"),
        "images": str(root / "png" / shape / str(stored)),
    }


def student_ap(where: dict[str, str]) -> float:
    data = build_data(**where)
    return judge(build_model(data, **load_config(QUICKSTART).student.built()), data).numbers["AP"]


@pytest.fixture(scope="module")
def upright(root) -> dict[str, float]:
    found = {shape: student_ap(turned(root, shape, 1)) for shape in SHAPES}
    assert min(found.values()) > 0.1
    return found


# --- evaluate ---


@pytest.fixture(scope="module")
def evaluated(root, tmp_path_factory):
    """One run over all of them, times measured: (suffix, shape, orientation, sized) -> AP of either model."""
    write_truth(
        root / "all.json",
        [
            Shown(f"{suffix}/{shape}/{orientation}/{index}.{suffix}", index, shape, sized)
            for suffix, shape, orientation, sized in WAYS
            for index in range(COUNT)
        ],
    )
    out, task = tmp_path_factory.mktemp("evaluated"), AveragePrecision()
    where = ["data.dataset=coco", "data.split=null", f"data.annotations={root}/all.json"]
    where += [f"data.images={root}", "run.batch_size=16"]
    quick = ["run.bootstrap=2", "router.target=null", "latency.batches=1", "latency.warmup=0"]
    quick += ["student.macs=1e6", "teacher.macs=1e7"]
    ebjr_det.evaluate(load_config(QUICKSTART, [*where, *quick]), out)
    run = load_run(out / "run.npz")
    assert len(run.image_ids) == COUNT * len(WAYS)
    parts = {way: select(run, task, np.arange(COUNT) + COUNT * at) for at, way in enumerate(WAYS)}
    aps = {
        way: [task.metrics(getattr(part, side))["AP"] for side in ("student", "teacher")]
        for way, part in parts.items()
    }
    return aps, json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize(("suffix", "shape", "orientation", "sized"), WAYS)
def test_evaluate_has_the_ap_of_the_upright_pictures(evaluated, upright, suffix, shape, orientation, sized):
    aps, _ = evaluated
    found, reference = aps[suffix, shape, orientation, sized], aps[suffix, shape, 1, True]
    assert found == pytest.approx(reference, abs=NOISE[suffix])
    assert found[0] == pytest.approx(upright[shape], abs=NOISE["jpg"] if suffix == "jpg" else 1e-9)
    assert found[1] > 0.3


def test_turned_pictures_are_timed(evaluated):
    _, summary = evaluated
    assert all(summary[side]["latency_ms"] > 0 for side in ("student", "teacher", "joint"))


@pytest.mark.parametrize("sizes", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("orientation", STORED)
def test_every_reader_of_annotated_pictures_sees_upright_ones(root, shape, orientation, sizes):
    data = build_data(**turned(root, shape, orientation, sizes))
    reference = build_data(**turned(root, shape, 1))
    for index in range(COUNT):
        assert data.load(index).tobytes() == reference.load(index).tobytes()


# --- train ---

TRAINING = {
    "task": "detection",
    "model": {"arch": "effdet/efficientdet_d0", "image_size": 128, "options": SMALL_EFFICIENTDET},
    "augment": {"scale": [0.8, 1.2], "flip": 0.5, "color": 0.5},
    "schedule": {"steps": 4, "batch_size": 4, "warmup_steps": 1, "validate_every": 2, "device": "cpu"},
}


class Training(NamedTuple):
    """What a training saw and what came of it."""

    inputs: list[str]
    log: str
    weights: str


@pytest.fixture
def train(root, tmp_path_factory):
    """A function: stored, sizes -> the `Training` on eight wide scenes, validated on them too."""

    def run(stored: str, sizes: bool) -> Training:
        folder = tmp_path_factory.mktemp("training")
        data = turned(root, "wide", stored, sizes, len(STORED))
        (folder / "train.yaml").write_text(yaml.safe_dump(TRAINING | {"data": data, "validation": {**data}}))
        inputs, plain = [], TrainingSet.__getitem__

        def watched(self, k):
            columns = plain(self, k)
            inputs.append(hashlib.sha256(b"".join(one.numpy().tobytes() for one in columns)).hexdigest())
            return columns

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainingSet, "__getitem__", watched)
            ebjr_det.train(load_train_config(folder / "train.yaml"), folder / "out")
        weights = hashlib.sha256((folder / "out" / "weights.safetensors").read_bytes()).hexdigest()
        return Training(inputs, (folder / "out" / "log.csv").read_text(), weights)

    return run


def test_a_training_on_turned_pictures_is_that_on_the_upright_ones_to_the_bit(train):
    """All orientations at once, annotated with their sizes and without: inputs, losses, AP and weights."""
    reference = train("upright", True)
    assert len(set(reference.inputs)) == 16
    assert "AP" in reference.log.splitlines()[0].split(",")
    for sizes in (True, False):
        assert train("mixed", sizes) == reference


# --- predict ---


@pytest.mark.parametrize("shape", SHAPES)
def test_predict_finds_the_same_boxes_however_a_picture_is_stored(root, tmp_path, shape):
    names = [str(root / "png" / shape / str(orientation) / "0.png") for orientation in STORED]
    ebjr_det.predict(load_config(QUICKSTART), names, tmp_path, threshold=float("inf"))
    found: dict[int, list] = {}
    for entry in json.loads((tmp_path / "predictions.json").read_text()):
        found.setdefault(entry.pop("image_id"), []).append(entry)
    assert len(found) == len(STORED)
    assert found[1]
    assert all(boxes == found[1] for boxes in found.values())
    sizes = {(e["width"], e["height"]) for e in json.loads((tmp_path / "images.json").read_text())}
    assert sizes == {(256 + SHAPES[shape], 256)}
    assert np.isfinite([entry["score"] for entry in found[1]]).all()
