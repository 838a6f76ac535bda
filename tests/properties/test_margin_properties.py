"""The margin over the hull: the same numbers as by hand, on every resample, and what always holds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.tradeoff import sweep
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.hull import margins
from ebjr_det.evaluation.single_models import SingleModel
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.coco.annotations import Truth
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision, Target

COST = CostModel(1.0, 8.0, 2.0, 10.0)
SEED, REPLICATES = 3, 40


# --- By hand ---


def best_mixture(models, cost):
    """The best of all models not dearer than `cost` and of all mixtures of two that cost it."""
    best = max((quality for own, quality in models if own <= cost), default=-1)
    for low, first in models:
        for high, second in models:
            if low < cost < high:
                best = max(best, first + (cost - low) / (high - low) * (second - first))
    return best


def interval_by_hand(quality, scores, defer_rate, cost, models):
    """The margin less the quantiles of its errors on the seeded resamples, from lists of images with repeats.

    Args:
        quality: a function: images with repeats, which of them are the teacher's -> quality of a mixture.
        models: cost and a function: images with repeats -> quality, of each single model.
    """
    generator, images = np.random.default_rng(SEED), len(scores)

    def margin(drawn):
        where, height = [], []
        for threshold in [np.inf, *np.sort(scores)[::-1]]:
            defer = scores[drawn] >= threshold
            where.append(defer.mean())
            height.append(quality(drawn, defer))
        pair = np.interp(defer_rate, where, height)
        return pair - best_mixture([(own, judge(drawn)) for own, judge in models], cost)

    value = margin(np.arange(images))
    errors = [margin(generator.integers(images, size=images)) - value for _ in range(REPLICATES)]
    return value - np.percentile(errors, [97.5, 2.5])


@pytest.mark.parametrize("kind", ["macs", "latency_ms"])
def test_accuracy_has_the_interval_of_resamples_judged_by_hand(kind):
    generator = np.random.default_rng(0)
    student, middle, teacher = (generator.random(50) < share for share in (0.5, 0.7, 0.8))
    scores = generator.normal(size=50) - student
    records = [{"correct": own, "top5_correct": own} for own in (student, teacher, middle)]
    ids, measured = tuple(map(str, range(50))), {"middle": records[2]}
    run = PairedRun("classification", ids, {"s": scores}, *records[:2], measured)
    others = [
        SingleModel("middle", middle.mean(), 4.0, 6.0, published=False),
        SingleModel("elsewhere", 0.62, 2.5, 3.0),
    ]
    curve = sweep(run, Accuracy(), "s", COST)
    points = [curve.at_rate(rate) for rate in (0.3, 0.6)]
    found = margins(run, Accuracy(), curve, points, others, replicates=REPLICATES, seed=SEED)[kind]
    first, second = COST.alone(kind)
    models = [
        (first, lambda drawn: student[drawn].mean()),
        (second, lambda drawn: teacher[drawn].mean()),
        (getattr(others[0], kind), lambda drawn: middle[drawn].mean()),
        (getattr(others[1], kind), lambda drawn: 0.62),
    ]
    for point, margin in zip(points, found, strict=True):
        assert margin.cost == first + point.deferral_rate * second
        every = np.arange(50)
        hull = best_mixture([(cost, judge(every)) for cost, judge in models], margin.cost)
        assert margin.value == pytest.approx(point.quality - hull, abs=1e-12)
        expected = interval_by_hand(
            lambda drawn, defer: np.where(defer, teacher[drawn], student[drawn]).mean(),
            scores,
            point.deferral_rate,
            margin.cost,
            models,
        )
        np.testing.assert_allclose(margin.interval, expected, rtol=0, atol=1e-12)


def average_precision(scores, hits):
    """COCO's AP where each picture shows one object and holds one box, which is right or far away."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    precision = right / np.arange(1, len(hits) + 1)
    recall, envelope = right / len(hits), np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101))
    return np.where(at < len(hits), envelope[np.minimum(at, len(hits) - 1)], 0.0).mean()


