"""COCO files at the door: what a good one gives, and what is said about every bad one."""

import copy
import gzip
import json

import numpy as np
import pytest

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.scores import EMPTY_LOGIT, SCORES, deferral_scores
from ebjr_det.core.types import Logits, Output
from ebjr_det.tasks.detection.coco.annotations import load_annotations, load_results
from ebjr_det.tasks.detection.data import build_data
from ebjr_det.tasks.detection.replay import load_pair, logits_of

HUGE = 10**400  # a whole number that no float holds

TRUTH = {
    "images": [
        {"id": 7, "file_name": "b/7.jpg", "width": 64, "height": 48},
        {"id": 3, "file_name": "a.jpg"},
        {"id": 12, "file_name": "c.jpg", "width": 10, "height": 10},
    ],
    "annotations": [
        {"id": 5, "image_id": 7, "category_id": 90, "bbox": [1, 2.5, 10, 20], "area": 123.5, "iscrowd": 0},
        {"id": 6, "image_id": 7, "category_id": 2, "bbox": [-3, 0, 8, 8], "area": 64, "iscrowd": 1},
        {"id": 1, "image_id": 12, "category_id": 2, "bbox": [0, 0, 4, 5]},
    ],
    "categories": [{"id": 90, "name": "bus"}, {"id": 2}],
}
RESULTS = [
    {"image_id": 12, "category_id": 2, "bbox": [0, 0, 4, 5], "score": 0.25},
    {"image_id": 7, "category_id": 90, "bbox": [1, 2, 10, 20.125], "score": 1},
    {"image_id": 12, "category_id": 90, "bbox": [-1.5, 0, 4, 0], "score": 0},
]


@pytest.fixture
def write(tmp_path):
    """A function: content, name -> the path of that JSON file; text and bytes are written as they are."""

    def write_(content, name="truth.json"):
        path = tmp_path / name
        raw = content if isinstance(content, str | bytes) else json.dumps(content)
        raw = raw if isinstance(raw, bytes) else raw.encode()
        path.write_bytes(
            gzip.compress(raw) if name.endswith(".gz") and not isinstance(content, bytes) else raw
        )
        return path

    return write_


def changed(content, *keys, to):
    """A copy of the content with the value at some keys replaced, or removed for `...`."""
    content = copy.deepcopy(content)
    inside = content
    for key in keys[:-1]:
        inside = inside[key]
    if to is ...:
        del inside[keys[-1]]
    else:
        inside[keys[-1]] = to
    return content


# --- Good files ---


@pytest.mark.parametrize("name", ["truth.json", "truth.json.gz"])
def test_images_and_classes_are_in_the_order_of_their_ids(write, name):
    found = load_annotations(write(TRUTH, name))
    assert len(found) == 3
    assert found.image_ids == (3, 7, 12)
    assert found.file_names == ("a.jpg", "b/7.jpg", "c.jpg")
    assert found.sizes.tolist() == [[0, 0], [64, 48], [10, 10]]
    assert (found.category_ids, found.class_names) == ((2, 90), ("2", "bus"))
    empty, two, one = found.truths
    assert (len(empty), empty.boxes.shape) == (0, (0, 4))
    assert two.boxes.tolist() == [[1, 2.5, 10, 20], [-3, 0, 8, 8]]
    assert (two.labels.tolist(), two.areas.tolist(), two.crowd.tolist()) == (
        [1, 0],
        [123.5, 64],
        [False, True],
    )
    assert (one.areas.tolist(), one.crowd.tolist()) == ([20.0], [False])


@pytest.mark.parametrize("name", ["found.json", "found.json.gz"])
def test_results_keep_the_order_and_the_numbers_of_the_file(write, name):
    none, one, two = load_results(write(RESULTS, name), load_annotations(write(TRUTH)))
    assert (len(none), none.boxes.shape) == (0, (0, 4))
    assert one.boxes.tolist() == [[1, 2, 10, 20.125]]
    assert (two.labels.tolist(), two.scores.tolist()) == ([0, 1], [0.25, 0.0])
    assert one.boxes.dtype == two.scores.dtype == np.float64


