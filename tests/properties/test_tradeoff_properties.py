"""The trade-off curve against brute force: every threshold decided, mixed and judged anew; areas by rank."""

from itertools import pairwise, permutations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, Infeasible, InvalidInput
from ebjr_det.core.router import decide, threshold_for_rate
from ebjr_det.core.tradeoff import mixture, select, sweep
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.bootstrap import bootstrap
from ebjr_det.evaluation.certify import best_under, cheapest_above
from ebjr_det.evaluation.report import gap_recovered_at, rate_for_gap
from ebjr_det.tasks.classification.metric import Accuracy

TASK = Accuracy()
COST = CostModel(student_macs=10.0, teacher_macs=30.0, student_ms=2.0, teacher_ms=7.0)
BUDGETS = ["deferral_rate", "macs", "latency_ms"]
SCORE_NAMES = ["free_energy", "entropy", "random"]


def run_of(scores, student, teacher):
    student, teacher = np.asarray(student, bool), np.asarray(teacher, bool)
    records = [{"correct": right, "top5_correct": right | (np.arange(len(right)) % 2 == 0)} for right in
               (student, teacher)]  # fmt: skip
    ids = tuple(f"image-{i}" for i in range(len(student)))
    return PairedRun("classification", ids, {"s": np.asarray(scores, np.float64)}, *records)


@st.composite
def runs(draw, max_images=12):
    """Runs of 1..12 images with right and wrong answers at will and scores that often tie."""
    images = draw(st.integers(1, max_images))
    score = st.one_of(st.integers(0, 3).map(float), st.floats(-5, 5))
    scores, student, teacher = (
        draw(st.lists(kind, min_size=images, max_size=images))
        for kind in (score, st.booleans(), st.booleans())
    )
    return run_of(scores, student, teacher)


def area_by_rank(scores, student, teacher):
    """Expected mean quality over deferral rates: an image at mean rank r is the teacher's for (n-r+.5)/n."""
    images = len(scores)
    gain = teacher.astype(float) - student.astype(float)
    rank = scipy.stats.rankdata(-scores, "average")
    return student.mean() + (gain * (images - rank + 0.5)).sum() / images**2


def right_answers(run):
    return run.student["correct"], run.teacher["correct"]


# --- The sweep ---


@given(run=runs())
def test_sweep_equals_deciding_mixing_and_judging_at_every_threshold(run):
    curve = sweep(run, TASK, "s", COST)
    for rate, threshold, quality in zip(curve.deferral_rate, curve.threshold, curve.quality, strict=True):
        decision = decide(run.scores["s"], threshold)
        assert decision.deferral_rate == rate
        assert TASK.metrics(mixture(run, TASK, decision.defer))["accuracy"] == quality


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("score", SCORE_NAMES)
def test_sweep_of_made_up_logits_equals_brute_force(pair, score, ties):
    run = pair(images=90, seed=3, ties=ties)
    curve = sweep(run, TASK, score)
    values, (student, teacher) = run.scores[score], right_answers(run)
    assert (len(curve.quality) == len(run) + 1) == (not ties)
    expected = [np.where(values > threshold, teacher, student).mean() for threshold in curve.threshold]
    np.testing.assert_array_equal(curve.quality, expected)


@given(run=runs())
def test_the_ends_are_the_student_and_the_teacher(run):
    curve = sweep(run, TASK, "s", COST)
    student, teacher = right_answers(run)
    first, *_, last = curve.points()
    assert (first.deferral_rate, first.threshold, first.quality) == (0.0, np.inf, student.mean())
    assert (last.deferral_rate, last.threshold, last.quality) == (1.0, -np.inf, teacher.mean())
    assert (curve.student_quality, curve.teacher_quality) == (student.mean(), teacher.mean())
    assert (first.macs, last.macs, first.latency_ms, last.latency_ms) == (10.0, 40.0, 2.0, 9.0)
    assert first.to_dict()["threshold"] is None
    assert last.to_dict()["threshold"] is None
    assert curve.images == len(run)


