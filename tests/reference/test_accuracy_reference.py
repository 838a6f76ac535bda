"""Top-1 and top-5 records against scikit-learn and torch, and the rule for ties by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from ebjr_det.core.errors import InvalidInput
from ebjr_det.tasks.classification.metric import Accuracy

TASK = Accuracy()


def made_up(classes, dtype="float64", images=400):
    """Logits without ties, and labels that are often among the best guesses."""
    generator = np.random.default_rng(classes)
    labels = generator.integers(classes, size=images)
    logits = generator.permuted(np.tile(np.arange(classes), (images, 1)), axis=1) / classes
    logits[np.arange(images), labels] += generator.choice([0, 0.3, 0.8], size=images) + 1e-3
    return logits.astype(dtype), labels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [6, 10, 100])
def test_metrics_equal_scikit_learns(classes, dtype):
    logits, labels = made_up(classes, dtype)
    metrics = TASK.metrics(TASK.match(logits, labels))
    top5 = top_k_accuracy_score(labels, logits, k=5, labels=range(classes))
    assert metrics["accuracy"] == pytest.approx(accuracy_score(labels, logits.argmax(axis=1)), abs=1e-15)
    assert metrics["top5_accuracy"] == pytest.approx(top5, abs=1e-15)
    assert 0 < metrics["accuracy"] < metrics["top5_accuracy"] < 1


@pytest.mark.parametrize("classes", [6, 10, 100])
def test_records_equal_torchs_top_k_image_by_image(classes):
    logits, labels = made_up(classes)
    found = torch.from_numpy(logits).topk(5).indices.numpy() == labels[:, None]
    records = TASK.match(list(logits), list(labels))
    np.testing.assert_array_equal(records["correct"], found[:, 0])
    np.testing.assert_array_equal(records["top5_correct"], found.any(axis=1))


@pytest.mark.parametrize("classes", [2, 5, 8])
def test_ties_go_to_the_smaller_index_as_argmax_and_a_stable_sort_do(classes):
    generator = np.random.default_rng(0)
    logits = generator.integers(3, size=(500, classes)).astype(float)
    labels = generator.integers(classes, size=500)
    ranked = np.argsort(-logits, axis=1, kind="stable")
    records = TASK.match(logits, labels)
    np.testing.assert_array_equal(records["correct"], logits.argmax(axis=1) == labels)
    np.testing.assert_array_equal(records["top5_correct"], (ranked[:, :5] == labels[:, None]).any(axis=1))


def test_four_images_by_hand():
    logits = np.array(
        [[9, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0, 0], [7, 6, 5, 4, 3, 2, 1], [1, 1, 0, 0, 0, 0, 0.0]]
    )
    records = TASK.match(logits, [1, 4, 5, 1])
    assert records["correct"].tolist() == [False, False, False, False]
    assert records["top5_correct"].tolist() == [False, True, False, True]
    assert TASK.metrics(records) == {"accuracy": 0.0, "top5_accuracy": 0.5}
    assert TASK.match(logits, [0, 0, 0, 0])["correct"].all()


def test_fewer_than_five_classes_are_always_right_in_the_top_5():
    assert TASK.match(np.eye(3), [2, 2, 2])["top5_correct"].all()


@pytest.mark.parametrize(
    ("student", "teacher", "reward"),
    [(True, True, 0), (False, False, 0), (False, True, 1), (True, False, -1)],
)
def test_the_reward_is_what_the_teacher_changes(student, teacher, reward):
    records = [
        {"correct": np.array([right]), "top5_correct": np.array([True])} for right in (student, teacher)
    ]
    assert TASK.mixtures(*records).reward().tolist() == [reward]


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(label):
    with pytest.raises(InvalidInput, match=r"labels in 0\.\.2"):
        Accuracy().match(np.zeros((2, 3)), [0, label])
