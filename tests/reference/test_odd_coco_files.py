"""Odd COCO files, judged as pycocotools judges the same file wherever it has an answer."""

import copy
import json

import numpy as np
import pytest
from common import pycocotools_judge

from ebjr_det.core.errors import InvalidInput
from ebjr_det.tasks.detection.coco.annotations import load_annotations, load_results
from ebjr_det.tasks.detection.data import build_data
from ebjr_det.tasks.detection.metric import AveragePrecision, match_records
from ebjr_det.tasks.detection.replay import load_pair

SEED = 7


def made_up():
    """Twelve pictures with objects of three categories, and detections with many ties across pictures."""
    generator = np.random.default_rng(SEED)
    images = [{"id": n, "file_name": f"pic_{n:03}.jpg", "width": 200, "height": 150} for n in range(1, 13)]
    objects, found = [], []
    for image in images:
        for _ in range(3):
            box = [
                *generator.uniform(0, 90, 2).round(1).tolist(),
                *generator.uniform(8, 60, 2).round(1).tolist(),
            ]
            own = {"image_id": image["id"], "category_id": int(generator.integers(1, 4)), "bbox": box}
            objects.append(own | {"id": len(objects) + 1, "area": box[2] * box[3], "iscrowd": 0})
            near = (np.array(box) + generator.normal(0, 3, 4)).clip(0.5).tolist()
            found.append(own | {"bbox": near, "score": float(generator.integers(1, 5)) / 5})
    truth = {"images": images, "annotations": objects}
    truth["categories"] = [{"id": n, "name": name} for n, name in enumerate(("ant", "bee", "cow"), start=1)]
    return truth, found


@pytest.fixture
def judged(tmp_path):
    """A function: truth, results -> our twelve numbers; `said` gets what was odd in the two files."""

    def judge(truth, results, said=None, **how):
        paths = tmp_path / "truth.json", tmp_path / "results.json"
        for path, content in zip(paths, (truth, results), strict=True):
            path.write_text(json.dumps(content))
        known, remarks = load_annotations(paths[0]), {}
        loaded = load_results(paths[1], known, **how | ({} if said is None else {"remarks": remarks}))
        if said is not None:
            said |= {**known.remarks, **remarks}
        records = match_records(loaded, known.truths, len(known.category_ids))
        return list(AveragePrecision().metrics(records).values())

    return judge


def with_ids(truth, results, image=int, category=int):
    """Both with ids of another kind."""
    truth, results = copy.deepcopy(truth), copy.deepcopy(results)
    for entry in truth["images"]:
        entry["id"] = image(entry["id"])
    for entry in truth["categories"]:
        entry["id"] = category(entry["id"])
    for entry in [*truth["annotations"], *results]:
        entry["image_id"], entry["category_id"] = image(entry["image_id"]), category(entry["category_id"])
    return truth, results


KINDS = {
    "floats": with_ids(*made_up(), image=float, category=float),
    "floats in results alone": (made_up()[0], with_ids(*made_up(), image=float, category=float)[1]),
    "texts, which ascend otherwise": with_ids(*made_up(), image=str, category=str),
    "texts of pictures alone": with_ids(*made_up(), image=lambda n: f"p{99 - n}"),
    "categories that ascend otherwise as texts": with_ids(*made_up(), category=lambda n: str(n + 8)),
    "a category 0 that nothing shows": (
        made_up()[0] | {"categories": [{"id": 0, "name": "none"}, *made_up()[0]["categories"]]},
        made_up()[1],
    ),
    "categories from 0": with_ids(*made_up(), category=lambda n: n - 1),
    "images from 0": with_ids(*made_up(), image=lambda n: n - 1),
}


@pytest.mark.parametrize(("truth", "results"), KINDS.values(), ids=KINDS)
def test_ids_of_every_kind_give_pycocotools_numbers(truth, results, judged):
    own = judged(truth, results)
    np.testing.assert_allclose(own, pycocotools_judge(truth, results).stats, atol=1e-12)
    assert 0.2 < own[0] < 0.9
    judged(truth, results, said := {})
    assert said == {}