def test_an_unknown_score_is_refused_with_the_nearest(pair):
    with pytest.raises(ConfigError, match="Did you mean `entropy`"):
        sweep(pair(), TASK, "entropi")


@given(run=runs())
def test_unknown_costs_are_none_and_not_a_budget(run):
    curve = sweep(run, TASK, "s")
    assert {(p.macs, p.latency_ms) for p in curve.points()} == {(None, None)}
    for kind in ("macs", "latency_ms"):
        with pytest.raises(ConfigError, match="Give or measure"):
            best_under(curve, kind, 1e9)
    with pytest.raises(ConfigError, match="Did you mean `latency_ms`"):
        curve.costs("latency")


# --- Reference lines ---


@given(run=runs())
def test_no_curve_passes_the_oracle(run):
    curve = sweep(run, TASK, "s")
    deferred = np.rint(curve.deferral_rate * len(run)).astype(int)
    assert (curve.quality <= curve.oracle[deferred]).all()


@given(run=runs(max_images=8), data=st.data())
def test_no_choice_of_images_passes_the_oracle(run, data):
    defer = np.array(data.draw(st.lists(st.booleans(), min_size=len(run), max_size=len(run))))
    quality = TASK.metrics(mixture(run, TASK, defer))["accuracy"]
    assert quality <= sweep(run, TASK, "s").oracle[defer.sum()]


@given(run=runs(max_images=5))
def test_random_is_the_mean_over_all_orders(run):
    orders = permutations(range(len(run)))
    paths = [TASK.mixtures(run.student, run.teacher).path(np.array(order)) for order in orders]
    np.testing.assert_allclose(sweep(run, TASK, "s").random, np.mean(paths, axis=0), rtol=0, atol=1e-12)


def test_random_is_what_many_coins_give(pair):
    run = pair(images=50, seed=1)
    generator = np.random.default_rng(0)
    orders = [generator.permutation(len(run)) for _ in range(2000)]
    paths = np.array([TASK.mixtures(run.student, run.teacher).path(order) for order in orders])
    error = paths.std(axis=0) / np.sqrt(len(paths))
    assert (np.abs(paths.mean(axis=0) - sweep(run, TASK, "entropy").random) <= 5 * error + 1e-12).all()


# --- Area ---


@given(run=runs())
def test_area_equals_the_formula_by_mean_rank(run):
    expected = area_by_rank(run.scores["s"], *right_answers(run))
    assert sweep(run, TASK, "s").area() == pytest.approx(expected, abs=1e-12)


@given(run=runs(max_images=5))
def test_ties_count_as_deferred_in_random_order(run):
    values = run.scores["s"]
    areas = []
    for order in map(list, permutations(range(len(run)))):
        if (np.diff(values[order]) <= 0).all():  # an order that the score allows
            path = TASK.mixtures(run.student, run.teacher).path(np.array(order))
            areas.append(np.mean((path[1:] + path[:-1]) / 2))
    assert sweep(run, TASK, "s").area() == pytest.approx(np.mean(areas), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    "rising", [lambda s: 3 * s - 7, np.exp, np.arctan, lambda s: s**3, lambda s: scipy.stats.rankdata(s)]
)
def test_area_does_not_change_under_a_rising_map_of_the_score(pair, rising, ties):
    run = pair(images=70, seed=5, ties=ties)
    student, teacher = right_answers(run)
    scores = run.scores["free_energy"]
    mapped = run_of(rising(scores), student, teacher)
    assert len(np.unique(mapped.scores["s"])) == len(np.unique(scores))
    assert sweep(mapped, TASK, "s").area() == sweep(run, TASK, "free_energy").area()


# --- Points on the curve ---


def exhaustive_best(curve, kind, budget):
    affordable = [p for p in curve.points() if getattr(p, kind) <= budget]
    return max(affordable, key=lambda p: (p.quality, -p.deferral_rate), default=None)


