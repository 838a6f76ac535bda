"""The table of a job's answers, of every task: one schema whatever a shard holds, and nothing lost in it."""

import numpy as np
import pytest

from ebjr_det.bulk.manifest import Row
from ebjr_det.bulk.table import PictureAnswer, ShardCounts, column_meanings, to_table
from ebjr_det.tasks import TASKS, load_task
from ebjr_det.tasks.detection.detections import Detections

CATEGORIES = {7: "ant", 9: "bee", 30: "cow"}


class Named:
    class_names = ("ant", "bee", "cow")
    categories = CATEGORIES
    num_classes = 3


def boxes(count, seed=0):
    generator = np.random.default_rng(seed)
    corners = np.sort(generator.uniform(0, 99, (count, 2, 2)), axis=1).reshape(-1, 4)
    scores, labels = generator.random(count), generator.integers(3, size=count)
    return Detections(corners.astype(np.float32), scores.astype(np.float32), labels)


def logits(*values):
    return np.array(values, dtype=np.float32)


NOTHING = None
SHARDS = {
    "detection": {
        "boxes": [boxes(2), NOTHING, boxes(0), boxes(3, seed=1)],
        "no box": [boxes(0), boxes(0)],
        "no picture": [NOTHING, NOTHING],
    },
    "classification": {
        "logits": [logits(1, 2, 0), NOTHING, logits(0.5, 0, -1)],
        "a wider student": [logits(1, 2, 0), NOTHING, logits(0, 1, 2, 9), logits(0, 1, 2, -3)],
        "no picture": [NOTHING],
    },
}
CASES = [(task, name) for task in SHARDS for name in SHARDS[task]]


def test_every_task_that_ships_is_tried():
    assert set(SHARDS) == set(TASKS)


def answers_of(predictions):
    pictures = []
    for index, prediction in enumerate(predictions):
        error = "" if prediction is not NOTHING else "Expected a readable picture."
        row = Row(f"{index}.png")
        pictures.append(PictureAnswer(row, 40, 30, index / 8, index % 2 == 0, prediction, error))
    return pictures


@pytest.mark.parametrize(("task", "name"), CASES)
def test_a_table_has_what_the_models_said_and_always_the_same_columns(task, name):
    tensors, predictions = load_task(task).tensors, SHARDS[task][name]
    pictures = answers_of(predictions)
    table = to_table(pictures, 100, tensors, Named)
    assert [(field.name, str(field.type)) for field in table.schema] == [
        (column, kind) for column, kind, _ in column_meanings(tensors)
    ]
    assert all(meaning for _, _, meaning in column_meanings(tensors))
    assert table["index"].to_pylist() == list(range(100, 100 + len(predictions)))
    unreadable = [row for row in table.to_pylist() if row["error"]]
    count = sum(prediction is NOTHING for prediction in predictions)
    assert len(unreadable) == ShardCounts.of(pictures).unreadable == count
    assert all(value is None for row in unreadable for value in list(row.values())[3:])
    rows = [row for row in table.to_pylist() if not row["error"]]
    for row, picture in zip(rows, [p for p in pictures if not p.error], strict=True):
        assert (row["width"], row["height"], row["deferral_score"]) == (40, 30, picture.score)
        assert row["answered_by"] == ("teacher" if picture.deferred else "student")
        check(task, row, picture.prediction)


def check(task, row, prediction):
    if task == "detection":
        np.testing.assert_array_equal(np.reshape(row["boxes"], (-1, 4)), prediction.boxes)
        np.testing.assert_array_equal(row["scores"], prediction.scores)
        assert row["labels"] == prediction.labels.tolist()
        assert row["category_ids"] == [(7, 9, 30)[label] for label in row["labels"]]
    else:
        found, likeliest = np.array(row["logits"]), int(prediction.argmax())
        np.testing.assert_array_equal(found[found > -np.inf], prediction)
        np.testing.assert_allclose(sum(row["probabilities"]), 1)
        is_class = likeliest < Named.num_classes
        assert row["label"] == (likeliest if is_class else -1)
        assert row["name"] == (Named.class_names[likeliest] if is_class else "other")
