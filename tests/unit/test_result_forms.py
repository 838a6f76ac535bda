"""Two detectors' results in every form that tools write: the matches and the curve of COCO's JSON."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from formats import CLASSES, SIZES, coco_content, objects_of, write_voc, write_yolo

from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.tradeoff import sweep
from ebjr_det.io.memory import InMemory
from ebjr_det.tasks.detection.detections import Detections, to_corners
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.replay import load_pair

FILES = [f"{stem}.png" for stem in SIZES]


def found_by(side):
    """(stem, class index, x, y, width, height, score) of every detection, whole pixels."""
    generator, rows = np.random.default_rng(len(side)), []
    for stem, size in SIZES.items():
        for label, x, y, w, h in objects_of(stem):
            if generator.random() < (0.9 if side == "teacher" else 0.7):
                shift = generator.integers(0, 2 if side == "teacher" else 4)
                rows.append(
                    (stem, label, x, y, w + int(shift), h, round(float(generator.uniform(0.3, 1)), 6))
                )
        for _ in range(3):
            x, y = (int(generator.integers(side - 12)) for side in size)
            score = round(float(generator.uniform(0, 0.6)), 6)
            rows.append((stem, int(generator.integers(3)), x, y, 11, 10, score))
    return rows


def score(output):
    return {"free_energy": deferral_scores(output, "free_energy")}


def coco_list(rows, image=int, label=lambda k: k + 1, **more):
    return [
        {"image_id": image(stem), "category_id": label(k), "bbox": [x, y, w, h], "score": s}
        | {key: value(stem) for key, value in more.items()}
        for stem, k, x, y, w, h, s in rows
    ]


def as_json(folder, name, content):
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def yolo(folder, name, rows, place=lambda k: k):
    (folder / name).mkdir()
    for stem, k, x, y, w, h, s in rows:
        width, height = SIZES[stem]
        shares = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
        with (folder / name / f"{stem}.txt").open("a") as opened:
            print(place(k), *map(repr, shares), repr(s), file=opened)
    return folder / name


def voc(folder, name, rows):
    (folder / name).mkdir()
    for stem, k, x, y, w, h, s in rows:
        with (folder / name / f"comp4_det_val_{CLASSES[k]}.txt").open("a") as opened:
            print(stem, s, x + 1, y + 1, x + w, y + h, file=opened)
    return folder / name


def ultralytics(folder, name, rows):
    """As it writes them since 2024: names of files, classes from 1."""
    return as_json(folder, name, coco_list(rows, file_name=lambda stem: f"{stem}.png"))


def fiftyone(folder, name, rows):
    samples = []
    for stem, size in SIZES.items():
        own = [
            {"_cls": "Detection", "label": CLASSES[k], "confidence": s,
             "bounding_box": [x / size[0], y / size[1], w / size[0], h / size[1]]}
            for other, k, x, y, w, h, s in rows if other == stem
        ]  # fmt: skip
        truth = {"_cls": "Detections", "detections": [{"label": "bee", "bounding_box": [0, 0, 1, 1]}]}
        found = {"_cls": "Detections", "detections": own}
        samples.append({"filepath": f"data/{stem}.png", "ground_truth": truth, "predictions": found})
    (folder / name).mkdir()
    as_json(folder / name, "samples", {"samples": samples})
    return folder / name


def coco_export(folder, name, rows):
    """Predictions as FiftyOne exports them to COCO's form, with images and categories of their own."""
    order = sorted(CLASSES)
    content = {
        "images": [{"id": n, "file_name": f"{stem}.png"} for n, stem in enumerate(reversed(SIZES))],
        "categories": [{"id": n, "name": label} for n, label in enumerate(order)],
        "annotations": coco_list(
            rows, lambda stem: [*reversed(SIZES)].index(stem), lambda k: order.index(CLASSES[k])
        ),
    }
    return as_json(folder, name, content)


