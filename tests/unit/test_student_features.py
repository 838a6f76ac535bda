"""What a student tells of a picture beside its boxes: by hand, there and back, and in a router."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ebjr_det.api.fit_settings import FitSettings, check_settings
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.scores import EMPTY_LOGIT, SCORES, deferral_scores
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import Logits, Output, PairedRun
from ebjr_det.evaluation.router_comparison import candidates_of
from ebjr_det.inference.offline import Batch, Recorder, run_pair
from ebjr_det.io.records import PartStore, join_runs, load_run, save_run
from ebjr_det.tasks import TASKS, load_task
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.router import LEARNED, LEARNED_FEATURES, DetectionRouting
from ebjr_det.tasks.detection.routing.features import NAMES, QUANTILES, energy_quantiles, features_of

ROUTING = DetectionRouting()
IMAGES, CLASSES, WIDTH = 60, 4, 13  # five quantiles of two energies, and three numbers of the student
ONES = np.ones(CLASSES)


def told(predictions, seed=0, width=3, classes=CLASSES):
    """An Output with made-up logits, and features of its own where `width` is not 0."""
    generator = np.random.default_rng(seed)
    valid = np.arange(9) < generator.integers(0, 10, len(predictions))[:, None]
    values = generator.normal(size=(*valid.shape, classes))
    own = generator.normal(size=(len(predictions), width)).astype(np.float32) if width else None
    return Output(list(predictions), Logits(values, valid), own)


# --- By hand ---


@given(st.integers(0, 2**32 - 1), st.sampled_from(["free_energy", "joint_energy"]))
def test_quantiles_are_numpys_over_the_valid_rows_of_each_picture(seed, name):
    logits = told([None] * 7, seed).logits
    found = energy_quantiles(logits, name)
    for values, valid, row in zip(logits.values, logits.valid, found, strict=True):
        rows = values[valid] if valid.any() else np.full((1, CLASSES), EMPTY_LOGIT)
        expected = np.quantile(SCORES[name].function(rows), QUANTILES)
        np.testing.assert_allclose(row, expected, rtol=1e-12)


def test_the_columns_are_free_energy_then_joint_energy_then_the_students_own():
    output = told([None] * 8)
    features = features_of(output)
    assert (features.shape, features.dtype) == ((8, WIDTH), np.float32)
    for at, name in ((0, "free_energy"), (5, "joint_energy")):
        expected = energy_quantiles(output.logits, name)
        np.testing.assert_array_equal(features[:, at : at + 5], expected.astype(np.float32))
    np.testing.assert_array_equal(features[:, 10:], output.features)
    np.testing.assert_array_equal(features_of(told([None] * 8, width=0)), features[:, :10])


def test_a_lone_logit_has_no_joint_energy_beside_its_free_energy():
    assert features_of(told([None] * 8, width=0, classes=1)).shape == (8, 5)


def test_features_of_a_batch_are_those_of_its_pictures_one_by_one():
    output = told([None] * 6)
    logits = output.logits
    for image, row in enumerate(features_of(output)):
        own = slice(image, image + 1)
        alone = Output([None], Logits(logits.values[own], logits.valid[own]), output.features[own])
        np.testing.assert_array_equal(features_of(alone)[0], row)


def test_logits_beyond_float32_have_finite_features():
    assert np.isfinite(features_of(Output([None], Logits.one_row(np.array([[1e99, 0.0]]))))).all()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_says_what_its_student_tells(task):
    router = load_task(task).routing
    found = router.features_of(told([None] * 3))
    assert (found is None) == (task == "classification")
    blind = [score for score in router.SCORES.values() if score.features]
    assert all(score.needs == "a fitted router" for score in blind)


# --- Values that hold them ---

WRONG = {
    "another number of images": np.zeros((4, 2), np.float32),
    "one axis": np.zeros(5, np.float32),
    "whole numbers": np.zeros((5, 2), int),
    "NaN": np.full((5, 2), np.nan, np.float32),
    "infinity": np.full((5, 2), np.inf, np.float32),
    "beyond float32": np.full((5, 2), 1e200),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_output_refuses_other_features(what):
    with pytest.raises(InvalidInput, match="`features`"):
        replace(told([None] * 5), features=WRONG[what])


@pytest.mark.parametrize("what", [*WRONG, "float64"])
def test_a_run_refuses_other_features(pair, what):
    with pytest.raises(InvalidInput, match="`features`"):
        replace(pair(images=5), features={**WRONG, "float64": np.zeros((5, 2))}[what])


@pytest.fixture
def run(detectors):
    """Detectors' records with features that tell of the reward, and noise."""
    return with_features(detectors(IMAGES, CLASSES, 0))


