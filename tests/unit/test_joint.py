"""The pair at work: who is called with what, in which order, and how a broken run goes on."""

import weakref

import numpy as np
import pytest

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel, JointTeacher, LeapTeacher
from ebjr_det.core.router import decide, operating_points
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.tiers import Chain, TieredRun, answering
from ebjr_det.core.types import Logits, Output
from ebjr_det.evaluation.tiers.front import Sweep
from ebjr_det.inference.latency import TimedModel
from ebjr_det.inference.offline import Batch, Recorder, run_pair
from ebjr_det.io.load import Stopwatch
from ebjr_det.io.records import PartStore
from ebjr_det.tasks.classification.metric import Accuracy

IMAGES = np.random.default_rng(0).normal(scale=2, size=(11, 4))
LABELS = np.random.default_rng(1).integers(4, size=11)
THRESHOLD = -2.5
NAMES = ("free_energy", "entropy", "random")


def free_energy(output):
    return deferral_scores(output.logits, "free_energy")


def three_scores(output):
    return {name: deferral_scores(output.logits, name) for name in NAMES}


def answered(values):
    return Output(list(values), Logits.one_row(values))


class Elementwise:
    """A model whose logits are an image's own numbers, so the same in any batch; it counts its calls."""

    def __init__(self, name, factor, fails_at=None):
        self.name, self.factor, self.fails_at = name, factor, fails_at
        self.preprocessed = 0
        self.batch_sizes = []

    def preprocess(self, image):
        self.preprocessed += 1
        return image * self.factor

    def __call__(self, inputs):
        if len(self.batch_sizes) == self.fails_at:
            raise RuntimeError("power cut")
        self.batch_sizes.append(len(inputs))
        values = np.stack(list(inputs)) + 0.25
        return Output([(self.name, tuple(row)) for row in values], Logits.one_row(values))


class Classifier(Elementwise):
    """The same with logits as predictions, as the classification task wants them."""

    def __call__(self, inputs):
        output = super().__call__(inputs)
        return Output(list(output.logits.values[:, 0]), output.logits)


def build_pair(threshold=THRESHOLD):
    return JointModel(Elementwise("student", 1.0), Elementwise("teacher", -3.0), free_energy, threshold)


def answer_of(name, factor, image):
    return name, tuple(image * factor + 0.25)


# --- Live ---


def test_each_image_gets_the_answer_of_the_model_that_the_router_chose():
    output = build_pair()(IMAGES)
    defer = decide(free_energy(answered(IMAGES + 0.25)), THRESHOLD).defer
    assert 0 < defer.sum() < len(IMAGES)
    assert output.decision.defer.tolist() == defer.tolist()
    assert output.decision.threshold == THRESHOLD
    expected = [
        answer_of("teacher", -3.0, image) if deferred else answer_of("student", 1.0, image)
        for image, deferred in zip(IMAGES, defer, strict=True)
    ]
    assert output.predictions == expected


def test_the_teacher_sees_the_deferred_images_as_one_batch_and_preprocesses_no_other():
    pair = build_pair()
    deferred = int(pair(IMAGES).decision.defer.sum())
    assert pair.student.batch_sizes == [len(IMAGES)]
    assert pair.student.preprocessed == len(IMAGES)
    assert pair.teacher.batch_sizes == [deferred]
    assert pair.teacher.preprocessed == deferred


def test_the_teacher_is_not_called_when_nothing_is_deferred():
    pair = build_pair(threshold=np.inf)
    output = pair(IMAGES)
    assert pair.teacher.batch_sizes == []
    assert pair.teacher.preprocessed == 0
    assert output.predictions == [answer_of("student", 1.0, image) for image in IMAGES]


def test_the_teacher_answers_all_when_all_are_deferred():
    pair = build_pair(threshold=-np.inf)
    assert pair(IMAGES).predictions == [answer_of("teacher", -3.0, image) for image in IMAGES]
    assert pair.student.batch_sizes == pair.teacher.batch_sizes == [len(IMAGES)]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_answers_do_not_depend_on_the_batch_size(size):
    thresholds, _ = operating_points(free_energy(answered(IMAGES + 0.25)))
    for threshold in thresholds:
        whole = build_pair(threshold)(IMAGES)
        parts = [build_pair(threshold)(IMAGES[at : at + size]) for at in range(0, len(IMAGES), size)]
        assert [answer for part in parts for answer in part.predictions] == whole.predictions
        scores = np.concatenate([part.decision.scores for part in parts])
        np.testing.assert_array_equal(scores, whole.decision.scores)


