"""Placements of a router: what is chosen against brute force, and the rule of the live pair."""

import numpy as np
import pytest

from ebjr_det.core.joint import Front, JointModel
from ebjr_det.core.ranking import correlation
from ebjr_det.core.tradeoff import mixture, select, sweep
from ebjr_det.core.types import Logits, Output
from ebjr_det.evaluation.placement.choice import FrontCosts, Placer, placed_run
from ebjr_det.evaluation.placement.worth import ceiling_of
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.metric import AveragePrecision

COSTS = FrontCosts(0.5, 2.0, 9.0)
SCORE = "max_softmax"


def placed_by_hand(run, front, placed):
    """Which images go to the teacher by the live rule, and what that is worth and costs."""
    ahead = np.zeros(len(run), bool) if placed.front_threshold is None else front > placed.front_threshold
    kept = ~ahead
    behind = kept & (run.scores[SCORE] > (np.inf if placed.threshold is None else placed.threshold))
    right = np.where(ahead | behind, run.teacher["correct"], run.student["correct"])
    cost = COSTS.front * (placed.front_threshold is not None)
    cost += kept.mean() * COSTS.student + (ahead | behind).mean() * COSTS.teacher
    return ahead, behind, right.mean(), cost


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
def test_no_threshold_is_better_within_a_budget(pair, seed, ties):
    run, task = pair(images=24, seed=seed, ties=ties), Accuracy()
    front = np.random.default_rng(seed).normal(size=24).round(1 if ties else 9)
    tiered, teacher = placed_run(run, SCORE, front), run.teacher["correct"].mean()
    placer = Placer(tiered, tiered, task, {"macs": COSTS}, threads=1)
    limits = [np.unique(np.concatenate([values, [-np.inf, np.inf]])) for values in (front, run.scores[SCORE])]
    for budget in (2.0, 4.0, 6.5, 9.0, np.inf):
        best = placer.within(COSTS, budget)
        for placement, (heads, tails) in {
            "behind": ([None], limits[1]),
            "front": (limits[0], [np.inf]),
            "both": limits,
        }.items():
            highest = -1.0
            for head in heads:
                sent = front > (np.inf if head is None else head)
                for tail in tails:
                    deferred = sent | (run.scores[SCORE] > tail)
                    cost = (head is not None) * COSTS.front
                    cost += (~sent).mean() * COSTS.student + deferred.mean() * COSTS.teacher
                    if cost <= budget + 1e-9:
                        right = np.where(deferred, run.teacher["correct"], run.student["correct"]).mean()
                        if head is None and right < teacher:
                            coin = min(1.0, (budget - cost) / max(COSTS.teacher - cost, 1e-12))
                            right = (1 - coin) * right + coin * teacher
                        highest = max(highest, right)
            assert (placement in best) == (highest >= 0)
            if placement in best:
                placed = best[placement]
                ahead, behind, quality, cost = placed_by_hand(run, front, placed)
                quality = (1 - placed.coin) * quality + placed.coin * teacher
                cost = (1 - placed.coin) * cost + placed.coin * COSTS.teacher
                assert quality == pytest.approx(highest, abs=1e-12)
                assert [placed.quality, placed.calibrated] == pytest.approx([quality] * 2, abs=1e-12)
                assert placed.cost(COSTS) == pytest.approx(cost, abs=1e-9)
                shares = [ahead.mean() + placed.coin, (1 - placed.coin) * behind.mean()]
                assert [placed.sent, placed.deferred] == pytest.approx(shares)


class Counted:
    """A model whose answers are its inputs, and which keeps what it has seen."""

    def __init__(self, name, columns):
        self.name, self.columns, self.seen = name, columns, []

    def preprocess(self, image):
        return np.asarray(image, np.float64)

    def __call__(self, inputs):
        self.seen += [tuple(row) for row in inputs]
        return Output([self.name] * len(inputs), Logits.one_row(np.stack(inputs)[:, self.columns]))


@pytest.mark.parametrize("threshold", [-np.inf, 0.3, np.inf])
@pytest.mark.parametrize("head", [-np.inf, 0.0, np.inf])
def test_the_student_sees_what_the_front_keeps_alone(threshold, head):
    images = np.random.default_rng(0).normal(size=(20, 3))
    student, teacher, front = (
        Counted(name, columns) for name, columns in (("s", [1, 2]), ("t", [1, 2]), ("f", [0]))
    )
    joint = JointModel(
        student, teacher, lambda output: output.logits.values[:, 0, 1], threshold, Front(front, head)
    )
    answer = joint(list(images))
    sent = images[:, 0] > head
    deferred = sent | (images[:, 2] > threshold)
    assert answer.decision.in_front.tolist() == sent.tolist()
    assert answer.decision.defer.tolist() == deferred.tolist()
    assert list(answer.predictions) == ["t" if at_teacher else "s" for at_teacher in deferred]
    assert answer.decision.scores.tolist() == np.where(sent, images[:, 0], images[:, 2]).tolist()
    assert student.seen == [tuple(image) for image in images[~sent]]
    assert teacher.seen == [tuple(image) for image in images[deferred]]


def test_a_constant_score_has_no_correlation():
    assert correlation(np.ones(3), np.arange(3.0)) == 0.0


def test_average_precision_of_a_placement_is_that_of_its_mixture(detectors):
    run, task = detectors(images=30), AveragePrecision()
    front = np.random.default_rng(0).normal(size=30)
    score = "energy_curvature" if "energy_curvature" in run.scores else next(iter(run.scores))
    tiered = placed_run(run, score, front)
    chosen, judged = tiered.select(task, np.arange(0, 30, 2)), tiered.select(task, np.arange(1, 30, 2))
    best = Placer(chosen, judged, task, {"macs": COSTS}, threads=1).within(COSTS, 6.0)
    reported = select(run, task, np.arange(1, 30, 2))
    assert set(best) == {"behind", "front", "both"}
    for placed in best.values():
        sent = front[1::2] > (np.inf if placed.front_threshold is None else placed.front_threshold)
        sent |= reported.scores[score] > (np.inf if placed.threshold is None else placed.threshold)
        quality = task.metrics(mixture(reported, task, sent))["AP"]
        quality = (1 - placed.coin) * quality + placed.coin * task.metrics(reported.teacher)["AP"]
        assert placed.quality == pytest.approx(quality, abs=1e-12)
    placer = Placer(chosen, judged, task, {"macs": COSTS}, threads=1)
    for cost in (2.5, 5.0, 8.0):
        assert placer.rival(COSTS, cost).cost(COSTS) == pytest.approx(cost, abs=COSTS.teacher / 15)


def test_the_ceiling_is_what_the_students_score_wins_in_front(pair):
    run, task = pair(images=200, seed=1), Accuracy()
    curve = sweep(run, task, SCORE)
    assert ceiling_of(curve, COSTS._replace(front=0.0)) > ceiling_of(curve, COSTS)
    assert ceiling_of(curve, FrontCosts(5.0, 2.0, 9.0)) <= 0.0
