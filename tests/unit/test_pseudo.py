"""What answers are judged by for want of labels: objects drawn from a teacher's boxes, and likely classes."""

import gzip
import json

import numpy as np
import pytest

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.tradeoff import sweep
from ebjr_det.core.types import Logits, Output, PairedRun
from ebjr_det.tasks import load_task
from ebjr_det.tasks.classification import replay as classification
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.classification.popular import widen
from ebjr_det.tasks.classification.pseudo import TEACHER, pooled
from ebjr_det.tasks.detection import replay as detection
from ebjr_det.tasks.detection.coco.annotations import Results
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision, match_records
from ebjr_det.tasks.detection.pseudo import CENTRE, SIDE, drawn_truths, pictures_of_results
from ebjr_det.tasks.popular import Popular

BOX = (10.0, 20.0, 40.0, 80.0)


def results(scores):
    scores = np.array(scores, dtype=np.float64)
    return Results(np.tile(BOX, (len(scores), 1)), scores, np.arange(len(scores)) % 3)


def drawn(*pictures, seed=0):
    return drawn_truths(pictures, range(1, len(pictures) + 1), seed)


# --- Objects drawn from boxes ---


def test_a_sure_box_is_the_object_and_a_hopeless_one_is_none():
    (truth,) = drawn(results([1.0, 0.0, 1.0]))
    assert np.allclose(truth.boxes, [BOX, BOX])
    assert truth.labels.tolist() == [0, 2]
    assert np.allclose(truth.areas, 40 * 80)
    assert not truth.crowd.any()


@pytest.mark.parametrize("score", [0.2, 0.75])
def test_boxes_are_objects_as_often_as_they_score_and_as_far_off_as_measured(score):
    count = 40_000
    (truth,) = drawn(results([score] * count))
    assert len(truth) / count == pytest.approx(score, abs=0.01)
    centres = (truth.boxes[:, :2] + truth.boxes[:, 2:] / 2 - [30.0, 60.0]) / [40.0, 80.0]
    sides = np.log(truth.boxes[:, 2:] / [40.0, 80.0])
    for errors, deviation in ((centres, CENTRE), (sides, SIDE)):
        assert errors.mean(axis=0) == pytest.approx([0, 0], abs=0.01)
        assert errors.std(axis=0) == pytest.approx([deviation * np.sqrt(1 - score)] * 2, rel=0.03)


def test_draws_do_not_depend_on_batches():
    pictures = [results([0.5] * count) for count in (3, 0, 5, 2)]
    batches = [*drawn_truths(pictures[2:], ["3", "4"], 7), *drawn_truths(pictures[:2], ["1", "2"], 7)]
    for truth, again in zip(drawn(*pictures, seed=7), batches[2:] + batches[:2], strict=True):
        assert (truth.boxes == again.boxes).all()
        assert (truth.labels == again.labels).all()


def test_a_score_that_noise_puts_above_one_is_one():
    (truth,) = drawn(results([1 + 1e-7]))
    assert np.allclose(truth.boxes, [BOX])


def test_the_teacher_is_not_right_by_definition():
    pictures = [results([0.6])] * 300
    records = match_records(pictures, drawn(*pictures), 3)
    assert 0.05 < AveragePrecision().metrics(records)["AP"] < 0.6


def test_targets_of_answers_are_judged_as_any():
    boxes = np.array([[10.0, 20.0, 50.0, 100.0]])
    answers = [Detections(boxes, np.array([score]), np.array([1])) for score in (1.0, 0.0)]
    output = Output(answers, Logits(np.zeros((2, 1, 1)), np.ones((2, 1), dtype=bool)))
    task = load_task("detection")
    targets = task.pseudo_targets(output, output, 3, ["a", "b"])
    records = task.judge().match(answers, targets)
    assert records["truths"][:, :, 0].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert task.judge().metrics(records)["AP"] == pytest.approx(1)


# --- Result files alone ---


def entry(image, category, score):
    return {"image_id": image, "category_id": category, "bbox": BOX, "score": score}


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / f"{name}.json.gz"
        path.write_bytes(gzip.compress(json.dumps(content).encode()))
        return path

    return write


@pytest.fixture
def files(write):
    return {
        "student": write("student", [entry(7, 3, 0.5), entry(2, 3, 0.9)]),
        "teacher": write("teacher", [entry(7, 3, 1.0), entry(5, 8, 1.0)]),
    }


def energy(output):
    return {"free_energy": deferral_scores(output.logits, "free_energy")}


def test_result_files_tell_pictures_and_categories(files):
    pictures = pictures_of_results(list(files.values()))
    assert pictures.image_ids == (2, 5, 7)
    assert pictures.category_ids == (3, 8)
    assert detection.class_names(**files) == ("3", "8")


def test_a_pair_is_replayed_without_annotations(files, capsys):
    remarks = {}
    run = detection.load_pair(files, energy, remarks=remarks)
    assert run.image_ids == ("2", "5", "7")
    assert run.teacher["truths"][:, :, 0].tolist() == [[0, 0], [0, 1], [1, 0]]
    assert remarks == {"teacher": {"boxes drawn as objects, in place of annotations": 2}}
    assert "in place of annotations: 2" in capsys.readouterr().err