@pytest.mark.parametrize("kind", BUDGETS)
@given(run=runs(), share=st.integers(-200, 1300).map(lambda n: n / 1000), exact=st.booleans())
def test_best_under_equals_exhaustive_search(kind, run, share, exact):
    curve = sweep(run, TASK, "s", COST)
    low, high = curve.costs(kind)[[0, -1]]
    budget = low + share * (high - low)
    if exact:
        budget = float(curve.costs(kind)[np.searchsorted(curve.costs(kind), budget) - 1])
    best = exhaustive_best(curve, kind, budget)
    if best is not None:
        assert best_under(curve, kind, budget) == best
        return
    unit = {"macs": "MACs an image", "latency_ms": "ms an image", "deferral_rate": "% of the images"}[kind]
    with pytest.raises(Infeasible, match=unit) as caught:
        best_under(curve, kind, budget)
    assert caught.value.nearest == curve.points()[0].to_dict()


def test_a_budget_that_was_computed_with_rounding_still_buys_its_point():
    curve = sweep(run_of(np.arange(10), np.zeros(10), np.ones(10)), TASK, "s", COST)
    for tenths in range(1, 10):
        computed = 1 - (10 - tenths) / 10  # 1 - .9 is .09999999999999998
        assert best_under(curve, "deferral_rate", computed).deferral_rate == tenths / 10
        assert best_under(curve, "macs", 10 + 30 * computed).deferral_rate == tenths / 10


@given(run=runs(), floor=st.integers(0, 1000).map(lambda n: n / 1000), exact=st.booleans())
def test_cheapest_above_equals_exhaustive_search(run, floor, exact):
    curve = sweep(run, TASK, "s", COST)
    if exact:
        floor = float(curve.quality[round(floor * (len(curve.quality) - 1))])
    enough = [p for p in curve.points() if p.quality >= floor]
    if enough:
        assert cheapest_above(curve, floor) == min(enough, key=lambda p: p.deferral_rate)
        return
    with pytest.raises(Infeasible, match="at best") as caught:
        cheapest_above(curve, floor)
    best = max(curve.points(), key=lambda p: (p.quality, -p.deferral_rate))
    assert caught.value.nearest == best.to_dict()


def test_a_floor_out_of_reach_carries_the_first_of_the_best_points():
    curve = sweep(run_of([4, 3, 2, 1, 0], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]), TASK, "s", COST)
    with pytest.raises(Infeasible, match=r"got 1 at best, at a deferral rate of 40\.00 %") as caught:
        cheapest_above(curve, 1.1)
    assert (caught.value.nearest["deferral_rate"], caught.value.nearest["quality"]) == (0.4, 1.0)
    assert caught.value.nearest["macs"] == 22.0


@given(run=runs())
def test_gap_recovered_runs_from_0_to_1_or_is_none_where_the_teacher_is_not_better(run):
    curve = sweep(run, TASK, "s")
    student, teacher = (int(right.sum()) for right in right_answers(run))
    gaps = [point.gap_recovered for point in curve.points()]
    if teacher <= student:
        assert set(gaps) == {None}
        assert gap_recovered_at(curve, 0.5) is None
        assert rate_for_gap(curve, 0.5) is None
        return
    answers_right = np.rint(curve.quality * len(run))
    np.testing.assert_allclose(gaps, (answers_right - student) / (teacher - student), atol=1e-9)
    assert (gaps[0], gaps[-1]) == (0.0, 1.0)


@given(run=runs(), rate=st.floats(0, 1))
def test_gap_recovered_at_a_rate_is_linear_between_points(run, rate):
    curve = sweep(run, TASK, "s")
    if curve.teacher_quality <= curve.student_quality:
        return
    points = curve.points()
    for left, right in pairwise(points):
        if left.deferral_rate <= rate <= right.deferral_rate:
            along = (rate - left.deferral_rate) / (right.deferral_rate - left.deferral_rate)
            expected = left.gap_recovered + along * (right.gap_recovered - left.gap_recovered)
            assert gap_recovered_at(curve, rate) == pytest.approx(expected, abs=1e-9)