def test_a_subset_holds_the_asked_images_in_order(write):
    found = load_annotations(write(TRUTH))
    some = found.subset([12, 3])
    assert (some.image_ids, some.file_names) == ((3, 12), ("a.jpg", "c.jpg"))
    assert [len(truth) for truth in some.truths] == [0, 1]
    assert some.sizes.tolist() == [[0, 0], [10, 10]]
    assert found.subset(limit=2).image_ids == (3, 7)
    for wrong in ({"ids": [4]}, {"limit": 0}):
        with pytest.raises(ConfigError):
            found.subset(**wrong)


# --- Files that are no such files ---

NO_JSON = {
    "not JSON": ("truth.json", "images: []", "Expecting value"),
    "nothing": ("truth.json", "", "Expecting value"),
    "not UTF-8": ("truth.json", b'{"images": "\xff\xfe"}', "utf-8"),
    "a number of 5,000 digits": ("truth.json", "9" * 5000, "digits"),
    "nested 100,000 deep": ("truth.json", "[" * 100_000 + "]" * 100_000, "recursion"),
    "gz that is none": ("truth.json.gz", b"{}", "gzip"),
    "gz cut short": ("truth.json.gz", gzip.compress(json.dumps(TRUTH).encode())[:-20], "end-of-stream"),
    "gz damaged": ("truth.json.gz", gzip.compress(b"{}")[:-8] + b"\0" * 8, "CRC"),
    "gz named json": ("truth.json", gzip.compress(b"{}"), "utf-8"),
}


@pytest.mark.parametrize(("name", "content", "says"), NO_JSON.values(), ids=NO_JSON)
def test_a_file_that_is_no_json_is_refused_with_its_path_and_the_reason(write, name, content, says):
    path, truth = write(content, name), load_annotations(write(TRUTH, "good.json"))
    for load in (load_annotations, lambda path: load_results(path, truth)):
        with pytest.raises(InvalidInput, match=rf"(?s){path}.*{says}") as caught:
            load(path)
        assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize("made", [lambda folder: folder, lambda folder: folder / "nope.json"])
def test_a_folder_or_nothing_is_refused(tmp_path, made):
    with pytest.raises(InvalidInput, match=r"Expected COCO annotations at .*(directory|No such)"):
        load_annotations(made(tmp_path))


# --- Ground truths with a fault ---

