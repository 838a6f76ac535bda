"""COCO's matching by hand, the columns of match records, and pictures without objects or boxes."""

import numpy as np
import pytest

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import concatenate
from ebjr_det.tasks.detection.coco.annotations import Results, Truth
from ebjr_det.tasks.detection.coco.matching import AREAS, IOU_THRESHOLDS, match_images
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision, Target, match_records

TASK = AveragePrecision()
BOX = [10.0, 10.0, 40.0, 50.0]  # 2,000 square pixels: medium
ALL, SMALL, MEDIUM, LARGE = range(4)


def truth(*objects):
    """Objects of (box, label, crowd); the areas are the boxes'."""
    boxes = np.array([box for box, *_ in objects], dtype=float).reshape(-1, 4)
    labels = np.array([label for _, label, _ in objects], dtype=np.intp)
    return Truth(boxes, labels, boxes[:, 2] * boxes[:, 3], np.array([c for *_, c in objects], dtype=bool))


def results(*found):
    """Detections of (box, score, label)."""
    boxes = np.array([box for box, *_ in found], dtype=float).reshape(-1, 4)
    return Results(
        boxes, np.array([s for _, s, _ in found], float), np.array([c for *_, c in found], np.intp)
    )


def bits(column, area):
    """[rows] at how many IoU thresholds a flag is set in an area range."""
    own = column >> np.uint64(10 * area) & np.uint64(1023)
    return [int(value).bit_count() for value in own]


def wider(factor):
    return [BOX[0], BOX[1], BOX[2] * factor, BOX[3]]


def test_the_ranges_and_thresholds_are_cocos():
    assert AREAS.tolist() == [[0, 1e10], [0, 1024], [1024, 9216], [9216, 1e10]]
    np.testing.assert_allclose(IOU_THRESHOLDS, np.arange(50, 100, 5) / 100)


def test_rows_are_by_class_then_score_and_keep_what_was_matched():
    found = results((BOX, 0.2, 1), (wider(2), 0.9, 0), (BOX, 0.7, 1), ([0, 0, 1, 1], 0.7, 1))
    records = match_images([found], [truth((BOX, 1, False))], 3)
    assert records["counts"].tolist() == [4]
    assert records["label"].tolist() == [0, 1, 1, 1]
    assert records["score"].tolist() == [0.9, 0.7, 0.7, 0.2]
    assert records["rank"].tolist() == [0, 0, 1, 2]
    assert records["box"].tolist() == [wider(2), BOX, [0, 0, 1, 1], BOX]
    assert records["box"].dtype == np.float64
    assert bits(records["matched"], ALL) == [0, 10, 0, 0]
    assert records["truths"][0].tolist() == [[0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("factor", "thresholds"), [(1, 10), (1.01, 10), (1.25, 7), (1.99, 1), (2, 1), (2.01, 0)]
)
def test_an_overlap_passes_the_thresholds_up_to_it(factor, thresholds):
    """A box `factor` times as wide overlaps by 1 / factor; a threshold that is just met is passed."""
    records = match_images([results((wider(factor), 0.5, 0))], [truth((BOX, 0, False))], 1)
    assert bits(records["matched"], ALL) == [thresholds]
    assert bits(records["ignored"], ALL) == [0]


def test_the_best_score_takes_the_object_and_the_better_overlap_comes_too_late():
    found = results((BOX, 0.4, 0), (wider(1.25), 0.6, 0))
    records = match_images([found], [truth((BOX, 0, False))], 1)
    assert records["score"].tolist() == [0.6, 0.4]
    assert bits(records["matched"], ALL) == [7, 3]


def test_a_crowd_takes_any_number_and_none_of_them_counts():
    crowd = truth(([0.0, 0.0, 200.0, 200.0], 0, True))
    records = match_images([results(*((BOX, s / 10, 0) for s in range(5)))], [crowd], 1)
    assert bits(records["matched"], ALL) == [10] * 5
    assert bits(records["ignored"], ALL) == [10] * 5
    assert records["truths"].sum() == 0


def test_outside_an_area_range_neither_objects_nor_free_boxes_count():
    found = results((BOX, 0.9, 0), ([100.0, 100.0, 200.0, 200.0], 0.8, 0))
    records = match_images([found], [truth((BOX, 0, False))], 1)
    assert [bits(records["matched"], area) for area in range(4)] == [[10, 0]] * 4
    ignored = [bits(records["ignored"], area) for area in range(4)]
    assert ignored == [[0, 0], [10, 10], [0, 10], [10, 0]]
    assert records["truths"][0, 0].tolist() == [1, 0, 1, 0]


def test_the_100_best_of_an_image_and_class_are_kept():
    found = results(*((BOX, s / 200, s % 2) for s in range(199)), *((wider(3), 0.999, 2) for _ in range(100)))
    records = match_images([found, results()], [truth(), truth()], 3)
    assert records["counts"].tolist() == [299, 0]
    again = match_images([results(*((BOX, s / 200, 0) for s in range(150)))], [truth()], 1)
    assert again["counts"].tolist() == [100]
    assert again["score"].min() == 50 / 200
    assert again["rank"].tolist() == list(range(100))


def test_images_without_objects_or_boxes_leave_no_rows_and_can_be_joined():
    nothing = match_images([results(), results()], [truth(), truth((BOX, 1, False))], 2)
    some = match_images([results((BOX, 0.5, 1))], [truth((BOX, 1, False))], 2)
    assert nothing["counts"].tolist() == [0, 0]
    assert nothing["box"].shape == (0, 4)
    assert {name: column.dtype for name, column in nothing.items()} == {k: v.dtype for k, v in some.items()}
    assert TASK.metrics(nothing)["AP"] == 0.0
    assert TASK.metrics(concatenate([nothing, some]))["AR100"] == 0.5
    empty = match_images([results()], [truth()], 2)
    assert set(TASK.metrics(empty).values()) == {-1.0}
    assert (TASK.mixtures(empty, empty).path(np.arange(1)) == -1).all()
    assert TASK.mixtures(empty, empty).reward().tolist() == [0.0]


def test_corner_boxes_are_matched_as_their_sides():
    corners = Detections(np.array([[10.0, 10, 50, 60]]), np.array([0.5]), np.array([0]))
    records = TASK.match([corners], [Target(truth((BOX, 0, False)), 1)])
    assert records["box"].tolist() == [BOX]
    assert bits(records["matched"], ALL) == [10]


def test_a_label_that_is_no_class_and_more_than_can_be_counted_are_refused():
    with pytest.raises(InvalidInput, match=r"labels in 0\.\.1, got 2"):
        match_records([results((BOX, 0.5, 2))], [truth()], 2)
    with pytest.raises(InvalidInput, match="at most 65,535 classes"):
        match_records([results()], [truth()], 70_000)


@pytest.mark.parametrize("side", [1e-200, 1e200])
@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.filterwarnings("ignore:overflow encountered in multiply:RuntimeWarning")  # the area made here
def test_areas_beyond_a_float_end_in_no_error(side, crowd):
    box = [0.0, 0.0, side, side]
    records = match_images([results((box, 0.5, 0))], [truth((box, 0, crowd))], 1)
    assert records["counts"].tolist() == [1]
    assert np.isfinite(list(TASK.metrics(records).values())).all()