@given(run=runs(), fraction=st.integers(0, 1500).map(lambda n: n / 1000))
def test_rate_for_gap_is_the_smallest_that_reaches_it(run, fraction):
    curve = sweep(run, TASK, "s")
    if curve.teacher_quality <= curve.student_quality:
        return
    reaching = [p.deferral_rate for p in curve.points() if p.gap_recovered >= fraction - 1e-9]
    assert rate_for_gap(curve, fraction) == min(reaching, default=None)


@given(run=runs(), threshold=st.one_of(st.floats(-6, 6), st.sampled_from([0.0, 1.0, np.inf, -np.inf])))
def test_the_point_of_a_decision_is_what_the_decision_does(run, threshold):
    decision = decide(run.scores["s"], threshold)
    point = sweep(run, TASK, "s", COST).of_decision(decision)
    assert point.quality == TASK.metrics(mixture(run, TASK, decision.defer))["accuracy"]
    assert point.deferral_rate == decision.deferral_rate
    assert point.threshold == threshold
    assert point.macs == pytest.approx(10 + 30 * decision.deferral_rate)


@given(run=runs(), rate=st.floats(0, 1))
def test_the_point_at_a_rate_is_the_routers(run, rate):
    point = sweep(run, TASK, "s").at_rate(rate)
    assert point.threshold == threshold_for_rate(run.scores["s"], rate)
    assert point.deferral_rate == decide(run.scores["s"], point.threshold).deferral_rate


# --- Mixtures and selections ---


@given(run=runs(), data=st.data())
def test_a_mixture_takes_the_teachers_records_where_deferred(run, data):
    defer = np.array(data.draw(st.lists(st.booleans(), min_size=len(run), max_size=len(run))))
    mixed = mixture(run, TASK, defer)
    assert set(mixed) == set(run.student)
    for name, column in mixed.items():
        expected = [(run.teacher if d else run.student)[name][i] for i, d in enumerate(defer)]
        assert column.tolist() == expected


@given(run=runs(), data=st.data())
def test_a_selection_holds_the_chosen_images_in_the_order_given(run, data):
    indices = st.integers(0, len(run) - 1)
    images = np.array(data.draw(st.lists(indices, min_size=1, unique=True)))
    chosen = select(run, TASK, images)
    assert chosen.task == run.task
    for at, image in enumerate(images):
        assert chosen.image_ids[at] == run.image_ids[image]
        assert chosen.scores["s"][at] == run.scores["s"][image]
        for name in run.student:
            assert chosen.student[name][at] == run.student[name][image]
            assert chosen.teacher[name][at] == run.teacher[name][image]


def test_a_selection_refuses_an_image_twice(pair):
    with pytest.raises(InvalidInput, match="image-0003"):
        select(pair(), TASK, np.array([3, 4, 3]))


# --- Bootstrap ---


def intervals(run, scores=("free_energy",), reference="free_energy", **settings):
    return bootstrap(run, TASK, scores, reference=reference, **settings)


def width(ends):
    return ends[1] - ends[0]


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(pair):
    run = pair(images=40, ties=True)
    first, second, other = (intervals(run, ("entropy",), replicates=30, seed=seed) for seed in (7, 7, 8))
    assert first.area == second.area
    assert first.area_difference == second.area_difference
    assert all((first.low[name] == second.low[name]).all() for name in first.low)
    assert first.area != other.area
    assert set(first.area) == {"entropy", "free_energy"}
    assert first.area_difference["free_energy"] == (0.0, 0.0)


def test_a_score_reads_the_same_resamples_whatever_stands_beside_it(pair):
    run = pair(images=40)
    alone = intervals(run, ("entropy",), "entropy", replicates=20)
    together = intervals(run, ("random", "entropy"), "random", replicates=20)
    assert alone.area["entropy"] == together.area["entropy"]


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_of_most_runs_hold_their_own_area(pair, ties):
    held = 0
    for seed in range(20):
        run = pair(images=60, seed=seed, ties=ties)
        low, high = intervals(run, replicates=60, seed=seed).area["free_energy"]
        held += low <= sweep(run, TASK, "free_energy").area() <= high
    assert held >= 18


