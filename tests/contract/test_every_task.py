"""What every registered task owes the core: records per image, a metric of any mixture, an honest reward.

A new task adds its made-up answers to `MADE_UP`.
"""

from typing import get_type_hints

import numpy as np
import pytest

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.tradeoff import mixture
from ebjr_det.core.types import PairedRun, Task, concatenate
from ebjr_det.tasks import TASKS, contract, load_task
from ebjr_det.tasks.contract import TaskPlugin
from ebjr_det.tasks.detection.coco.annotations import Truth
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import Target

IMAGES = 24


def classification(generator):
    labels = generator.integers(10, size=IMAGES)
    hint = np.eye(10)[labels]
    student, teacher = generator.normal(size=(2, IMAGES, 10))
    return list(student + hint), list(teacher + 3 * hint), list(labels)


def detection(generator):
    """Scenes of 1 to 5 objects of 4 classes; the student misses, moves and invents more than the teacher."""

    def scene():
        count = generator.integers(1, 6)
        corners = generator.uniform(0, 200, (count, 2))
        boxes = np.concatenate([corners, generator.uniform(10, 120, (count, 2))], axis=1)
        areas, crowd = boxes[:, 2] * boxes[:, 3], generator.random(count) < 0.1
        return Target(Truth(boxes, generator.integers(4, size=count), areas, crowd), 4)

    def found(target, noise, invented):
        real = target.truth.boxes + generator.normal(0, noise, target.truth.boxes.shape)
        boxes = np.concatenate([real, generator.uniform(5, 150, (invented, 4))])
        boxes[:, 2:] = boxes[:, :2] + np.abs(boxes[:, 2:])
        labels = np.concatenate([target.truth.labels, generator.integers(4, size=invented)])
        return Detections(boxes, generator.random(len(boxes)), labels)

    targets = [scene() for _ in range(IMAGES)]
    return [found(t, 9, 6) for t in targets], [found(t, 2, 2) for t in targets], targets


# task -> a function of a random generator: the student's and the teacher's predictions, and the targets
MADE_UP = {"classification": classification, "detection": detection}

every_task = pytest.mark.parametrize("name", TASKS)


def answers(name, seed=0):
    if name not in MADE_UP:
        pytest.fail(f"Give `{name}` made-up answers in MADE_UP.")
    return MADE_UP[name](np.random.default_rng(seed))


def matched(name, seed=0):
    """The task, and the student's and the teacher's records."""
    student, teacher, targets = answers(name, seed)
    task = load_task(name).judge()
    return task, task.match(student, targets), task.match(teacher, targets)


def run_of(task, student, teacher):
    ids = tuple(str(index) for index in range(IMAGES))
    return PairedRun(task.name, ids, {}, student, teacher)


def assert_same_records(first, second):
    assert set(first) == set(second)
    for column in first:
        np.testing.assert_array_equal(first[column], second[column])
        assert first[column].dtype == second[column].dtype


def mixed_qualities(task, student, teacher, order):
    """Quality when the first 0..N images of an order are the teacher's, each mixture judged anew."""
    run = run_of(task, student, teacher)
    defer = [np.isin(np.arange(IMAGES), order[:count]) for count in range(IMAGES + 1)]
    return [task.metrics(mixture(run, task, chosen))[task.quality_name] for chosen in defer]


@every_task
def test_it_has_every_member_of_the_protocol_and_its_own_name(name):
    task = load_task(name).judge()
    members = {m for m in vars(Task) if not m.startswith("_")} | set(Task.__annotations__)
    assert len(members) >= 7
    assert [member for member in members if not hasattr(task, member)] == []
    assert task.name == name


PARTS = ("data", "models", "routing", "replay", "show", "served", "popular", "training")


@every_task
@pytest.mark.parametrize("part", PARTS)
def test_each_part_of_a_task_has_all_that_the_contract_asks_for(name, part):
    protocol = get_type_hints(getattr(TaskPlugin, part).fget, vars(contract))["return"]
    members = [member for member in vars(protocol) if not member.startswith("_")]
    assert members
    assert [m for m in members if not hasattr(getattr(load_task(name), part), m)] == []


