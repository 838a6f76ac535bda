"""Calibrated thresholds: every target against brute force, and the promised confidence on simulated data."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from ebjr_det.config.target import Target
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, Infeasible, InvalidInput
from ebjr_det.core.router import decide, threshold_for_rate
from ebjr_det.core.tradeoff import select, sweep
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.calibrated import check_disjoint, split
from ebjr_det.evaluation.certify import choose, share_interval, shortfall_bound
from ebjr_det.tasks.classification.metric import Accuracy

TASK = Accuracy()
THOUSANDTHS = st.integers(0, 1000).map(lambda n: n / 1000)  # targets are compared up to rounding
COST = CostModel(student_macs=10.0, teacher_macs=30.0, student_ms=2.0, teacher_ms=7.0)


def run_of(scores, student, teacher):
    records = [{"correct": right, "top5_correct": right} for right in (student, teacher)]
    ids = tuple(f"image-{i}" for i in range(len(scores)))
    return PairedRun("classification", ids, {"s": np.asarray(scores, np.float64)}, *records)


@st.composite
def runs(draw, max_images=15):
    """Runs of a few images with right and wrong answers at will and scores that often tie."""
    images = draw(st.integers(1, max_images))
    scores = draw(st.lists(st.integers(0, 9).map(float), min_size=images, max_size=images))
    right = [draw(st.lists(st.booleans(), min_size=images, max_size=images)) for _ in range(2)]
    return run_of(scores, *map(np.array, right))


def chosen(run, kind, value, confidence=None):
    return choose(run, TASK, sweep(run, TASK, "s", COST), Target(kind, value, confidence))


def brute_force(run, acceptable=lambda rate, quality: True):
    """All decisions as (deferral rate, quality, deferred images) whose rate and quality are accepted."""
    values, student, teacher = run.scores["s"], run.student["correct"], run.teacher["correct"]
    decisions = [values > threshold for threshold in [*sorted(set(values), reverse=True), -np.inf]]
    points = [(defer.mean(), np.where(defer, teacher, student).mean(), defer) for defer in decisions]
    return [point for point in points if acceptable(*point[:2])]


def assert_chose(point, run, expected):
    rate, quality, defer = expected
    assert (point.deferral_rate, point.quality) == (rate, quality)
    assert (decide(run.scores["s"], point.threshold).defer == defer).all()


# --- Every kind of target ---


@given(run=runs(), rate=THOUSANDTHS)
def test_a_deferral_rate_is_used_up_as_far_as_the_scores_allow(run, rate):
    expected = max(brute_force(run, lambda share, _: share <= rate), key=lambda p: p[0])
    assert_chose(chosen(run, "deferral_rate", rate), run, expected)


@pytest.mark.parametrize(("kind", "student", "teacher"), [("macs", 10, 30), ("latency_ms", 2, 7)])
@given(run=runs(), share=st.integers(-100, 1200).map(lambda n: n / 1000))
def test_a_budget_buys_the_highest_quality_and_among_equals_the_cheapest(run, kind, student, teacher, share):
    budget = student + share * teacher
    affordable = brute_force(run, lambda rate, _: student + rate * teacher <= budget)
    if affordable:
        expected = max(affordable, key=lambda p: (p[1], -p[0]))
        assert_chose(chosen(run, kind, budget), run, expected)
        return
    with pytest.raises(Infeasible) as caught:
        chosen(run, kind, budget)
    assert caught.value.nearest["deferral_rate"] == 0.0


@given(run=runs(), floor=THOUSANDTHS)
def test_a_quality_floor_takes_the_cheapest_point_above_it(run, floor):
    enough = brute_force(run, lambda _, quality: quality >= floor)
    if enough:
        assert_chose(chosen(run, "min_quality", floor), run, min(enough, key=lambda p: p[0]))
        return
    with pytest.raises(Infeasible) as caught:
        chosen(run, "min_quality", floor)
    assert caught.value.nearest["quality"] == max(p[1] for p in brute_force(run))


@given(run=runs(), drop=THOUSANDTHS)
def test_a_drop_is_counted_from_the_teacher(run, drop):
    teacher = run.teacher["correct"].mean()
    enough = brute_force(run, lambda _, quality: quality >= teacher - drop - 1e-12)
    assert_chose(chosen(run, "max_drop", drop), run, min(enough, key=lambda p: p[0]))


@pytest.mark.parametrize("kind", ["deferral_rate", "macs", "latency_ms", "min_quality", "max_drop"])
@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_a_target_that_is_no_number_of_at_least_0_is_refused(kind, value):
    with pytest.raises(ConfigError, match=kind):
        Target(kind, value)


def test_a_target_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="deferral rate"):
        Target("deferral_rate", 1.1)
    for kind in ("deferral_rate", "macs", "latency_ms"):
        with pytest.raises(ConfigError, match="confidence"):
            Target(kind, 0.5, confidence=0.9)
    for confidence in (0.0, 1.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="confidence"):
            Target("max_drop", 0.1, confidence)


def test_a_budget_in_a_cost_that_is_not_known_is_refused(pair):
    run = pair()
    with pytest.raises(ConfigError, match="Give or measure"):
        choose(run, TASK, sweep(run, TASK, "margin"), Target("macs", 1.0))


# --- Confidence: the bounds ---


def clopper_pearson(successes, trials, confidence, side):
    """One-sided exact bound, from scipy's binomial test."""
    test = binomtest(int(successes), int(trials), alternative="less" if side == "high" else "greater")
    return getattr(test.proportion_ci(confidence, method="exact"), side)