def test_images_that_tie_are_deferred_in_random_order_in_every_resample():
    """With one score for all, the area is the mean of both accuracies: near .75; by index it is near .875."""
    run = run_of(np.zeros(80), np.arange(80) >= 40, np.ones(80))
    low, high = intervals(run, ("s",), "s", replicates=200, confidence=0.98).area["s"]
    assert 0.65 < low < 0.75 < high < 0.85


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_interval_agrees_with_scipy(pair, ties):
    """Both ends within 5 standard errors of a 2.5 % quantile, for two independent sets of resamples."""
    run = pair(images=80, seed=2, ties=ties)
    values, (student, teacher) = run.scores["free_energy"], right_answers(run)
    result = scipy.stats.bootstrap(
        (np.arange(len(run)),),
        lambda picked: area_by_rank(values[picked], student[picked], teacher[picked]),
        vectorized=False,
        n_resamples=2000,
        method="basic",
        rng=np.random.default_rng(1),
    )
    ours = intervals(run, replicates=2000).area["free_energy"]
    density = scipy.stats.norm.pdf(scipy.stats.norm.ppf(0.025))
    error = np.sqrt(2 * 0.025 * 0.975 / 2000) / density * result.standard_error
    assert np.abs(np.subtract(ours, result.confidence_interval)).max() < 5 * error
    assert width(ours) == pytest.approx(2 * 1.96 * result.standard_error, rel=0.2)


def test_a_wider_confidence_gives_a_wider_interval(pair):
    run = pair(images=60)
    narrow, wide = (intervals(run, replicates=200, confidence=c).area["free_energy"] for c in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_band_at_both_ends_is_that_of_one_models_accuracy(pair):
    run = pair(images=100, seed=4)
    band = intervals(run, replicates=1000)
    np.testing.assert_allclose(band.rate, np.linspace(0, 1, 101))
    for end, right in ((0, right_answers(run)[0]), (-1, right_answers(run)[1])):
        low, high = band.low["free_energy"][end], band.high["free_energy"][end]
        normal = 2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / len(run))
        assert low < right.mean() < high
        assert high - low == pytest.approx(normal, rel=0.25)
    assert (band.low["free_energy"] <= band.high["free_energy"]).all()


def test_a_paired_difference_is_narrower_than_an_unpaired_one(pair):
    run = pair(images=80, seed=6)
    scores = run.scores["free_energy"]
    nearly = scores + np.random.default_rng(0).normal(scale=0.02 * scores.std(), size=len(run))
    twins = PairedRun(run.task, run.image_ids, {"a": scores, "b": nearly}, run.student, run.teacher)
    result = intervals(twins, ("b",), "a", replicates=300)
    unpaired = np.hypot(width(result.area["a"]), width(result.area["b"]))
    assert 0 < width(result.area_difference["b"]) < unpaired / 5


def test_an_unknown_score_or_too_few_replicates_are_refused(pair):
    with pytest.raises(ConfigError, match="Did you mean `entropy`"):
        intervals(pair(), ("entropi",))
    for settings in ({"replicates": 1}, {"confidence": 0.0}, {"confidence": 1.0}):
        with pytest.raises(ConfigError, match="replicates"):
            intervals(pair(), **settings)


def test_scores_of_an_unsigned_type_are_refused_or_sorted_as_numbers():
    run = run_of([0, 1, 2, 3], [1, 0, 0, 1], [1, 1, 0, 0])
    try:
        narrow = PairedRun(
            run.task, run.image_ids, {"s": np.arange(4, dtype=np.uint8)}, run.student, run.teacher
        )
    except InvalidInput:
        return
    np.testing.assert_array_equal(sweep(narrow, TASK, "s").quality, sweep(run, TASK, "s").quality)