def test_an_image_that_ties_with_the_threshold_stays_with_the_student():
    scores = free_energy(answered(IMAGES + 0.25))
    output = build_pair(threshold=float(np.sort(scores)[-3]))(IMAGES)
    assert output.decision.defer.sum() == 2


def test_the_threshold_can_be_moved_between_batches():
    pair = build_pair(threshold=np.inf)
    pair(IMAGES)
    pair.threshold = -np.inf
    assert pair(IMAGES).decision.deferral_rate == 1.0


def test_prepared_inputs_ask_for_the_teachers_input_of_deferred_images_only():
    pair, asked = build_pair(), []

    def teacher_input(index):
        asked.append(index)
        return IMAGES[index] * -3.0

    output, decision = pair.judge(list(IMAGES))
    predictions = pair.joined(output, decision, teacher_input)
    assert asked == decision.defer.nonzero()[0].tolist()
    assert all(type(index) is int for index in asked)
    assert predictions == build_pair()(IMAGES).predictions


def test_an_empty_batch_is_refused():
    with pytest.raises(InvalidInput, match="empty batch"):
        build_pair()([])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(InvalidInput, match="finite logits"):
        build_pair()([IMAGES[0], IMAGES[1] * bad])


class Forgetful(Elementwise):
    """A model that loses the last image of a batch."""

    def __call__(self, inputs):
        return super().__call__(inputs[:-1])


@pytest.mark.parametrize(("side", "threshold"), [("student", np.inf), ("teacher", -np.inf)])
def test_a_model_that_loses_an_image_is_named(side, threshold):
    models = [(Forgetful if name == side else Elementwise)(name, 1.0) for name in ("student", "teacher")]
    with pytest.raises(InvalidInput, match=side):
        JointModel(*models, free_energy, threshold)(IMAGES)


def test_the_two_steps_alone_say_what_the_pair_says():
    pair, whole = build_pair(), build_pair()(IMAGES)
    output, decision = pair.judge([pair.student.preprocess(image) for image in IMAGES])
    np.testing.assert_array_equal(decision.scores, whole.decision.scores)
    np.testing.assert_array_equal(decision.defer, whole.decision.defer)
    assert pair.teacher.batch_sizes == []
    better = iter(pair.teach([pair.teacher.preprocess(image) for image in IMAGES[decision.defer]]))
    rows = zip(output.predictions, decision.defer, strict=True)
    assert [next(better) if defer else own for own, defer in rows] == whole.predictions


def test_the_steps_refuse_an_empty_batch_and_a_lost_image():
    with pytest.raises(InvalidInput, match="empty batch"):
        build_pair().judge([])
    pair = JointModel(Forgetful("student", 1.0), Forgetful("teacher", 1.0), free_energy, np.inf)
    with pytest.raises(InvalidInput, match="student"):
        pair.judge(IMAGES)
    with pytest.raises(InvalidInput, match="teacher"):
        pair.teach(IMAGES)


@pytest.mark.parametrize(
    "timed", [lambda model: model, lambda model: TimedModel(model, Stopwatch(), "stage")]
)
@pytest.mark.parametrize("tiers", [2, 3, 4])
def test_in_a_leap_the_first_score_picks_who_answers_and_nobody_else_is_run(tiers, timed):
    images = np.random.default_rng(2).normal(scale=2, size=(60, 4))
    models = [Elementwise(f"model {tier}", 1.0 - tier) for tier in range(tiers)]
    thresholds = [-3.5, -2.5, -1.5][: tiers - 1]
    teacher = models[-1]
    for model, threshold in zip(models[-2:0:-1], thresholds[:0:-1], strict=True):
        teacher = LeapTeacher(JointModel(model, teacher, "entropy", threshold))
    answer = JointModel(models[0], timed(teacher), free_energy, thresholds[0])(images)
    scores = answer.decision.scores
    tier_of = answering(np.stack([scores] * (tiers - 1)), thresholds)
    counts = np.bincount(tier_of, minlength=tiers)
    assert (counts > 2).all()
    expected = [
        answer_of(f"model {tier}", 1.0 - tier, image) for tier, image in zip(tier_of, images, strict=True)
    ]
    assert answer.predictions == expected
    assert [sum(model.batch_sizes) for model in models] == [60, *counts[1:]]
    assert [model.preprocessed for model in models] == [60, *counts[1:]]


def test_a_picture_without_a_score_is_the_last_models():
    leap = LeapTeacher(JointModel(Elementwise("middle", 2.0), Elementwise("large", 3.0), "entropy", 0.1))
    assert leap([leap.preprocess(IMAGES[0])]).predictions == [answer_of("large", 3.0, IMAGES[0])]


# --- Offline ---


