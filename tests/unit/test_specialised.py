"""A specialised student's answers among all classes, by loops of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ebjr_det.config import RouterSection
from ebjr_det.core.errors import CheckpointError, InvalidInput
from ebjr_det.core.router import ABSTAINED, abstaining_last, operating_points
from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.types import Logits, Output, PairedRun
from ebjr_det.inference.rates import DEFAULT_RATE, at_rate, default_rate
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.checkpoints.finding import check_classes
from ebjr_det.reporting.histogram_figure import Groups, HistogramFigure
from ebjr_det.routing.file import RouterHeader
from ebjr_det.routing.file import check_classes as check_router
from ebjr_det.tasks.classification import popular as classifier
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection import popular as detector
from ebjr_det.tasks.detection.coco.annotations import Annotations, Results, Truth
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.popular import Popular

NAMES = ("ant", "bee", "cow", "dog", "elk", "fox", "gnu")
POPULAR = Popular((1, 4, 5), NAMES)


def answers(images=40, seed=0):
    """A student's logits of three popular classes and other, float32 [images, 4]."""
    return np.random.default_rng(seed).normal(size=(images, 4)).astype(np.float32)


def boxes(images=30, seed=0):
    """A detector's boxes of the same four classes and their logits, padded: some images have none."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 6, size=images)
    values = np.zeros((images, 5, 4), np.float32)
    valid = np.arange(5) < counts[:, None]
    found = []
    for image, count in enumerate(counts):
        values[image, :count] = generator.normal(size=(count, 4))
        corner = generator.uniform(0, 50, (count, 2))
        corners = np.concatenate([corner, corner + generator.uniform(1, 30, (count, 2))], axis=1)
        found.append(
            Detections(
                corners,
                np.sort(generator.random(count))[::-1].copy(),
                generator.integers(0, 4, count),
                generator.random(count),
            )
        )
    return Output(found, Logits(values, valid))


# --- Classifiers ---


def test_a_classifiers_answer_is_its_popular_class_among_all_or_other():
    own = answers()
    wide = classifier.widen(Output(list(own), Logits.one_row(own)), POPULAR)
    for logits, answer, abstains in zip(own, wide.predictions, wide.abstains, strict=True):
        said = int(np.argmax(logits))
        assert abstains == (said == 3)
        assert int(np.argmax(answer)) == (7 if said == 3 else POPULAR.classes[said])
        assert sorted(answer[np.isfinite(answer)].tolist()) == sorted(logits.tolist())
    np.testing.assert_array_equal(wide.logits.values[:, 0], own)
    assert 0 < wide.abstains.sum() < len(own)


def test_a_class_that_the_student_does_not_tell_apart_is_never_right():
    own, labels = answers(), np.arange(40) % 7
    wide = classifier.widen(Output(list(own), Logits.one_row(own)), POPULAR)
    matched = Accuracy().match(wide.predictions, labels)
    popular = np.isin(labels, POPULAR.classes)
    np.testing.assert_array_equal(
        matched["top5_correct"], popular
    )  # four classes are known, so all in the top 5
    assert not matched["correct"][~popular].any()
    right = np.array([NAMES[label] == POPULAR.class_names[own[i].argmax()] for i, label in enumerate(labels)])
    np.testing.assert_array_equal(matched["correct"], right)


# --- Detectors ---


@pytest.mark.parametrize("other_at", [0.0, 0.3, 0.8, 1.0])
def test_a_detectors_boxes_of_other_are_dropped_and_hand_the_picture_on(other_at):
    before = boxes()
    wide = detector.widen(before, POPULAR, other_at)
    for image, own in enumerate(before.predictions):
        kept, rows, abstains = [], [], False
        for place in range(len(own)):
            if own.labels[place] == 3:
                abstains |= bool(own.scores[place] >= other_at)
                continue
            kept.append(
                (*own.boxes[place], own.scores[place], POPULAR.classes[own.labels[place]], own.support[place])
            )
            rows.append(before.logits.values[image, place])
        after = wide.predictions[image]
        got = np.column_stack([after.boxes, after.scores, after.labels, after.support])
        np.testing.assert_allclose(got, np.array(kept).reshape(-1, 7))
        np.testing.assert_array_equal(
            wide.logits.values[image][wide.logits.valid[image]], np.array(rows, np.float32).reshape(-1, 4)
        )
        assert wide.logits.valid[image, : len(kept)].all()
        assert wide.abstains[image] == abstains
    assert wide.logits.values.dtype == before.logits.values.dtype
    if other_at == 0.3:
        assert 0 < wide.abstains.sum() < len(before.predictions)


def test_a_result_files_boxes_are_widened_alike():
    before = boxes()
    wide = detector.widen(before, POPULAR, 0.4)
    for own, after, abstains in zip(before.predictions, wide.predictions, wide.abstains, strict=True):
        kept, handed_on = detector.widen_results(Results(own.boxes, own.scores, own.labels), POPULAR, 0.4)
        assert handed_on == abstains
        np.testing.assert_array_equal(kept.labels, after.labels)
        np.testing.assert_array_equal(kept.boxes, after.boxes)


def test_no_boxes_at_all_are_no_answer_and_no_doubt():
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.intp))
    wide = detector.widen(
        Output([nothing] * 2, Logits(np.zeros((2, 0, 4), np.float32), np.zeros((2, 0), bool))), POPULAR, 0.0
    )
    assert not wide.abstains.any()
    assert not wide.logits.valid.any()


def test_annotations_of_all_other_classes_become_other():
    truth = Truth(np.ones((4, 4)), np.array([0, 1, 5, 6]), np.ones(4), np.array([False, False, True, False]))
    ids = (2, 3, 5, 7, 11, 13, 17)
    whole = Annotations((1,), ("a.jpg",), np.array([[9, 9]]), ids, NAMES, (truth,))
    own = detector.narrow_annotations(whole, POPULAR)
    assert own.truths[0].labels.tolist() == [3, 0, 2, 3]
    assert own.truths[0].crowd.tolist() == truth.crowd.tolist()
    assert own.category_ids == (3, 11, 13, 18)
    assert own.class_names == ("bee", "elk", "fox", "other")


# --- Scores ---


@pytest.mark.parametrize("name", ["free_energy", "max_softmax", "margin", "entropy"])
@pytest.mark.parametrize("seen", [True, False])
def test_scores_see_the_logit_of_other_or_not(name, seen):
    own = answers()
    wide = classifier.widen(Output(list(own), Logits.one_row(own)), POPULAR)
    scoring = Scoring.load("classification", RouterSection(score=name, other_logit=seen))
    expected = deferral_scores(Logits.one_row(own if seen else own[:, :3]), name)
    np.testing.assert_array_equal(scoring.scores_of_raw(wide)[name], expected)

    class Student:
        name = "student"

        def __call__(self, inputs):
            return wide

    decides = scoring.score(scoring.adapted(Student())([0]))
    np.testing.assert_array_equal(decides, expected + ABSTAINED * wide.abstains)


def test_one_popular_class_alone_is_a_lone_logit():
    own, popular = answers()[:, :2], Popular((2,), NAMES)
    wide = classifier.widen(Output(list(own), Logits.one_row(own)), popular)
    scoring = Scoring.load("classification", RouterSection(other_logit=False))
    found = scoring.scores_of_raw(wide)
    assert set(found) == {name for name, score in SCORES.items() if not score.all_classes}
    np.testing.assert_allclose(found["free_energy"], -own[:, 0].astype(float))


def test_every_threshold_among_the_others_defers_all_that_is_handed_on():
    generator = np.random.default_rng(0)
    scores, abstains = generator.normal(size=50), generator.random(50) < 0.4
    decides = abstaining_last(scores, abstains)
    thresholds, _ = operating_points(decides)
    assert thresholds[(thresholds <= scores[~abstains].max())].size > 20
    for threshold in thresholds[(thresholds <= scores[~abstains].max())]:
        assert (decides > threshold)[abstains].all()
    order = np.argsort(-decides, kind="stable")
    assert abstains[order[: abstains.sum()]].all()
    assert (np.diff(scores[order[: abstains.sum()]]) <= 0).all()


@pytest.mark.parametrize("scores", [[0.0, 500_000.5], [-500_001.0, 2.0]])
def test_scores_that_reach_into_those_handed_on_are_refused(scores):
    with pytest.raises(InvalidInput, match="within"):
        abstaining_last(np.array(scores), np.array([True, False]))
    assert abstaining_last(np.array(scores), None).tolist() == scores


# --- Weights and routers of other students ---


def test_weights_of_other_classes_are_refused_and_foreign_words_are_not(tmp_path):
    from safetensors.numpy import save_file

    def check(told, names):
        save_file({"a": np.zeros(1)}, tmp_path / "w.safetensors", metadata={"classes": told})
        check_classes(tmp_path / "w.safetensors", names)

    check('["bee", "other"]', ["bee", "other"])
    for told in ('["bee", "ant", "other"]', '["elk", "other"]', '["other", "bee"]'):
        with pytest.raises(CheckpointError, match="Expected weights for 2 classes"):
            check(told, ["bee", "other"])
    for foreign in ("not json", "80", "[" * 30):
        check(foreign, ["bee", "other"])


ROUTER = RouterHeader(
    "classification", "margin", "none", 7, NAMES, "", "", ("1",), (0.0,), popular=("bee", "fox")
)
INDICES = tuple("0123456")


@pytest.mark.parametrize(("names", "popular", "says"), [
    (NAMES, (), "student of all classes"), (NAMES, ("bee",), r"1 popular classes \(bee\)"),
    (NAMES, ("bee", "gnu"), "bee, gnu"), (INDICES, ("1", "4"), "1, 4"),
    (INDICES[:6], ("1", "5"), "6 classes"), ((*NAMES[:6], "hen"), ("bee", "fox"), "in one of them only"),
])  # fmt: skip
def test_a_router_of_another_students_classes_is_refused(names, popular, says):
    check_router(ROUTER, NAMES, "r", ("bee", "fox"))
    check_router(ROUTER, INDICES, "r", ("1", "5"))  # files that tell no names
    with pytest.raises(InvalidInput, match=says):
        check_router(ROUTER, names, "r", popular)
    with pytest.raises(InvalidInput, match="all classes"):
        check_router(replace(ROUTER, popular=()), NAMES, "r", ("bee", "fox"))


# --- The figure ---


def drawn(tmp_path: Path, threshold: float, abstains: np.ndarray) -> str:
    values = np.linspace(-1, 1, 20) + ABSTAINED * abstains
    needy = np.arange(20) % 3 == 0
    groups = Groups(needy, "student wrong", "student right")
    words = {"score": "margin", "formula": "f", "title": "t"}
    HistogramFigure(values, groups, threshold, **words, handed_on=abstains).write(tmp_path / "h")
    return (tmp_path / "h.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("threshold", "says"),
    [
        (0.0, ["sent to the teacher, 6 of them as other, not drawn", "threshold 0<", "10 images (50.0 %)"]),
        (ABSTAINED / 2, ["threshold above all of these", "6 images (30.0 %)", "teacher, 6 of them as other"]),
        (ABSTAINED + 0.75, ["threshold above all of these", "student, 3 of them", "teacher, 3 of them"]),
        (np.inf, ["every image stays with the student", "with the student, 6 of them as other, not drawn"]),
    ],
)
def test_the_histogram_shows_the_others_and_tells_how_many_were_handed_on(tmp_path, threshold, says):
    told = drawn(tmp_path, threshold, np.arange(20) >= 14)
    for words in says:
        assert words in told, words
    assert "1e6" not in told
    assert "student wrong" in told


def test_the_histogram_of_nothing_but_other_is_drawn_all_the_same(tmp_path):
    assert "not drawn" not in drawn(tmp_path, 0.0, np.ones(20, bool))


def test_by_default_all_that_is_other_is_deferred_and_three_in_ten_of_the_rest():
    abstains = np.arange(50) < 20
    scores = {"free_energy": np.random.default_rng(0).normal(size=50)}
    records = {"correct": abstains, "top5_correct": abstains}
    run = PairedRun("classification", tuple(map(str, range(50))), scores, records, records, abstains=abstains)
    defer = at_rate(run, "free_energy", default_rate(run)).defer
    assert defer[abstains].all()
    assert defer[~abstains].sum() == 9
    assert default_rate(replace(run, abstains=None)) == DEFAULT_RATE == 0.3
