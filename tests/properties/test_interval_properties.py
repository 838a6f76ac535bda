"""Intervals: what they promise on populations that are known, and what a picked score may claim."""

import numpy as np

from ebjr_det.core.cost import CostModel
from ebjr_det.core.tradeoff import select, sweep, sweep_all
from ebjr_det.core.types import PairedRun, concatenate
from ebjr_det.evaluation.bootstrap import bootstrap, interval, simultaneous_interval
from ebjr_det.evaluation.hull import margins
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.metric import AveragePrecision

TASK, ENERGY = Accuracy(), "free_energy"


def test_an_interval_is_the_estimate_less_the_quantiles_of_the_errors_by_hand():
    every = interval(np.array([1.0, 4.0]), np.array([[1.0, 4.0], [1.5, 3.0], [3.0, 3.5]]), 0.5)
    assert every[:, 0].tolist() == [1 - (2.25 - 1), 1 - (1.25 - 1)]
    assert every[:, 1].tolist() == [4 - (3.75 - 4), 4 - (3.25 - 4)]


def test_intervals_of_average_precision_hold_that_of_endless_pictures(detectors):
    """A percentile interval holds it in 1 of 4 samples: AP of a resample lies above that of its sample."""
    task, everything = AveragePrecision(), detectors(images=1200, seed=5)
    truth = sweep(everything, task, "random").quality[[0, -1]]
    parts = np.random.default_rng(0).permutation(1200).reshape(20, 60)
    ends = []
    for part in parts:
        run = select(everything, task, np.sort(part))
        found = bootstrap(run, task, ["random"], reference="random", replicates=40)
        ends.append([found.low["random"][[0, -1]], found.high["random"][[0, -1]]])
    low, high = np.swapaxes(ends, 0, 1)
    held = ((low <= truth) & (truth <= high)).mean(axis=0)
    assert held.min() >= 0.7, held


def test_resamples_without_any_object_are_drawn_anew(detectors):
    """AP of nothing is -1, no quality; two pictures of ten show objects: one resample in nine has none."""
    task, run = AveragePrecision(), detectors(images=40)
    shows = run.student["truths"][:, :, 0].sum(axis=1) > 0
    empty, full = np.flatnonzero(~shows), np.flatnonzero(shows)
    assert len(empty) == 1
    both = [
        concatenate([*[task.take(side, empty)] * 8, task.take(side, full[:2])])
        for side in (run.student, run.teacher)
    ]
    few = PairedRun(run.task, tuple("abcdefghij"), {"s": np.arange(10.0)}, *both)
    found = bootstrap(few, task, ["s"], reference="s", replicates=100)
    assert found.low["s"].min() >= 0
    assert found.high["s"].max() <= 1
    curve = sweep(few, task, "s", CostModel(1.0, 8.0))
    (margin,) = margins(few, task, curve, [curve.at_rate(0.5)], replicates=100)["macs"]
    assert -1 < margin.low <= margin.high < 1


def many_coins(images, seed, count=20):
    """A pair of which `count` scores know nothing, and one more that is the reference."""
    generator = np.random.default_rng(seed)
    student, teacher = generator.random(images) < 0.6, generator.random(images) < 0.85
    scores = {f"coin {index}": generator.random(images) for index in range(count)}
    records = [{"correct": own, "top5_correct": own} for own in (student, teacher)]
    ids = tuple(map(str, range(images)))
    return PairedRun("classification", ids, scores | {ENERGY: generator.random(images)}, *records)


def test_the_best_of_twenty_coins_is_no_better_than_another_coin():
    """Picked after looking, the best of twenty is ahead by chance; its interval allows for that."""
    alone = together = 0
    for seed in range(40):
        run = many_coins(60, seed)
        names = [name for name in run.scores if name != ENERGY]
        areas = {name: curve.area() for name, curve in sweep_all(run, TASK, names).items()}
        best = max(areas, key=lambda name: areas[name])
        found = bootstrap(run, TASK, names, reference=ENERGY, replicates=100, seed=seed)
        alone += found.area_difference[best][0] > 0
        together += found.area_difference_picked[best][0] > 0
    assert alone >= 5  # each of these would have been called more than chance
    assert together <= 1


def test_one_number_picked_among_one_has_its_own_interval():
    drawn = np.random.default_rng(0).gamma(2.0, size=(500, 1))
    one = simultaneous_interval(np.array([2.0]), drawn, 0.9)
    np.testing.assert_allclose(one, interval(np.array([2.0]), drawn, 0.9))


def test_numbers_that_never_move_leave_the_others_as_they_are():
    drawn = np.random.default_rng(1).normal(size=(500, 1))
    fixed = np.concatenate([drawn, np.full((500, 1), 3.0)], axis=1)
    ends = simultaneous_interval(np.array([0.0, 3.0]), fixed, 0.9)
    np.testing.assert_allclose(ends[:, :1], interval(np.array([0.0]), drawn, 0.9))
    assert ends[:, 1].tolist() == [3.0, 3.0]
    assert simultaneous_interval(np.array([3.0]), fixed[:, 1:], 0.9).tolist() == [[3.0], [3.0]]


def test_what_was_picked_among_many_has_a_wider_interval_than_alone(pair):
    run = pair(images=80, seed=6)
    names = [name for name in run.scores if name != ENERGY]
    found = bootstrap(run, TASK, names, reference=ENERGY, replicates=300)
    for name in names:
        picked, alone = found.area_difference_picked[name], found.area_difference[name]
        assert picked[1] - picked[0] >= alone[1] - alone[0] - 1e-12
    assert found.area_difference_picked[ENERGY] == (0.0, 0.0)
