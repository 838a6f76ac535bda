"""The router for any scores: strict decisions, every operating point reachable, rates never exceeded."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.router import decide, index_for_rate, operating_points, threshold_for_rate

NUMBERS = st.floats(-1e6, 1e6)
FINITE = st.lists(st.one_of(st.integers(0, 4).map(float), NUMBERS), min_size=1, max_size=30)


def neighbours(start, count):
    """`count` adjacent floats from `start` upwards."""
    numbers = [start]
    while len(numbers) < count:
        numbers.append(float(np.nextafter(numbers[-1], np.inf)))
    return numbers


def assert_points_are_exactly_what_thresholds_can_do(scores):
    thresholds, deferred = operating_points(scores)
    assert deferred[0] == 0
    assert deferred[-1] == len(scores)
    assert (np.diff(deferred) > 0).all()
    assert (np.diff(thresholds) < 0).all()
    assert [decide(scores, t).defer.sum() for t in thresholds] == deferred.tolist()
    possible = {int((np.asarray(scores) > t).sum()) for t in [*scores, -np.inf, np.inf]}
    assert set(deferred.tolist()) == possible


# --- Deciding ---


@given(scores=FINITE, data=st.data())
def test_defers_strictly_above_the_threshold_and_ties_stay(scores, data):
    threshold = data.draw(st.one_of(st.sampled_from(scores), NUMBERS))
    decision = decide(scores, threshold)
    assert decision.defer.tolist() == [score > threshold for score in scores]
    assert decision.deferral_rate == sum(score > threshold for score in scores) / len(scores)
    assert decision.threshold == threshold
    assert decision.scores.tolist() == scores


@given(score=st.floats(-1.7e308, 1.7e308))
def test_the_next_float_above_the_threshold_is_deferred_and_the_threshold_is_not(score):
    above = np.nextafter(score, np.inf)
    assert decide([score, above], score).defer.tolist() == [False, True]


def test_infinite_thresholds_defer_everything_or_nothing():
    assert decide([-1e300, 0.0, 1e300], np.inf).defer.tolist() == [False, False, False]
    assert decide([-1e300, 0.0, 1e300], -np.inf).defer.tolist() == [True, True, True]


@given(scores=FINITE, bad=st.sampled_from([np.nan, np.inf, -np.inf]), data=st.data())
def test_a_score_that_is_not_finite_is_refused_with_its_place(scores, bad, data):
    place = data.draw(st.integers(0, len(scores) - 1))
    for function in (lambda s: decide(s, 0.0), operating_points, lambda s: threshold_for_rate(s, 0.5)):
        with pytest.raises(InvalidInput, match=f"got {bad} at index {place}"):
            function([*scores[:place], bad, *scores[place + 1 :]])


def test_a_threshold_that_is_nan_is_refused():
    with pytest.raises(InvalidInput, match="threshold"):
        decide([1.0], np.nan)


@pytest.mark.parametrize("scores", [[], [[1.0, 2.0]], 3.0])
def test_scores_that_are_no_list_of_numbers_are_refused(scores):
    with pytest.raises(InvalidInput, match="one dimension"):
        decide(scores, 0.0)


# --- Operating points ---


@given(scores=FINITE)
@example(scores=[0.0, -0.0])
@example(scores=[5e-324, 0.0, -5e-324])
def test_each_threshold_reproduces_its_count_and_no_possible_count_is_missing(scores):
    assert_points_are_exactly_what_thresholds_can_do(scores)


@given(scores=st.lists(NUMBERS, min_size=1, max_size=30, unique=True))
def test_distinct_scores_give_one_point_more_than_images(scores):
    thresholds, deferred = operating_points(scores)
    assert deferred.tolist() == list(range(len(scores) + 1))
    assert (thresholds[0], thresholds[-1]) == (np.inf, -np.inf)


@given(start=st.floats(allow_nan=False, allow_infinity=False, max_value=1.7e308), count=st.integers(2, 9))
@example(start=1.0, count=5)
@example(start=-1.0, count=5)
@example(start=0.0, count=5)
def test_adjacent_floats_are_still_told_apart(start, count):
    scores = neighbours(start, count)
    assert_points_are_exactly_what_thresholds_can_do(scores)
    assert len(operating_points(scores)[0]) == count + 1


@given(scores=st.lists(NUMBERS, min_size=2, max_size=20, unique=True))
def test_a_threshold_lies_in_the_middle_between_two_scores(scores):
    thresholds, _ = operating_points(scores)
    falling = sorted(scores, reverse=True)
    middles = [float((Fraction(a) + Fraction(b)) / 2) for a, b in pairwise(falling)]
    np.testing.assert_allclose(thresholds[1:-1], middles, rtol=1e-12, atol=1e-323)


def test_scores_at_both_ends_of_float64_do_not_overflow():
    assert_points_are_exactly_what_thresholds_can_do([1.7e308, -1.7e308, 0.0])


# --- Rates ---


@given(scores=FINITE, rate=st.floats(0, 1))
def test_a_rate_is_never_exceeded_and_the_next_point_would_exceed_it(scores, rate):
    thresholds, deferred = operating_points(scores)
    index = index_for_rate(deferred, rate)
    assert threshold_for_rate(scores, rate) == thresholds[index]
    share = decide(scores, thresholds[index]).deferral_rate
    assert share <= rate * (1 + 1e-11)
    assert index == len(deferred) - 1 or deferred[index + 1] / len(scores) > rate


@pytest.mark.parametrize("images", [10, 100, 10_000])
def test_every_percentage_defers_exactly_its_share(images):
    scores = np.random.default_rng(0).permutation(images) / 7
    _, deferred = operating_points(scores)
    for percent in range(101):
        index = index_for_rate(deferred, percent / 100)
        assert deferred[index] == percent * images // 100
    for rate, tenths in ((0.1, 1), (0.3, 3), (0.7, 7), (0.1 + 0.2, 3), (1 - 0.3, 7)):
        assert decide(scores, threshold_for_rate(scores, rate)).defer.sum() == tenths * images // 10


@given(images=st.integers(1, 3000), data=st.data())
def test_a_rate_of_k_in_n_defers_exactly_k(images, data):
    wanted = data.draw(st.integers(0, images))
    assert index_for_rate(np.arange(images + 1), wanted / images) == wanted
    assert index_for_rate(np.arange(images + 1), min(1.0, (wanted + 0.5) / images)) == wanted


@given(scores=FINITE)
def test_rate_zero_defers_nothing_and_rate_one_everything(scores):
    assert threshold_for_rate(scores, 0.0) == np.inf
    assert threshold_for_rate(scores, 1.0) == -np.inf


@pytest.mark.parametrize("rate", [-1e-9, 1 + 1e-9, np.nan, np.inf])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ConfigError, match="deferral rate"):
        threshold_for_rate([1.0, 2.0], rate)