def batches_of(size, images=IMAGES, ids=None):
    """A function from the last image that is done to the batches after it, as loaders give them."""
    names = ids or [f"image-{index}" for index in range(len(images))]

    def batches_after(last):
        for at in range(names.index(last) + 1 if last else 0, len(images), size):
            part = slice(at, at + size)
            yield Batch(names[part], list(images[part]), list(-3 * images[part]), list(LABELS[part]))

    return batches_after


def evaluated(folder, batches, student=None, teacher=None, scores=three_scores, flush_seconds=-1.0):
    models = student or Classifier("student", 1.0), teacher or Classifier("teacher", 1.0)
    recorder = Recorder(*models, Accuracy(), scores)
    return run_pair(recorder, batches, len(IMAGES), PartStore(folder), flush_seconds=flush_seconds)


def assert_identical(first, second):
    assert (first.task, first.image_ids) == (second.task, second.image_ids)
    for group in ("scores", "student", "teacher"):
        columns = getattr(first, group), getattr(second, group)
        assert set(columns[0]) == set(columns[1])
        for name in columns[0]:
            assert columns[0][name].dtype == columns[1][name].dtype
            np.testing.assert_array_equal(columns[0][name], columns[1][name])


@pytest.mark.parametrize("flush_seconds", [-1.0, 1e9])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 11])
def test_a_run_holds_both_models_records_and_the_scores_in_order(tmp_path, size, flush_seconds):
    run = evaluated(tmp_path / "parts", batches_of(size), flush_seconds=flush_seconds)
    task = Accuracy()
    assert run.task == "classification"
    assert run.image_ids == tuple(f"image-{index}" for index in range(11))
    for name, values in three_scores(answered(IMAGES + 0.25)).items():
        np.testing.assert_array_equal(run.scores[name], values)
    for records, expected in (
        (run.student, task.match(IMAGES + 0.25, LABELS)),
        (run.teacher, task.match(-3 * IMAGES + 0.25, LABELS)),
    ):
        assert {name: column.tolist() for name, column in records.items()} == {
            name: column.tolist() for name, column in expected.items()
        }


def test_a_batch_is_pulled_only_when_the_one_before_is_done(tmp_path):
    student, teacher = Classifier("student", 1.0), Classifier("teacher", 1.0)

    def batches_after(last):
        for index, batch in enumerate(batches_of(2)(last)):
            assert len(student.batch_sizes) == len(teacher.batch_sizes) == index
            yield batch

    evaluated(tmp_path, batches_after, student, teacher)
    assert student.batch_sizes == teacher.batch_sizes == [2, 2, 2, 2, 2, 1]


class Watched(Classifier):
    """A classifier that hands its logits to a watcher."""

    def __init__(self, name, watch):
        super().__init__(name, 1.0)
        self.watch = watch

    def __call__(self, inputs):
        output = super().__call__(inputs)
        self.watch(output.logits.values)
        return output


def test_inputs_and_logits_are_released_after_their_batch(tmp_path):
    """When batch i is pulled, nothing of the batches up to i - 2 is alive; the loop itself holds i - 1."""
    batches = []  # weak references to all arrays of a batch

    def watch(array):
        batches[-1].append(weakref.ref(array))
        return array

    def alive(upto):
        return [ref for refs in batches[:upto] for ref in refs if ref() is not None]

    def batches_after(last):
        for at in range(6):
            assert not alive(upto=at - 1)
            batches.append([])
            yield Batch([f"{at}"], [watch(IMAGES[at] + 0)], [watch(IMAGES[at] + 1)], [0])

    models = Watched("student", watch), Watched("teacher", watch)
    run = evaluated(tmp_path, batches_after, *models, flush_seconds=1e9)
    assert len(run) == 6
    assert [len(refs) for refs in batches] == [4] * 6
    assert not alive(upto=6)


class Cut:
    """Something of a run that raises at one batch."""

    def __init__(self, function, at):
        self.function, self.left = function, at

    def __call__(self, *arguments):
        if self.left == 0:
            raise RuntimeError("power cut")
        self.left -= 1
        return self.function(*arguments)


def cut_batches(size, at):
    def batches_after(last):
        for index, batch in enumerate(batches_of(size)(last)):
            if index == at:
                raise RuntimeError("power cut")
            yield batch

    return batches_after


