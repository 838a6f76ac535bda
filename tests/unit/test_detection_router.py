"""A fitted router of detectors: its rows by hand, and scores that are the same live and from a file."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import spearmanr

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import PairedRun
from ebjr_det.routing.file import RouterFile, RouterHeader
from ebjr_det.tasks.detection.boxes import Boxes
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.router import LEARNED, DetectionRouting
from ebjr_det.tasks.detection.routing.box_scores import BOX_SCORES
from ebjr_det.tasks.detection.routing.features import KNOTS, NAMES, ClassHistory, class_rows

TASK = AveragePrecision()
ROUTING = DetectionRouting()
IMAGES, CLASSES = 60, 4
ONES = np.ones(CLASSES)
COUNTED = {name for name, score in BOX_SCORES.items() if score.counts}


def named(kind):
    """Names of the scores of a kind."""
    return {name for name, score in ROUTING.SCORES.items() if getattr(score, kind)}


def detections(*found):
    """Of (x, y, width, height, score, label)."""
    table = np.array(found, dtype=np.float64).reshape(-1, 6)
    corners = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(corners, table[:, 4], table[:, 5].astype(np.intp))


# --- Rows ---

STEPS = np.arange(len(KNOTS))
HISTORY = ClassHistory(
    np.array([3.0, 1.0]),
    np.array([0.5, 0.2]),
    np.array([0.6, 0.4]),
    np.stack([STEPS, 100.0 + STEPS]),
    np.stack([STEPS / 10, 10 + STEPS / 10]),
)
# Two boxes of class 0 that overlap by 1/2, one of class 1 over both; a picture with one box; one without.
SCENES = (
    detections((0, 0, 10, 10, 0.2, 0), (0, 0, 40, 20, 0.4, 1), (0, 0, 20, 10, 0.6, 0)),
    detections(),
    detections((5, 5, 1, 3, 0.05, 1)),
)
PICTURE = [1.2, 0.64, 2, 3, 0.6]
BY_HAND = [
    [
        *(0.6, 0.2, 0, logit(0.6), 0.8, 0.24 + 0.16, 0.24, 2, 2, 1),
        *(np.log(201), (0.6 * np.log(201) + 0.2 * np.log(101)) / 0.8, np.log(101), np.log(21 / 11)),
        *(0.5 * 0.2, 0.25 * 0.4),
        *(*PICTURE, 0.8 / 1.2),
        *(np.log(4), 0.5, 0.6, (3.3 + 0.5) / (33 + 1), 3.3 / 4),  # logit 0.41 stands above knot 33, 0.25
    ],
    [
        *(0.4, 0, 0, logit(0.4), 0.4, 0.24, 0.24, 1, 1, 1),
        *(np.log(801), np.log(801), np.log(801), np.log(41 / 21)),
        *(0, 0.25 * 0.6),
        *(*PICTURE, 0.4 / 1.2),
        *(np.log(2), 0.2, 0.4, (13.0 + 0.5) / (130 + 1), 3),  # knot 30; the recall of 13 / 2 is cut at 3
    ],
    [
        *(0.05, 0, 0, logit(0.05), 0.05, 0.0475, 0.0475, 0, 0, 0),
        *(np.log(4), np.log(4), np.log(4), np.log(2 / 4)),
        *(0, 0),
        *(0.05, 0.0475, 0, 0, 0.05, 1),
        *(np.log(2), 0.2, 0.4, (12.0 + 0.5) / (120 + 1), 3),
    ],
]


def test_rows_by_hand():
    rows = class_rows(Boxes.of_predictions(SCENES), HISTORY)
    assert (rows.image.tolist(), rows.label.tolist()) == ([0, 0, 2], [0, 1, 1])
    assert rows.values.dtype == np.float32
    assert rows.values.shape == (3, len(NAMES))
    for row, expected in zip(rows.values, BY_HAND, strict=True):
        for name, got, number in zip(NAMES, row, expected, strict=True):
            assert got == pytest.approx(number, rel=1e-6, abs=1e-7), name


def test_no_boxes_have_no_rows():
    rows = class_rows(Boxes.of_predictions([detections()] * 3), HISTORY)
    assert rows.values.shape == (0, len(NAMES))
    assert len(rows.image) == len(rows.label) == 0


def test_a_score_beyond_the_knots_stands_at_the_last():
    ends = [detections((0, 0, 9, 9, 0.0, 0)), detections((0, 0, 9, 9, 1.0, 0))]
    rows = class_rows(Boxes.of_predictions(ends), HISTORY)
    np.testing.assert_allclose(rows.values[:, NAMES.index("precision there")], [0.5, 6.9 / 65], rtol=1e-6)
    assert np.isfinite(rows.values).all()


scored_boxes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), max_size=30)


@given(found=scored_boxes)
def test_a_history_counts_the_boxes_of_a_class_from_every_logit_up(found):
    boxes = Boxes.of_predictions([detections(*((0, 0, 5, 5, *own) for own in found))])
    history = ClassHistory.of(boxes, np.zeros(3), -np.ones(3), -np.ones(3))
    for label in range(3):
        scores = np.array([score for score, own in found if own == label])
        above = logit(np.clip(scores, 1e-9, 1 - 1e-9)) >= KNOTS[:, None]
        np.testing.assert_array_equal(history.boxes[label], above.sum(axis=1))
        np.testing.assert_allclose(history.objects[label], (above * scores).sum(axis=1), rtol=1e-12)


def test_the_ap_of_a_class_is_drawn_to_the_mean_where_it_has_few_objects():
    none = Boxes.of_predictions([detections()])
    seen = np.array([10.0, 0.0, 30.0])
    history = ClassHistory.of(none, seen, np.array([0.5, -1.0, 0.2]), -np.ones(3))
    np.testing.assert_allclose(history.student, [(5 + 3.5) / 20, 0.35, (6 + 3.5) / 40])
    assert history.teacher.tolist() == [0, 0, 0]


# --- A fitted router ---


@pytest.fixture(scope="module")
def run(detectors):
    return detectors(IMAGES, CLASSES, 0)


@pytest.fixture(scope="module")
def router(run):
    return ROUTING.fit_router(run, rescaling="affine", worth=np.array([1.0, 1.0, 2.0, 0.5]))


@pytest.fixture(scope="module")
def others(scenes):
    """Other pictures: the student's detections, the teacher's, targets."""
    return scenes(40, CLASSES, 1)


def run_of(student, teacher, targets):
    ids = tuple(map(str, range(len(targets))))
    return PairedRun("detection", ids, {}, TASK.match(student, targets), TASK.match(teacher, targets))


def assert_same(first, second, within=0.0):
    assert set(first) == set(second)
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=0, atol=within, err_msg=name)


def test_every_score_of_a_batch_is_a_finite_number_an_image(router, others, answered):
    scores = router.scores(router.rescale(answered(others[0])))
    assert set(scores) == set(BOX_SCORES) - named("whole_set") - named("candidates") | {LEARNED}
    for values in scores.values():
        assert (values.shape, values.dtype) == ((40,), np.float64)
        assert np.isfinite(values).all()
    assert len(np.unique(scores[LEARNED])) > 30


def test_a_batch_scores_as_its_images_one_by_one(router, others, answered):
    whole = router.scores(answered(others[0]))
    alone = [router.scores(answered([own])) for own in others[0]]
    assert_same(whole, {name: np.concatenate([own[name] for own in alone]) for name in whole}, 1e-12)


def test_records_score_as_the_live_answers(router, others, answered):
    run = run_of(*others)
    run = replace(run, student=router.rescale_records(run.student))
    of_set, live = router.scores_of_set(run), router.scores(router.rescale(answered(others[0])))
    assert set(of_set) == set(live) | named("whole_set")
    assert_same(live, {name: of_set[name] for name in live}, 1e-9)


def test_one_score_alone_is_that_one(router, others, answered):
    output = router.rescale(answered(others[0]))
    scores = router.scores(output)
    assert_same({name: router.score(name, output) for name in scores}, scores)


def test_scores_do_not_look_at_annotated_objects(router, others):
    run = run_of(*others)
    generator = np.random.default_rng(0)
    student = dict(run.student)
    for name in ("matched", "ignored"):
        student[name] = generator.permutation(student[name])
    student["truths"] = generator.permutation(student["truths"])
    assert (student["matched"] != run.student["matched"]).any()
    blind = replace(run, student=student, teacher=run.student)
    assert_same(router.scores_of_set(blind), router.scores_of_set(run))
    rescaled = router.rescale_records(student)["score"]
    np.testing.assert_array_equal(rescaled, router.rescale_records(run.student)["score"])


def test_pictures_without_boxes_gain_nothing(router, answered):
    assert router.scores(answered([detections()] * 2))[LEARNED].tolist() == [0.0, 0.0]


def test_a_class_that_is_worth_nothing_gains_nothing(run, answered):
    router = ROUTING.fit_router(run, rescaling="none", worth=np.array([1.0, 0.0, 1.0, 1.0]))
    own, other = (detections((0, 0, 50, 50, 0.5, label)) for label in (1, 2))
    scores = router.scores(answered([own, other]))
    assert scores[LEARNED][0] == 0 != scores[LEARNED][1]
    assert scores["class_curvature"][0] == 0 < scores["class_curvature"][1]


def test_what_was_learned_orders_other_pictures_better_than_chance(detectors):
    router = ROUTING.fit_router(detectors(400, CLASSES, 0), rescaling="none", worth=ONES)
    test = detectors(200, CLASSES, 1)
    reward = TASK.mixtures(test.student, test.teacher).reward()
    assert spearmanr(router.scores_of_set(test)[LEARNED], reward).statistic > 0.2


def test_counts_and_history_are_those_of_the_run(run, router):
    seen = run.student["truths"][:, :, 0].sum(axis=0)
    assert router.counts.seen.tolist() == router.history.seen.tolist() == seen.tolist()
    assert router.counts.images == IMAGES
    boxes = Boxes.of_records(router.rescale_records(run.student))
    student, teacher = (TASK.by_class(own)[:, 0] for own in (run.student, run.teacher))
    assert_same(router.history.__dict__, ClassHistory.of(boxes, seen, student, teacher).__dict__)


def test_the_seed_decides_the_trees(run):
    first, again, other = (
        ROUTING.fit_router(run, rescaling="none", worth=ONES, seed=seed).to_arrays() for seed in (0, 0, 1)
    )
    assert_same(first, again)
    assert (
        first["forest/limit"].shape != other["forest/limit"].shape
        or (first["forest/limit"] != other["forest/limit"]).any()
    )


def test_without_learning_there_is_all_but_the_learned_score(run, router, others, answered):
    quick = ROUTING.fit_router(run, rescaling="affine", worth=router.counts.worth, learn=False)
    output = answered(others[0])
    expected = router.scores(output)
    del expected[LEARNED]
    assert_same(quick.scores(output), expected)


def test_without_a_rescaling_answers_stay_as_they_are(run, others, answered):
    plain = ROUTING.fit_router(run, rescaling="none", worth=ONES, learn=False)
    output = answered(others[0])
    assert plain.rescale(output) is output
    assert plain.rescale_records(run.student) is run.student


def test_nothing_annotated_that_the_student_finds_cannot_be_learned_from(run):
    nothing = {side: {**getattr(run, side)} for side in ("student", "teacher")}
    for own in nothing.values():
        own["truths"] = np.zeros_like(own["truths"])
    with pytest.raises(InvalidInput, match="got none to learn from"):
        ROUTING.fit_router(replace(run, **nothing), rescaling="none", worth=ONES)


# --- There and back ---


@pytest.mark.parametrize("rescaling", ["none", "affine_by_class"])
def test_a_router_from_a_file_scores_to_the_bit(run, others, answered, tmp_path, rescaling):
    router = ROUTING.fit_router(run, rescaling=rescaling, worth=ONES)
    header = RouterHeader("detection", LEARNED, rescaling, CLASSES, (), "", "", (), ())
    RouterFile(header, np.zeros(3), np.zeros(3), router.to_arrays()).save(tmp_path / "r.safetensors")
    again = ROUTING.load_router(RouterFile.load(tmp_path / "r.safetensors").arrays)
    output = answered(others[0])
    assert_same(again.scores(again.rescale(output)), router.scores(router.rescale(output)))
    assert_same(again.scores_of_set(run), router.scores_of_set(run))
    assert_same(again.to_arrays(), router.to_arrays())


ARRAYS = (
    *(f"history/{name}" for name in ("seen", "student", "teacher", "boxes", "objects")),
    *(f"forest/{name}" for name in ("roots", "feature", "limit", "low", "high", "value", "columns")),
    "worth",
    "images",
)


def test_these_are_all_of_its_arrays(router):
    assert set(router.to_arrays()) == {*ARRAYS, "rescaling"}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_refused(router, name):
    arrays = router.to_arrays()
    del arrays[name]
    with pytest.raises(InvalidInput, match="numbers of a detection router") as caught:
        ROUTING.load_router(arrays)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "damage"), [
    ("history/seen", lambda own: own[:-1]), ("history/seen", lambda own: -own),
    ("history/student", lambda own: own[:-1]), ("history/teacher", lambda own: own[:, None]),
    ("history/boxes", lambda own: own[:, :-1]), ("history/objects", lambda own: own[:-1]),
    ("history/more", lambda own: np.zeros(4)), ("forest/columns", lambda own: own + 1),
    ("forest/columns", lambda own: np.zeros(2)), ("forest/low", lambda own: own * 0),
    ("forest/value", lambda own: own * np.nan), ("worth", lambda own: own * 0),
    ("worth", lambda own: own[:-1]), ("images", lambda own: own * 0),
    ("images", lambda own: np.array([1, 2])), ("rescaling", lambda own: own[:, ::-1]),
    ("rescaling", lambda own: own[:-1]),
])  # fmt: skip
def test_damaged_arrays_are_refused(router, name, damage):
    arrays = router.to_arrays()
    with pytest.raises(InvalidInput, match="Expected"):
        ROUTING.load_router({**arrays, name: damage(arrays.get(name))})


# --- Without a fit ---


def test_scores_without_a_fit_weigh_classes_where_they_are_cocos(others, answered):
    output, coco = answered(others[0]), ("person", "car", "toaster", "dog")
    known, unknown = ROUTING.plain_scores(output, coco), ROUTING.plain_scores(output, ("a", "b", "c", "d"))
    assert set(known) - set(unknown) == COUNTED - named("whole_set")
    assert_same(unknown, {name: known[name] for name in unknown})
    assert_same({name: ROUTING.plain_score(name, output, coco) for name in known}, known)
    of_set = ROUTING.plain_scores_of_set(run_of(*others), coco)
    assert set(of_set) == set(known) | named("whole_set") - {"set_learned"}  # which needs a fit
    assert_same(known, {name: of_set[name] for name in known}, 1e-9)


def test_a_student_is_told_by_the_quantiles_of_its_scores(run):
    numbers = ROUTING.student_numbers(run)
    scores = np.sort(run.student["score"])
    assert numbers.shape == (1001,)
    assert (numbers[0], numbers[500], numbers[-1]) == (scores[0], np.median(scores), scores[-1])
    none = {name: column[:0] for name, column in run.student.items()}
    none |= {"counts": run.student["counts"] * 0, "truths": run.student["truths"]}
    assert ROUTING.student_numbers(replace(run, student=none)).tolist() == [0.0]


def test_the_learned_score_of_a_set_weighs_classes_by_what_the_set_should_hold(router, others):
    here = run_of(*others)
    here = replace(here, student=router.rescale_records(here.student))
    boxes, of_set = Boxes.of_records(here.student), router.scores_of_set(here)
    rows = class_rows(boxes, router.history)
    weights = boxes.images * router.counts.in_set(boxes) / router.counts.worth.sum()
    gains = router.forest.predict(rows.values) * weights[rows.label]
    by_hand = [gains[rows.image == image].sum() for image in range(boxes.images)]
    np.testing.assert_allclose(of_set["set_learned"], by_hand, rtol=1e-9, atol=1e-12)
    assert not np.allclose(of_set["set_learned"], of_set["learned"])