BOX, IMAGE, CATEGORY = ("annotations", 0), ("images", 0), ("categories", 0)
BAD_TRUTHS = {
    "a list": ([TRUTH], "an object with `images`.*a list with an object"),
    "null": (None, "got null"),
    "a text": ('"{}"', "got a text"),
    "no images": (changed(TRUTH, "images", to=...), "`images`.*no such key"),
    "images that are none": (changed(TRUTH, "images", to={}), "`images`.*an object"),
    "an image that is none": (changed(TRUTH, *IMAGE, to=3), "`images`.*a list with a number"),
    "annotations of null": (changed(TRUTH, "annotations", to=None), "`annotations`.*null"),
    "zero images": (changed(TRUTH, "images", to=[]), "0 images and 2 categories"),
    "zero categories": (changed(TRUTH, "categories", to=[]), "3 images and 0 categories"),
    "annotation without id": (changed(TRUTH, *BOX, "id", to=...), "whole number or a text as id, got None"),
    "an id twice": (changed(TRUTH, *BOX, "id", to=6), "distinct annotation ids.*got 6"),
    "an image twice": (changed(TRUTH, *IMAGE, "id", to=3), "distinct image ids.*got 3"),
    "a category twice": (changed(TRUTH, *CATEGORY, "id", to=2), "distinct category ids.*got 2"),
    "an id of text among numbers": (changed(TRUTH, *IMAGE, "id", to="7"), "every image.*got '7' among"),
    "a category id that is no number": (
        TRUTH | {"categories": [{"id": "bus"}], "annotations": []},
        "every category.*a whole number as id, got 'bus'",
    ),
    "half an id": (changed(TRUTH, *IMAGE, "id", to=7.5), "every image.*got 7.5"),
    "a bool as id": (changed(TRUTH, *CATEGORY, "id", to=True), "every category.*got True"),
    "an image id of a list": (changed(TRUTH, *BOX, "image_id", to=[7]), r"`image_id`.*got \[7\] at"),
    "a bool as category": (changed(TRUTH, *BOX, "category_id", to=True), "`category_id`.*got True at"),
    "no box": (changed(TRUTH, *BOX, "bbox", to=...), "`bbox`.*got None at entry 0, of image 7"),
    "three numbers": (changed(TRUTH, *BOX, "bbox", to=[1, 2, 3]), r"`bbox`.*4 finite.*got \[1, 2, 3\]"),
    "a box of text": (changed(TRUTH, *BOX, "bbox", to=[1, 2, 3, "4"]), r"`bbox`.*'4'\]"),
    "a box of bools": (changed(TRUTH, *BOX, "bbox", to=[1, 2, True, 4]), "`bbox`.*True"),
    "a box that is text": (changed(TRUTH, *BOX, "bbox", to="1234"), "`bbox`.*got '1234'"),
    "negative width": (changed(TRUTH, *BOX, "bbox", 2, to=-1), "`bbox`.*not negative.*-1"),
    "NaN height": (changed(TRUTH, *BOX, "bbox", 3, to=float("nan")), "`bbox`.*nan"),
    "infinite x": (changed(TRUTH, *BOX, "bbox", 0, to=float("-inf")), "`bbox`.*-inf"),
    "a huge x": (changed(TRUTH, *BOX, "bbox", 0, to=HUGE), "`bbox`.*at entry 0, of image 7"),
    "negative area": (changed(TRUTH, *BOX, "area", to=-0.5), "`area`.*not below 0.*-0.5"),
    "NaN area": (changed(TRUTH, *BOX, "area", to=float("nan")), "`area`.*nan"),
    "area of null": (changed(TRUTH, *BOX, "area", to=None), "`area`.*None"),
    "a huge area": (changed(TRUTH, *BOX, "area", to=HUGE), "`area`.*at entry 0"),
    "a crowd of 2": (changed(TRUTH, *BOX, "iscrowd", to=2), "`iscrowd`.*0 or 1.*2"),
    "a crowd of text": (changed(TRUTH, *BOX, "iscrowd", to="no"), "`iscrowd`.*'no'"),
    "a class name that is none": (changed(TRUTH, *CATEGORY, "name", to=[1]), r"category names.*\[1\]"),
    "negative width of an image": (changed(TRUTH, *IMAGE, "width", to=-1), r"an image's sides.*\(-1, 48\)"),
    "a bool as height": (changed(TRUTH, *IMAGE, "height", to=True), "an image's sides"),
    "a huge height": (changed(TRUTH, *IMAGE, "height", to=HUGE), "an image's sides"),
}


@pytest.mark.parametrize(("content", "says"), BAD_TRUTHS.values(), ids=BAD_TRUTHS)
def test_a_faulty_ground_truth_is_refused_in_one_short_line(write, content, says):
    path = write(content)
    with pytest.raises(InvalidInput, match=says) as caught:
        load_annotations(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))
    assert "\n" not in str(caught.value)


