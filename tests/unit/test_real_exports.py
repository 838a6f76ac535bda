"""Sets and results that FiftyOne, datumaro (CVAT), Label Studio and globox wrote, read back.

`exports` holds their files of three scenes of digits, one of them empty, without the pictures; paths in
them are changed. Written by FiftyOne 1.22.1, datumaro 1.13.12, label-studio-sdk 2.1.2 and globox 2.9.0.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ebjr_det
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.scores import deferral_scores
from ebjr_det.tasks.detection.coco.annotations import load_annotations
from ebjr_det.tasks.detection.data import build_data
from ebjr_det.tasks.detection.replay import load_pair

EXPORTS = Path(__file__).parents[1] / "exports"
TRUTH, FOUND = EXPORTS / "truth.json", EXPORTS / "found.json"
SIX_DIGITS = 4e-4
"""Pixels that a box of this set moves where shares of the picture are written with six digits."""
UPLOAD = "1a2b3c4d-"


def named(name):
    """A picture's name before Label Studio took it."""
    return name.rsplit("/", 1)[-1].removeprefix(UPLOAD).replace("_", " ")


def objects_of(annotations):
    """(picture, class) of every object, sorted, and the boxes in this order."""
    rows = sorted(
        (named(file), annotations.class_names[label], *box)
        for file, truth in zip(annotations.file_names, annotations.truths, strict=True)
        for label, box in zip(truth.labels.tolist(), truth.boxes.tolist(), strict=True)
    )
    return [row[:2] for row in rows], np.array([row[2:] for row in rows])


def exported(name, tmp_path, pictures=None):
    """A copy of an export with blank pictures of the sizes of the scenes."""
    root = shutil.copytree(EXPORTS / name, tmp_path / "export")
    folder = root if pictures is None else root / pictures
    folder.mkdir(parents=True, exist_ok=True)
    for image in json.loads(TRUTH.read_text())["images"]:
        file = image["file_name"]
        file = UPLOAD + file.replace(" ", "_") if name.startswith("label_studio") else file
        Image.new("RGB", (image["width"], image["height"])).save(folder / file)
    return root


ALPHABET = ("five", "four", "one", "seven", "six", "three")
GIVEN = ("one", "three", "four", "five", "six", "seven")
SETS = {
    # export: (folder of pictures, settings, order of classes, pixels)
    "datumaro/voc": ("JPEGImages", {"dataset": "voc", "split": "val"}, GIVEN, 0),
    "datumaro/yolo": ("obj_val_data", {"dataset": "yolo"}, GIVEN, SIX_DIGITS),
    "fiftyone/yolo": ("images/val", {"dataset": "yolo"}, GIVEN, SIX_DIGITS),
    "fiftyone/darknet": ("data", {"dataset": "yolo"}, GIVEN, SIX_DIGITS),
    "label_studio/yolo": ("images", {"dataset": "yolo"}, ALPHABET, 0),
    # an edge is cut to a whole pixel, as `int` does it
    "fiftyone/voc": ("data", {"dataset": "voc", "first_pixel": 0}, ALPHABET, 1),
    "globox/voc": ("data", {"dataset": "voc", "first_pixel": 0}, ALPHABET, 0),
    "label_studio/voc": ("images", {"dataset": "voc", "first_pixel": 0}, ALPHABET, 0),
}


@pytest.mark.parametrize("export", SETS)
def test_a_set_has_its_objects(export, tmp_path):
    pictures, settings, classes, pixels = SETS[export]
    root = exported(export, tmp_path, pictures)
    if "first_pixel" in settings:
        xml = root / {"fiftyone/voc": "labels", "globox/voc": ".", "label_studio/voc": "Annotations"}[export]
        settings |= {"annotations": str(xml), "images": str(root / pictures)}
    else:
        settings |= {"root": str(root)}
    data = build_data(**settings)
    keys, boxes = objects_of(data.annotations)
    true_keys, true_boxes = objects_of(load_annotations(TRUTH))
    assert keys == true_keys
    np.testing.assert_allclose(boxes, true_boxes, rtol=0, atol=pixels)
    assert data.class_names == classes
    names = {named(file) for file in data.annotations.file_names}
    assert names >= {"0007.png", "scene 3.png"}
    assert ("empty.png" in names) == (export != "label_studio/voc"), "which has no file of an empty picture"


@pytest.mark.parametrize(
    "file", ["datumaro/instances_val.json", "fiftyone/coco.json", "label_studio/result.json"]
)
def test_a_coco_file_has_its_objects(file, tmp_path):
    root = exported(file.split("/")[0], tmp_path)
    data = build_data("coco", annotations=str(root / file.split("/")[1]), images=str(root))
    keys, boxes = objects_of(data.annotations)
    true_keys, true_boxes = objects_of(load_annotations(TRUTH))
    assert keys == true_keys
    np.testing.assert_allclose(boxes, true_boxes, rtol=0, atol=1e-9)
    assert len(data) == 3
    assert data.load(2).size == (256, 244)