@every_task
def test_its_plugin_is_loaded_once(name):
    assert load_task(name) is load_task(name)


@every_task
def test_it_is_found_by_a_misspelt_name(name):
    with pytest.raises(ConfigError, match=f"Did you mean `{name}`"):
        load_task(name[:-1]).judge()


@every_task
@pytest.mark.parametrize("at", [1, IMAGES // 2, IMAGES - 1])
def test_matching_is_per_image(name, at):
    student, _, targets = answers(name)
    task = load_task(name).judge()
    halves = [task.match(student[:at], targets[:at]), task.match(student[at:], targets[at:])]
    assert_same_records(concatenate(halves), task.match(student, targets))


@every_task
def test_matching_does_not_depend_on_the_order_of_images(name):
    student, _, targets = answers(name)
    order = np.random.default_rng(1).permutation(IMAGES)
    task = load_task(name).judge()
    shuffled = task.match([student[i] for i in order], [targets[i] for i in order])
    assert_same_records(shuffled, task.take(task.match(student, targets), order))


@every_task
def test_taking_repeats_and_reorders_images(name):
    student, _, targets = answers(name)
    task = load_task(name).judge()
    images = np.array([5, 0, 5, IMAGES - 1, 2])
    expected = task.match([student[i] for i in images], [targets[i] for i in images])
    assert_same_records(task.take(task.match(student, targets), images), expected)


@every_task
def test_columns_survive_a_file_without_pickles(name):
    _, student, _ = matched(name)
    assert all(isinstance(column, np.ndarray) and not column.dtype.hasobject for column in student.values())


@every_task
def test_metrics_are_numbers_and_one_is_the_quality(name):
    task, student, teacher = matched(name)
    for records in (student, teacher):
        metrics = task.metrics(records)
        assert task.quality_name in metrics
        assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())
    assert task.metrics(student)[task.quality_name] < task.metrics(teacher)[task.quality_name]


@every_task
@pytest.mark.parametrize("seed", range(3))
def test_the_quality_path_is_the_quality_of_every_mixture(name, seed):
    task, student, teacher = matched(name, seed)
    order = np.random.default_rng(seed).permutation(IMAGES)
    path = task.mixtures(student, teacher).path(order)
    assert path.shape == (IMAGES + 1,)
    assert path.dtype == np.float64
    np.testing.assert_allclose(path, mixed_qualities(task, student, teacher, order), rtol=0, atol=1e-12)
    ends = [task.metrics(records)[task.quality_name] for records in (student, teacher)]
    np.testing.assert_allclose(path[[0, -1]], ends, rtol=0, atol=1e-12)
    some = np.array([0, 3, 4, IMAGES])
    np.testing.assert_array_equal(task.mixtures(student, teacher).path(order, some), path[some])


@every_task
@pytest.mark.parametrize("seed", range(3))
def test_copies_of_an_image_count_as_that_many_images(name, seed):
    task, student, teacher = matched(name, seed)
    generator = np.random.default_rng(seed)
    order = generator.permutation(IMAGES)
    copies = np.bincount(generator.integers(IMAGES, size=IMAGES), minlength=IMAGES)
    images = np.repeat(order, copies[order])
    repeated = task.mixtures(task.take(student, images), task.take(teacher, images))
    ends = np.concatenate([[0], np.cumsum(copies[order])])
    np.testing.assert_allclose(
        task.mixtures(student, teacher).path(order, copies=copies),
        repeated.path(np.arange(IMAGES))[ends],
        rtol=0,
        atol=1e-12,
    )


@every_task
def test_weights_that_are_whole_numbers_count_as_so_many_copies(name):
    task, student, teacher = matched(name)
    generator = np.random.default_rng(0)
    order, copies = generator.permutation(IMAGES), generator.integers(4, size=IMAGES)
    mixtures = task.mixtures(student, teacher)
    for judge in (mixtures.path, mixtures.by_class):
        whole = judge(order, np.arange(IMAGES + 1), copies)
        np.testing.assert_array_equal(judge(order, np.arange(IMAGES + 1), copies.astype(float)), whole)


@every_task
def test_weights_all_times_the_same_number_change_nothing_and_others_do(name):
    task, student, teacher = matched(name)
    generator = np.random.default_rng(0)
    order, weights = generator.permutation(IMAGES), generator.gamma(1.0, size=IMAGES)
    path = task.mixtures(student, teacher).path
    np.testing.assert_allclose(path(order, copies=0.37 * weights), path(order, copies=weights), atol=1e-8)
    assert np.abs(path(order, copies=weights) - path(order)).max() > 1e-3


@every_task
def test_a_composition_says_what_images_show(name):
    task, student, teacher = matched(name)
    _, _, targets = answers(name)
    shown = task.composition(student)
    for own, target in zip(shown, targets, strict=True):
        labels = [target] if name == "classification" else target.truth.labels[~target.truth.crowd]
        assert own.tolist() == np.bincount(labels, minlength=len(own)).tolist()
    np.testing.assert_array_equal(shown, task.composition(teacher))
    np.testing.assert_array_equal(shown, task.composition(student, shown.shape[1]))
    with pytest.raises(InvalidInput, match=f"of {shown.shape[1] - 1} classes"):
        task.composition(student, shown.shape[1] - 1)


@every_task
def test_the_quality_by_class_is_that_of_the_class_and_its_weighed_mean_the_quality(name):
    task, student, teacher = matched(name)
    order, counts = np.random.default_rng(0).permutation(IMAGES), np.array([0, 5, IMAGES])
    mixtures, shown = task.mixtures(student, teacher), task.composition(student)
    found = mixtures.by_class(order, counts)
    share = shown.sum(axis=0) / shown.sum()
    np.testing.assert_allclose(share @ found, mixtures.weighing(share).path(order, counts), atol=1e-12)
    for index in np.flatnonzero(share):
        if name == "classification":
            own = np.flatnonzero(shown[:, index])
            ends = [task.right(task.take(records, own)).mean() for records in (student, teacher)]
        else:
            ends = [task.by_class(records)[index, 0] for records in (student, teacher)]
        np.testing.assert_allclose(found[index, [0, -1]], ends, atol=1e-12)
    without = mixtures.by_class(order, counts, (shown[:, 0] == 0).astype(float))
    assert (without[0] == -1).all()
    assert (without[1:] >= 0).any()


@every_task
def test_the_reward_is_a_finite_number_an_image_and_0_for_equal_answers(name):
    task, student, teacher = matched(name)
    reward = task.mixtures(student, teacher).reward()
    assert reward.shape == (IMAGES,)
    assert np.isfinite(reward).all()
    assert (reward != 0).any()
    assert (task.mixtures(student, student).reward() == 0).all()


@every_task
@pytest.mark.parametrize("seed", range(3))
def test_the_rewards_order_is_nowhere_below_random_where_quality_is_a_mean(name, seed):
    task, student, teacher = matched(name, seed)
    right = task.right(student), task.right(teacher)
    if right[0] is None:
        assert right[1] is None
        return
    mixtures = task.mixtures(student, teacher)
    order = np.argsort(-mixtures.reward(), kind="stable")
    path = mixtures.path(order)
    assert (path >= np.linspace(path[0], path[-1], IMAGES + 1) - 1e-12).all()
    assert path[IMAGES // 4] > path[0]


@every_task
def test_right_answers_average_to_the_quality_where_it_is_a_mean(name):
    task, student, _ = matched(name)
    right = task.right(student)
    if right is not None:
        assert right.dtype == bool
        assert right.mean() == task.metrics(student)[task.quality_name]
