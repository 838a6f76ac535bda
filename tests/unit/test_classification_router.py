"""A fitted router of classifiers: a forest on the scores of the student's logits, the same live and saved."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.types import Logits, Output, PairedRun
from ebjr_det.routing.file import RouterFile, RouterHeader
from ebjr_det.tasks import routing
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.classification.router import COLUMNS, LEAF, LEARNED, ClassificationRouting

IMAGES, CLASSES = 400, 7
ONE = np.ones(1)
ROUTING = ClassificationRouting()


@pytest.fixture(scope="module")
def run(pair):
    return pair(IMAGES, CLASSES)


@pytest.fixture(scope="module")
def router(run):
    return ROUTING.fit_router(run, rescaling="none", worth=ONE)


@pytest.fixture(scope="module")
def logits(answers):
    """The student's on other pictures."""
    return answers(50, CLASSES, 1)[0]


def output_of(values):
    return Output(list(values), Logits.one_row(values))


def columns(values):
    own = Logits.one_row(values)
    return np.stack([deferral_scores(own, name) for name in COLUMNS], axis=1).astype(np.float32)


def test_live_answers_score_what_trees_on_their_scores_predict(run, router, answers, logits):
    reward = run.teacher["correct"].astype(float) - run.student["correct"]
    trees = ExtraTreesRegressor(routing.TREES, min_samples_leaf=LEAF, random_state=0)
    trees.fit(columns(answers(IMAGES, CLASSES)[0]), reward)
    scores = router.scores(output_of(logits))
    assert set(scores) == {LEARNED}
    np.testing.assert_allclose(scores[LEARNED], trees.predict(columns(logits)), rtol=0, atol=1e-6)
    assert len(np.unique(scores[LEARNED])) > 10
    assert (np.abs(scores[LEARNED]) <= 1).all()


def test_a_batch_scores_as_its_images_one_by_one_and_as_a_saved_run(pair, router, logits):
    whole = router.scores(output_of(logits))[LEARNED]
    alone = [router.scores(output_of(row[None]))[LEARNED][0] for row in logits]
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(whole, router.scores_of_set(pair(50, CLASSES, 1))[LEARNED])
    np.testing.assert_array_equal(whole, router.score(LEARNED, output_of(logits)))


def test_scores_do_not_look_at_right_and_wrong(router, pair):
    run = pair(50, CLASSES, 1)
    blind = replace(run, student={name: ~own for name, own in run.student.items()}, teacher=run.student)
    np.testing.assert_array_equal(router.scores_of_set(blind)[LEARNED], router.scores_of_set(run)[LEARNED])


def test_what_was_learned_gains_more_than_chance_on_other_pictures(router, pair):
    run = pair(600, CLASSES, 1)
    order = np.argsort(-router.scores_of_set(run)[LEARNED], kind="stable")
    path = Accuracy().mixtures(run.student, run.teacher).path(order)
    assert path[200] - path[0] > (path[-1] - path[0]) / 3 + 0.05


def test_answers_and_records_are_never_rescaled(router, run, logits):
    output = output_of(logits)
    assert router.rescale(output) is output
    assert router.rescale_records(run.student) is run.student


def test_without_learning_there_is_no_score_and_no_array(run, logits):
    nothing = ROUTING.fit_router(run, rescaling="none", worth=ONE, learn=False)
    assert nothing.scores(output_of(logits)) == nothing.scores_of_set(run) == nothing.to_arrays() == {}


def test_a_router_from_a_file_scores_to_the_bit(router, run, logits, tmp_path):
    header = RouterHeader("classification", LEARNED, "none", CLASSES, (), "", "", (), ())
    RouterFile(header, np.zeros(3), np.zeros(3), router.to_arrays()).save(tmp_path / "r.safetensors")
    again = ROUTING.load_router(RouterFile.load(tmp_path / "r.safetensors").arrays)
    np.testing.assert_array_equal(
        again.scores(output_of(logits))[LEARNED], router.scores(output_of(logits))[LEARNED]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roots": None}, "classification router"),
        ({"columns": np.array(len(COLUMNS) + 1)}, f"forest of {len(COLUMNS)} columns"),
        ({"columns": np.zeros(2)}, "classification router"),
        ({"low": np.zeros(3, np.int32)}, "forest"),
        ({"value": np.full(1, np.nan, np.float32)}, "forest"),
    ],
)
def test_damaged_arrays_are_refused(router, change, message):
    arrays = {name: own for name, own in (router.to_arrays() | change).items() if own is not None}
    with pytest.raises(InvalidInput, match=message) as caught:
        ROUTING.load_router(arrays)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_run_without_one_of_its_scores_is_refused_by_name(router, run, name):
    scores = {own: values for own, values in run.scores.items() if own != name}
    less = PairedRun(run.task, run.image_ids, scores, run.student, run.teacher)
    with pytest.raises(InvalidInput, match=f"the score `{name}`"):
        router.scores_of_set(less)
    with pytest.raises(InvalidInput, match=f"the score `{name}`"):
        ROUTING.fit_router(less, rescaling="none", worth=ONE)


def test_class_weights_are_refused():
    assert ROUTING.check_worth({}, ("cat",)).tolist() == [1.0]
    with pytest.raises(ConfigError, match="no class weights for a mean over images"):
        ROUTING.check_worth({"cat": 2.0}, ("cat",))


def test_there_are_no_scores_of_boxes(run, logits):
    assert ROUTING.plain_scores(output_of(logits), ()) == ROUTING.plain_scores_of_set(run, ()) == {}


def test_a_student_is_told_by_the_quantiles_of_its_energies(run):
    numbers, energies = ROUTING.student_numbers(run), np.sort(run.scores["free_energy"])
    assert numbers.shape == (1001,)
    assert (numbers[0], numbers[500], numbers[-1]) == (energies[0], np.median(energies), energies[-1])
