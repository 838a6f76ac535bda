"""What every rescaling of a student's scores promises: it rises, so the student alone stays as it was."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.tasks.detection.boxes import LEAST
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.routing.rescaling import KNOTS, RESCALINGS, Rescaling, fit_rescaling

TASK = AveragePrecision()
MAPS = [name for name, fit in RESCALINGS.items() if fit is not None]
SCORES = np.unique(np.concatenate([[LEAST, 1 - LEAST], np.linspace(1e-4, 1 - 1e-4, 3000)])).astype(np.float32)

every_map = pytest.mark.parametrize("name", MAPS)
seeds = st.integers(0, 10_000)


@pytest.fixture(scope="module")
def pair(detectors):
    """A function: a seed -> records of 30 pictures and 3 classes."""
    return partial(detectors, 30, 3)


def fitted(name, run):
    return fit_rescaling(name, run.student, run.teacher)


def with_logits(matches, change):
    """Records whose logits of scores went through `change`."""
    return {**matches, "score": expit(change(logit(matches["score"])))}


def test_the_simplest_is_none_and_fits_nothing(pair):
    assert list(RESCALINGS) == ["none", "shift", "affine", "affine_by_class", "isotonic"]
    assert fitted("none", pair(0)) is None


def test_an_unknown_name_is_refused_with_the_nearest(pair):
    with pytest.raises(ConfigError, match=r"`afine`\. Did you mean `affine`"):
        fitted("afine", pair(0))


@every_map
@given(seed=seeds)
def test_a_higher_score_of_a_class_stays_higher_and_below_1(name, pair, seed):
    mapping = fitted(name, pair(seed))
    assert mapping.values.shape == (3, len(KNOTS))
    assert (np.diff(mapping.values, axis=1) > 0).all()
    for label in range(3):
        mapped = mapping.scores(SCORES.astype(np.float64), np.full(len(SCORES), label))
        assert (np.diff(mapped) > 0).all()
        assert mapped[0] >= 0
        assert mapped[-1] <= 1


@every_map
@given(seed=seeds)
def test_the_student_alone_is_matched_and_judged_as_before(name, pair, seed):
    run = pair(seed)
    after = fitted(name, run).records(run.student)
    assert set(after) == set(run.student)
    for column in set(after) - {"score"}:
        np.testing.assert_array_equal(after[column], run.student[column])
    assert TASK.metrics(after) == TASK.metrics(run.student)
    np.testing.assert_array_equal(TASK.by_class(after), TASK.by_class(run.student))


@every_map
def test_mapped_answers_are_matched_to_the_mapped_records(name, scenes, answered):
    student, teacher, targets = scenes(30, 3, 1)
    before = TASK.match(student, targets)
    mapping = fit_rescaling(name, before, TASK.match(teacher, targets))
    output = mapping.output(answered(student))
    by_output, by_records = TASK.match(output.predictions, targets), mapping.records(before)
    for column in by_records:
        np.testing.assert_array_equal(by_output[column], by_records[column], err_msg=column)
    assert any((own.scores != old.scores).any() for own, old in zip(output.predictions, student, strict=True))
    for own, old in zip(output.predictions, student, strict=True):
        np.testing.assert_array_equal(own.boxes, old.boxes)
        np.testing.assert_array_equal(own.labels, old.labels)


@every_map
def test_what_was_mapped_comes_back(name, scenes, answered):
    student, teacher, targets = scenes(30, 3, 1)
    mapping = fit_rescaling(name, TASK.match(student, targets), TASK.match(teacher, targets))
    again = mapping.undone(mapping.output(answered(student)))
    for own, old in zip(again.predictions, student, strict=True):
        np.testing.assert_allclose(own.scores, old.scores, rtol=0, atol=1e-7)


@every_map
def test_an_image_without_boxes_passes(name, pair, answered, scenes):
    mapping = fitted(name, pair(0))
    empty = scenes(1, 3, 0)[0]
    assert len(empty[0]) == 0
    assert len(mapping.output(answered(empty)).predictions[0]) == 0


@pytest.mark.parametrize(("name", "within"), [("affine", 1e-9), ("affine_by_class", 1e-9), ("shift", 1e-3)])
@given(seed=seeds)
def test_a_teacher_is_on_its_own_scale_already(name, within, pair, seed):
    teacher = pair(seed).teacher
    values = fit_rescaling(name, teacher, teacher).values
    np.testing.assert_allclose(values, np.tile(KNOTS, (3, 1)), rtol=0, atol=within)


def test_a_teacher_is_on_its_own_scale_up_to_the_slope_of_flat_stretches(pair):
    teacher = pair(0).teacher
    values = fit_rescaling("isotonic", teacher, teacher).values
    np.testing.assert_allclose(values, np.tile(KNOTS * 1.001, (3, 1)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "factor", "shift"),
    [("shift", 1, -2), ("shift", 1, 1), ("affine", 0.5, 1), ("affine", 1.5, -2), ("affine_by_class", 2, 1)],
)
def test_a_distortion_of_the_teachers_logits_is_found(name, factor, shift, pair):
    teacher = pair(3).teacher
    student = with_logits(teacher, lambda f: f * factor + shift)
    values = fit_rescaling(name, student, teacher).values
    inside = np.abs(KNOTS) < 5
    expected = np.tile((KNOTS[inside] - shift) / factor, (3, 1))
    np.testing.assert_allclose(values[:, inside], expected, rtol=0, atol=0.02)


def test_a_class_gets_its_own_shift_where_it_has_the_boxes_to_tell(detectors):
    teacher = detectors(400, 2, 0).teacher
    moved = np.where(teacher["label"] == 1, 2.0, 0.0)
    student = with_logits(teacher, lambda f: f - moved)
    values = fit_rescaling("affine_by_class", student, teacher).values
    at = len(KNOTS) // 2
    assert values[1, at] - values[0, at] > 0.5
    alike = fit_rescaling("affine", student, teacher).values
    np.testing.assert_array_equal(alike[0], alike[1])


def test_boxes_that_coco_ignores_are_not_calibrated_on(pair):
    run = pair(0)
    ignored = np.zeros_like(run.student["ignored"])
    ignored[::2] = 1
    some = {**run.student, "ignored": ignored}
    nonsense = {**some, "score": np.where(ignored == 1, 0.999, some["score"])}
    for name in MAPS:
        np.testing.assert_array_equal(
            fit_rescaling(name, some, run.teacher).values, fit_rescaling(name, nonsense, run.teacher).values
        )


@pytest.mark.parametrize("side", ["student", "teacher"])
@every_map
def test_a_model_without_boxes_cannot_be_calibrated(name, side, pair):
    run = pair(0)
    none = {name: column[:0] for name, column in run.student.items()}
    none |= {"counts": run.student["counts"] * 0, "truths": run.student["truths"]}
    both = {"student": run.student, "teacher": run.teacher} | {side: none}
    with pytest.raises(InvalidInput, match=rf"boxes of the {side} .* got none"):
        fit_rescaling(name, **both)


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: v[:-1],
        lambda v: v[:, :-1],
        lambda v: v[0],
        lambda v: v[:, ::-1],
        lambda v: v * 0,
        lambda v: np.where(v == v[1, 7], np.nan, v),
    ],
)
def test_saved_numbers_that_are_no_rising_map_are_refused(damage, pair):
    values = fitted("affine", pair(0)).values
    np.testing.assert_array_equal(Rescaling.of(values, 3).values, values)
    with pytest.raises(InvalidInput, match="rising map"):
        Rescaling.of(damage(values), 3)
