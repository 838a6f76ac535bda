"""What every score of a detector's boxes promises: a number for any picture, one sign, values by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.scores import deferral_scores
from ebjr_det.tasks.detection.boxes import Boxes, logits_of_scores
from ebjr_det.tasks.detection.coco.annotations import Truth
from ebjr_det.tasks.detection.coco.counts import TRAIN2017, published_counts
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision, Target
from ebjr_det.tasks.detection.networks.classes import UNUSED, coco_names, padded
from ebjr_det.tasks.detection.routing.box_scores import (
    BOX_SCORES,
    ClassCounts,
    box_score_of,
    box_scores,
    check_worth,
)

CLASSES = 3
COUNTS = ClassCounts(np.array([900.0, 30.0, 0.0]), 100, np.array([1.0, 2.0, 0.5]))
WHOLE_SET = {name for name, score in BOX_SCORES.items() if score.whole_set}
NEED_COUNTS = {name for name, score in BOX_SCORES.items() if score.counts}

places = st.floats(0, 3000) | st.integers(0, 6).map(lambda n: 12.0 * n)
objects = st.tuples(*[places] * 4, st.floats(0, 1) | st.sampled_from([0.1, 0.3, 0.5]), st.integers(0, 2))
pictures = st.lists(objects, max_size=5)
sets = st.lists(pictures, min_size=1, max_size=4)

every_score = pytest.mark.parametrize("name", BOX_SCORES)


def detections(found):
    """Of (x, y, width, height, score, label); the wider a box, the more candidates support it here."""
    table = np.array(found, dtype=np.float64).reshape(-1, 6)
    corners = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(corners, table[:, 4], table[:, 5].astype(np.intp), table[:, 2] / 10)


def boxes_of(*found):
    return Boxes.of_predictions([detections(own) for own in found])


def scored(found, counts=COUNTS):
    return box_scores(boxes_of(*found), counts, whole_set=True)


def assert_close(first, second):
    assert set(first) == set(second)
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-9, atol=1e-12, err_msg=name)


# --- Any pictures ---


@given(found=sets)
def test_every_score_is_one_finite_number_a_picture(found):
    scores = scored(found)
    assert set(scores) == set(BOX_SCORES)
    for values in scores.values():
        assert values.shape == (len(found),)
        assert values.dtype == np.float64
        assert np.isfinite(values).all()


@pytest.mark.parametrize("images", [1, 3])
def test_pictures_without_any_boxes_all_score_0(images):
    assert {name: values.tolist() for name, values in scored([[]] * images).items()} == {
        name: [0.0] * images for name in BOX_SCORES
    }


@given(found=sets, data=st.data())
def test_the_order_of_a_pictures_boxes_does_not_matter(found, data):
    shuffled = [data.draw(st.permutations(own)) for own in found]
    assert_close(scored(shuffled), scored(found))


@given(found=sets, data=st.data())
def test_the_order_of_the_pictures_does_not_matter(found, data):
    order = data.draw(st.permutations(range(len(found))))
    expected = {name: values[order] for name, values in scored(found).items()}
    assert_close(scored([found[index] for index in order]), expected)


@given(found=sets)
def test_a_picture_scores_the_same_alone_unless_the_score_looks_at_the_whole_set(found):
    alone = [box_scores(boxes_of(own), COUNTS) for own in found]
    assert set(alone[0]) == set(BOX_SCORES) - WHOLE_SET
    assert_close(
        {name: np.concatenate([own[name] for own in alone]) for name in alone[0]},
        box_scores(boxes_of(*found), COUNTS),
    )


def test_scores_of_a_whole_set_do_look_at_it():
    unsure, other = [(0, 0, 9, 9, 0.5, 0)], [(0, 0, 9, 9, 0.9, 0)] * 5
    assert {"set_curvature"} == WHOLE_SET
    assert scored([unsure])["set_curvature"][0] != pytest.approx(scored([unsure, other])["set_curvature"][0])


@given(found=sets)
def test_match_records_hold_the_boxes_that_the_detector_gave(found):
    nothing = Truth(np.zeros((0, 4)), np.zeros(0, np.intp), np.zeros(0), np.zeros(0, bool))
    records = AveragePrecision().match([detections(own) for own in found], [Target(nothing, 3)] * len(found))
    kept = Boxes.of_records(records)
    for name, column in boxes_of(*found).__dict__.items():
        np.testing.assert_array_equal(getattr(kept, name), None if name == "support" else column)


def test_scores_that_need_class_counts_come_only_with_them():
    boxes = boxes_of([(0, 0, 9, 9, 0.5, 0)])
    assert set(box_scores(boxes, whole_set=True)) == set(BOX_SCORES) - NEED_COUNTS
    assert {"class_curvature", "class_rarity", "set_curvature"} == NEED_COUNTS


@every_score
def test_it_says_what_it_is_and_where_it_comes_from(name):
    score = BOX_SCORES[name]
    assert score.function.__name__ == name
    assert score.formula.strip()
    assert score.source.strip()
    assert len(score.function.__doc__.split()) >= 3


# --- By hand ---

# Two boxes of class 0 that overlap by 1/2, one of class 1 that overlaps the first by 1/2, the second by 1/3.
HEAP = [(0, 0, 20, 20, 0.6, 0), (0, 0, 20, 10, 0.4, 0), (0, 0, 10, 20, 0.2, 1)]
LARGE = [(50, 50, 100, 100, 0.9, 1)]
M0, M1 = (9 + 1.0 + 0.5) * 3 / 12, (1 + 1.1 + 0.5) * 3 / 12
W0, W1 = (1 - np.exp(-M0)) / M0, 2 * (1 - np.exp(-M1)) / M1
BY_HAND = {
    "best_score": (-0.6, -0.9),
    "best_margin": (-0.2, -0.9),
    "score_entropy": (2 * 0.6730116670092565 + 0.5004024235381879, 0.3250829733914482),
    "grey_zone": (0.4 + 0.2, 0),
    "box_count": (2, 1),
    "small_objects": (1.2, 0),
    "crowding": (0.6 * (0.4 / 2) + 0.4 * (0.6 / 2), 0),
    "confusion": (0.6 * (0.2 / 2) + 0.4 * (0.2 / 3) + 0.2 * (0.6 / 2), 0),
    "class_variety": (1, 1),
    "nms_disagreement": (0.6 / 3 + 0.4 / 3 + 0.2 / 2, 0.9 / 11),
    "class_curvature": (9 * (0.1 * 0.48 + 1 * 0.16), 9 * 0.09),
    "class_rarity": (9 * (0.1 * 1.0 + 1 * 0.2), 9 * 0.9),
    "set_curvature": (3 * (W0 * 0.48 + W1 * 0.16), 3 * W1 * 0.09),
}


@every_score
def test_three_pictures_by_hand(name):
    counts = ClassCounts(np.array([9.0, 1.0]), 9, np.array([1.0, 2.0]))
    found = box_score_of(name, boxes_of(HEAP, LARGE, []), counts)
    np.testing.assert_allclose(found, [*BY_HAND[name], 0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "edges", "expected"),
    [
        ("grey_zone", (0.1, 0.5), 0.1),
        ("box_count", (0.3, 0.3000001), 1),
        ("class_variety", (0.3, 0.3000001), 1),
    ],
)
def test_limits_of_scores_are_included_or_not_as_their_formula_says(name, edges, expected):
    found = [(0, 0, 9, 9, score, label) for label, score in enumerate(edges)]
    assert scored([found])[name][0] == pytest.approx(expected)


def test_an_object_of_32_by_32_pixels_is_not_small():
    both = scored([[(0, 0, 32, 32, 0.7, 0)], [(0, 0, 32, 31.9, 0.7, 0)]])
    assert both["small_objects"].tolist() == [0.0, 0.7]


def box(score, label=0, at=0.0, side=50.0):
    return (at, at, side, side, score, label)


# score -> a picture about which it is sure, and one about which it is in doubt
DOUBTS = {
    "best_score": ([box(0.9)], [box(0.4)]),
    "best_margin": ([box(0.9), box(0.1)], [box(0.9), box(0.8)]),
    "score_entropy": ([box(0.95)], [box(0.6)]),
    "grey_zone": ([box(0.8), box(0.05)], [box(0.4)]),
    "box_count": ([box(0.9)], [box(0.9), box(0.5)]),
    "small_objects": ([box(0.9)], [box(0.9, side=20.0)]),
    "crowding": ([box(0.9), box(0.9, at=500.0)], [box(0.9), box(0.9, at=10.0)]),
    "confusion": ([box(0.9), box(0.9, 1, at=500.0)], [box(0.9), box(0.9, 1, at=10.0)]),
    "class_variety": ([box(0.9), box(0.9)], [box(0.9), box(0.9, 1)]),
    "nms_disagreement": ([box(0.9)], [box(0.9, side=20.0)]),
    "class_curvature": ([box(0.5, 0)], [box(0.6, 1)]),
    "class_rarity": ([box(0.9, 0)], [box(0.6, 1)]),
    "set_curvature": ([box(0.5, 0)], [box(0.6, 1)]),
}


@every_score
def test_more_doubt_is_a_higher_score(name):
    sure, unsure = scored(DOUBTS[name])[name]
    assert sure < unsure


def test_no_boxes_are_the_most_doubtful_best_box_and_margin():
    scores = scored([[], [box(0.001)]])
    for name in ("best_score", "best_margin"):
        assert scores[name][0] > scores[name][1]


# --- Overlaps ---


def iou(first, second):
    (x, y, w, h, *_), (p, q, v, g, *_) = first, second
    inside = max(0.0, min(x + w, p + v) - max(x, p)) * max(0.0, min(y + h, q + g) - max(y, q))
    return inside / (w * h + v * g - inside) if inside else 0.0


@given(found=sets)
def test_overlaps_are_those_of_a_plain_loop(found):
    boxes = boxes_of(*found)
    rows = np.column_stack([boxes.box, boxes.score, boxes.label, boxes.image])
    same, other = np.zeros(len(rows)), np.zeros(len(rows))
    for a, row in enumerate(rows):
        for b, rival in enumerate(rows):
            if a != b and row[6] == rival[6]:
                weighted = iou(row, rival) * rival[4]
                if row[5] == rival[5]:
                    same[a] += weighted
                else:
                    other[a] = max(other[a], weighted)
    np.testing.assert_allclose(boxes.crowding(), (same, other), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("side", [1e-200, 1e200])
def test_boxes_whose_areas_no_float_holds_overlap_with_nothing(side):
    boxes = boxes_of([(0, 0, side, side, 0.5, 0), (0, 0, side, side, 0.5, 0), (0, 0, side, side, 0.5, 1)])
    assert np.array(boxes.crowding()).tolist() == [[0.0] * 3] * 2


# --- Class counts ---


@given(found=sets, seen=st.integers(0, 10_000), worth=st.floats(0.1, 10))
def test_with_equal_counts_class_curvature_is_that_of_lone_logits_in_another_unit(found, seen, worth):
    counts = ClassCounts(np.full(CLASSES, float(seen)), 100, np.full(CLASSES, worth))
    boxes = boxes_of(*found)
    rows = [logits_of_scores(boxes.score[boxes.image == image])[:, None] for image in range(boxes.images)]
    curvature = deferral_scores(padded(rows, 1, np.float64), "energy_curvature")
    unit = 100 * worth / (seen + 1)
    scores = box_score_of("class_curvature", boxes, counts)
    np.testing.assert_allclose(scores, curvature * unit, rtol=1e-9, atol=1e-8 * unit)


@given(found=sets, seen=st.lists(st.integers(1000, 9999), min_size=3, max_size=3))
def test_a_threshold_from_fewer_pictures_holds_for_counts_from_more(found, seen):
    few, many = (ClassCounts(k * np.array(seen, float), k * 100, np.ones(CLASSES)) for k in (4, 5))
    for name in ("class_curvature", "class_rarity"):
        np.testing.assert_allclose(
            *(box_score_of(name, boxes_of(*found), counts) for counts in (few, many)), rtol=1e-3
        )


@given(found=sets, seen=st.lists(st.integers(0, 50), min_size=3, max_size=3), images=st.integers(1, 50))
def test_a_class_weighs_in_a_set_what_one_object_weighs_beside_poisson_many_others(found, seen, images):
    counts = ClassCounts(np.array(seen, float), images, np.array([1.0, 2.0, 0.5]))
    others = np.arange(400)
    for label in range(CLASSES):
        there = sum(score for own in found for *_, score, own_label in own if own_label == label)
        expected = (seen[label] + there + 0.5) * len(found) / (images + len(found))
        by_sum = (poisson.pmf(others, expected) / (1 + others)).sum()
        got = counts.in_set(boxes_of(*found))[label]
        np.testing.assert_allclose(got, counts.worth[label] * by_sum, rtol=1e-9)


def test_a_class_in_a_set_weighs_its_worth_where_it_is_rare_and_one_over_its_number_where_it_is_common():
    worth, one = np.array([1.0, 3.0]), boxes_of([])
    rare = ClassCounts(np.zeros(2), 10**12, worth).in_set(one)
    np.testing.assert_allclose(rare, worth, rtol=1e-9)
    common = ClassCounts(np.full(2, 1e6), 1, worth).in_set(one)
    np.testing.assert_allclose(common, worth / ((1e6 + 0.5) / 2), rtol=1e-12)


# --- What users weigh ---


def test_classes_that_are_not_named_weigh_1():
    assert check_worth({"cat": 3, "cow": 0.0}, ["ant", "cat", "cow"]).tolist() == [1.0, 3.0, 0.0]
    assert check_worth({}, ["ant"]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("worth", "names", "message"),
    [
        ({}, [], "names of the data's classes, got none"),
        ({"dog": 1.0}, ["ant", "cat"], "`dog`"),
        ({"cat": -0.5}, ["ant", "cat"], "at least 0"),
        ({"cat": float("nan")}, ["ant", "cat"], "at least 0"),
        ({"cat": float("inf")}, ["ant", "cat"], "at least 0"),
        ({"ant": 0.0, "cat": 0.0}, ["ant", "cat"], "some above it"),
    ],
)
def test_weights_that_mean_nothing_are_refused(worth, names, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_worth(worth, names)
    assert "\n" not in str(caught.value)


# --- Published counts ---


def test_published_counts_are_of_cocos_80_classes_in_its_order_and_add_up():
    names = [name for name in coco_names().values() if name not in UNUSED]
    assert list(TRAIN2017) == names
    assert len(names) == 80
    assert published_counts(names).sum() == 860_001


def test_counts_come_in_the_order_of_the_classes_and_only_for_cocos():
    assert published_counts(["toaster", "person"]).tolist() == [225.0, 262_465.0]
    assert published_counts(["person", "robot"]) is None
    assert published_counts([]) is None
