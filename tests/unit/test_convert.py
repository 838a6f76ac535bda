"""Sets and results written in another form: read again they have the same numbers; whole or not at all."""

import json

import numpy as np
import pytest
from formats import SIZES, WRITERS, coco_content, draw

import ebjr_det
from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput
from ebjr_det.core.router import RouterDecision
from ebjr_det.inference.live import LiveOutput
from ebjr_det.tasks.detection.coco.annotations import load_annotations, load_results
from ebjr_det.tasks.detection.data import build_data
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.formats.results import as_cocos

SOURCES = {"coco": "truth.json", "yolo": "data.yaml", "voc": ""}


def objects_by_name(annotations):
    """File's name -> sorted (class, box, crowd)."""
    return {
        name.rsplit("/", 1)[-1]: sorted(
            (annotations.class_names[label], *box, crowd)
            for label, box, crowd in zip(
                truth.labels.tolist(), truth.boxes.tolist(), truth.crowd.tolist(), strict=True
            )
        )
        for name, truth in zip(annotations.file_names, annotations.truths, strict=True)
    }


@pytest.mark.parametrize("to", ["coco", "yolo", "voc"])
@pytest.mark.parametrize("form", SOURCES)
def test_a_set_has_the_same_objects_in_every_form(form, to, tmp_path):
    settings = WRITERS[form](tmp_path / "set")
    out = tmp_path / ("out.json" if to == "coco" else "out")
    options = {"split": "val"} if form != "coco" else {}
    if to != form == "coco":
        options = {"images": tmp_path / "set" / "images"}
    done = ebjr_det.convert(tmp_path / "set" / SOURCES[form], out, to, **options)
    assert (done.pictures, done.boxes) == (5, 15)
    if to == "coco":
        written = load_annotations(out)
    else:
        data = build_data(to, root=str(out), split="val")
        written = data.annotations
        for index in range(len(data)):
            assert data.load(index).size == tuple(written.sizes[index])
    assert objects_by_name(written) == objects_by_name(build_data(**settings).annotations)


def results(folder):
    content = coco_content()
    rng = np.random.default_rng(0)
    entries = [
        {"image_id": e["image_id"], "category_id": e["category_id"], "bbox": e["bbox"], "score": rng.random()}
        for e in content["annotations"]
    ]
    for name, part in (("truth", content), ("found", entries)):
        (folder / f"{name}.json").write_text(json.dumps(part))
    return folder / "truth.json", folder / "found.json"


def test_results_come_back_as_they_were(tmp_path):
    truth, found = results(tmp_path)
    ebjr_det.convert(found, tmp_path / "labels", "yolo", annotations=truth)
    assert {path.name for path in (tmp_path / "labels").iterdir()} == {"0007.txt", "0012.txt", "0101.txt"}
    done = ebjr_det.convert(tmp_path / "labels", tmp_path / "again.json", "coco", annotations=truth)
    assert (done.pictures, done.boxes) == (len(SIZES), 15)
    annotations = load_annotations(truth)
    pairs = [load_results(path, annotations) for path in (found, tmp_path / "again.json")]
    for first, second in zip(*pairs, strict=True):
        for column in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(first, column), getattr(second, column))


FAULTS = {
    "there already": (("found.json", "truth.json", "coco"), {}, "a new path to write to, got .*which exists"),
    "no folder of pictures": (("truth.json", "out", "yolo"), {}, "Expected --images"),
    "a picture missing": (("truth.json", "out", "voc"), {"images": "."}, "Expected a picture at"),
    "another ending": (("truth.json", "out.txt", "coco"), {}, "a .json or .json.gz"),
    "an unknown option": (
        ("truth.json", "o.json", "coco"),
        {"splt": "val"},
        "got `splt`. Did you mean `split`",
    ),
    "a split elsewhere": (
        ("truth.json", "out", "yolo"),
        {"images": ".", "split": "../x"},
        "files can be called",
    ),
    "a split above": (("truth.json", "out", "yolo"), {"images": ".", "split": ".."}, "files can be called"),
    "a seventh pixel": (("truth.json", "out", "voc"), {"images": ".", "first_pixel": 7}, "0 or 1, got 7"),
    "a set as results": (("truth.json", "out.json", "ultralytics"), {}, "--annotations beside results"),
    "results without their set": (("found.json", "out.json", "coco"), {}, "an object with `images`"),
}


