"""What average precision owes to anyone: bounds, ends, order, copies, and a reward that is what it says."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.core.types import concatenate
from ebjr_det.tasks.detection.coco.annotations import Results, Truth
from ebjr_det.tasks.detection.metric import AveragePrecision, match_records

TASK = AveragePrecision()
CLASSES = 3
FAR = [10_000.0, 10_000.0, 30.0, 30.0]  # overlaps nothing

boxes = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(0, 5)] * 2).map(lambda box: [12.0 * n for n in box])
labels = st.integers(0, CLASSES - 1)
objects = st.tuples(boxes, labels, st.sampled_from([1.0, 0.1, 50.0]), st.sampled_from([False] * 4 + [True]))


def truth_of(found):
    sides = np.array([box for box, *_ in found], dtype=float).reshape(-1, 4)
    sizes = sides[:, 2] * sides[:, 3] * np.array([area for *_, area, _ in found])
    crowd = np.array([group for *_, group in found], dtype=bool)
    return Truth(sides, np.array([label for _, label, *_ in found], dtype=np.intp), sizes, crowd)


def results_of(found):
    sides = np.array([box for box, *_ in found], dtype=float).reshape(-1, 4)
    marks, own = ([row[at] for row in found] for at in (1, 2))
    return Results(sides, np.array(marks, dtype=float), np.array(own, dtype=np.intp))


@st.composite
def scenes(draw, ties=False):
    """Objects of 1 to 5 images, and two models' detections, some of them on an object.

    Without `ties` all scores of both models differ.
    """
    images = draw(st.lists(st.lists(objects, max_size=4), min_size=1, max_size=5))
    found = []
    for own in images * 2:
        hits = draw(st.lists(st.sampled_from(own), max_size=4)) if own else []
        guesses = draw(st.lists(st.tuples(boxes, labels), max_size=4))
        found.append([*((box, label) for box, label, *_ in hits), *guesses])
    total = sum(map(len, found))
    marks = np.random.default_rng(draw(st.integers(0, 10_000))).permutation(total) / max(total, 1)
    given_ = iter(marks.round(1) if ties else marks)
    both = [results_of([(box, next(given_), label) for box, label in own]) for own in found]
    return [truth_of(own) for own in images], both[: len(images)], both[len(images) :]


def matched(results, truths):
    return match_records(results, truths, CLASSES)


def numbers(results, truths):
    return np.array(list(TASK.metrics(matched(results, truths)).values()))


def pair(scene):
    truths, student, teacher = scene
    return matched(student, truths), matched(teacher, truths)


def mixed(scene, teachers):
    """Judged anew: the teacher's answers on some images."""
    truths, student, teacher = scene
    return numbers([(teacher if i in teachers else student)[i] for i in range(len(truths))], truths)


@given(scene=scenes(ties=True))
def test_every_number_lies_in_0_to_1_or_is_minus_1_where_nothing_counts(scene):
    truths, student, _ = scene
    found = numbers(student, truths)
    assert (((found >= 0) & (found <= 1)) | (found == -1)).all()
    counted = [~truth.crowd for truth in truths]
    assert (found[[0, 1, 2, 6, 7, 8]] == -1).all() == (not any(own.any() for own in counted))
    assert (found[[0, 1, 2, 6, 7, 8]] >= 0).all() or (found[[0, 1, 2, 6, 7, 8]] == -1).all()


@given(scene=scenes(ties=True), data=st.data())
def test_every_mixture_on_a_path_is_that_mixture_judged_anew(scene, data):
    order = np.array(data.draw(st.permutations(range(len(scene[0])))))
    path = TASK.mixtures(*pair(scene)).metrics(order, np.arange(len(order) + 1))
    for count in range(len(order) + 1):
        found = [column[count] for column in path.values()]
        np.testing.assert_allclose(found, mixed(scene, set(order[:count])), rtol=0, atol=1e-12)


@given(scene=scenes(ties=True))
def test_nothing_deferred_is_the_student_and_everything_the_teacher_to_the_bit(scene):
    truths, student, teacher = scene
    path = TASK.mixtures(*pair(scene)).metrics(np.arange(len(truths)), np.array([0, len(truths)]))
    ends = np.array(list(path.values()))
    np.testing.assert_array_equal(ends[:, 0], numbers(student, truths))
    np.testing.assert_array_equal(ends[:, 1], numbers(teacher, truths))


