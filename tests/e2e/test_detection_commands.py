"""Detection's commands and a user's mistakes: one clear line, exit code 2, nothing half-written."""

import json
from pathlib import Path

import pytest
from common import QUICKSTART, ROOT
from PIL import Image

TRAIN = str(ROOT / "eval" / "quickstart" / "student.yaml")

EVALUATE = {
    "unknown effdet model": ("student.arch=effdet/efficientdet_d9", "effdet model"),
    "unknown library": ("student.arch=efdet/efficientdet_d0", "effdet/NAME"),
    "unknown torchvision detector": ("student.arch=torchvision/retinanet", "torchvision"),
    "no multiple of 128": ("student.image_size=100", "multiple of 128"),
    "a size that is none": ("student.image_size=big", "student.image_size"),
    "unknown option": ("student.options.fpn_chanels=3", "Did you mean `fpn_channels`"),
    "unknown key": ("student.soft_nsm=true", "Did you mean `soft_nms`"),
    "no boxes at all": ("student.max_detections=0", "max_detections"),
    "weights of other classes": ("student.num_classes=90", "num_classes"),
    "unknown checkpoint": ("student.checkpoint=scenes-studnt", "Did you mean `scenes-student`"),
    "no published weights": ("student={arch: effdet/efficientdet_d0, pretrained: true}", "published weights"),
    "no weights": ("student={arch: effdet/efficientdet_d0}", "random_weights"),
    "unknown data": ("data.dataset=digit_scene", "Did you mean `digit_scenes`"),
    "unknown split": ("data.split=tests", "Did you mean `test`"),
    "ids that are not there": ("data.ids=[5, 601]", "601"),
    "no images": ("data.ids=[]", "at least one image"),
    "coco without a root": ("data={dataset: coco}", "data.root"),
    "coco that is not there": ("data={dataset: coco, root: nowhere, split: val2017}", "cocodataset.org"),
    "unknown aggregate": ("router.aggregate=median", "router.aggregate"),
    "no rows": ("router.top_k=0", "router.top_k"),
    "unknown task": ("task=detections", "Did you mean `detection`"),
    "a reference without a quality": ("references=[{name: D1, macs: 1.0}]", "references.0.quality"),
}
TRAINING = {
    "no steps": ("schedule.steps=0", "schedule.steps"),
    "unknown key": ("schedule.step=5", "Did you mean `steps`"),
    "scale that is no range": ("augment.scale=[2.0, 1.0]", "augment.scale"),
    "one number as a scale": ("augment.scale=[2.0]", "augment.scale"),
    "weights that are not there": ("initial=nowhere.safetensors", "nowhere.safetensors"),
    "another library": ("model={arch: torchvision/ssdlite320_mobilenet_v3_large}", "effdet/NAME"),
    "another task": ("task=classification", "model.image_size"),
    "validation of other classes": (
        "validation={dataset: coco, annotations: truth.json, images: pictures}",
        "classes of `data`",
    ),
}


@pytest.fixture
def tiny_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `truth.json` of one class and a folder of one picture; the working folder."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "pictures" / "1.png")
    images = [{"id": 1, "file_name": "1.png", "width": 64, "height": 48}]
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0}]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "truth.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("change", "says"), EVALUATE.values(), ids=EVALUATE.keys())
def test_evaluate_explains_in_one_line(change: str, says: str, tmp_path: Path, refused):
    out = tmp_path / "out"
    assert says in refused("evaluate", QUICKSTART, "--set", change, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(("change", "says"), TRAINING.values(), ids=TRAINING.keys())
def test_train_explains_in_one_line(change: str, says: str, tiny_coco: Path, refused):
    assert says in refused("train", TRAIN, "--set", change, "--out", "out")
    assert not list((tiny_coco / "out").glob("*.safetensors"))


def test_two_models_of_other_classes_than_the_data_are_refused(tiny_coco: Path, refused):
    change = "data={dataset: coco, annotations: truth.json, images: pictures}"
    message = refused("evaluate", QUICKSTART, "--set", change, "--out", "out")
    assert "so another class count" in message
    assert not Path("out").exists()


def test_a_checkpoint_that_wants_to_run_code_is_refused(tiny_coco: Path, refused):
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path("harm").touch, ())

    Path("evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}))
    refused("evaluate", QUICKSTART, "--set", "student.checkpoint=evil.pth", "--out", "out")
    assert not Path("harm").exists()


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_pictures_none_of_which_can_be_decoded_are_an_error(content: bytes, tiny_coco: Path, refused):
    (tiny_coco / "pictures" / "1.png").write_bytes(content)
    args = ["--threshold", 0, "--out", "out"]
    assert "can be decoded" in refused("predict", QUICKSTART, "pictures", *args, alone=False)
    assert not (tiny_coco / "out" / "predictions.json").exists()


def test_predict_needs_a_threshold_and_pictures(tiny_coco: Path, refused):
    assert "--threshold" in refused("predict", QUICKSTART, "pictures", "--out", "out")
    assert "nothing*" in refused("predict", QUICKSTART, "nothing*", "--threshold", 0, "--out", "out")
    assert not Path("out").exists()