USELESS = {
    # (source, form, --annotations), options -> which one is told
    "coco to coco": (("truth.json", "coco", None), {"split": "val"}, "split"),
    "pictures of no copy": (("truth.json", "coco", None), {"images": "."}, "images"),
    "pixels of no voc": (("truth.json", "yolo", None), {"images": ".", "first_pixel": 0}, "first-pixel"),
    "numbers of a set": (("truth.json", "coco", None), {"class_ids": "ids"}, "class-ids"),
    "pictures of a set's own": (("set", "coco", None), {"split": "val", "images": "."}, "images"),
    "pictures of results": (("found.json", "coco", "truth.json"), {"images": "."}, "images"),
    "a split of results": (("found.json", "yolo", "truth.json"), {"split": "val"}, "split"),
    "pixels of results": (("found.json", "coco", "truth.json"), {"first_pixel": 1}, "first-pixel"),
    "images of text": (("yolo", "coco", "truth.json"), {"image_ids": "ids"}, "image-ids"),
    "classes of voc": (("voc", "coco", "truth.json"), {"first_pixel": 1, "class_ids": "ids"}, "class-ids"),
    "a file's own ids": (("own.json", "coco", "truth.json"), {"image_ids": "files"}, "image-ids"),
}


@pytest.mark.parametrize("case", USELESS)
def test_an_option_without_use_is_refused(case, tmp_path, monkeypatch):
    results(tmp_path)
    monkeypatch.chdir(tmp_path)
    (source, to, annotations), options, flag = USELESS[case]
    truth = {} if annotations is None else {"annotations": annotations}
    if source == "set":
        WRITERS["yolo"](tmp_path / source)
    elif source == "own.json":
        content = coco_content()
        content["annotations"] = [entry | {"score": 0.5} for entry in content["annotations"]]
        (tmp_path / source).write_text(json.dumps(content))
    elif source != f"{source.removesuffix('.json')}.json":
        ebjr_det.convert("found.json", source, source, **truth)
    with pytest.raises(ConfigError, match=f"no --{flag} to write"):
        ebjr_det.convert(source, "out.json" if to == "coco" else "out", to, **truth, **options)
    options = {name: value for name, value in options.items() if name != flag.replace("-", "_")}
    if case != "pixels of no voc":
        ebjr_det.convert(source, "out.json" if to == "coco" else "out", to, **truth, **options)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refused_conversion_leaves_nothing(fault, tmp_path, monkeypatch):
    results(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    arguments, options, words = FAULTS[fault]
    with pytest.raises(EbjrError, match=words):
        ebjr_det.convert(*arguments, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


UNWRITABLE = {
    # (changes of the first image, of the first class, of the first object), the forms, the words
    "above the folder": ({"file_name": "../../up.png"}, {}, {}, ("results", "yolo"), "inside the folder"),
    "elsewhere": ({"file_name": "/up/x.png"}, {}, {}, ("results",), "inside the folder"),
    "no name": ({"file_name": ""}, {}, {}, ("results", "yolo", "voc"), "got ''"),
    "one stem": ({"file_name": "0012.jpg"}, {}, {}, ("results", "yolo", "voc"), "got two of"),
    "a blank class": ({}, {"name": " "}, {}, ("yolo", "voc"), "printable names"),
    "a class of control letters": ({}, {"name": "a\x01"}, {}, ("yolo", "voc"), "printable names"),
    "classes of one name": ({}, {"name": "ant"}, {}, ("voc",), "got two of one name"),
    "a box elsewhere": ({}, {}, {"bbox": [-90, -90, 9, 9]}, ("results", "yolo", "voc"), "got .-90"),
}


@pytest.mark.parametrize(
    ("case", "form"),
    [("one stem", "ultralytics")] + [(case, form) for case, entry in UNWRITABLE.items() for form in entry[3]],
)
def test_what_the_form_cannot_hold_is_refused_and_nothing_lies_outside(case, form, tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    image, category, item, _, words = UNWRITABLE[case]
    draw(folder / "images")
    content = coco_content()
    for key, change in (("images", image), ("categories", category), ("annotations", item)):
        content[key][0] |= change
    (folder / "truth.json").write_text(json.dumps(content))
    entries = [entry | {"score": 0.5} for entry in content["annotations"]]
    (folder / "found.json").write_text(json.dumps(entries))
    before = sorted(tmp_path.rglob("*"))
    source, options = folder / "truth.json", {"images": folder / "images"}
    out = folder / ("out.json" if form == "ultralytics" else "out")
    if form in ("results", "ultralytics"):
        source, options = folder / "found.json", {"annotations": folder / "truth.json"}
    with pytest.raises(InvalidInput, match=words):
        ebjr_det.convert(source, out, "yolo" if form == "results" else form, **options)
    assert sorted(tmp_path.rglob("*")) == before


# --- supervision ---


def test_detections_go_to_supervision_and_back_to_the_bit(tmp_path):
    supervision = pytest.importorskip("supervision")
    rng = np.random.default_rng(3)
    corners = np.sort(rng.uniform(0, 99, (4, 2, 2)), axis=1).reshape(4, 4)
    ours = Detections(corners, rng.random(4), np.array([2, 0, 1, 2]))
    theirs = ours.to_supervision(("bee", "ant", "cow"))
    assert isinstance(theirs, supervision.Detections)
    assert theirs["class_name"].tolist() == ["cow", "bee", "ant", "cow"]
    back = Detections.from_supervision(theirs)
    for column in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(ours, column), getattr(back, column))
    assert len(Detections.from_supervision(supervision.Detections.empty())) == 0
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.intp))
    assert len(none.to_supervision(("bee",))) == 0


