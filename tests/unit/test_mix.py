"""Mixes of classes, what images weigh to show them, and how well a student knows what is not its own."""

import numpy as np
import pytest

from ebjr_det.config import StatedMix
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.evaluation.traffic.mix import Composition, mix_of, popular_mix, zipf_mix
from ebjr_det.evaluation.traffic.weighted import HandedOn

NAMES = ("ant", "bee", "cow")


def composition(counts, popular=(0,)):
    return Composition(np.array(counts), NAMES, np.isin(np.arange(3), popular))


SEVERAL = composition([[2, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 3]])


def test_images_of_several_objects_weigh_the_mean_of_theirs_and_empty_ones_1():
    np.testing.assert_allclose(SEVERAL.share, [3 / 8, 2 / 8, 3 / 8])
    ratio = np.array([0.6 / (3 / 8), 0.3 / (2 / 8), 0.1 / (3 / 8)])
    by_hand = np.array([ratio[0], (ratio[0] + ratio[1]) / 2, 1, (ratio[1] + 3 * ratio[2]) / 4])
    weights = SEVERAL.weights(np.array([0.6, 0.3, 0.1])).images
    np.testing.assert_allclose(weights, by_hand / by_hand.mean())
    assert weights.mean() == pytest.approx(1)
    shown = weights @ SEVERAL.counts
    np.testing.assert_allclose(SEVERAL.shown(weights), shown / shown.sum())
    assert not SEVERAL.single


def test_the_datas_own_mix_weighs_every_image_1():
    np.testing.assert_allclose(SEVERAL.weights(SEVERAL.share).images, 1)


def test_a_popular_share_leaves_classes_inside_each_group_as_they_are():
    mix = popular_mix(0.7, composition([[1, 0, 0], [0, 6, 0], [0, 0, 2]], popular=(0, 2)))
    np.testing.assert_allclose(mix, [0.7 / 3, 0.3, 1.4 / 3])


@pytest.mark.parametrize(("share", "group"), [(0.0, [0]), (1.0, [1, 2])])
def test_a_whole_group_may_have_no_traffic(share, group):
    mix = popular_mix(share, SEVERAL)
    assert (mix[group] == 0).all()
    assert mix.sum() == pytest.approx(1)


def test_zipf_falls_with_the_rank():
    np.testing.assert_allclose(zipf_mix(1, [2, 0, 1]), np.array([1 / 2, 1 / 3, 1]) * 6 / 11)
    np.testing.assert_allclose(zipf_mix(0, [2, 0, 1]), 1 / 3)


def test_a_sum_within_a_millionth_of_1_is_one():
    stated = StatedMix(histogram={"ant": 0.3, "bee": 0.7 + 9e-7})
    assert mix_of(stated, SEVERAL, [])[0].sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    ("shares", "says"),
    [([0.3, 0.7 + 2e-6], "1.000002"), ([0.5, 0.2], "0.7"), ([-0.5, 1.5], "-0.5"), ([np.nan, 1], "nan")],
)
def test_shares_that_are_no_mix_are_refused(shares, says):
    with pytest.raises(ConfigError, match=says):
        StatedMix(histogram=dict(zip(NAMES, shares, strict=False)))


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan])
def test_a_popular_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ConfigError, match=f"got {share}"):
        StatedMix(share=share)


@pytest.mark.parametrize("exponent", [-1, np.nan, np.inf])
def test_an_exponent_that_is_none_is_refused(exponent):
    with pytest.raises(ConfigError, match="exponent"):
        StatedMix(zipf=exponent)


def test_a_class_of_the_mix_that_no_image_shows_is_named():
    unseen = composition([[1, 0, 0], [0, 1, 0]])
    with pytest.raises(InvalidInput, match="`cow`, 20 %"):
        unseen.weights(np.array([0.5, 0.3, 0.2]))
    assert unseen.weights(np.array([0.5, 0.5, 0])).images.tolist() == [1, 1]


@pytest.mark.parametrize("popular", [(0,), (1, 2)])
def test_a_group_with_a_share_and_no_image_is_refused(popular):
    with pytest.raises(InvalidInput, match="popular" if popular == (0,) else "other"):
        popular_mix(0.5, composition([[0, 1, 0], [0, 0, 1]], popular))


def test_a_composition_must_show_objects_of_named_classes():
    with pytest.raises(InvalidInput, match="show objects"):
        composition([[0, 0, 0]])
    with pytest.raises(InvalidInput, match="of 2 classes, got 3"):
        composition([[0, 1]])


def test_what_is_other_is_counted_by_weight():
    abstains, rest = np.array([True, True, False, False, False]), np.array([True, False, True, False, False])
    found = HandedOn.of(abstains, rest, np.array([4.0, 1.0, 2.0, 1.0, 2.0]))
    assert found == HandedOn(4 / 6, 4 / 5, pytest.approx(2 * (4 / 6) * 0.8 / (4 / 6 + 0.8)), 1 / 4)


def test_what_is_other_of_nothing_is_none():
    found = HandedOn.of(np.array([False, False]), np.array([False, False]), np.ones(2))
    assert found == HandedOn(None, None, None, 0.0)
    never = HandedOn.of(np.array([False, True]), np.array([True, False]), np.ones(2))
    assert (never.recall, never.precision, never.f1) == (0.0, 0.0, None)
