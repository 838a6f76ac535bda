"""The stream for any pictures and plan: the plain pair's answers, bit for bit, never a picture too many."""

import threading
import weakref
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.types import Logits, Output
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan

SCORES = st.lists(st.integers(0, 9).map(float), max_size=60)
PLANS = st.builds(
    Plan,
    batch_size=st.integers(1, 6),
    teacher_batch=st.integers(1, 6),
    workers=st.sampled_from([0, 2]),
    patience_ms=st.sampled_from([None, 0.0, 0.5, 1e9]),
    overlap=st.booleans(),
    regroup=st.sampled_from([None, False, True]),
)


class Picture:
    """A picture of which can be told whether anybody still holds it."""

    def __init__(self, item, score):
        self.item, self.score = item, score


class Pictures:
    """Loads pictures, and counts those alive whenever a new one is there."""

    def __init__(self, scores, broken=frozenset()):
        self.scores, self.broken = scores, broken
        self.loaded, self.alive, self.most, self.lock = Counter(), [], 0, threading.Lock()

    def __call__(self, item):
        self.loaded[item] += 1
        if item in self.broken:
            raise InvalidInput(f"Expected a readable picture, got `{item}`.")
        picture = Picture(item, self.scores[item])
        with self.lock:
            self.alive = [one for one in self.alive if one() is not None] + [weakref.ref(picture)]
            self.most = max(self.most, len(self.alive))
        return picture


class Network:
    """A model whose answers tell the batch, unless it is invariant, as last bits would."""

    def __init__(self, name, invariant):
        self.name, self.invariant = name, invariant
        self.lots, self.preprocessed = [], Counter()

    def preprocess(self, picture):
        self.preprocessed[picture.item] += 1
        return picture.item, picture.score

    def __call__(self, inputs):
        lot = tuple(item for item, _ in inputs)
        self.lots.append(lot)
        told = () if self.invariant else lot
        values = np.array([[score] for _, score in inputs])
        return Output([(self.name, item, told) for item in lot], Logits.one_row(values))


def pair(threshold, invariant):
    student, teacher = Network("student", False), Network("teacher", invariant)
    return JointModel(student, teacher, lambda output: output.logits.values[:, 0, 0] / 3, threshold)


def plain(joint, scores, broken, size):
    """What the pair says when it is called with one batch after the other."""
    said = []
    for at in range(0, len(scores), size):
        batch = [
            Picture(item, scores[item])
            for item in range(at, min(at + size, len(scores)))
            if item not in broken
        ]
        if batch:
            output = joint(batch)
            decision = output.decision
            rows = zip(batch, output.predictions, decision.scores, decision.defer, strict=True)
            said += [(picture.item, answer, score, defer) for picture, answer, score, defer in rows]
    return said


@given(
    SCORES,
    PLANS,
    st.sampled_from([-np.inf, 0.0, 1.0, 2.0, 2.5, 3.0, np.inf]),
    st.booleans(),
    st.sets(st.integers(0, 59), max_size=12),
)
def test_the_stream_says_what_the_plain_pair_says(scores, plan, threshold, invariant, broken):
    expected_of, joint = pair(threshold, invariant), pair(threshold, invariant)
    expected = plain(expected_of, scores, broken, plan.batch_size)
    pictures, faults, said = Pictures(scores, broken), [], []
    for answer in answers(
        joint, iter(range(len(scores))), pictures, plan, lambda item, error: faults.append(item)
    ):
        assert answer.image.item == answer.item
        said.append((answer.item, answer.prediction, answer.score, answer.deferred))
        del answer
    moved = plan.regroup and not invariant
    if moved:  # the last bits may move, here the batch that the teacher tells
        said, expected = ([(i, a[:2], s, d) for i, a, s, d in rows] for rows in (said, expected))
    assert said == expected
    assert faults == sorted(broken & set(range(len(scores))))

    kept = {item for item, *_ in said}
    late = {item for item, _, _, defer in said if defer}
    assert pictures.loaded == Counter(range(len(scores)))
    assert joint.student.preprocessed == Counter(kept)
    assert joint.teacher.preprocessed == Counter(late)
    assert joint.student.lots == expected_of.student.lots
    assert [item for lot in joint.teacher.lots for item in lot] == sorted(late)
    if plan.regroup or (plan.regroup is None and invariant):
        assert all(len(lot) <= plan.teacher_batch for lot in joint.teacher.lots)
    else:
        assert joint.teacher.lots == expected_of.teacher.lots
    assert pictures.most <= plan.window


@given(PLANS, st.integers(0, 40))
def test_no_more_pictures_are_held_however_long_a_deferred_one_waits(plan, first):
    """One deferred picture in a long stream, for which a larger batch of the teacher never fills."""
    scores = [0.0] * 200
    scores[first] = 9.0
    pictures = Pictures(scores)
    for answer in answers(pair(1.0, True), range(200), pictures, plan):
        del answer
    assert pictures.most <= plan.window
    waited = plan.regroup is not False and plan.teacher_batch > 1 and plan.patience_ms in (None, 1e9)
    if waited and not plan.overlap and not plan.workers:
        assert pictures.most > plan.span  # it did wait