@pytest.mark.parametrize("flush_seconds", [-1.0, 1e9])
@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("where", ["student", "teacher", "loader", "scores"])
def test_a_run_broken_at_any_batch_goes_on_to_the_identical_result(tmp_path, where, at, flush_seconds):
    broken = {
        "student": {"student": Classifier("student", 1.0, fails_at=at)},
        "teacher": {"teacher": Classifier("teacher", 1.0, fails_at=at)},
        "loader": {"batches": cut_batches(2, at)},
        "scores": {"scores": Cut(three_scores, at)},
    }[where]
    with pytest.raises(RuntimeError, match="power cut"):
        evaluated(tmp_path / "cut", **{"batches": batches_of(2), "flush_seconds": flush_seconds} | broken)
    student = Classifier("student", 1.0)
    resumed = evaluated(tmp_path / "cut", batches_of(2), student)
    assert_identical(resumed, evaluated(tmp_path / "whole", batches_of(2)))
    assert len(student.batch_sizes) == (6 - at if flush_seconds < 0 else 6)


def test_a_run_that_is_complete_calls_no_model_again(tmp_path):
    first = evaluated(tmp_path, batches_of(3))
    idle = Classifier("student", 1.0, fails_at=0)
    assert_identical(evaluated(tmp_path, batches_of(3), student=idle), first)


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_batch_whose_logits_are_not_finite_is_named(tmp_path, side):
    images = IMAGES.copy()
    images[7, 2] = np.nan

    def batches_after(last):
        for batch in batches_of(3, images)(last):
            clean = [np.nan_to_num(x) for x in batch.student_inputs]
            inputs = (batch.student_inputs, clean) if side == "student" else (clean, batch.teacher_inputs)
            yield Batch(batch.image_ids, *inputs, batch.targets)

    with pytest.raises(InvalidInput, match=r"finite logits.*`image-6` to `image-8`"):
        evaluated(tmp_path, batches_after)
    assert len(PartStore(tmp_path).load()) == 2  # what was finished is kept


@pytest.mark.parametrize(
    ("index", "says"),
    [(4, "`image-3` more than once.*`image-3` to `image-5`"), (9, "`image-3` more than once")],
)
def test_an_id_that_comes_twice_in_a_batch_or_in_a_later_one_is_named(tmp_path, index, says):
    ids = [f"image-{number}" for number in range(11)]
    ids[index] = "image-3"
    with pytest.raises(InvalidInput, match=says):
        evaluated(tmp_path, batches_of(3, ids=ids))


def test_no_images_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="empty data set"):
        evaluated(tmp_path, lambda start: iter(()))


def test_a_model_that_loses_an_image_stops_the_run(tmp_path):
    with pytest.raises(InvalidInput):
        evaluated(tmp_path, batches_of(2, IMAGES[:10]), teacher=ForgetfulClassifier("teacher", 1.0))


class ForgetfulClassifier(Classifier):
    """A classifier that loses the last image of a batch."""

    def __call__(self, inputs):
        return super().__call__(inputs[:-1])


def test_parts_with_other_scores_are_refused(tmp_path):
    with pytest.raises(RuntimeError):
        evaluated(tmp_path, cut_batches(2, 3), scores=lambda output: {"entropy": free_energy(output)})
    with pytest.raises(InvalidInput):
        evaluated(tmp_path, batches_of(2))


# --- More than two models ---


def test_a_cascade_of_three_decides_live_as_offline_on_500_pictures():
    generator, names = np.random.default_rng(0), ("small", "middle", "large")
    images, labels = generator.normal(scale=2, size=(500, 4)), generator.integers(4, size=500)
    models = [Classifier(name, factor) for name, factor in zip(names, (0.3, 1.0, -1.0), strict=True)]
    outputs = [model([model.preprocess(image) for image in images]) for model in models]
    task = Accuracy()
    run = TieredRun(
        "classification",
        tuple(map(str, range(500))),
        {name: task.match(output.predictions, labels) for name, output in zip(names, outputs, strict=True)},
        {
            name: {"free_energy": free_energy(output)}
            for name, output in zip(names[:2], outputs, strict=False)
        },
    )
    chain = Chain(names, ("free_energy",) * 2)
    point = Sweep(run, task, chain).line((300,), [100])
    first, second = point.thresholds[0].tolist()
    inner = JointModel(models[1], models[2], "free_energy", second)
    cascade = JointModel(models[0], JointTeacher(inner), "free_energy", first)
    asked = [sum(model.batch_sizes) for model in models]
    answers = [answer for at in range(0, 500, 7) for answer in cascade(images[at : at + 7]).predictions]
    tiers = answering(chain.values(run), [first, second])
    assert np.bincount(tiers).tolist() == [200, 200, 100]
    for answer, tier, *rows in zip(answers, tiers, *(output.predictions for output in outputs), strict=True):
        assert answer.tolist() == rows[tier].tolist()
    assert [sum(m.batch_sizes) - n for m, n in zip(models, asked, strict=True)] == [500, 300, 100]
    assert inner.teacher.name in JointTeacher(inner).name
    assert task.metrics(task.match(answers, labels))["accuracy"] == point.quality[0]