def test_the_answer_of_a_pair_goes_to_supervision_picture_by_picture():
    pytest.importorskip("supervision")
    boxes = Detections(np.array([[0.0, 0, 4, 4]]), np.array([0.5]), np.array([1]))
    decision = RouterDecision(np.array([0.0, 2.0]), 1.0, np.array([False, True]))
    answer = LiveOutput([boxes, boxes], decision, ("bee", "ant"))
    assert [picture["class_name"].tolist() for picture in answer.to_supervision()] == [["ant"], ["ant"]]
    with pytest.raises(ConfigError, match="a pair of detectors"):
        LiveOutput([3, 4], decision, ("bee", "ant")).to_supervision()


def test_supervision_detections_without_scores_are_refused():
    supervision = pytest.importorskip("supervision")
    with pytest.raises(InvalidInput, match="`confidence` and `class_id`"):
        Detections.from_supervision(supervision.Detections(xyxy=np.ones((1, 4))))


def test_results_in_memory_can_be_keyed_by_id(tmp_path):
    from ebjr_det.io.memory import InMemory

    truth, found = results(tmp_path)
    annotations = load_annotations(truth)
    listed = load_results(found, annotations)
    boxes = {
        image: Detections(
            np.hstack([part.boxes[:, :2], part.boxes[:, :2] + part.boxes[:, 2:]]), part.scores, part.labels
        )
        for image, part in zip(annotations.image_ids, listed, strict=True)
        if len(part)
    }
    again = load_results(as_cocos(InMemory("student", boxes), annotations), annotations)
    np.testing.assert_array_equal(
        again[0].labels[np.argsort(again[0].scores)], listed[0].labels[np.argsort(listed[0].scores)]
    )
