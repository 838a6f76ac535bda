"""Chains of tiers against brute force: every combination of thresholds decided, mixed and judged anew."""

import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.core.cost import CostModel
from ebjr_det.core.router import operating_points
from ebjr_det.core.tiers import Chain, TieredRun
from ebjr_det.core.tradeoff import sweep
from ebjr_det.evaluation.tiers.front import Sweep, front, on_front
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.metric import AveragePrecision

NAMES = ("small", "middle", "large")
COSTS = {"macs": (1.0, 3.0, 10.0), "latency_ms": (5.0, 6.0, 7.0)}
CHAINS = [Chain(NAMES, ("s", "s")), Chain(NAMES, ("s", "s"), "leap")]


def right_or_wrong(images, seed=0, ties=False):
    """Three classifiers, each better than the one before, with scores that may tie."""
    generator = np.random.default_rng(seed)
    records, scores = {}, {}
    for name, share in zip(NAMES, (0.5, 0.7, 0.9), strict=True):
        right = generator.random(images) < share
        records[name] = {"correct": right, "top5_correct": right}
        values = generator.normal(size=images) - right
        scores[name] = {"s": values.round() if ties else values}
    ids = tuple(map(str, range(images)))
    return TieredRun("classification", ids, records, {name: scores[name] for name in NAMES[:2]})


def boxes(images, made_up_scenes, seed=0):
    """Three detectors; the one in the middle answers every other picture as the large one."""
    small, large, targets = made_up_scenes(images, 3, seed)
    middle = [(large if index % 2 else small)[index] for index in range(images)]
    generator, task = np.random.default_rng(seed), AveragePrecision()
    found = zip(NAMES, (small, middle, large), strict=True)
    records = {name: task.match(answers, targets) for name, answers in found}
    scores = {name: {"s": generator.random(images).round(1 + seed % 2)} for name in NAMES[:2]}
    return TieredRun("detection", tuple(map(str, range(images))), records, scores)


def every_point(run, task, chain):
    """Costs and quality of every combination of thresholds, each mixed by a loop and judged from scratch."""
    values = chain.values(run)
    records = [run.records[name] for name in chain.tiers]
    rows = []
    for thresholds in product(*(operating_points(score)[0] for score in values)):
        answers = []
        for image in range(len(run)):
            reached = next(
                (t for t, limit in enumerate(thresholds) if values[t, image] <= limit), len(values)
            )
            answers.append(reached)
        parts = [task.take(records[tier], np.array([image])) for image, tier in enumerate(answers)]
        mixed = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        costs = []
        for alone in COSTS.values():
            paid = [alone[0] + sum(alone[1 : tier + 1]) for tier in range(3)]
            if chain.topology == "leap":
                paid = [alone[0], alone[0] + alone[1], alone[0] + alone[2]]
            costs.append(np.mean([paid[tier] for tier in answers]))
        rows.append([*costs, task.metrics(mixed)[task.quality_name]])
    return np.array(rows)


def check_front(run, task, chain):
    points, every = front(run, task, chain, COSTS), every_point(run, task, chain)
    for kind, alone in enumerate(COSTS.values()):
        cost = points.cost(alone)
        best = on_front(cost, points.quality)
        expected = on_front(every[:, kind].round(9), every[:, -1].round(12))
        assert np.allclose(cost[best], every[expected, kind], atol=1e-9)
        assert np.allclose(points.quality[best], every[expected, -1], atol=1e-12)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.topology)
@given(images=st.integers(1, 14), seed=st.integers(0, 1000), ties=st.booleans())
def test_the_front_is_that_of_all_thresholds(chain, images, seed, ties):
    check_front(right_or_wrong(images, seed, ties), Accuracy(), chain)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.topology)
def test_the_front_is_that_of_all_thresholds_of_60_images(chain):
    check_front(right_or_wrong(60), Accuracy(), chain)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.topology)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_front_of_detectors_is_that_of_all_thresholds(chain, seed, scenes):
    check_front(boxes(12, scenes, seed), AveragePrecision(), chain)


@pytest.mark.parametrize("task", ["classification", "detection"])
@pytest.mark.parametrize("topology", ["cascade", "leap"])
def test_two_tiers_are_the_pairs_curve_to_the_bit(task, topology, scenes):
    run = right_or_wrong(50, ties=True) if task == "classification" else boxes(30, scenes)
    judge = Accuracy() if task == "classification" else AveragePrecision()
    pair, chain = run.pair("small", "large"), Chain(("small", "large"), ("s",), topology)
    cost = CostModel(1.0, 10.0, 5.0, 7.0)
    curve, line = sweep(pair, judge, "s", cost), Sweep(run, judge, chain).line(())
    assert line.quality.tobytes() == curve.quality.tobytes()
    assert line.thresholds[:, 0].tobytes() == curve.threshold.tobytes()
    assert line.passed[:, 0].tobytes() == curve.deferral_rate.tobytes()
    assert line.cost([1.0, 10.0]).tobytes() == curve.costs("macs").tobytes()


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.topology)
def test_a_refined_grid_has_exact_points_that_come_near_the_front(chain, monkeypatch):
    run, task = right_or_wrong(400), Accuracy()
    exact = front(run, task, chain, COSTS)
    monkeypatch.setattr(sys.modules[front.__module__], "MOST_POINTS", {True: 0})
    coarse, judge = front(run, task, chain, COSTS), Sweep(run, task, chain)
    for index in range(len(coarse)):
        point = judge.judge(coarse.thresholds[index].tolist())
        assert point.passed.tolist() == [coarse.passed[index].tolist()]
        assert point.quality.tolist() == [coarse.quality[index]]
    for alone in COSTS.values():
        cost = exact.cost(alone)
        at = on_front(cost, exact.quality)
        reached = np.array([coarse.quality[coarse.cost(alone) <= limit].max() for limit in cost[at] + 1e-9])
        assert (reached <= exact.quality[at] + 1e-12).all()
        assert (exact.quality[at] - reached).max() < 0.015


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_holds_what_nothing_cheaper_matches(points):
    cost, quality = np.array(points, dtype=float).T
    expected = {
        (c, q) for c, q in points if not any((d <= c and r >= q) and (d, r) != (c, q) for d, r in points)
    }
    best = on_front(cost, quality)
    assert sorted(zip(cost[best], quality[best], strict=True)) == sorted(expected)