def with_features(run, width=WIDTH):
    reward = AveragePrecision().mixtures(run.student, run.teacher).reward()
    noise = np.random.default_rng(len(run)).normal(size=(len(run), width))
    noise[:, 0] = reward * len(run)
    return replace(run, features=noise.astype(np.float32))


def test_they_come_back_from_a_file_and_without_them_none_do(run, tmp_path):
    for features in (run.features, None):
        save_run(replace(run, features=features), tmp_path / "run.npz")
        found = load_run(tmp_path / "run.npz").features
        assert found is None if features is None else (found == features).all()
        with np.load(tmp_path / "run.npz") as archive:
            assert ("features" in archive.files) == (features is not None)


def test_parts_of_a_run_carry_and_join_them(run):
    order = np.random.default_rng(0).permutation(len(run))
    parts = [select(run, AveragePrecision(), images) for images in (order[:20], order[20:])]
    np.testing.assert_array_equal(join_runs(parts).features, run.features[order])
    for other in (None, np.zeros((20, 2), np.float32)):
        with pytest.raises(InvalidInput, match="same features"):
            join_runs([replace(parts[0], features=other), parts[1]])


class Told:
    """A student whose features are its inputs."""

    name = "told"

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = 0, fails_at

    def preprocess(self, image):
        return image

    def __call__(self, inputs):
        if self.calls == self.fails_at:
            raise RuntimeError("power cut")
        self.calls += 1
        values = np.stack(list(inputs))
        return Output(list(values), Logits.one_row(values), values)


def test_a_run_collects_them_and_goes_on_with_them(tmp_path):
    images = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)

    def batches_after(last):
        for at in range(0 if last is None else int(last) + 1, 7, 2):
            part = slice(at, at + 2)
            ids = [str(i) for i in range(7)][part]
            yield Batch(ids, list(images[part]), list(images[part]), [0] * len(ids))

    def evaluated(student):
        parts, said = PartStore(tmp_path / "parts"), {"s": np.zeros(2)}
        recorder = Recorder(
            student, Told(), Accuracy(), lambda output: {k: v[: len(output.logits)] for k, v in said.items()},
            lambda output: output.features,
        )  # fmt: skip
        return run_pair(recorder, batches_after, 7, parts, flush_seconds=-1)

    with pytest.raises(RuntimeError, match="power cut"):
        evaluated(Told(fails_at=2))
    np.testing.assert_array_equal(evaluated(Told()).features, images)


# --- EfficientDet ---


@dataclass(frozen=True)
class Data:
    categories = {1: "a", 2: "b"}  # noqa: RUF012


def test_efficientdet_tells_the_mean_of_its_coarsest_fused_level_and_runs_nothing_twice():
    torch.manual_seed(0)
    small = {"backbone_name": "test_resnet", "backbone_args": {}, "fpn_channels": 16, "fpn_cell_repeats": 1}
    model = build_model(Data(), "effdet/efficientdet_d0", random_weights=True, image_size=256, options=small)
    levels, calls = [], []
    model.network.fpn.register_forward_hook(lambda *call: levels.append(call[2][-1]))
    for part in model.network.children():
        part.register_forward_hook(lambda part, *_: calls.append(part))
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(256, size=(90, 120, 3), dtype=np.uint8)) for _ in "abc"]
    features = model([model.preprocess(picture) for picture in pictures]).features
    (level,) = levels
    assert calls == list(model.network.children())
    assert level.shape == (3, 16, 2, 2)
    np.testing.assert_allclose(features, level.numpy().mean(axis=(2, 3)), rtol=1e-5, atol=1e-6)


# --- A router that was fitted with them ---


@pytest.fixture(scope="module")
def fitted(detectors):
    return ROUTING.fit_router(with_features(detectors(IMAGES, CLASSES, 0)), rescaling="affine", worth=ONES)


@pytest.fixture
def live(scenes):
    return told(scenes(40, CLASSES, 1)[0], seed=5)


def test_what_was_learned_without_them_stays_to_the_bit(run, fitted, live):
    plain = ROUTING.fit_router(replace(run, features=None), rescaling="affine", worth=ONES)
    assert plain.features == 0
    assert fitted.features == WIDTH
    without, beside = plain.to_arrays(), fitted.to_arrays()
    assert {name.partition("/")[0] for name in beside.keys() - without.keys()} == {"forest_features"}
    for name, values in without.items():
        np.testing.assert_array_equal(beside[name], values)
    scores, more = (own.scores(own.rescale(live)) for own in (plain, fitted))
    assert more.keys() - scores.keys() == {LEARNED_FEATURES}
    np.testing.assert_array_equal(scores[LEARNED], more[LEARNED])