@given(run=runs(), confidence=st.sampled_from([0.5, 0.9, 0.99]))
def test_the_error_bound_is_clopper_pearsons_at_every_point(confidence, run):
    expected = [
        clopper_pearson(np.rint((1 - quality) * len(run)), len(run), confidence, "high")
        for _, quality, _ in brute_force(run)
    ]
    bound = shortfall_bound(run, TASK, "s", confidence, against_teacher=False)
    np.testing.assert_allclose(bound, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("images", [49, 98, 103, 107])
def test_the_error_bound_counts_wrong_answers_exactly(images):
    """For these N, k / N * N is not always k in floating point."""
    for right in range(images):
        mixed = run_of(np.zeros(images), np.arange(images) < right, np.ones(images, bool))
        bound = shortfall_bound(mixed, TASK, "s", 0.9, against_teacher=False)
        assert bound[0] == pytest.approx(clopper_pearson(images - right, images, 0.9, "high"), rel=1e-9)
    assert any(right / images * images != right for right in range(images))


def drop_bound(run, defer, confidence):
    """Upper bound of P(teacher alone right) less lower bound of P(student alone right), on kept images."""
    student, teacher, half = run.student["correct"], run.teacher["correct"], (1 + confidence) / 2
    lost = clopper_pearson((~defer & teacher & ~student).sum(), len(run), half, "high")
    won = clopper_pearson((~defer & student & ~teacher).sum(), len(run), half, "low")
    return lost - won


@given(run=runs(), confidence=st.sampled_from([0.5, 0.9, 0.99]))
def test_the_drop_bound_is_clopper_pearsons_at_every_point(confidence, run):
    points = brute_force(run)
    expected = [drop_bound(run, defer, confidence) for _, _, defer in points]
    bound = shortfall_bound(run, TASK, "s", confidence, against_teacher=True)
    np.testing.assert_allclose(bound, expected, rtol=1e-9, atol=1e-12)


def walk_down(run, certified):
    """The last point, from "defer everything" on, before the first that a predicate does not certify."""
    last = None
    for point in reversed(brute_force(run)):
        if not certified(point):
            break
        last = point
    return last


def assert_chose_or_refused(run, kind, value, confidence, expected):
    if expected is not None:
        assert_chose(chosen(run, kind, value, confidence), run, expected)
        return
    with pytest.raises(Infeasible, match="certified") as caught:
        chosen(run, kind, value, confidence)
    assert caught.value.nearest["deferral_rate"] == 1.0


@given(run=runs(), allowed=THOUSANDTHS, confidence=st.sampled_from([0.5, 0.8, 0.95]))
def test_a_certified_drop_walks_down_from_the_teacher_to_the_first_failure(run, allowed, confidence):
    expected = walk_down(run, lambda point: drop_bound(run, point[2], confidence) <= allowed)
    assert_chose_or_refused(run, "max_drop", allowed, confidence, expected)


@given(run=runs(), floor=THOUSANDTHS, confidence=st.sampled_from([0.5, 0.8, 0.95]))
def test_a_certified_floor_walks_down_from_the_teacher_to_the_first_failure(run, floor, confidence):
    def certified(point):
        wrong = np.rint((1 - point[1]) * len(run))
        return clopper_pearson(wrong, len(run), confidence, "high") <= 1 - floor

    assert_chose_or_refused(run, "min_quality", floor, confidence, walk_down(run, certified))


class Averaged(Accuracy):
    """A task whose quality is no mean of right and wrong, as AP is none."""

    columns = {"AP": "correct"}  # noqa: RUF012
    mean = False


def test_a_confidence_needs_a_quality_that_is_a_mean(pair):
    run = pair()
    curve = sweep(run, Averaged(), "margin")
    with pytest.raises(ConfigError, match="AP"):
        choose(run, Averaged(), curve, Target("max_drop", 0.1, 0.9))


# --- Confidence: the promise, on a finite population whose every drop is known ---

IMAGES, CALIBRATIONS, SAMPLE, CONFIDENCE = 200_000, 300, 400, 0.9
MAX_VIOLATIONS = (1 - CONFIDENCE) + 3 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / CALIBRATIONS)