def test_texts_rank_ties_across_pictures_in_the_order_of_texts(judged):
    """The order of pictures decides among equal scores, so it must be pycocotools' own."""
    truth, results = made_up()
    plain, texts = judged(truth, results), judged(*with_ids(truth, results, image=str))
    assert plain != texts
    np.testing.assert_allclose(
        texts, pycocotools_judge(*with_ids(truth, results, image=str)).stats, atol=1e-12
    )


def extra(entry, **changes):
    return [*entry, entry[0] | changes]


TRUTH, FOUND = made_up()
STRANGE = [{**entry, "category_id": 9, "score": 1.0} for entry in FOUND[:3]]
NOISE = {0: 1.0, 1: 1.0000001, 2: -1e-9}
LEFT_OUT = {
    "objects of an unknown image": (
        TRUTH | {"annotations": extra(TRUTH["annotations"], id=99, image_id=77)},
        FOUND,
        {"annotations of unknown images left out": 1},
    ),
    "objects of an unknown category": (
        TRUTH | {"annotations": extra(TRUTH["annotations"], id=99, category_id=9)},
        FOUND,
        {"annotations of unknown categories left out": 1},
    ),
    "detections of an unknown category": (
        TRUTH,
        [*FOUND[:5], *STRANGE, *FOUND[5:]],
        {"detections of unknown categories left out": 3},
    ),
    "a float's noise above 1 and below 0": (
        TRUTH,
        [entry | {"score": NOISE.get(index, entry["score"])} for index, entry in enumerate(FOUND)],
        {"scores outside [0, 1] by a float's noise": 2},
    ),
}