@given(scene=scenes(), data=st.data())
def test_the_order_of_images_does_not_matter_where_no_scores_tie(scene, data):
    truths, student, _ = scene
    order = data.draw(st.permutations(range(len(truths))))
    again = numbers([student[i] for i in order], [truths[i] for i in order])
    np.testing.assert_array_equal(again, numbers(student, truths))


@given(scene=scenes(ties=True))
def test_only_the_order_of_the_scores_matters(scene):
    truths, student, _ = scene
    bent = [replace(own, scores=own.scores**3 / 2) for own in student]
    np.testing.assert_array_equal(numbers(bent, truths), numbers(student, truths))


@given(scene=scenes(ties=True), data=st.data())
def test_a_false_positive_never_raises_a_number_and_below_all_others_changes_none(scene, data):
    truths, student, _ = scene
    image, label = data.draw(st.integers(0, len(truths) - 1)), data.draw(labels)
    before = numbers(student, truths)
    for score in (1.0, data.draw(st.floats(0, 1)), -1.0):
        rows = list(
            zip(student[image].boxes.tolist(), student[image].scores, student[image].labels, strict=True)
        )
        more = results_of([*rows, (FAR, score, label)])
        after = numbers([more if i == image else own for i, own in enumerate(student)], truths)
        assert (after <= before + 1e-12).all()
    np.testing.assert_array_equal(after, before)


@given(scene=scenes(), data=st.data())
def test_copies_of_images_are_those_images_repeated(scene, data):
    truths = scene[0]
    student, teacher = pair(scene)
    many = st.lists(st.integers(0, 3), min_size=len(truths), max_size=len(truths)).filter(any)
    copies = np.array(data.draw(many))
    order = np.array(data.draw(st.permutations(range(len(truths)))))
    images = np.repeat(order, copies[order])
    repeated = TASK.mixtures(TASK.take(student, images), TASK.take(teacher, images))
    expected = repeated.path(np.arange(len(images)))[np.concatenate([[0], np.cumsum(copies[order])])]
    found = TASK.mixtures(student, teacher).path(order, copies=copies)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@given(scene=scenes(ties=True))
def test_an_image_is_matched_whatever_stands_beside_it(scene):
    truths, student, _ = scene
    alone = concatenate([matched([own], [truth]) for own, truth in zip(student, truths, strict=True)])
    for name, column in matched(student, truths).items():
        np.testing.assert_array_equal(alone[name], column)
        assert alone[name].dtype == column.dtype


@given(scene=scenes(ties=True))
def test_the_reward_is_the_change_that_one_image_makes_in_either_company(scene):
    images = range(len(scene[0]))
    none, every = mixed(scene, set())[0], mixed(scene, set(images))[0]
    expected = [
        (mixed(scene, {i})[0] - none + every - mixed(scene, set(images) - {i})[0]) / 2 for i in images
    ]
    np.testing.assert_allclose(TASK.mixtures(*pair(scene)).reward(), expected, rtol=0, atol=1e-12)


@given(scene=scenes(ties=True))
def test_equal_answers_bring_no_reward(scene):
    student, _ = pair(scene)
    assert (TASK.mixtures(student, student).reward() == 0).all()
    assert len(set(TASK.mixtures(student, student).path(np.arange(len(scene[0]))))) == 1


@given(scene=scenes(), noise=st.lists(st.tuples(st.just(FAR), labels), max_size=3))
def test_objects_all_found_before_anything_else_make_every_number_1(scene, noise):
    apart = [np.arange(len(truth))[:, None] * [200.0, 0, 0, 0] + [0, 0, 5, 5] for truth in scene[0]]
    truths = [replace(truth, boxes=truth.boxes + by) for truth, by in zip(scene[0], apart, strict=True)]
    perfect = [
        results_of([(box, 0.9, label) for box, label in zip(truth.boxes.tolist(), truth.labels, strict=True)])
        for truth in truths
    ]
    rows = [(box, 0.1, label) for box, label in noise]
    found = numbers([*perfect, results_of(rows)], [*truths, truth_of([])])
    found = np.delete(found, [6, 7])  # recall of the first 1 and 10 detections
    assert ((found == -1) | (found > 1 - 1e-12)).all()