def by_picture(rows, build):
    stems = [stem for stem in SIZES if any(row[0] == stem for row in rows)]
    return {stem: build([row[1:] for row in rows if row[0] == stem]) for stem in stems}


def ours(folder, name, rows):
    def build(found):
        table = np.array(found, dtype=float)
        return Detections(to_corners(table[:, 1:5]), table[:, 5], table[:, 0].astype(np.intp))

    return InMemory(name, by_picture(rows, build))


def supervision_like(folder, name, rows):
    """Its `Detections` has these fields; names of classes decide, their numbers are of another order."""
    supervision = pytest.importorskip("supervision")

    def build(found):
        table = np.array(found, dtype=float)
        labels = [CLASSES[int(k)] for k in table[:, 0]]
        return supervision.Detections(
            xyxy=to_corners(table[:, 1:5]),
            confidence=table[:, 5],
            class_id=np.array([sorted(CLASSES).index(label) for label in labels]),
            data={"class_name": np.array(labels)},
        )

    return InMemory(name, by_picture(rows, build))


FORMS = {
    "YOLO": yolo, "VOC": voc, "Ultralytics": ultralytics, "FiftyOne": fiftyone,
    "FiftyOne as COCO": coco_export, "ours": ours, "supervision": supervision_like,
}  # fmt: skip


@pytest.fixture
def truth(tmp_path):
    return as_json(tmp_path, "truth", coco_content())


@pytest.fixture
def plain(tmp_path, truth):
    """The pair from COCO's JSON, and its curve."""
    files = {side: as_json(tmp_path, side, coco_list(found_by(side))) for side in ("student", "teacher")}
    return load_pair({"annotations": truth, **files}, score)


def curve_of(run):
    return sweep(run, AveragePrecision(), "free_energy", CostModel(1, 9)).quality


