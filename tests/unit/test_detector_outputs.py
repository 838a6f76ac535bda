"""What a detector of one's own returns: boxes best first, their logits beside them, one or all classes."""

import numpy as np
import pytest
from scipy.special import softmax

from ebjr_det import Detections, build_output, deferral_scores
from ebjr_det.core.errors import InvalidInput
from ebjr_det.tasks.detection.coco.annotations import Results
from ebjr_det.tasks.detection.detections import to_sides
from ebjr_det.tasks.detection.replay import output_of


def made_up(images: int = 5, classes: int = 3) -> tuple[list[Detections], list[np.ndarray]]:
    """Detections in no special order, one picture without any, and their logits."""
    generator, answers, logits = np.random.default_rng(0), [], []
    for image in range(images):
        count = 0 if image == 2 else int(generator.integers(1, 6))
        corners = generator.uniform(0, 50, (count, 2))
        boxes = np.concatenate([corners, corners + generator.uniform(1, 20, (count, 2))], axis=1)
        labels = generator.integers(classes, size=count)
        answers.append(Detections(boxes, generator.uniform(0.05, 0.99, count), labels))
        logits.append(generator.normal(size=(count, classes)))
    return answers, logits


def test_without_logits_it_is_what_a_result_file_tells():
    answers, _ = made_up()
    output = build_output(answers)
    results = [Results(to_sides(a.boxes), a.scores, a.labels) for a in output.predictions]
    expected = output_of(results)
    np.testing.assert_array_equal(output.logits.values, expected.logits.values)
    np.testing.assert_array_equal(output.logits.valid, expected.logits.valid)
    assert output.logits.head == expected.logits.head


def test_boxes_stand_best_first_with_their_own_logits_and_labels():
    answers, logits = made_up()
    output = build_output(answers, logits)
    for index, (answer, rows) in enumerate(zip(answers, logits, strict=True)):
        order = np.argsort(-answer.scores)
        given = output.predictions[index]
        np.testing.assert_array_equal(given.scores, answer.scores[order])
        np.testing.assert_array_equal(given.labels, answer.labels[order])
        np.testing.assert_array_equal(given.boxes, answer.boxes[order])
        np.testing.assert_array_equal(output.logits.values[index, : len(rows)], rows[order])
        assert output.logits.valid[index].sum() == len(rows)


def test_a_background_makes_the_head_a_softmax_with_it():
    answers, logits = made_up()
    generator = np.random.default_rng(1)
    background = [generator.normal(size=len(rows)) for rows in logits]
    output = build_output(answers, logits, background)
    assert output.logits.head == "softmax"
    curvature = deferral_scores(output, "energy_curvature")
    for index, (rows, none) in enumerate(zip(logits, background, strict=True)):
        if len(rows):
            p = softmax(np.column_stack([rows, none]), axis=1)[:, :-1]
            assert curvature[index] == pytest.approx((p * (1 - p)).sum(), rel=1e-12)


def test_logits_of_tensors_become_numpys():
    torch = pytest.importorskip("torch")
    answer = Detections(np.array([[0.0, 0, 4, 4]], np.float32), np.array([0.5]), np.array([1], np.int32))
    output = build_output([answer], [torch.tensor([[0.25, -2.0]])])
    assert output.predictions[0].boxes.dtype == np.float64
    assert output.predictions[0].labels.dtype == np.intp
    assert output.logits.values.tolist() == [[[0.25, -2.0]]]


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(InvalidInput, match=r"scores in .0, 1. where no logits are given, got 3 to 3"):
        build_output([Detections(np.zeros((1, 4)), np.array([3.0]), np.array([0]))])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a, r: ([], None), "got 0 pictures"),
        (lambda a, r: (a, r[:-1]), "got 5 pictures and 4 sets"),
        (lambda a, r: (a, [rows[:-1] for rows in r]), "boxes of a picture, got shape"),
        (lambda a, r: (a, [rows[:, 0] for rows in r]), "boxes of a picture, got shape"),
        (lambda a, r: (a, [r[0][:, :2], *r[1:]]), r"same classes in every picture, got \[2, 3\]"),
        (lambda a, r: (a, [r[0] * np.nan, *r[1:]]), "Expected finite logits"),
        (lambda a, r: (a, r, r), "background"),
    ],
)
def test_what_does_not_fit_is_one_line(change, says):
    with pytest.raises(InvalidInput, match=says) as caught:
        build_output(*change(*made_up()))
    assert "\n" not in str(caught.value)


def test_a_batch_without_any_box_has_logits_of_its_width():
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.intp))
    output = build_output([none, none], [np.zeros((0, 7)), np.zeros((0, 0))])
    assert output.logits.values.shape == (2, 1, 7)
    assert not output.logits.valid.any()