RESULTS = {
    "datumaro/found.json": 1e-9,
    "fiftyone/found-coco.json": 1e-9,
    "fiftyone/found-labels": 1e-9,
    "fiftyone/found-labels/labels.json": 1e-9,
    "fiftyone/found-samples": 1e-9,
    "fiftyone/found-yolo": SIX_DIGITS,
    "globox/found.json": 1e-9,
    "globox/found-yolo": SIX_DIGITS,
}


def pair_of(teacher, annotations=TRUTH, student=FOUND, **options):
    files = {"annotations": annotations, "student": student, "teacher": teacher}
    return load_pair(files, lambda output: {"e": deferral_scores(output, "free_energy")}, **options)


@pytest.mark.parametrize("file", RESULTS)
def test_results_have_their_detections(file):
    run = pair_of(EXPORTS / file)
    assert run.teacher["score"].tolist() == run.student["score"].tolist()
    for column in ("label", "matched"):
        np.testing.assert_array_equal(run.teacher[column], run.student[column])
    np.testing.assert_allclose(run.teacher["box"], run.student["box"], rtol=0, atol=RESULTS[file])


def labels_of(root, numbers, **options):
    """The classes of detections that a file tells by numbers, and of those that another tells by names."""
    run = pair_of(numbers, root, EXPORTS / "fiftyone" / "found-labels", **options)
    return run.teacher["label"].tolist(), run.student["label"].tolist()


def test_numbers_beside_vocs_names_are_read_by_cvats_order(tmp_path):
    root = exported("datumaro/voc", tmp_path, "JPEGImages")
    by_number, by_name = labels_of(root, EXPORTS / "globox" / "found-yolo", split="val")
    assert by_number == by_name


def counted_from_1(folder):
    """The results as Ultralytics' predictions.json."""
    path = folder / "p.json"
    ebjr_det.convert(FOUND, path, "ultralytics", annotations=TRUTH)
    return path


def test_numbers_beside_vocs_names_alone_are_asked_for(tmp_path):
    root = exported("globox/voc", tmp_path)
    numbers = EXPORTS / "globox" / "found-yolo"
    predictions = tmp_path / "predictions.json"
    predictions.write_text(
        '[{"image_id": "0007", "file_name": "0007.png", "category_id": 1, "bbox": [1, 1, 9, 9], "score": 1}]'
    )
    for file in (numbers, predictions):
        with pytest.raises(ConfigError, match=r"no order of classes.*--class-ids from-0 \(0 five, 1 four"):
            labels_of(root, file, first_pixel=0)
    names = tmp_path / "obj.names"
    names.write_text("\n".join(GIVEN))
    by_number, by_name = labels_of(root, numbers, first_pixel=0, class_ids=str(names))
    assert by_number == by_name
    with pytest.raises(InvalidInput, match=r"got 6. Where they count from 1: --class-ids from-1:.*obj.names"):
        labels_of(root, counted_from_1(tmp_path), first_pixel=0, class_ids=str(names))
    by_number, by_name = labels_of(root, tmp_path / "p.json", first_pixel=0, class_ids=f"from-1:{names}")
    assert by_number == by_name
    by_alphabet, _ = labels_of(root, numbers, first_pixel=0, class_ids="from-0")
    assert by_alphabet != by_name


def test_voc_that_counts_from_0_is_found_by_its_first_pixel_or_said(tmp_path, capsys):
    root = exported("globox/voc", tmp_path)
    settings = {"dataset": "voc", "annotations": str(root), "images": str(root)}
    with pytest.raises(InvalidInput, match=r"scene 3.xml`, got 0. Set `first_pixel` to 0"):
        build_data(**settings)
    (root / "scene 3.xml").unlink()
    build_data(**settings)
    assert "others need `first_pixel: 0`: 3." in capsys.readouterr().err


@pytest.mark.parametrize("to", ["voc", "ultralytics", "yolo"])
def test_results_are_written_as_other_tools_have_them(to, tmp_path):
    content = json.loads(TRUTH.read_text())
    content["images"][1]["file_name"] = "scene_3.png"  # VOC's columns hold no blank
    truth, out = tmp_path / "truth.json", tmp_path / ("out.json" if to == "ultralytics" else "out")
    truth.write_text(json.dumps(content))
    done = ebjr_det.convert(FOUND, out, to, annotations=truth)
    assert (done.pictures, done.boxes) == (3, 7)
    run = pair_of(out, truth)
    np.testing.assert_array_equal(run.teacher["label"], run.student["label"])
    np.testing.assert_allclose(run.teacher["box"], run.student["box"], rtol=0, atol=1e-9)
    if to == "voc":
        with pytest.raises(InvalidInput, match=r"without blanks for VOC's results, got `scene 3`"):
            ebjr_det.convert(FOUND, tmp_path / "none", to, annotations=TRUTH)
        assert not (tmp_path / "none").exists()
