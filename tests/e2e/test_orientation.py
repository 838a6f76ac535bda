"""Pictures that a camera turned or mirrored: their answers and their AP are those of the upright ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ebjr_det import api
from ebjr_det.config import load_config
from ebjr_det.tasks.detection.data import build_data
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.scenes import describe, draw_scene
from ebjr_det.tasks.detection.train import judge

QUICKSTART = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
COUNT = 3
T = Image.Transpose
STORED = {
    # orientation -> how an upright picture is stored under it
    1: None,
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}
SHAPES = {"square": 0, "wide": 64}  # pixels beside the scene


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """The same scenes eight times in two shapes, as PNG: no level differs once they are turned."""
    folder, truths = tmp_path_factory.mktemp("turned"), describe("test").truths
    for shape, beside in SHAPES.items():
        scenes = []
        for index in range(COUNT):
            scene = draw_scene("test", index)
            scenes.append(Image.new("RGB", (scene.width + beside, scene.height), (90, 90, 90)))
            scenes[-1].paste(scene, (0, 0))
        for orientation, how in STORED.items():
            (folder / shape / str(orientation)).mkdir(parents=True)
            exif = Image.Exif()
            exif[0x0112] = orientation
            for index, scene in enumerate(scenes):
                stored = scene if how is None else scene.transpose(how)
                stored.save(folder / shape / str(orientation) / f"{index}.png", exif=exif)
        for sizes in (True, False):
            write_truth(folder / f"{shape}_{sizes}.json", truths, scenes if sizes else ())
    return folder


def write_truth(path: Path, truths, sized) -> None:
    images = [{"id": index + 1, "file_name": f"{index}.png"} for index in range(COUNT)]
    for image, scene in zip(images, sized, strict=False):
        image |= {"width": scene.width, "height": scene.height}
    boxes = [
        {"image_id": index + 1, "category_id": int(label) + 1, "bbox": box, "area": box[2] * box[3]}
        for index in range(COUNT)
        for box, label in zip(truths[index].boxes.tolist(), truths[index].labels, strict=True)
    ]
    boxes = [box | {"id": number, "iscrowd": 0} for number, box in enumerate(boxes, start=1)]
    categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


def turned(root: Path, shape: str, orientation: int, sizes: bool = True) -> dict[str, str]:
    return {
        "dataset": "coco",
        "annotations": str(root / f"{shape}_{sizes}.json"),
        "images": str(root / shape / str(orientation)),
    }


def student_ap(where: dict[str, str]) -> float:
    data = build_data(**where)
    return judge(build_model(data, **load_config(QUICKSTART).student.built()), data)["AP"]


@pytest.fixture(scope="module")
def upright(root) -> dict[str, float]:
    found = {shape: student_ap(turned(root, shape, 1)) for shape in SHAPES}
    assert min(found.values()) > 0.1
    return found


@pytest.mark.parametrize("sizes", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("orientation", STORED)
def test_training_and_its_validation_see_upright_pictures(root, upright, shape, orientation, sizes):
    data = build_data(**turned(root, shape, orientation, sizes))
    reference = build_data(**turned(root, shape, 1))
    for index in range(COUNT):
        assert data.load(index).tobytes() == reference.load(index).tobytes()
    if orientation in (3, 6):
        assert student_ap(turned(root, shape, orientation, sizes)) == upright[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_evaluate_has_the_ap_of_the_upright_pictures(root, upright, tmp_path, shape):
    changes = [f"data.{key}={value}" for key, value in turned(root, shape, 3).items()]
    quick = ["data.split=null", "latency.measure=false", "run.bootstrap=2", "router.target=null"]
    api.evaluate(load_config(QUICKSTART, [*changes, *quick]), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["student"]["quality"] == pytest.approx(upright[shape], abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_predict_finds_the_same_boxes_however_a_picture_is_stored(root, tmp_path, shape):
    names = [str(root / shape / str(orientation) / "0.png") for orientation in STORED]
    api.predict(load_config(QUICKSTART), names, tmp_path, threshold=float("inf"))
    found: dict[int, list] = {}
    for entry in json.loads((tmp_path / "predictions.json").read_text()):
        found.setdefault(entry.pop("image_id"), []).append(entry)
    assert len(found) == len(STORED)
    assert found[1]
    assert all(boxes == found[1] for boxes in found.values())
    sizes = {(e["width"], e["height"]) for e in json.loads((tmp_path / "images.json").read_text())}
    assert sizes == {(256 + SHAPES[shape], 256)}
    assert np.isfinite([entry["score"] for entry in found[1]]).all()
