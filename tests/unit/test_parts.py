"""Seeded parts of a set: together whole, never an image in two, the same in every task."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.core.errors import ConfigError
from ebjr_det.io.subset import part_of
from ebjr_det.tasks.classification.data import build_data as build_images
from ebjr_det.tasks.detection.data import build_data as build_scenes


@given(
    count=st.integers(1, 400),
    cuts=st.lists(st.floats(0, 1, exclude_min=True, exclude_max=True), max_size=4, unique=True),
)
def test_parts_that_follow_one_another_hold_every_image_once(count, cuts):
    bounds = [0.0, *sorted(cuts), 1.0]
    found = []
    for first, last in pairwise(bounds):
        if round(first * count) == round(last * count):
            with pytest.raises(ConfigError, match="to hold one, got none"):
                part_of(count, (first, last))
        else:
            part = part_of(count, (first, last))
            assert (np.diff(part) > 0).all(), "in the order of the whole"
            found += part.tolist()
    assert sorted(found) == list(range(count))


def test_a_part_is_random_yet_always_the_same():
    part = part_of(1000, (0.9, 1.0))
    assert part.tolist() == part_of(1000, (0.9, 1.0)).tolist()
    assert len(part) == 100
    assert 300 < part.mean() < 700
    assert len(set(np.diff(part))) > 5


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)])
def test_shares_that_are_no_range_are_refused(shares):
    with pytest.raises(ConfigError, match="`part` to be two shares"):
        part_of(10, shares)


@pytest.mark.parametrize(
    ("build", "name", "split"),
    [(build_images, "digits", "train"), (build_scenes, "digit_scenes", "calibration")],
)
def test_training_and_validation_of_a_set_share_no_image_and_leave_none(build, name, split):
    whole = build(name, split=split)
    train, watched = (build(name, split=split, part=part) for part in ([0.0, 0.9], [0.9, 1.0]))
    assert not set(train.image_ids) & set(watched.image_ids)
    assert {*train.image_ids, *watched.image_ids} == set(whole.image_ids)
    assert len(watched) == len(whole) - round(0.9 * len(whole))
    assert build(name, split=split, part=[0.9, 1.0], limit=3).image_ids == watched.image_ids[:3]


def test_images_of_a_part_keep_their_labels_and_pixels():
    whole, part = (build_images("digits", split="train", part=part) for part in (None, [0.25, 0.5]))
    place = {name: index for index, name in enumerate(whole.image_ids)}
    for index, name in enumerate(part.image_ids):
        assert part.target(index) == whole.target(place[name])
        np.testing.assert_array_equal(part.load(index), whole.load(place[name]))
    assert part.class_names == whole.class_names