def test_average_precision_has_the_interval_of_resamples_judged_by_hand():
    generator, task = np.random.default_rng(1), AveragePrecision()
    right = [generator.random(20) < share for share in (0.4, 0.9, 0.7)]
    confident = [generator.random(20) for _ in right]
    box, away = np.array([[10.0, 10, 40, 40]]), np.array([[60.0, 60, 90, 90]])
    truth = Truth(np.array([[10.0, 10, 30, 30]]), np.zeros(1, np.intp), np.array([900.0]), np.zeros(1, bool))
    records = [
        task.match(
            [
                Detections(box if hit else away, np.array([score]), np.zeros(1, np.intp))
                for hit, score in zip(hits, scores, strict=True)
            ],
            [Target(truth, 1)] * 20,
        )
        for hits, scores in zip(right, confident, strict=True)
    ]
    values = generator.normal(size=20)
    ids, measured = tuple(map(str, range(20))), {"middle": records[2]}
    run = PairedRun("detection", ids, {"s": values}, *records[:2], measured)
    others = [SingleModel("middle", task.metrics(records[2])["AP"], 4.0, published=False)]
    curve = sweep(run, task, "s", CostModel(1.0, 8.0))
    point = curve.at_rate(0.35)
    found = margins(run, task, curve, [point], others, replicates=REPLICATES, seed=SEED)
    assert list(found) == ["macs"]
    (margin,) = found["macs"]

    def alone(model):
        return lambda drawn: average_precision(confident[model][drawn], right[model][drawn])

    def mixed(drawn, defer):
        sides = [np.where(defer, own[1][drawn], own[0][drawn]) for own in (confident, right)]
        return average_precision(*sides)

    models = [(1.0, alone(0)), (8.0, alone(1)), (4.0, alone(2))]
    expected = interval_by_hand(mixed, values, 0.35, margin.cost, models)
    np.testing.assert_allclose(margin.interval, expected, rtol=0, atol=1e-9)
    hull = best_mixture([(cost, judge(np.arange(20))) for cost, judge in models], margin.cost)
    assert margin.value == pytest.approx(point.quality - hull, abs=1e-9)


# --- What must always hold ---


@given(seed=st.integers(0, 1000), rate=st.floats(0, 1))
def test_the_interval_holds_the_margin_of_all_images(pair, seed, rate):
    run, task = pair(images=200, seed=seed), Accuracy()
    curve = sweep(run, task, "free_energy", COST)
    for found in margins(run, task, curve, [curve.at_rate(rate)], replicates=200, seed=seed).values():
        assert found[0].low - 1e-12 <= found[0].value <= found[0].high + 1e-12


@given(seed=st.integers(0, 1000))
def test_the_student_alone_is_on_the_hull_on_every_resample(pair, seed):
    run, task = pair(seed=seed), Accuracy()
    curve = sweep(run, task, "margin", COST)
    (found,) = margins(run, task, curve, [curve.point(0)], replicates=20)["macs"]
    assert (found.value, *found.interval) == (0.0, 0.0, 0.0)


@given(
    seed=st.integers(0, 1000),
    quality=st.floats(0, 1),
    macs=st.floats(0.1, 20),
    rate=st.floats(0, 1),
    measured=st.booleans(),
)
def test_another_model_never_raises_the_margin(pair, seed, quality, macs, rate, measured):
    run, task = pair(seed=seed), Accuracy()
    curve = sweep(run, task, "margin", COST)
    run = replace(run, others={"other": pair(seed=seed + 1).student})
    quality = task.metrics(run.others["other"])["accuracy"] if measured else quality
    other = SingleModel("other", quality, macs, published=not measured)
    (without,), (among,) = (
        margins(run, task, curve, [curve.at_rate(rate)], others, replicates=20)["macs"]
        for others in ([], [other])
    )
    assert among.value <= without.value + 1e-12


def test_a_second_teacher_changes_nothing_and_its_quality_moves_with_the_images(pair):
    run, task = pair(images=100), Accuracy()
    run = replace(run, others={"twin": run.teacher})
    curve = sweep(run, task, "margin", COST)
    twin = SingleModel("twin", curve.teacher_quality, 8.0, 10.0, published=False)
    fixed = SingleModel("fixed", curve.teacher_quality, 8.0, 10.0)
    alone, among, beside = (
        margins(run, task, curve, [curve.at_rate(0.5)], others, replicates=50)
        for others in ([], [twin], [fixed])
    )
    assert among == alone
    assert beside["macs"][0].value == alone["macs"][0].value
    assert beside["macs"][0].interval != alone["macs"][0].interval


def test_a_cost_that_one_model_does_not_know_is_left_out(pair):
    run, task = pair(), Accuracy()
    curve, no_cost = sweep(run, task, "margin", COST), sweep(run, task, "margin")
    points = [curve.at_rate(0.5)]
    slow, unknown = SingleModel("slow", 0.5, 2.0, 3.0), SingleModel("unknown", 0.5, 2.0)
    assert set(margins(run, task, curve, points, [slow], replicates=2)) == {"macs", "latency_ms"}
    assert set(margins(run, task, curve, points, [slow, unknown], replicates=2)) == {"macs"}
    assert margins(run, task, no_cost, [no_cost.at_rate(0.5)], [slow], replicates=2) == {}
    with pytest.raises(ConfigError, match="replicates"):
        margins(run, task, curve, points, replicates=1)