def assert_same_pair(run, plain):
    for side in ("student", "teacher"):
        first, second = getattr(run, side), getattr(plain, side)
        for name in first:
            np.testing.assert_allclose(first[name], second[name], rtol=0, atol=1e-9, err_msg=name)
        np.testing.assert_array_equal(first["matched"], second["matched"])
    np.testing.assert_allclose(curve_of(run), curve_of(plain), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_results_of_any_form_have_the_curve_of_cocos_json(form, truth, plain, tmp_path, capsys):
    files = {
        side: FORMS[form](tmp_path, f"{side}-results", found_by(side)) for side in ("student", "teacher")
    }
    run = load_pair({"annotations": truth, **files}, score)
    assert len(set(curve_of(run))) > 3
    note = "its class numbers are read as places among the annotated classes, 0 bee, 1 ant, 2 cow."
    assert (note in capsys.readouterr().err) == (form == "YOLO")
    assert_same_pair(run, plain)


@pytest.mark.parametrize("form", ["YOLO", "VOC"])
def test_a_set_of_another_form_stands_in_for_annotations(form, plain, tmp_path):
    files = {side: yolo(tmp_path, f"{side}-results", found_by(side)) for side in ("student", "teacher")}
    (write_yolo if form == "YOLO" else write_voc)(tmp_path / "set")
    path = tmp_path / "set" / "data.yaml" if form == "YOLO" else tmp_path / "set"
    names = as_yaml(tmp_path, CLASSES)
    run = load_pair({"annotations": path, **files}, score, split="val", class_ids=str(names))
    np.testing.assert_allclose(curve_of(run), curve_of(plain), rtol=0, atol=1e-12)
    assert run.image_ids == plain.image_ids


def as_yaml(folder, names):
    path = folder / "names.yaml"
    path.write_text(yaml.safe_dump({"names": list(names)}))
    return path


# --- Numbers that can be meant in several ways ---


def named(stem):
    return f"{stem}.png"


def pair_of(truth, rows_to_entries, folder, **options):
    files = {
        side: as_json(folder, f"{side}-n", rows_to_entries(found_by(side))) for side in ("student", "teacher")
    }
    return load_pair({"annotations": truth, **files}, score, **options)


NUMBERS = {
    "from 0, seen by a 0": ({}, {"label": lambda k: k, "file_name": named}),
    "stems as texts": ({}, {"image": lambda stem: stem, "label": lambda k: k + 1}),
    "said": ({"class_ids": "from-0"}, {"label": lambda k: k}),
    "said by names": ({"class_ids": "names.yaml"}, {"label": lambda k: sorted(CLASSES).index(CLASSES[k])}),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_class_numbers_are_read_where_they_have_one_meaning(case, truth, plain, tmp_path, monkeypatch):
    options, form = NUMBERS[case]
    as_yaml(tmp_path, sorted(CLASSES))
    monkeypatch.chdir(tmp_path)
    assert_same_pair(pair_of(truth, lambda rows: coco_list(rows, **form), tmp_path, **options), plain)


def test_class_numbers_of_two_meanings_are_not_guessed(truth, tmp_path):
    def without_bees(rows, **form):
        return coco_list([row for row in rows if row[1] == 1], **form)

    with pytest.raises(
        ConfigError, match=r"got 2 to 2 beside annotated ids 1 to 3. .*--class-ids ids or --class-ids from-0"
    ):
        pair_of(truth, lambda rows: without_bees(rows, file_name=named), tmp_path)
    with pytest.raises(
        ConfigError, match=r"got 0 to 2 beside annotated ids 1 to 3. Say .*: --class-ids from-0\."
    ):
        pair_of(truth, lambda rows: coco_list(rows, label=lambda k: k), tmp_path)


def test_image_numbers_are_ids_or_in_the_names_of_files_and_the_doubt_is_said(plain, tmp_path, capsys):
    content = coco_content()
    order = [int(stem) for stem in SIZES]  # 7, 12 ... become 12, 101 ... , which are names of others
    ids = dict(zip(order, [12, 101, 102, 200, 7], strict=True))
    for entry in content["images"]:
        entry["id"] = ids[entry["id"]]
    for entry in content["annotations"]:
        entry["image_id"] = ids[entry["image_id"]]
    truth = as_json(tmp_path, "shifted", content)
    by_file = pair_of(truth, lambda rows: coco_list(rows), tmp_path, image_ids="files")
    by_id = pair_of(truth, lambda rows: coco_list(rows, lambda stem: ids[int(stem)]), tmp_path)
    assert "--image-ids files" in capsys.readouterr().err
    np.testing.assert_array_equal(by_file.student["matched"], by_id.student["matched"])
    np.testing.assert_allclose(curve_of(by_file), curve_of(plain), rtol=0, atol=1e-12)


def stranger_of(form, folder):
    """Detections in a.png, and one in an unannotated 5.png; 5 is the id of 000007.png."""
    if form == "Ultralytics":
        entries = [
            {"image_id": key, "file_name": name, "category_id": 0, "bbox": [1, 1, 9, 9], "score": 0.5}
            for key, name in (("a", "a.png"), (5, "5.png"))
        ]
        return as_json(folder, "found", entries)
    (folder / "found").mkdir()
    for stem in ("a", "5"):
        name, line = (stem, "0 .5 .5 .1 .1 .5") if form == "YOLO" else ("det_bee", f"{stem} .5 1 1 9 9")
        with (folder / "found" / f"{name}.txt").open("a") as opened:
            print(line, file=opened)
    return folder / "found"


@pytest.mark.parametrize("form", ["Ultralytics", "YOLO", "VOC"])
def test_an_unknown_file_is_not_taken_for_a_picture_whose_id_is_in_its_name(form, tmp_path):
    images = [{"id": key, "file_name": name, "width": 60, "height": 50} for key, name in
              ((1, "a.png"), (5, "000007.png"))]  # fmt: skip
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0}]
    truth = as_json(tmp_path, "small", coco_content() | {"images": images, "annotations": objects})
    found = stranger_of(form, tmp_path)
    with pytest.raises(InvalidInput, match=r"to be one of the annotated set's, got another in 1 of 2.*'5\."):
        load_pair({"annotations": truth, "student": found, "teacher": found}, score, class_ids=(
            None if form == "VOC" else "from-0"))  # fmt: skip