def test_a_score_alone_is_that_of_all_and_of_the_records(fitted, scenes, live):
    student, teacher, targets = scenes(40, CLASSES, 1)
    task, output = AveragePrecision(), fitted.rescale(live)
    records = fitted.rescale_records(task.match(student, targets))
    ids = tuple(map(str, range(40)))
    run = PairedRun(task.name, ids, {}, records, task.match(teacher, targets), features=features_of(live))
    alone = fitted.score(LEARNED_FEATURES, output)
    assert (alone.shape, alone.dtype) == ((40,), np.float64)
    assert len(np.unique(alone)) > 20
    assert (alone != fitted.score(LEARNED, output)).any()
    np.testing.assert_array_equal(fitted.scores(output)[LEARNED_FEATURES], alone)
    np.testing.assert_allclose(fitted.scores_of_set(run)[LEARNED_FEATURES], alone, rtol=1e-9, atol=1e-12)
    assert LEARNED_FEATURES not in fitted.scores_of_set(replace(run, features=None))


def test_features_that_tell_of_the_reward_are_learned_from(detectors):
    first, second = (with_features(detectors(200, CLASSES, seed), 1) for seed in (0, 1))
    router = ROUTING.fit_router(first, rescaling="none", worth=ONES)
    reward = AveragePrecision().mixtures(second.student, second.teacher).reward()
    scores = router.scores_of_set(second)
    wide, narrow = (np.corrcoef(scores[n], reward)[0, 1] for n in (LEARNED_FEATURES, LEARNED))
    assert wide > narrow + 0.05


@pytest.mark.parametrize(("width", "classes"), [(2, CLASSES), (0, CLASSES), (0, 1)])
def test_another_number_of_features_is_another_student(fitted, scenes, width, classes):
    output = told(scenes(5, CLASSES, 1)[0], width=width, classes=classes)
    scores = fitted.scores(output)
    assert LEARNED in scores
    assert LEARNED_FEATURES not in scores
    with pytest.raises(InvalidInput, match="made for another student") as caught:
        fitted.score(LEARNED_FEATURES, output)
    assert "\n" not in str(caught.value)


def test_without_learning_there_is_no_such_score(run, live):
    quick = ROUTING.fit_router(run, rescaling="none", worth=ONES, learn=False)
    assert not {LEARNED, LEARNED_FEATURES} & quick.scores(live).keys()
    with pytest.raises(InvalidInput, match="learned `learned`"):
        quick.score(LEARNED, live)


def test_arrays_come_back_and_an_older_file_without_them_loads(fitted, live):
    arrays = fitted.to_arrays()
    again = ROUTING.load_router(arrays)
    np.testing.assert_array_equal(again.score(LEARNED_FEATURES, live), fitted.score(LEARNED_FEATURES, live))
    older = ROUTING.load_router({k: v for k, v in arrays.items() if not k.startswith("forest_features/")})
    assert older.features == 0
    np.testing.assert_array_equal(older.scores(live)[LEARNED], fitted.scores(live)[LEARNED])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("roots", lambda own: None),
        ("columns", lambda own: np.array(len(NAMES))),
        ("value", lambda own: own * np.nan),
        ("low", lambda own: own * 0),
    ],
)
def test_damaged_arrays_are_refused(fitted, name, damage):
    arrays = fitted.to_arrays()
    changed = damage(arrays.pop(f"forest_features/{name}"))
    with pytest.raises(InvalidInput, match="Expected"):
        ROUTING.load_router(arrays if changed is None else {**arrays, f"forest_features/{name}": changed})


def test_a_fit_for_them_on_a_run_without_is_refused(run):
    wanted = FitSettings(score=LEARNED_FEATURES)
    check_settings(wanted, run, ROUTING)
    with pytest.raises(ConfigError, match="lack the student's features"):
        check_settings(wanted, replace(run, features=None), ROUTING)


def test_unasked_they_decide_only_where_the_student_itself_told_them():
    areas = {LEARNED: 0.2, "random": 0.9, "set_curvature": 0.8, LEARNED_FEATURES: 0.3}
    assert candidates_of(areas, ROUTING, live=True) == [LEARNED, LEARNED_FEATURES]
    assert candidates_of(areas, ROUTING, live=False) == [LEARNED]


def test_the_mean_energy_is_between_the_least_and_the_largest():
    logits = told([None] * 8).logits
    mean = deferral_scores(logits, "free_energy")
    quantiles = energy_quantiles(logits, "free_energy")
    assert ((quantiles[:, 0] <= mean) & (mean <= quantiles[:, -1])).all()
