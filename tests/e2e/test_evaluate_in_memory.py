"""Models and pictures that are objects: the same run as from settings, and a folder that tells so."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from common import DIGITS, QUICKSTART

import ebjr_det
from ebjr_det import FitSettings, Target, build_annotated, build_labelled
from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput
from ebjr_det.inference.pair import build_models
from ebjr_det.io.records import load_run
from ebjr_det.tasks import load_task

CHEAP = ["latency.measure=false", "run.bootstrap=5", "router.target=null"]
LIMITED = {
    "classification": (DIGITS, ["data.limit=60", "router.score=margin", *CHEAP]),
    "detection": (QUICKSTART, ["data.limit=10", "run.batch_size=4", "router.score=nms_disagreement", *CHEAP]),
}


def as_coco(data) -> dict:
    """The annotations of a data set as COCO's object, images in no special order."""
    annotations, objects = data.annotations, []
    for image, truth in zip(annotations.image_ids, annotations.truths, strict=True):
        for box, label, area, crowd in zip(truth.boxes, truth.labels, truth.areas, truth.crowd, strict=True):
            category = annotations.category_ids[label]
            entry = {"id": len(objects) + 1, "image_id": image, "category_id": category, "area": area}
            objects.append(entry | {"bbox": box, "iscrowd": int(crowd)})
    images = [
        {"id": image, "file_name": file, "width": int(width), "height": int(height)}
        for image, file, (width, height) in zip(
            annotations.image_ids, annotations.file_names, annotations.sizes, strict=True
        )
    ]
    categories = [{"id": key, "name": name} for key, name in data.categories.items()]
    return {"images": images[::-1], "annotations": objects, "categories": categories}


def in_memory(task: str, config, by_file: bool = False) -> dict:
    """The pair of a configuration as objects: pictures, what they are judged by, both models."""
    data = load_task(task).data.build_data(**dict(config.data))
    student, teacher = build_models(config, data, "cpu")
    pictures = [data.load(index) for index in range(len(data))]
    if task == "classification":
        labels = None if (data.labels < 0).all() else data.labels
        given = build_labelled(pictures, labels, data.class_names, data.image_ids)
    elif by_file:
        given = build_annotated(dict(zip(data.annotations.file_names, pictures, strict=True)), as_coco(data))
    else:
        given = build_annotated([np.asarray(picture) for picture in pictures[::-1]], as_coco(data))
    rest = config.model_dump(include={"router", "latency", "run"})
    return {"task": task, "data": given, "student": student, "teacher": teacher, **rest}


@pytest.fixture(scope="module", params=LIMITED)
def both(request, tmp_path_factory) -> tuple[str, Path, Path]:
    """A task, a run from settings, and one of the same pair as objects."""
    folder, (path, changes) = tmp_path_factory.mktemp("evaluated"), LIMITED[request.param]
    config = ebjr_det.load_config(path, changes)
    ebjr_det.evaluate(config, folder / "settings")
    ebjr_det.evaluate(in_memory(request.param, config), folder / "objects")
    return request.param, folder / "settings", folder / "objects"


def test_the_records_are_the_same_to_the_bit(both):
    first, second = (load_run(folder / "run.npz") for folder in both[1:])
    assert first.image_ids == second.image_ids
    for part in ("scores", "student", "teacher"):
        columns = getattr(second, part)
        assert getattr(first, part).keys() == columns.keys()
        for name, column in getattr(first, part).items():
            np.testing.assert_array_equal(column, columns[name])
    macs = [ebjr_det.report(folder).summary["student"]["macs"] for folder in both[1:]]
    assert macs[0] == macs[1]


def test_the_folder_tells_what_was_in_memory(both):
    task, settings, objects = both
    kept = yaml.safe_load((objects / "config.yaml").read_text())
    named = yaml.safe_load((settings / "config.yaml").read_text())
    assert kept["data"]["dataset"] == kept["student"]["arch"] == kept["teacher"]["arch"] == "<in memory>"
    assert kept["task"] == task
    assert kept["student"]["name"] in (named["student"]["name"], "resnet-8-2")


def test_whatever_reads_records_goes_on_from_it(both, tmp_path):
    _, settings, objects = both
    assert ebjr_det.report(objects, tmp_path / "again").summary["images"] >= 10
    assert len(ebjr_det.compare([settings, objects], tmp_path / "both").comparison.runs) == 2
    assert ebjr_det.calibrate(objects, Target("deferral_rate", 0.5)).met in (True, False)
    if both[0] == "classification":
        settings = FitSettings(folds=2, replicates=5)
        assert ebjr_det.fit_router(objects, tmp_path / "router.safetensors", settings).path.is_file()


def test_a_pair_that_no_settings_build_is_refused_in_one_line(both, tmp_path, refused):
    line = refused("predict", both[2], both[2], "--out", tmp_path / "out")
    assert "of one that was in memory" in line
    with pytest.raises(ConfigError, match="of one that was in memory"):
        ebjr_det.load(both[2])


@pytest.fixture(scope="module")
def digits() -> dict:
    return in_memory("classification", ebjr_det.load_config(*LIMITED["classification"]))


