"""What a picture's move to the teacher changes in each class's AP, against mixtures judged anew."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ebjr_det.core.tradeoff import mixture
from ebjr_det.core.types import PairedRun
from ebjr_det.tasks.detection.coco.accumulate import Rows, extreme_contexts, over_classes, random_contexts
from ebjr_det.tasks.detection.metric import AveragePrecision

TASK = AveragePrecision()
IMAGES, CLASSES = 7, 3
SEEDS = range(3)


@pytest.fixture(scope="module")
def tied(scenes):
    """A function: seed, ties -> detections of both models and targets; with ties scores are rounded."""

    def made(seed, ties=False):
        student, teacher, targets = scenes(IMAGES, CLASSES, seed)
        for found in (*student, *teacher) if ties else ():
            found.scores[:] = found.scores.round(1)
        return student, teacher, targets

    return made


def run_of(student, teacher, targets):
    ids = tuple(map(str, range(len(targets))))
    return PairedRun("detection", ids, {}, TASK.match(student, targets), TASK.match(teacher, targets))


def moved(context, image):
    """The context with an image at the student and at the teacher."""
    both = np.tile(context, (2, 1))
    both[:, image] = False, True
    return both


def brute_force(run, contexts):
    """[classes, images] by judging both mixtures of every image and context."""
    gains = np.zeros((CLASSES, len(run)))
    for image in range(len(run)):
        for context in contexts:
            without, beside = (
                np.maximum(TASK.by_class(mixture(run, TASK, defer))[:, 0], 0)
                for defer in moved(context, image)
            )
            gains[:, image] += (beside - without) / len(contexts)
    return gains


def some_contexts(seed):
    return np.random.default_rng(seed).random((4, IMAGES)) < 0.5


CONTEXTS = {
    "extreme": lambda seed: extreme_contexts(IMAGES),
    "random": lambda seed: random_contexts(IMAGES, seed),
    "any": some_contexts,
    "one": lambda seed: some_contexts(seed)[:1],
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("contexts", CONTEXTS.values(), ids=CONTEXTS)
def test_rewards_are_the_difference_of_two_mixtures_averaged_over_contexts(tied, contexts, seed, ties):
    run, company = run_of(*tied(seed, ties)), contexts(seed)
    got = Rows.of(run.student, run.teacher).rewards(company)
    assert got.shape == (CLASSES, IMAGES)
    assert (got != 0).any()
    np.testing.assert_allclose(got, brute_force(run, company), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reward_of_an_image_is_the_mean_over_the_classes(tied, seed):
    run = run_of(*tied(seed))
    rows = Rows.of(run.student, run.teacher)
    assert (run.student["truths"][:, :, 0].sum(axis=0) > 0).all()
    expected = rows.rewards(extreme_contexts(IMAGES)).mean(axis=0)
    np.testing.assert_allclose(TASK.mixtures(run.student, run.teacher).reward(), expected, atol=1e-15)


def test_a_class_without_objects_gains_nothing_and_is_no_part_of_the_mean(tied):
    run = run_of(*tied(0))
    student, teacher = ({**own, "truths": own["truths"].copy()} for own in (run.student, run.teacher))
    student["truths"][:, 1] = teacher["truths"][:, 1] = 0
    gains = Rows.of(student, teacher).rewards(extreme_contexts(IMAGES))
    assert (gains[1] == 0).all()
    reward = TASK.mixtures(student, teacher).reward()
    np.testing.assert_allclose(reward, gains[[0, 2]].mean(axis=0), atol=1e-15)


def test_rewards_add_up_to_the_way_from_student_to_teacher_along_an_order(tied):
    """Each image moves with those before it at the teacher already: the sum telescopes."""
    run = run_of(*tied(1))
    rows = Rows.of(run.student, run.teacher)
    steps = [rows.rewards(np.arange(IMAGES)[None] < image)[:, image] for image in range(IMAGES)]
    ends = rows.stats(np.arange(IMAGES), np.array([0, IMAGES]), full=False)[..., 0]
    np.testing.assert_allclose(np.sum(steps, axis=0), ends[:, 1] - ends[:, 0], rtol=0, atol=1e-12)


def test_contexts_are_what_they_say():
    assert extreme_contexts(3).tolist() == [[False] * 3, [True] * 3]
    some = random_contexts(100, 3)
    assert some.sum(axis=1).tolist() == [0, 25, 50, 75, 100]
    assert (some[:-1] <= some[1:]).all()
    assert (random_contexts(100, 3) == some).all()
    assert (random_contexts(100, 4) != some).any()


# --- Against pycocotools ---


def coco_of(targets):
    boxes = [
        {"image_id": i + 1, "category_id": int(c) + 1, "bbox": list(box), "area": area, "iscrowd": 0}
        for i, target in enumerate(targets)
        for box, c, area in zip(
            target.truth.boxes.tolist(), target.truth.labels, target.truth.areas, strict=True
        )
    ]
    return {
        "images": [{"id": i + 1} for i in range(len(targets))],
        "categories": [{"id": c + 1, "name": str(c)} for c in range(CLASSES)],
        "annotations": [{"id": n + 1, **box} for n, box in enumerate(boxes)],
    }


def peer_by_class(targets, predictions):
    """[classes] AP of pycocotools."""
    entries = [
        {"image_id": i + 1, "category_id": int(c) + 1, "bbox": [x, y, p - x, q - y], "score": score}
        for i, found in enumerate(predictions)
        for (x, y, p, q), score, c in zip(found.boxes.tolist(), found.scores, found.labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = coco_of(targets)
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(entries), "bbox")
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 2]
    assert (precision > -1).all()
    return precision.mean(axis=(0, 1))


def test_rewards_are_those_that_pycocotools_would_give(tied):
    student, teacher, targets = tied(2, ties=True)
    contexts, expected = some_contexts(2)[:2], np.zeros((CLASSES, IMAGES))
    for image in range(IMAGES):
        for context in contexts:
            without, beside = (
                peer_by_class(targets, [(teacher if d else student)[i] for i, d in enumerate(defer)])
                for defer in moved(context, image)
            )
            expected[:, image] += (beside - without) / len(contexts)
    run = run_of(student, teacher, targets)
    got = Rows.of(run.student, run.teacher).rewards(contexts)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    both = run.student["truths"][:, :, 0].sum(axis=0)
    assert over_classes(TASK.by_class(run.student))[0] == pytest.approx(
        peer_by_class(targets, student)[both > 0].mean(), abs=1e-12
    )


def test_classes_weigh_in_the_metric_and_in_rewards_as_they_are_worth(tied):
    run = run_of(*tied(2, ties=False))
    classes = run.student["truths"].shape[1]
    worth = np.linspace(0, 3, classes)
    judge = AveragePrecision(worth)
    own = judge.by_class(run.student)[:, 0]
    there = own > -1
    by_hand = (worth * own)[there].sum() / worth[there].sum()
    assert judge.metrics(run.student)["AP"] == pytest.approx(by_hand, rel=1e-12)
    mixtures, order = judge.mixtures(run.student, run.teacher), np.arange(len(run))
    assert mixtures.path(order)[0] == pytest.approx(by_hand, rel=1e-12)
    alike = AveragePrecision(np.full(classes, 7.0)).mixtures(run.student, run.teacher)
    plain = AveragePrecision().mixtures(run.student, run.teacher)
    np.testing.assert_allclose(alike.path(order), plain.path(order), rtol=1e-12)
    np.testing.assert_allclose(alike.reward(), plain.reward(), rtol=1e-9, atol=1e-15)
    gains = mixtures.rows.rewards(extreme_contexts(len(run)))
    known = run.student["truths"][:, :, 0].sum(axis=0) > 0
    expected = (worth[known] @ gains[known]) / worth[known].sum()
    np.testing.assert_allclose(mixtures.reward(), expected, rtol=1e-9, atol=1e-15)
