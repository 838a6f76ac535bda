"""Many mixtures judged side by side, against a plain twin that judges one after another, to the bit."""

import numpy as np
import pytest

from ebjr_det.tasks.detection.coco import lanes
from ebjr_det.tasks.detection.coco.accumulate import Rows
from ebjr_det.tasks.detection.metric import AveragePrecision

IMAGES, CLASSES = 75, 3  # more mixtures than two walks hold
EPSILON = np.spacing(1)


@pytest.fixture(scope="module", params=[0, 1])
def rows(scenes, request):
    student, teacher, targets = scenes(IMAGES, CLASSES, request.param)
    for answer in student[::2] + teacher[::3]:  # ties between models and images
        answer.scores[:] = answer.scores.round(1)
    task = AveragePrecision()
    return Rows.of(task.match(student, targets), task.match(teacher, targets))


def one_by_one(rows, order, deferred, copies):
    """[classes, mixtures] AP by pycocotools' rules, each mixture from all of its rows."""
    found = np.full((CLASSES, len(deferred)), -1.0)
    for mixture, count in enumerate(deferred):
        by_teacher = np.isin(np.arange(IMAGES), order[:count])
        for k in range(CLASSES):
            objects = (copies * rows.truths[:, k, 0]).sum()
            if objects:
                mine = slice(rows.starts[k], rows.starts[k + 1])
                present = rows.teacher[mine] == by_teacher[rows.image[mine]]
                found[k, mixture] = average(rows, mine, present * copies[rows.image[mine]], objects)
    return found


def average(rows, mine, weight, objects):
    total = 0.0
    for t in range(lanes.IOUS):
        matched, ignored = (
            (bits[mine] >> np.uint64(t)) & np.uint64(1) for bits in (rows.matched, rows.ignored)
        )
        hits, misses = (np.cumsum(weight * counted * (1 - ignored)) for counted in (matched, 1 - matched))
        best = np.maximum.accumulate((hits / (hits + misses + EPSILON))[::-1])[::-1]
        reached, precision = np.searchsorted(hits / objects, lanes.RECALLS), 0.0
        for place in reached[::-1]:
            precision += best[place] if place < len(best) else 0.0
        total += precision / len(lanes.RECALLS)
    return total / lanes.IOUS


@pytest.mark.parametrize("points", [1, 21, IMAGES + 1])
def test_lanes_are_judged_as_one_by_one(rows, points):
    generator = np.random.default_rng(points)
    order = generator.permutation(IMAGES)
    deferred = np.unique(np.linspace(0, IMAGES, points).round().astype(np.intp))
    for copies in (np.ones(IMAGES, dtype=np.intp), generator.poisson(1.0, IMAGES)):
        plain = one_by_one(rows, order, deferred, copies)
        for full in (False, True):
            numbers = rows.stats(order, deferred, copies, full=full)[..., 0]
            np.testing.assert_array_equal(numbers, plain)
        np.testing.assert_array_equal(rows.stats(order, deferred, copies * 1.0, full=False)[..., 0], plain)
    assert len(np.unique(plain)) > points / 2