def test_shares_in_pictures_of_unknown_size_are_refused(tmp_path):
    content = coco_content()
    for entry in content["images"]:
        del entry["width"], entry["height"]
    files = {side: fiftyone(tmp_path, side, found_by(side)) for side in ("student", "teacher")}
    with pytest.raises(InvalidInput, match="Expected the size of 7 in the annotations, got none"):
        load_pair({"annotations": as_json(tmp_path, "sizeless", content), **files}, score)


# --- Faults ---


def text(folder, line, name="0007.txt"):
    (folder / "bad").mkdir()
    (folder / "bad" / name).write_text(f"0 .5 .5 .1 .1 .5\n{line}\n")
    return folder / "bad"


def two_runs(folder):
    """Of which the second one is in a folder below the first one's."""
    text(folder, "")
    text(folder / "bad", "")
    return folder / "bad"


def own_set(folder, image=1, category=1, **entry):
    """A set with scores and one image, in a file that the annotations do not have."""
    detection = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5} | entry
    content = {
        "images": [{"id": image, "file_name": "strange.png"}],
        "categories": [{"id": category, "name": "bee"}],
        "annotations": [detection],
    }
    return as_json(folder, "own", content)


def sample(folder, detections=None, **entry):
    """One sample of FiftyOne's export."""
    whole = {"label": "bee", "confidence": 0.5, "bounding_box": [0.1, 0.1, 0.2, 0.2]} | entry
    field = {"detections": [whole] if detections is None else detections}
    return as_json(folder, "sample", {"samples": [{"filepath": "0007.png", "p": field}]})


def pickled(folder):
    (folder / "results.pkl").write_bytes(pickle.dumps([1]))
    return folder / "results.pkl"


