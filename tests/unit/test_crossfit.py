"""Out of fold: a picture is scored by a router that has not seen it, and comes back in its place."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm.auto import tqdm

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.routing.crossfit import LEAST_IMAGES, cross_fit, folds
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.detection.metric import AveragePrecision

IMAGES = 53


# --- Folds ---


@given(count=st.integers(2, 7), more=st.integers(0, 40), seed=st.integers(0, 1000))
def test_folds_part_the_images_in_equal_numbers(count, more, seed):
    images = count * LEAST_IMAGES + more
    parts = folds(images, count, seed)
    assert len(parts) == count
    assert sorted(np.concatenate(parts)) == list(range(images))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert all((np.diff(part) > 0).all() for part in parts)


def test_folds_are_random_and_follow_the_seed():
    first, again, other = folds(60, 3, 0), folds(60, 3, 0), folds(60, 3, 1)
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert [part.tolist() for part in first] != [part.tolist() for part in other]
    assert any(np.ptp(np.diff(part)) > 0 for part in first)


@pytest.mark.parametrize("count", [1, 0, -3])
def test_fewer_than_two_folds_are_refused(count):
    with pytest.raises(ConfigError, match=f"at least 2 folds, got {count}"):
        folds(100, count, 0)


def test_too_few_pictures_are_refused():
    assert len(folds(50, 5, 0)) == 5
    with pytest.raises(InvalidInput, match="at least 50 pictures for 5 folds, got 49"):
        folds(49, 5, 0)


def test_a_seed_below_0_is_refused():
    with pytest.raises(ConfigError, match="seed"):
        folds(100, 2, -1)


# --- Fits ---


@dataclass
class Spy:
    """A router that knows which pictures it was fitted on, and is asked about others only."""

    seen: frozenset

    def scores_of_set(self, run, only=""):
        assert not self.seen & set(run.image_ids)
        number = [float(image.removeprefix("image-")) for image in run.image_ids]
        return {"number": np.array(number), "seen": np.full(len(run), float(len(self.seen)))}

    def rescale_records(self, matches):
        return matches


@pytest.fixture
def spied():
    """A fit, and the routers that it made."""
    made = []

    def fit(run):
        assert len(run) == len(run.student["correct"]) == len(run.scores["random"])
        made.append(Spy(frozenset(run.image_ids)))
        return made[-1]

    return fit, made


@pytest.mark.parametrize("count", [2, 5])
def test_no_picture_is_scored_by_a_router_that_saw_it_and_each_comes_back_in_its_place(pair, spied, count):
    fit, made = spied
    run, parts = pair(IMAGES), folds(IMAGES, count, 0)
    with tqdm(total=count, disable=True) as bar:
        crossed = cross_fit(run, Accuracy(), fit, parts, bar)
    assert crossed.image_ids == run.image_ids
    np.testing.assert_array_equal(crossed.scores["number"], np.arange(IMAGES))
    assert len(made) == count
    assert {router.seen for router in made} == {
        frozenset(run.image_ids) - {run.image_ids[index] for index in part} for part in parts
    }
    for part in parts:
        assert set(crossed.scores["seen"][part]) == {IMAGES - len(part)}
    for name, values in run.scores.items():
        np.testing.assert_array_equal(crossed.scores[name], values)
    for side in ("student", "teacher"):
        for name, column in getattr(run, side).items():
            np.testing.assert_array_equal(getattr(crossed, side)[name], column)


def test_progress_moves_by_one_a_fold(pair, spied):
    moved = []

    class Bar:
        def update(self):
            moved.append(len(spied[1]))

    cross_fit(pair(IMAGES), Accuracy(), spied[0], folds(IMAGES, 4, 0), Bar())
    assert len(moved) == 4
    assert all(fitted >= done for done, fitted in enumerate(moved, start=1))


def test_a_score_of_the_router_replaces_the_runs_own(pair, spied):
    run = pair(IMAGES)
    run = replace(run, scores={**run.scores, "number": np.full(IMAGES, -1.0)})
    crossed = cross_fit(run, Accuracy(), spied[0], folds(IMAGES, 2, 0), tqdm(disable=True))
    assert crossed.scores["number"].tolist() == list(range(IMAGES))


# --- Records of several boxes a picture, rescaled out of fold ---


class Lift:
    """A router that adds the number of its pictures to the student's scores, and scores by their sum."""

    def __init__(self, run):
        self.by = float(len(run))

    def rescale_records(self, matches):
        return {**matches, "score": matches["score"] + self.by}

    def scores_of_set(self, run, only=""):
        image = np.repeat(np.arange(len(run)), run.student["counts"])
        return {"sum": np.bincount(image, run.student["score"], len(run))}


def test_records_are_rescaled_out_of_fold_before_they_are_scored(detectors):
    run, parts = detectors(IMAGES), folds(IMAGES, 5, 0)
    crossed = cross_fit(run, AveragePrecision(), Lift, parts, tqdm(disable=True))
    by = np.empty(IMAGES)
    for part in parts:
        by[part] = IMAGES - len(part)
    counts = run.student["counts"]
    assert len(np.unique(by)) == 2
    np.testing.assert_allclose(crossed.student["score"], run.student["score"] + np.repeat(by, counts))
    image = np.repeat(np.arange(IMAGES), counts)
    expected = np.bincount(image, crossed.student["score"], IMAGES)
    np.testing.assert_allclose(crossed.scores["sum"], expected)
    for name in set(run.student) - {"score"}:
        np.testing.assert_array_equal(crossed.student[name], run.student[name])
    for name, column in run.teacher.items():
        np.testing.assert_array_equal(crossed.teacher[name], column)