@pytest.mark.parametrize(("truth", "results", "said"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_pycocotools_leaves_out_is_left_out_and_counted(truth, results, said, judged):
    np.testing.assert_allclose(judged(truth, results), pycocotools_judge(truth, results).stats, atol=1e-12)
    judged(truth, results, told := {})
    assert told == said


def test_the_order_of_scores_that_noise_puts_above_1_is_pycocotools(judged):
    truth, results = made_up()
    wrong = {**results[0], "bbox": [150, 120, 5, 5], "score": 1.0}
    results = [wrong, *(entry | {"score": 1.0 + 1e-7} for entry in results)]
    own = judged(truth, results)
    np.testing.assert_allclose(own, pycocotools_judge(truth, results).stats, atol=1e-12)
    clipped = [entry | {"score": 1.0} for entry in results]
    assert own[0] > judged(truth, clipped)[0], "clipped, the wrong box would come first"


def test_detections_of_unknown_images_are_refused_as_pycocotools_does_and_left_out_where_asked(judged):
    truth, results = made_up()
    odd = [*results, results[0] | {"image_id": 77}, results[1] | {"image_id": 78}]
    with pytest.raises(AssertionError, match="do not correspond"):
        pycocotools_judge(truth, odd)
    with pytest.raises(InvalidInput, match=r"`image_id`.*2 of 38 entries: 77 at entry 36.*--lenient"):
        judged(truth, odd)
    own = judged(truth, odd, said := {}, lenient=True)
    np.testing.assert_allclose(own, pycocotools_judge(truth, results).stats, atol=1e-12)
    assert said == {"detections of unknown images left out": 2}
    with pytest.raises(InvalidInput, match="36 of 36"):
        judged(truth, [entry | {"image_id": 1000 + entry["image_id"]} for entry in results], lenient=True)


def test_an_annotation_id_0_is_any_other_where_pycocotools_takes_its_match_for_none(judged):
    truth, results = made_up()
    from_zero = copy.deepcopy(truth)
    for entry in from_zero["annotations"]:
        entry["id"] -= 1
    own = judged(from_zero, results, said := {})
    np.testing.assert_allclose(own, pycocotools_judge(truth, results).stats, atol=1e-12)
    assert pycocotools_judge(from_zero, results).stats[0] < own[0]
    assert list(said.values()) == [1]


@pytest.mark.parametrize("form", ["pic_{:03}", "pic_{:03}.jpg"])
def test_results_that_name_pictures_by_their_files_are_those_of_their_ids(form, judged):
    truth, results = made_up()
    named = [entry | {"image_id": form.format(entry["image_id"])} for entry in results]
    own = judged(truth, named, said := {})
    np.testing.assert_allclose(own, pycocotools_judge(truth, results).stats, atol=1e-12)
    assert said == {"image ids that are names of files": 36}
    for image in truth["images"]:
        image["file_name"] = f"{image['id']}/same.jpg"
    with pytest.raises(InvalidInput, match="36 of 36"):
        judged(truth, [entry | {"image_id": "same"} for entry in results])


def test_numbers_and_texts_of_the_same_digits_are_one_id(judged):
    truth, results = made_up()
    texts = with_ids(truth, results, image=str, category=str)
    expected = pycocotools_judge(truth, results).stats
    np.testing.assert_allclose(judged(truth, texts[1]), expected, atol=1e-12)
    np.testing.assert_allclose(judged(texts[0], results), pycocotools_judge(*texts).stats, atol=1e-12)


def test_boxes_in_shares_of_the_picture_are_refused_in_either_file(judged):
    truth, results = made_up()
    shares = [entry | {"bbox": (np.array(entry["bbox"]) / 200).tolist()} for entry in results]
    with pytest.raises(InvalidInput, match=r"boxes in pixels in .*results.json.*Multiply them"):
        judged(truth, shares)
    for entry in truth["annotations"]:
        entry["bbox"] = (np.array(entry["bbox"]) / 200).tolist()
    with pytest.raises(InvalidInput, match=r"boxes in pixels in .*truth.json"):
        judged(truth, results)


def test_boxes_as_two_corners_are_judged_as_they_stand_with_a_remark(judged):
    truth, results = made_up()
    for entry in results:
        x, y, width, height = (np.array(entry["bbox"]) * (1.2, 1.2, 1, 1)).tolist()
        entry["bbox"] = [x, y, x + width, y + height]
    own = judged(truth, results, told := {})
    np.testing.assert_allclose(own, pycocotools_judge(truth, results).stats, atol=1e-12)
    assert list(told) == [
        "boxes that end outside their picture, as if x1, y1, x2, y2 instead of x, y, width, height"
    ]


@pytest.mark.parametrize("size", [{"width": 200.0, "height": 150.0}, {"width": None, "height": None}, {}])
def test_sizes_of_pictures_may_be_floats_or_missing(size, judged, tmp_path):
    truth, results = made_up()
    for image in truth["images"]:
        del image["width"], image["height"]
        image |= size
    np.testing.assert_allclose(judged(truth, results), pycocotools_judge(truth, results).stats, atol=1e-12)
    sizes = load_annotations(tmp_path / "truth.json").sizes
    assert set(map(tuple, sizes.tolist())) == {(200, 150) if size.get("width") else (0, 0)}


def test_a_pair_tells_what_was_odd_by_file_and_on_stderr(tmp_path, capsys):
    truth, results = made_up()
    files = {
        "annotations": truth | {"annotations": extra(truth["annotations"], id=0, image_id=77)},
        "student": [*results, results[0] | {"category_id": 9}],
        "teacher": [*results, results[0] | {"image_id": 77}],
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    paths = {name: tmp_path / name for name in files}
    remarks = {}
    scores = lambda output: {"random": np.zeros(len(output.logits))}  # noqa: E731
    run = load_pair(paths, scores, lenient=True, remarks=remarks)
    assert len(run) == 12
    assert remarks["student"] == {"detections of unknown categories left out": 1}
    assert remarks["teacher"] == {"detections of unknown images left out": 1}
    assert remarks["annotations"]["annotations of unknown images left out"] == 1
    err = capsys.readouterr().err
    assert f"Note on `{paths['teacher']}`: detections of unknown images left out: 1." in err
    assert len(err.strip().splitlines()) == 3


def test_a_data_set_with_texts_as_ids_is_read_and_written_back(tmp_path):
    from ebjr_det.tasks.detection.coco.results import write_annotations

    truth, _ = with_ids(*made_up(), image=lambda n: f"p{n}")
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "pictures").mkdir()
    data = build_data(
        "coco", annotations=str(tmp_path / "truth.json"), images=str(tmp_path / "pictures"), limit=5
    )
    assert data.image_ids == ("p1", "p10", "p11", "p12", "p2")
    write_annotations(data.annotations, tmp_path / "a.json.gz")
    assert load_annotations(tmp_path / "a.json.gz").image_ids == data.image_ids