FAULTS = {
    "a pickle": (pickled, "a file that could run code.*results.bbox.json"),
    "no confidence": (lambda f: text(f, "0 .5 .5 .1 .1"), "line 2 of `.*got 5 columns. .*save_conf=True"),
    "a mask": (lambda f: text(f, "0 .5 .5 .1 .1 .2 .2 .9"), "got 8 columns. Oriented boxes and masks"),
    "a class beyond": (lambda f: text(f, "3 .5 .5 .1 .1 .9"), "a class of the 3 .* in line 2.*got 3"),
    "pixels": (lambda f: text(f, "1 50 50 10 10 .9"), "from 0 to 1, in line 2.*Divide pixels"),
    "no number": (lambda f: text(f, "1 .5 .5 .1 .1 high"), "finite numbers in line 2"),
    "an unknown picture": (lambda f: text(f, "", "0008.txt"), "to be one of the annotated set's.*0008"),
    "no files": (lambda f: (f / "none").mkdir() or f / "none", "text files of results in .*none"),
    "VOC without a box": (lambda f: text(f, "0007 .5 1 2 3", "det_bee.txt"), "`picture confidence xmin ymin"),
    "FiftyOne's labels beyond": (
        lambda f: as_json(f, "l", {"classes": ["bee"], "labels": {"0007": [{"label": -1, "confidence": 1}]}}),
        "classes from 0 to 0 in .*got -1"),
    "FiftyOne's labels of a number": (
        lambda f: as_json(f, "l", {"classes": ["bee"], "labels": {"0007": 7}}), "a list of .*got a number"),
    "two fields": (
        lambda f: as_json(f, "two", {"samples": [{"filepath": "7.png"} | {
            name: {"detections": [{"label": "bee", "confidence": 1, "bounding_box": [0, 0, 1, 1]}]}
            for name in ("a", "b")}]}), "one field of detections with confidences.*got 2: a, b"),
    "other names": (
        lambda f: as_json(f, "cats", {"images": [], "categories": [{"id": 1, "name": "cat"}],
                                      "annotations": [{"score": 1}]}), "such as `bee`, got `cat`"),
    "two files of a picture": (two_runs, "one file of results a picture, got .*0007.txt` and .*0007.txt`"),
    "a number of another's picture": (lambda f: own_set(f, 7, image_id=7), "got another in 1 .*strange.png"),
    "an id of a list": (lambda f: own_set(f, [1]), "every image in .*as id, got \\[1\\]"),
    "a class of an object": (lambda f: own_set(f, category={}), "every category in .*as id, got {}"),
    "a detection of no image": (lambda f: own_set(f, image_id=[7]), "`image_id` in .*the file's own, got"),
    "a detection of no class": (lambda f: own_set(f, category_id=9), "`category_id` in .*own, got 9"),
    "a field of a number": (lambda f: sample(f, 5), "one field of detections with confidences.*got 0"),
    "a box of five": (lambda f: sample(f, bounding_box=[0.1] * 5), "`bbox` in .* to be 4 finite numbers"),
    "pixels of FiftyOne": (lambda f: sample(f, bounding_box=[9, 9, 40, 50]), "in shares.*got 50. Divide"),
    "a number as a file": (
        lambda f: as_json(f, "n", coco_list(found_by("a"), file_name=int)), "names of files .*got a number"),
    "a number as a path": (
        lambda f: as_json(f, "n", {"samples": [{"filepath": 7, "p": {"detections": [
            {"label": "bee", "confidence": 1, "bounding_box": [0, 0, 1, 1]}]}}]}), "names of files"),
    "a set without categories": (
        lambda f: as_json(f, "o", {"images": [], "annotations": coco_list(found_by("a"))}),
        "a list of detections .COCO results. in .*got an object"),
    "the ground truth": (lambda f: f / "truth.json", "Give a detector's results, not the ground truth"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_result_is_refused_in_one_line(fault, truth, tmp_path):
    build, words = FAULTS[fault]
    student = as_json(tmp_path, "student", coco_list(found_by("student")))
    with pytest.raises(EbjrError, match=words) as caught:
        load_pair({"annotations": truth, "student": student, "teacher": build(tmp_path)}, score)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["FiftyOne", "FiftyOne as COCO", "supervision"])
def test_classes_of_one_name_are_not_told_apart_by_it(form, tmp_path):
    content = coco_content()
    content["categories"][1]["name"] = CLASSES[0]
    truth = as_json(tmp_path, "twice", content)
    files = {side: FORMS[form](tmp_path, side, found_by(side)) for side in ("student", "teacher")}
    with pytest.raises(InvalidInput, match=r"distinct names.*got `bee` more than once"):
        load_pair({"annotations": truth, **files}, score)


def test_shares_of_pictures_need_the_pictures(tmp_path):
    files = {side: yolo(tmp_path, side, found_by(side)) for side in ("student", "teacher")}
    with pytest.raises(ConfigError, match=r"Expected --annotations or --pictures beside `.*student`"):
        load_pair(files, score)
    truth = as_json(tmp_path, "pictures", coco_content())
    assert load_pair({"pictures": truth, **files}, score).estimated


def test_detections_in_memory_without_confidences_are_refused(truth, tmp_path):
    bare = SimpleNamespace(xyxy=np.ones((1, 4)), confidence=None, class_id=np.zeros(1, int), data={})
    student = as_json(tmp_path, "student", coco_list(found_by("student")))
    with pytest.raises(InvalidInput, match="`confidence` and `class_id`"):
        load_pair(
            {"annotations": truth, "student": student, "teacher": InMemory("teacher", {"7": bare})}, score
        )