BAD_NAMES = {
    "a path upwards": (changed(TRUTH, *IMAGE, "file_name", to="a/../../x.jpg"), "inside the folder"),
    "a path upwards of Windows": (changed(TRUTH, *IMAGE, "file_name", to="..\\x.jpg"), "inside the folder"),
    "an absolute path": (changed(TRUTH, *IMAGE, "file_name", to="/etc/passwd"), "inside.*/etc/passwd"),
    "a drive": (changed(TRUTH, *IMAGE, "file_name", to="C:x.jpg"), "inside the folder"),
    "a NUL": (changed(TRUTH, *IMAGE, "file_name", to="x\0.jpg"), "inside the folder"),
    "a file name that is none": (changed(TRUTH, *IMAGE, "file_name", to=7), "file names"),
    "half a character": (changed(TRUTH, *IMAGE, "file_name", to="\ud800.jpg"), "file names"),
    "no file name": (changed(TRUTH, *IMAGE, "file_name", to=...), "file names.*got '' of image 7"),
}


@pytest.mark.parametrize(("content", "says"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_name_that_leaves_its_folder_is_refused_only_where_pictures_are_opened(
    content, says, write, tmp_path
):
    path = write(content)
    assert load_annotations(path).image_ids == (3, 7, 12)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InvalidInput, match=says) as caught:
        build_data("coco", annotations=str(path), images=str(tmp_path / "pictures"))
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


# --- Results with a fault ---

BAD_RESULTS = {
    "the ground truth": (TRUTH, "list of detections.*an object.*not the ground truth"),
    "numbers": ([1, 2], "a list with a number"),
    "one that is none": ([RESULTS[0], None], "a list with null"),
    "nothing": ([], "Expected detections.*got none"),
    "pictures of another set": (
        [entry | {"image_id": entry["image_id"] + 1000} for entry in RESULTS],
        "`image_id`.*3 of 3 entries: 1012",
    ),
    "an unknown picture": (
        changed(RESULTS, 1, "image_id", to=8),
        "`image_id`.*1 of 3 entries: 8 at entry 1.*--lenient",
    ),
    "only unknown categories": (
        [entry | {"category_id": 3} for entry in RESULTS],
        "`category_id`.*3 of 3 entries: 3 at entry 0",
    ),
    "percent": (
        [entry | {"score": score} for entry, score in zip(RESULTS, (97.5, 12, 0.5), strict=True)],
        "97.5 at entry 0.*percent: divide them by 100",
    ),
    "logits": (changed(RESULTS, 1, "score", to=2.5), "2.5 at entry 1.*after the sigmoid"),
    "a score just too large for noise": (changed(RESULTS, 1, "score", to=1 + 2e-6), "after the sigmoid"),
    "a score just too small for noise": (changed(RESULTS, 1, "score", to=-2e-6), "not below 0"),
    "no image": (changed(RESULTS, 1, "image_id", to=...), "`image_id`.*got None at entry 1"),
    "no box": (changed(RESULTS, 1, "bbox", to=...), "`bbox`.*None at entry 1, of image 7"),
    "no score": (changed(RESULTS, 1, "score", to=...), "`score`.*None at entry 1"),
    "a score above 1": (changed(RESULTS, 1, "score", to=1.01), r"scores in \[0, 1\].*1.01 at entry 1"),
    "a negative score": (changed(RESULTS, 1, "score", to=-0.1), "`score`.*not below 0.*-0.1 at entry 1"),
    "a NaN score": (changed(RESULTS, 1, "score", to=float("nan")), "`score`.*nan at entry 1"),
    "an infinite score": (changed(RESULTS, 1, "score", to=float("inf")), "`score`.*inf at entry 1"),
    "a huge score": (changed(RESULTS, 1, "score", to=HUGE), "`score`.*at entry 1"),
    "a bool as score": (changed(RESULTS, 1, "score", to=True), "`score`.*True at entry 1"),
    "a score of text": (changed(RESULTS, 1, "score", to="0.5"), "`score`.*'0.5'"),
    "a NaN box": (changed(RESULTS, 1, "bbox", 0, to=float("nan")), "`bbox`.*nan"),
    "a negative height": (changed(RESULTS, 1, "bbox", 3, to=-1e-9), "`bbox`.*-1e-09"),
    "a box of one number": (changed(RESULTS, 1, "bbox", to=3), "`bbox`.*got 3"),
    "a polygon": (changed(RESULTS, 1, "bbox", to=[0] * 6), "`bbox`.*4 finite"),
}


@pytest.mark.parametrize(("content", "says"), BAD_RESULTS.values(), ids=BAD_RESULTS)
def test_a_faulty_result_file_is_refused_in_one_short_line(write, content, says):
    truth, path = load_annotations(write(TRUTH)), write(content, "found.json")
    with pytest.raises(InvalidInput, match=says) as caught:
        load_results(path, truth)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))
    assert "\n" not in str(caught.value)


