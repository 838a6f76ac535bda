"""Pairs under traffic: weighted images are repeated images, the data's own mix is no change, costs add up."""

import contextlib
import io
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ebjr_det.core.cost import CostModel
from ebjr_det.core.router import decide, threshold_for_rate
from ebjr_det.core.tradeoff import Weights, score_of, select, sweep
from ebjr_det.core.types import PairedRun, concatenate
from ebjr_det.evaluation.bootstrap import resamples
from ebjr_det.evaluation.traffic.equal_cost import ahead_from, at_equal_cost, margins_at_equal_cost, rate_at
from ebjr_det.evaluation.traffic.mix import Composition, popular_mix
from ebjr_det.evaluation.traffic.weighted import SIDES, RoutedPair
from ebjr_det.tasks import load_task
from ebjr_det.tasks.detection.metric import AveragePrecision

CLASSES = 4
COST = CostModel(2.0, 10.0, 1.0, 5.0)
TASKS = ["classification", "detection"]
both = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(scope="module")
def made(pair, detectors):
    """A function: task, seed, abstaining -> run, task, score, composition with two popular classes."""

    def make(name, seed=0, abstaining=False, images=60):
        run = (pair if name == "classification" else detectors)(images, CLASSES, seed)
        score = "margin" if name == "classification" else "random"
        task = load_task(name).judge()
        counts = task.composition(run.student, CLASSES)
        names = tuple("abcd")
        shown = Composition(counts, names, np.array([True, False, True, False]))
        if abstaining:
            rest = shown.shows_rest ^ (np.random.default_rng(seed).random(images) < 0.2)
            run = replace(run, abstains=rest)
        return run, task, score, shown

    return make


def pair_of(run, task, score, rate=0.3, cost=COST):
    values = score_of(run, score)
    return RoutedPair.of(run, task, score, threshold_for_rate(values, rate), cost)


def random_mix(seed):
    return np.random.default_rng(seed).dirichlet(np.ones(CLASSES))


# --- Weights ---


@given(
    labels=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=50),
    wanted=st.lists(st.floats(0, 1), min_size=CLASSES, max_size=CLASSES),
)
def test_images_of_one_object_show_the_mix_exactly(labels, wanted):
    counts = np.eye(CLASSES, dtype=int)[labels]
    seen = np.where(counts.any(axis=0), np.array(wanted) + 1e-3, 0.0)
    mix = seen / seen.sum()
    shown = Composition(counts, tuple("abcd"), np.array([True, False, False, False]))
    weights = shown.weights(mix).images
    assert weights.mean() == pytest.approx(1)
    assert shown.single
    np.testing.assert_allclose(shown.shown(weights), mix, atol=1e-12)
    np.testing.assert_allclose(np.bincount(labels, weights, CLASSES) / len(labels), mix, atol=1e-12)


# --- A weighted image is an image repeated ---


@both
@pytest.mark.parametrize("seed", range(3))
def test_a_pair_on_weighted_images_is_the_pair_on_repeated_ones(made, name, seed):
    run, task, score, shown = made(name, seed, abstaining=True)
    copies = np.random.default_rng(seed).integers(0, 4, size=len(run))
    traffic = Weights(0.7 * copies, shown.shown(copies))
    own = pair_of(run, task, score)
    repeated = select_repeated(run, task, copies)
    counts = np.repeat(shown.counts, copies, axis=0)
    mixtures = task.mixtures(repeated.student, repeated.teacher).weighing(traffic.classes)
    values = score_of(repeated, score)
    defer = values > np.sort(score_of(run, score))[len(run) - own.deferred - 1]
    order = np.argsort(-values, kind="stable")
    expected = mixtures.path(order, np.array([0, defer.sum(), len(values)]))
    found = own.at_threshold(traffic)
    assert found.deferral_rate == pytest.approx(defer.mean())
    np.testing.assert_allclose([getattr(found, side) for side in SIDES], expected, atol=1e-9)
    curve = sweep(run, task, score, weights=traffic)
    whole = sweep(repeated, task, score)
    np.testing.assert_allclose(curve.quality[[0, -1]], expected[[0, 2]], atol=1e-9)
    if name == "classification":
        at = np.interp(whole.deferral_rate, curve.deferral_rate, curve.quality)
        np.testing.assert_allclose(at, whole.quality, atol=1e-9)
        assert Composition(counts, shown.names, shown.popular).share == pytest.approx(traffic.classes)