def test_a_file_of_pictures_tells_names_and_those_without_boxes(files, write):
    content = {
        "images": [{"id": image} for image in (2, 5, 7, 9)],
        "annotations": [],
        "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}],
    }
    described = files | {"pictures": write("pictures", content)}
    assert detection.class_names(**described) == ("cat", "dog")
    run = detection.load_pair(described, energy)
    assert run.image_ids == ("2", "5", "7", "9")
    assert run.teacher["counts"].tolist() == [0, 1, 1, 0]


def test_ids_of_two_kinds_are_refused(write):
    files = [write("one", [entry(7, 3, 0.5)]), write("other", [entry("a.jpg", 3, 0.5)])]
    with pytest.raises(
        InvalidInput, match=r"`image_id` in .* a whole number, or every one a text, got 'a.jpg'"
    ):
        pictures_of_results(files)


def test_an_entry_without_an_id_is_refused(write):
    with pytest.raises(InvalidInput, match="got None among others"):
        pictures_of_results([write("one", [{"category_id": 3}, entry(7, 3, 0.5)])])


def test_a_teacher_that_believes_in_nothing_is_refused(files, write):
    with pytest.raises(InvalidInput, match="boxes of the teacher that could be objects"):
        detection.load_pair(files | {"teacher": write("teacher", [entry(7, 3, 0.0)])}, energy)


def test_a_specialised_student_needs_the_names_of_classes(files):
    with pytest.raises(InvalidInput, match="`annotations` or `pictures`"):
        detection.load_pair(files, energy, popular=["cat"])


# --- Likely classes ---


@pytest.fixture
def logits():
    generator = np.random.default_rng(0)
    return [3 * generator.standard_normal((50, 7)) for _ in range(2)]


def probabilities(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_both_models_have_their_share(logits):
    student, teacher = map(probabilities, logits)
    assert np.allclose(pooled(*logits), TEACHER * teacher + (1 - TEACHER) * student)


def test_what_a_specialised_student_calls_other_is_spread_as_the_teacher_has_it(logits):
    narrow, teacher = logits[0][:, :3], logits[1]
    popular = Popular((0, 4), tuple("abcdefg"))
    wide = np.stack(widen(Output(list(narrow), Logits.one_row(narrow)), popular).predictions)
    of_student, of_teacher = probabilities(narrow), probabilities(teacher)
    expected = np.empty((50, 7))
    expected[:, [0, 4]] = of_student[:, :2]
    others = [1, 2, 3, 5, 6]
    shares = of_teacher[:, others] / of_teacher[:, others].sum(axis=1, keepdims=True)
    expected[:, others] = of_student[:, 2:] * shares
    assert np.allclose(pooled(wide, teacher), TEACHER * of_teacher + (1 - TEACHER) * expected)


@pytest.mark.parametrize("unknown", [[], [1, 2, 4, 5]])
def test_a_class_that_is_certain_is_a_label(logits, unknown):
    answers = np.round(logits[0])  # with ties
    answers[:, unknown] = -np.inf
    answers = np.concatenate([answers, np.zeros((50, 1))], axis=1)  # with "other"
    labels = np.arange(50) % 7
    records = Accuracy().match(answers, labels)
    certain = Accuracy().match(answers, np.eye(7)[labels])
    assert certain.keys() == records.keys()
    for name, column in records.items():
        assert (certain[name] == column).all()


def test_the_reward_is_what_the_formula_says(logits):
    student, teacher = logits
    task, rows = Accuracy(), np.arange(50)
    targets = pooled(student, teacher)
    s, t = student.argmax(axis=1), teacher.argmax(axis=1)
    of_student, of_teacher = probabilities(student), probabilities(teacher)
    expected = TEACHER * (of_teacher[rows, t] - of_teacher[rows, s])
    expected -= (1 - TEACHER) * (of_student[rows, s] - of_student[rows, t])
    reward = task.mixtures(task.match(student, targets), task.match(teacher, targets)).reward()
    assert np.allclose(reward, expected)
    assert (reward[s == t] == 0).all()


def test_nobody_knows_which_answers_are_right(logits):
    task = Accuracy()
    assert task.right(task.match(logits[0], pooled(*logits))) is None


def test_a_pair_of_classifiers_is_replayed_without_labels(tmp_path, logits):
    files = {name: tmp_path / f"{name}.npy" for name in ("student", "teacher")}
    for path, values in zip(files.values(), logits, strict=True):
        np.save(path, values)
    run = classification.load_pair(files, energy)
    targets = pooled(*logits)
    assert np.allclose(run.student["correct"], targets[np.arange(50), logits[0].argmax(axis=1)])
    assert classification.class_names(**files) == tuple("0123456")
    curve = sweep(run, Accuracy(), "free_energy")
    assert curve.student_quality == pytest.approx(run.student["correct"].mean())
    assert curve.teacher_quality == pytest.approx(run.teacher["correct"].mean())


def test_a_router_learns_from_likely_classes(logits):
    task = load_task("classification")
    outputs = [Output(list(values), Logits.one_row(values)) for values in logits]
    targets = task.pseudo_targets(*outputs, 7, list(map(str, range(50))))
    scores = {name: deferral_scores(outputs[0].logits, name) for name in task.routing.INPUT_SCORES}
    records = [task.judge().match(values, targets) for values in logits]
    run = PairedRun("classification", tuple(map(str, range(50))), scores, *records)
    router = task.routing.fit_router(run, rescaling="none", worth=np.ones(1))
    assert np.isfinite(router.scores(outputs[0])["learned"]).all()