class Population:
    """200,000 images sorted by falling score; joint accuracy is known when the first k are deferred."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.scores = -np.sort(-generator.normal(size=IMAGES))
        doubt = 1 / (1 + np.exp(-2 * (self.scores - 1.3)))
        self.student = generator.random(IMAGES) > doubt
        self.teacher = generator.random(IMAGES) > 0.04 + 0.15 * doubt
        gain = np.concatenate([[0], np.cumsum(self.teacher.astype(int) - self.student)])
        self.joint = (self.student.sum() + gain) / IMAGES

    def sample(self, generator):
        picked = generator.integers(IMAGES, size=SAMPLE)
        return run_of(self.scores[picked], self.student[picked], self.teacher[picked])

    def quality(self, threshold):
        return self.joint[(self.scores > threshold).sum()]


@pytest.fixture(scope="module")
def population():
    return Population()


def calibrated(population, kind, value, confidence):
    """True quality, deferral rate of each of 300 calibrations on 400 images; infeasible ones are left out."""
    generator = np.random.default_rng(1)
    found = []
    for _ in range(CALIBRATIONS):
        try:
            point = chosen(population.sample(generator), kind, value, confidence)
        except Infeasible:
            continue
        found.append((population.quality(point.threshold), point.deferral_rate))
    return np.array(found).T


@pytest.mark.parametrize("kind", ["max_drop", "min_quality"])
def test_a_floor_with_confidence_holds_on_the_population_and_is_worth_having(population, kind):
    teacher = population.joint[-1]
    assert teacher - population.joint[0] > 0.08  # the student alone would not do
    floor = teacher - 0.04
    value = 0.04 if kind == "max_drop" else floor
    certified, deferred = calibrated(population, kind, value, CONFIDENCE)
    assert (certified < floor).sum() <= MAX_VIOLATIONS * CALIBRATIONS
    assert (deferred < 1).sum() >= 0.8 * CALIBRATIONS
    assert np.median(deferred) < 0.7
    plain, _ = calibrated(population, kind, value, None)
    assert (plain < floor).sum() > MAX_VIOLATIONS * CALIBRATIONS  # the problem is hard enough to tell


def test_more_confidence_defers_more(population):
    rates = [calibrated(population, "max_drop", 0.04, c)[1].mean() for c in (0.5, 0.99)]
    assert rates[0] < rates[1]


# --- Splitting ---


@given(images=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5), data=st.data())
def test_a_split_is_disjoint_covers_all_and_depends_on_ids_alone(images, fraction, seed, data):
    run = run_of(np.arange(images), np.ones(images, bool), np.ones(images, bool))
    count = round(fraction * images)
    if not 0 < count < images:
        with pytest.raises(ConfigError, match="both sides"):
            split(run, fraction, seed)
        return
    first, rest = split(run, fraction, seed)
    assert len(first) == count
    assert sorted([*first, *rest]) == list(range(images))
    order = np.array(data.draw(st.permutations(range(images))))
    shuffled = select(run, TASK, order)
    other, _ = split(shuffled, fraction, seed)
    assert {run.image_ids[i] for i in first} == {shuffled.image_ids[i] for i in other}


def test_another_seed_is_another_split(pair):
    parts = [tuple(split(pair(), 0.5, seed)[0]) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_a_split_does_not_favour_any_image(pair):
    run = pair(images=20)
    times = np.bincount(np.concatenate([split(run, 0.5, seed)[0] for seed in range(400)]))
    assert np.abs(times - 200).max() < 5 * np.sqrt(400 * 0.25)


def test_runs_that_share_an_image_are_refused_with_count_and_example(pair):
    run = pair(images=10)
    check_disjoint(select(run, TASK, np.arange(5)), select(run, TASK, np.arange(5, 10)))
    with pytest.raises(InvalidInput, match=r"2 in both, `image-0003`"):
        check_disjoint(select(run, TASK, np.arange(5)), select(run, TASK, np.arange(3, 10)))


# --- The share of further images ---


@pytest.mark.parametrize(("count", "images"), [(50, 100), (198, 402), (30, 5000)])
def test_the_share_interval_holds_what_it_promises(count, images):
    """Thresholds at 30 % of a sample, shares of another of the same kind: 95 of 100, and hardly more."""
    generator, inside, interval = np.random.default_rng(0), [], cache(share_interval)
    for _ in range(2000):
        chosen_on, further = generator.normal(size=count), generator.normal(size=images)
        threshold = threshold_for_rate(chosen_on, 0.3)
        low, high = interval(int((chosen_on > threshold).sum()), count, images)
        inside.append(low <= (further > threshold).mean() <= high)
    assert 0.94 <= np.mean(inside) <= 0.98


def test_where_none_or_all_lay_above_the_interval_reaches_the_end():
    assert share_interval(0, 20, 100)[0] == 0
    assert share_interval(20, 20, 100)[1] == 1
    assert share_interval(0, 20, 100)[1] < 0.3 < 0.7 < share_interval(20, 20, 100)[0]