def select_repeated(run, task, copies):
    images = np.repeat(np.arange(len(run)), copies)
    return PairedRun(
        run.task,
        tuple(f"{n}" for n in range(len(images))),
        {name: values[images] for name, values in run.scores.items()},
        task.take(run.student, images),
        task.take(run.teacher, images),
        abstains=run.abstains[images],
    )


@both
def test_accuracy_or_ap_under_the_mix_is_the_shares_times_the_classes(made, name):
    run, task, score, shown = made(name, 1)
    traffic = shown.weights(random_mix(3))
    own = pair_of(run, task, score)
    by_class = own.ranking.mixtures.by_class(own.ranking.order, own.ends, traffic.images)
    found = own.qualities(traffic, shown.popular)
    worth = traffic.classes if name == "classification" else np.ones(CLASSES)
    for column, side in enumerate(SIDES):
        classes = by_class[:, column]
        assert found[side].overall == pytest.approx(traffic.classes @ classes, abs=1e-9)
        for group, value in ((shown.popular, found[side].popular), (~shown.popular, found[side].rest)):
            assert value == pytest.approx(np.average(classes[group], weights=worth[group]), abs=1e-9)
        assert found[side].mean == pytest.approx(classes.mean(), abs=1e-9)
    if name == "classification":
        popular = traffic.classes[shown.popular].sum()
        parts = [popular * one.popular + (1 - popular) * one.rest for one in found.values()]
        assert parts == pytest.approx([one.overall for one in found.values()])


def coco_of(targets, predictions):
    """COCO's dicts of truths and answers, image after image."""
    truth = {
        "images": [{"id": i + 1} for i in range(len(targets))],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(CLASSES)],
        "annotations": [],
    }
    entries = []
    for i, (target, found) in enumerate(zip(targets, predictions, strict=True)):
        own = target.truth
        for box, label, area in zip(own.boxes.tolist(), own.labels.tolist(), own.areas.tolist(), strict=True):
            entry = {"image_id": i + 1, "category_id": label + 1, "bbox": box, "area": area, "iscrowd": 0}
            truth["annotations"].append(entry | {"id": len(truth["annotations"]) + 1})
        for (x, y, p, q), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            box = [x, y, p - x, q - y]
            entries.append({"image_id": i + 1, "category_id": label + 1, "bbox": box, "score": score})
    return truth, entries