class Constant:
    """A model without a network that torch could count."""

    name = "constant"

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def preprocess(self, picture):
        return np.zeros(self.classes)

    def __call__(self, inputs):
        logits = np.stack(inputs)
        return ebjr_det.Output(list(logits), ebjr_det.Logits.one_row(logits))


WRONG = {
    "no model": ({"student": 3}, "Expected `student` as settings or as a model"),
    "no data": ({"data": [1, 2]}, "Expected `data` as settings or as a data set, got list"),
    "other classes": (
        {"student": {"model": Constant(3), "macs": 1.0}},
        "`constant` to give logits of the 10 classes of the data, got 3 a row",
    ),
    "no macs": ({"student": Constant(10)}, "`student.macs`"),
    "misspelt": ({"ruter": {}}, "Did you mean `router`"),
    "runtime": (
        {"student": {"model": Constant(10), "macs": 1.0, "runtime": "onnxruntime"}},
        "student.runtime",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_one_line(fault, digits, tmp_path):
    changes, says = WRONG[fault]
    with pytest.raises(EbjrError, match=says) as caught:
        ebjr_det.evaluate(digits | changes, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_nothing_goes_on_from_objects_that_may_be_others(digits, tmp_path):
    with pytest.raises(ConfigError, match="no `resume` beside models"):
        ebjr_det.evaluate(digits, tmp_path / "run", resume=True)


def test_plain_settings_are_enough_and_objects_stand_beside_settings(digits, tmp_path):
    config = ebjr_det.load_config(*LIMITED["classification"]).model_dump()
    plain = ebjr_det.evaluate(config, tmp_path / "plain")
    mixed = ebjr_det.evaluate(config | {"teacher": {"model": digits["teacher"]}}, tmp_path / "mixed")
    for summary in (plain.summary, mixed.summary):
        del summary["run_dir"], summary["teacher"]
    assert plain.summary["points"] == mixed.summary["points"]
    kept = [yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("plain", "mixed")]
    assert kept[0]["student"] == kept[1]["student"]
    assert kept[1]["teacher"]["arch"] == "<in memory>"


@pytest.mark.parametrize("task", LIMITED)
def test_without_labels_it_is_the_same_estimate(task, tmp_path):
    path, changes = LIMITED[task]
    config = ebjr_det.load_config(path, [*changes, "data.labels=false"])
    given = in_memory(task, config)
    if task == "classification":
        with pytest.raises(InvalidInput, match="labels: false"):
            ebjr_det.evaluate(given, tmp_path / "refused")
        assert not (tmp_path / "refused").exists()
    given["data"] = {"set": given["data"], "labels": False}
    runs = [ebjr_det.evaluate(c, tmp_path / str(n)).report.run for n, c in enumerate((config, given))]
    assert runs[0].estimated
    for side in ("student", "teacher"):
        for name, column in getattr(runs[0], side).items():
            np.testing.assert_array_equal(column, getattr(runs[1], side)[name])


PICTURES = [np.zeros((8, 8, 3), np.uint8)] * 3
TRUTH = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 8, "height": 8} for n in (1, 2, 3)],
    "annotations": [],
    "categories": [{"id": 1, "name": "cat"}],
}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: build_labelled([], [], ["a"]), "got 0 pictures"),
        (lambda: build_labelled(PICTURES, [0, 1], ["a", "b"]), r"3 pictures, labels of shape \[2\]"),
        (lambda: build_labelled(PICTURES, [0, 1, 2], ["a", "b"]), r"labels in 0..1, got 0..2"),
        (lambda: build_labelled(PICTURES, [0.5, 1, 1], ["a", "b"]), "integer labels, got float64"),
        (lambda: build_labelled(PICTURES, [0, 1, 1], ["a", "a"]), "one twice"),
        (lambda: build_labelled(PICTURES, [0, 1, 1], ["a", "b"], ["x", "x", "y"]), "one twice"),
        (lambda: build_labelled([np.zeros(3)], [0], ["a"]).load(0), "array of a picture"),
        (lambda: build_annotated(PICTURES[:2], TRUTH), "each of the 3 annotated images, got 2"),
        (lambda: build_annotated({"1.png": PICTURES[0], 2: PICTURES[0]}, TRUTH), "got none of `3`"),
        (lambda: build_annotated(PICTURES, {"images": []}), "`<annotations in memory>`"),
        (
            lambda: build_annotated([np.zeros((8, 9, 3), np.uint8)] * 3, TRUTH).load(0),
            "image `1` in the annotated size, 8 x 8, got 9 x 8",
        ),
    ],
)
def test_wrong_pictures_are_one_line(call, says):
    with pytest.raises(InvalidInput, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_pictures_are_found_by_their_file_names(tmp_path):
    config = ebjr_det.load_config(*LIMITED["detection"])
    given = in_memory("detection", config, by_file=True)["data"]
    data = load_task("detection").data.build_data(**dict(config.data))
    for index in range(len(data)):
        np.testing.assert_array_equal(np.asarray(given.load(index)), np.asarray(data.load(index)))
