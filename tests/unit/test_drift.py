"""Has a score moved, and is it the same student and the same pictures? By hand and against scipy."""

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp, kstwobign

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.routing.drift import (
    OTHER_STUDENT,
    RATES,
    UNLIKELY,
    Drift,
    ShareWatch,
    check_student,
    distance,
    shared_images,
)

GENERATOR = np.random.default_rng(0)
FIT = GENERATOR.normal(size=1000)


# --- Distance ---


@pytest.mark.parametrize("sizes", [(2, 3), (3, 50), (200, 1000), (5000, 4000)])
@pytest.mark.parametrize("ties", [False, True])
def test_the_distance_is_scipys(sizes, ties):
    first, second = (np.random.default_rng(seed).normal(seed, 1, n) for seed, n in enumerate(sizes))
    if ties:
        first, second = first.round(), second.round()
    assert distance(first, second) == pytest.approx(ks_2samp(first, second).statistic, abs=1e-15)
    assert distance(first, second) == pytest.approx(distance(second, first), abs=1e-15)


def test_the_distance_by_hand():
    assert distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0])) == 0.5
    assert distance(FIT, FIT) == 0
    assert distance(FIT, FIT + 100) == 1


# --- A score here against the fit ---


def test_shares_that_thresholds_of_the_fit_reach_here_by_hand():
    reference, scores = np.arange(10.0), np.array([8.5, 9.5, 0.0, 7.5])
    drift = Drift.of(reference, scores, (0.1, 0.2, 0.5, 1.0))
    # the thresholds lie between 8 and 9, 7 and 8, 4 and 5, and below all
    assert [threshold_for_rate(reference, rate) for rate in drift.asked] == [8.5, 7.5, 4.5, -np.inf]
    assert drift.asked == (0.1, 0.2, 0.5, 1.0)
    assert drift.got == (0.25, 0.5, 0.75, 1.0)
    assert drift.expected == pytest.approx(1.358 * np.sqrt(1 / 10 + 1 / 4))


def test_the_same_scores_reach_what_was_asked():
    drift = Drift.of(FIT, FIT)
    assert drift.asked == drift.got == RATES
    assert (drift.distance, drift.moved) == (0.0, False)


def test_a_score_that_rose_defers_more_and_has_moved():
    drift = Drift.of(FIT, np.random.default_rng(1).normal(0.5, 1, 1000))
    assert drift.moved
    assert all(got > asked for got, asked in zip(drift.got, drift.asked, strict=True))


def test_the_same_distribution_moves_by_chance_in_5_of_100_samples():
    assert kstwobign.isf(0.05) == pytest.approx(1.358, abs=1e-3)
    samples = np.random.default_rng(2).normal(size=(400, 2, 300))
    moved = np.mean([Drift.of(*pair).moved for pair in samples])
    assert 0.02 < moved < 0.08


# --- Whose numbers ---


def test_the_same_student_on_other_pictures_passes():
    check_student(FIT, np.random.default_rng(1).normal(size=1000), "r.safetensors")


def test_a_student_is_another_one_from_the_stated_distance_on():
    reference = np.arange(100.0)
    check_student(reference, reference + 100 * OTHER_STUDENT - 1, "r.safetensors")
    with pytest.raises(InvalidInput, match="distance"):
        check_student(reference, reference + 100 * OTHER_STUDENT + 1, "r.safetensors")


def test_another_student_is_refused_with_the_distance():
    with pytest.raises(
        InvalidInput, match=r"got `r.safetensors` .* distance 0\.\d\d, at most 0\.1"
    ) as caught:
        check_student(FIT, np.random.default_rng(1).normal(0.7, 1, 1000), "r.safetensors")
    assert "\n" not in str(caught.value)


def test_few_pictures_may_differ_more_before_they_are_another_students():
    few = np.random.default_rng(4).normal(0.3, 1, 20)
    assert OTHER_STUDENT < distance(FIT, few) < 0.4
    check_student(FIT, few, "r.safetensors", (1000, 20))
    with pytest.raises(InvalidInput, match="distance"):
        check_student(FIT, few, "r.safetensors", (1000, 1000))
    with pytest.raises(InvalidInput, match="distance"):
        check_student(FIT, few + 5, "r.safetensors", (1000, 20))


# --- Whose pictures ---

FITTED, COINS = ("a", "b", "c"), (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("ids", "here", "expected"),
    [
        (("a", "b", "c"), (0.1, 0.2, 0.3), (True, True, True)),
        (("c", "x", "a"), (0.3, 0.7, 0.1), (True, False, True)),
        (("x", "y"), (0.1, 0.2), (False, False)),
        # the shared ids are those of the same pictures, whatever else is there
        (("a", "b", "x"), (0.1, 0.2, 0.3), (True, True, False)),
        # one picture in two has the same print, as may happen where ids merely count
        (("a", "b", "x"), (0.1, 0.9, 0.3), (False, False, False)),
        # ids that merely count: the same ones, but no picture has the same answer
        (("a", "b", "c"), (0.5, 0.6, 0.7), (False, False, False)),
        # an answer of another picture is no evidence
        (("a", "b"), (0.2, 0.1), (False, False)),
    ],
)
def test_pictures_are_shared_where_ids_and_nearly_all_prints_are(ids, here, expected):
    found = shared_images(FITTED, COINS, ids, np.array(here))
    assert found.dtype == bool
    assert found.tolist() == list(expected)


# --- Shares on a stream ---


def test_a_share_that_cannot_be_chance_is_said_once_with_its_numbers():
    watch = ShareWatch(1000, 300)
    assert binom.pmf(7, 7, 0.3) < UNLIKELY  # but fewer than eight pictures are not looked at
    assert watch.add(7, 7) == ""
    said = watch.add(1, 1)
    assert "8 of 8 pictures (100.0 %)" in said
    assert "deferred 30.0 % of the 1,000" in said
    assert watch.add(1000, 1000) == ""


def test_batches_of_any_size_are_looked_at_when_they_pass_a_power_of_two():
    watch, looks = ShareWatch(1000, 300), []
    for above in (3, 3, 3, 3, 10, 10, 10):
        looks.append((bool(watch.add(10, above)), watch.look_at))  # noqa: PERF401
    assert looks[:5] == [(False, 16), (False, 32), (False, 32), (False, 64), (False, 64)]
    assert looks[5] == (False, 64)  # 32 of 60 would be said, but 64 are waited for
    assert looks[6][0]
    assert binom.sf(41, 70, 0.3) < UNLIKELY


def test_chance_alone_speaks_in_few_streams():
    generator = np.random.default_rng(0)
    spoken = 0
    for _ in range(200):
        fit, stream = generator.random(400) < 0.3, generator.random(512) < 0.3
        watch = ShareWatch(len(fit), int(fit.sum()))
        spoken += any(watch.add(1, int(above)) for above in stream)
    assert spoken <= 4