# --- A pair of result files ---


KNOWN = [name for name, score in SCORES.items() if not score.all_classes]


def all_scores(output):
    return {name: deferral_scores(output.logits, name) for name in KNOWN}


def test_a_pair_holds_records_and_scores_of_every_annotated_image(write):
    paths = {"student": write(RESULTS, "s.json"), "teacher": write(RESULTS[1:], "t.json")}
    run = load_pair(paths | {"annotations": write(TRUTH)}, all_scores)
    assert (run.task, run.image_ids) == ("detection", ("3", "7", "12"))
    assert (run.student["counts"].tolist(), run.teacher["counts"].tolist()) == ([0, 1, 2], [0, 1, 1])
    assert set(run.scores) == set(KNOWN)
    assert all(np.isfinite(values).all() for values in run.scores.values())


def test_an_image_without_boxes_has_the_score_of_the_most_doubtful_row(write):
    results = write(RESULTS, "s.json")
    run = load_pair({"student": results, "teacher": results, "annotations": write(TRUTH)}, all_scores)
    empty = all_scores(Output([None], Logits.one_row(np.array([[EMPTY_LOGIT]]))))
    assert {name: values[0] for name, values in run.scores.items()} == {k: v[0] for k, v in empty.items()}
    assert (run.scores["free_energy"][1:] < run.scores["free_energy"][0]).all()


def test_images_without_any_boxes_at_all_can_be_scored(write):
    images = [{"id": n, "file_name": ""} for n in range(1, 600)]
    truth = load_annotations(write(TRUTH | {"images": TRUTH["images"][2:] + images[20:], "annotations": []}))
    results = load_results(write([RESULTS[0] | {"image_id": 599}], "found.json"), truth)
    logits = logits_of(results[:512])
    assert logits.values.shape == (512, 0, 1)
    assert set(deferral_scores(logits, "free_energy")) == {-EMPTY_LOGIT}


def test_logits_are_those_of_an_images_best_boxes_in_descending_order(write):
    entries = [{**RESULTS[0], "score": n / 200} for n in (*range(0, 150, 2), *range(1, 150, 2))]
    truth = load_annotations(write(TRUTH))
    logits = logits_of(load_results(write([*entries, RESULTS[1]], "found.json"), truth))
    assert logits.values.shape == (3, 100, 1)
    assert logits.valid.sum(axis=1).tolist() == [0, 1, 100]
    scores = 1 / (1 + np.exp(-logits.values[2, :, 0]))
    np.testing.assert_allclose(scores, np.arange(149, 49, -1) / 200)
    assert logits.values[1, 0, 0] == pytest.approx(np.log(1e9), rel=1e-6)  # a score of 1 has no logit


@pytest.mark.parametrize("annotations", [[], TRUTH["annotations"][1:2]])
def test_nothing_to_find_is_refused(write, annotations):
    results, truth = write(RESULTS, "s.json"), write(TRUTH | {"annotations": annotations})
    with pytest.raises(InvalidInput, match="annotated object that is no crowd"):
        load_pair({"student": results, "teacher": results, "annotations": truth}, all_scores)