def test_ap_of_weighted_images_is_pycocotools_on_repeated_ones(scenes):
    student, _, targets = scenes(25, CLASSES, 5)
    copies = np.random.default_rng(5).integers(0, 4, size=25)
    images = np.repeat(np.arange(25), copies)
    truth, entries = coco_of([targets[i] for i in images], [student[i] for i in images])
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = truth
        annotated.createIndex()
        judge = COCOeval(annotated, annotated.loadRes(entries), "bbox")
        judge.evaluate()
        judge.accumulate()
    expected = judge.eval["precision"][:, :, :, 0, 2].mean(axis=(0, 1))
    records = AveragePrecision().match(student, targets)
    mixtures = AveragePrecision().mixtures(records, records)
    zero, order = np.zeros(1, dtype=int), np.arange(25)
    for scale in (1.0, 1 / 3, 1e-3):
        found = mixtures.by_class(order, zero, scale * copies)[:, 0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    worth = np.array([0.1, 0.2, 0.3, 0.4])
    assert mixtures.weighing(worth).path(order, zero, copies / 3)[0] == pytest.approx(worth @ expected)
    assert np.ptp(expected) > 0.01


# --- The data's own mix ---


@both
def test_the_datas_own_mix_gives_the_plain_numbers(made, name):
    run, task, score, shown = made(name, 2, abstaining=True)
    traffic = shown.weights(shown.share)
    own = pair_of(run, task, score)
    plain = sweep(run, task, score, COST)
    point = plain.of_decision(decide(score_of(run, score), threshold_for_rate(score_of(run, score), 0.3)))
    found, curve = own.qualities(traffic, shown.popular), sweep(run, task, score, weights=traffic)
    sides = (plain.student_quality, point.quality, plain.teacher_quality)
    assert [found[side].unweighted for side in SIDES] == pytest.approx(list(sides), abs=1e-12)
    key = "overall" if name == "classification" else "mean"
    assert [getattr(found[side], key) for side in SIDES] == pytest.approx(list(sides), abs=1e-9)
    assert own.at_threshold(traffic).deferral_rate == pytest.approx(point.deferral_rate)
    np.testing.assert_allclose(curve.deferral_rate, plain.deferral_rate, atol=1e-12)
    np.testing.assert_array_equal(curve.threshold, plain.threshold)
    if name == "classification":
        np.testing.assert_allclose(curve.quality, plain.quality, atol=1e-12)
        np.testing.assert_allclose(curve.oracle, plain.oracle, atol=1e-12)
    alike = replace(traffic, classes=np.full(CLASSES, 1 / CLASSES))
    if name == "detection":
        same = sweep(run, task, score, weights=alike)
        np.testing.assert_allclose(same.quality, plain.quality, atol=1e-9)
        np.testing.assert_allclose(same.oracle, plain.oracle, atol=1e-9)
        middle = np.interp(plain.random_rate, same.random_rate, same.random)
        np.testing.assert_allclose(middle, plain.random, atol=1e-3)


def test_random_lies_on_a_line_and_nothing_above_the_oracle_where_the_quality_is_a_mean(made):
    run, task, score, shown = made("classification", 3)
    for seed in range(5):
        curve = sweep(run, task, score, weights=shown.weights(random_mix(seed)))
        oracle = np.interp(curve.deferral_rate, curve.oracle_rate, curve.oracle)
        assert (curve.quality <= oracle + 1e-9).all()
        assert curve.random_rate.tolist() == [0, 1]
        assert curve.random.tolist() == [curve.quality[0], curve.quality[-1]]


# --- Costs ---


@both
def test_the_pair_costs_the_student_and_the_weighted_share_of_the_teacher(made, name):
    run, task, score, shown = made(name, 4, abstaining=True)
    for share in (0.0, 0.2, 0.8, 1.0):
        traffic = shown.weights(popular_mix(share, shown))
        own = pair_of(run, task, score).at_threshold(traffic)
        values = score_of(run, score)
        defer = values > threshold_for_rate(values, 0.3)
        rate = traffic.images[defer].sum() / traffic.images.sum()
        assert (own.deferral_rate, own.macs) == pytest.approx((rate, 2 + 10 * rate))
        assert own.latency_ms == pytest.approx(1 + 5 * rate)


def test_more_that_is_handed_on_costs_more(made):
    """A student that hands on exactly what is not popular: the teacher sees the rest of the traffic."""
    run, task, score, shown = made("classification", 5)
    run = replace(run, abstains=shown.shows_rest)
    rate = float(shown.shows_rest.mean())
    for share in (0.1, 0.5, 0.9):
        own = pair_of(run, task, score, rate).at_threshold(shown.weights(popular_mix(share, shown)))
        assert own.deferral_rate == pytest.approx(1 - share)


@given(macs=st.floats(0, 20))
def test_the_rate_at_a_cost_costs_that_or_the_nearest(macs):
    assert COST.macs(rate_at(COST, macs)) == pytest.approx(np.clip(macs, 2.0, 12.0))


def test_a_teacher_that_costs_nothing_is_asked_about_everything_once_there_is_room():
    free = CostModel(2.0, 0.0)
    assert (rate_at(free, 1.9), rate_at(free, 2.0)) == (0.0, 1.0)


@both
def test_a_run_beside_itself_is_level_at_equal_cost(made, name):
    run, task, score, shown = made(name, 6)
    own, traffic = pair_of(run, task, score), shown.weights(random_mix(1))
    (found,) = at_equal_cost(own, [own], traffic)
    assert found.margin == pytest.approx(0, abs=1e-9)
    assert found.other_macs == pytest.approx(found.macs)
    (sure,) = margins_at_equal_cost(own, [own], [traffic], shown, replicates=5, seed=0)
    assert (sure[0].low, sure[0].high) == pytest.approx((0, 0), abs=1e-9)


@both
def test_another_pair_is_read_between_its_neighbouring_points(made, name):
    run, task, score, shown = made(name, 7)
    traffic = shown.weights(random_mix(2))
    first, other = pair_of(run, task, score), pair_of(run, task, score, cost=CostModel(3.0, 8.0))
    (found,) = at_equal_cost(first, [other], traffic)
    curve = sweep(run, task, score, weights=traffic)
    expected = np.interp(found.macs, 3.0 + 8.0 * curve.deferral_rate, curve.quality)
    assert found.other_quality == pytest.approx(expected, abs=1e-9)
    assert found.quality == pytest.approx(first.at_threshold(traffic).joint)
    dear = pair_of(run, task, score, cost=CostModel(90.0, 8.0))
    (unreached,) = at_equal_cost(first, [dear], traffic)
    assert (unreached.macs, unreached.other_macs) == (found.macs, 90.0)
    assert unreached.other_quality == pytest.approx(curve.quality[0])
    assert at_equal_cost(first, [pair_of(run, task, score, cost=CostModel())], traffic) == []


# --- The bootstrap ---


def test_resamples_of_images_of_one_object_keep_every_class(made):
    *_, shown = made("classification", 8)
    drawn = list(islice(resamples(60, 0, shown.groups), 30))
    for copies in drawn:
        assert (copies @ shown.counts).tolist() == shown.counts.sum(axis=0).tolist()
    assert np.array(drawn).mean(axis=0) == pytest.approx(1, abs=0.8)
    assert len({copies.tobytes() for copies in drawn}) == 30
    first, second = (
        [copies.tolist() for copies in islice(resamples(60, 1, shown.groups), 3)] for _ in range(2)
    )
    assert first == second
    assert drawn[0].tolist() != next(resamples(60, 1, shown.groups)).tolist()


def test_resamples_of_images_of_several_objects_are_of_all_images(made):
    *_, shown = made("detection", 8)
    drawn = list(islice(resamples(60, 0, shown.groups), 20))
    assert {int(copies.sum()) for copies in drawn} == {60}
    assert len({tuple(copies @ shown.counts) for copies in drawn}) > 1


def test_an_interval_is_as_wide_as_independent_samples_differ(made):
    """Accuracy of weighted images: the standard error of the margin by hand, within each class."""
    run, task, score, shown = made("classification", 9, images=800)
    other, *_ = made("classification", 10, images=800)
    other = replace(other, image_ids=run.image_ids, student=run.teacher, teacher=run.teacher)
    traffic = shown.weights(popular_mix(0.8, shown))
    nothing, cost = 0.0, CostModel(2.0, 0.0)
    first, second = pair_of(run, task, score, nothing, cost), pair_of(other, task, score, nothing, cost)
    (sure,) = margins_at_equal_cost(first, [second], [traffic], shown, replicates=400, seed=0)
    gain = run.student["correct"].astype(float) - run.teacher["correct"]
    labels, shares = run.student["label"], traffic.classes
    spread = sum(shares[c] ** 2 * gain[labels == c].var() / (labels == c).sum() for c in range(CLASSES))
    assert sure[0].margin == pytest.approx(traffic.images @ gain / len(gain))
    assert (sure[0].high - sure[0].low) / (2 * 1.96) == pytest.approx(spread**0.5, rel=0.15)
    assert sure[0].low < sure[0].margin < sure[0].high


@pytest.mark.parametrize(
    ("margins", "start"),
    [([1, 2, 3], 0.2), ([-1, -2, -1], None), ([-1, 3, 4], 0.3), ([1, -1, 1], 0.5), ([1, 2, 0], None)],
)
def test_the_share_from_which_on_a_pair_is_ahead(margins, start):
    shares = [0.2, 0.6, 1.0] if start != 0.5 else [0.0, 0.4, 0.6]
    assert ahead_from(shares, margins) == pytest.approx(start)


def test_selected_images_have_the_composition_of_those_images(made):
    run, task, _, shown = made("detection", 11)
    part = np.arange(10, 30)
    chosen = task.composition(select(run, task, part).student)
    np.testing.assert_array_equal(chosen, shown.counts[part])
    np.testing.assert_array_equal(task.composition(concatenate([run.student])), shown.counts)
