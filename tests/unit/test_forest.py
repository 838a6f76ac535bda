"""A forest as plain arrays: the same predictions as scikit-learn's, a round trip, and damage refused."""

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from ebjr_det.core.errors import InvalidInput
from ebjr_det.routing.forest import Forest

COLUMNS = 4
GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(300, COLUMNS)).astype(np.float32)
VALUES = np.sin(3 * ROWS[:, 0]) + ROWS[:, 1] * (ROWS[:, 2] > 0)


def grown(kind=ExtraTreesRegressor, **changes):
    options = {"n_estimators": 9, "min_samples_leaf": 3, "random_state": 0} | changes
    return kind(**options).fit(ROWS, VALUES)


@pytest.fixture(scope="module")
def arrays():
    return Forest.of(grown()).to_arrays()


@pytest.mark.parametrize("kind", [ExtraTreesRegressor, RandomForestRegressor])
@pytest.mark.parametrize("changes", [{}, {"max_depth": 1}, {"n_estimators": 1}, {"min_samples_leaf": 1}])
def test_it_predicts_what_scikit_learn_predicts(kind, changes):
    ensemble = grown(kind, **changes)
    others = np.concatenate([np.random.default_rng(1).normal(size=(500, COLUMNS)), ROWS[:50]])
    others = others.astype(np.float32)
    got = Forest.of(ensemble).predict(others)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, ensemble.predict(others), rtol=1e-6, atol=1e-6)
    assert len(np.unique(got)) > 1


def test_a_value_on_a_limit_goes_the_way_that_scikit_learn_sends_it():
    steps = np.array([[0.0], [1.0], [2.0], [3.0]], dtype=np.float32)
    ensemble = RandomForestRegressor(1, bootstrap=False).fit(steps, [0.0, 1.0, 2.0, 3.0])
    forest = Forest.of(ensemble)
    limits = forest.limit[forest.low != np.arange(len(forest.low))]
    assert sorted(limits) == [0.5, 1.5, 2.5]
    on_them = np.sort(limits)[:, None].astype(np.float32)
    assert forest.predict(on_them).tolist() == ensemble.predict(on_them).tolist() == [0.0, 1.0, 2.0]


def test_trees_that_are_only_a_leaf_predict_the_mean():
    ensemble = grown(min_samples_leaf=200)
    np.testing.assert_allclose(Forest.of(ensemble).predict(ROWS[:3]), VALUES.mean(), rtol=1e-6)


def test_no_rows_have_no_predictions():
    assert Forest.of(grown()).predict(np.zeros((0, COLUMNS), np.float32)).shape == (0,)


def test_a_row_is_predicted_the_same_alone(arrays):
    forest = Forest.of_arrays(arrays)
    alone = [forest.predict(row[None])[0] for row in ROWS[:20]]
    np.testing.assert_array_equal(forest.predict(ROWS[:20]), alone)


def test_arrays_come_back_as_the_same_forest(arrays):
    again = Forest.of_arrays(arrays)
    assert again.columns == COLUMNS
    assert set(arrays) == {"roots", "feature", "limit", "low", "high", "value", "columns"}
    for name, values in again.to_arrays().items():
        assert values.dtype == arrays[name].dtype
        np.testing.assert_array_equal(values, arrays[name])
    np.testing.assert_array_equal(again.predict(ROWS), Forest.of(grown()).predict(ROWS))


@pytest.mark.parametrize("name", ["roots", "feature", "limit", "low", "high", "value", "columns"])
def test_a_missing_array_is_a_key_error(arrays, name):
    with pytest.raises(KeyError, match=name):
        Forest.of_arrays({key: values for key, values in arrays.items() if key != name})


def at(place, value):
    """A change of one entry; the first two nodes of the first tree are no leaves."""

    def change(values):
        changed = values.copy()
        changed[place] = value
        return changed

    return change


DAMAGES = [
    ("low", at(0, 0)),  # a cycle
    ("high", at(1, 0)),  # back to the root
    ("low", at(0, -1)),
    ("high", at(0, 10**6)),
    ("feature", at(0, COLUMNS)),
    ("feature", at(-1, -1)),
    ("low", at(-1, 0)),
    ("high", at(-1, -1)),
    ("roots", at(0, -1)),
    ("roots", at(-1, 10**6)),
    ("roots", lambda values: values[:0]),
    ("limit", at(0, np.nan)),
    ("limit", at(-1, np.inf)),
    ("value", at(-1, np.nan)),
    ("value", lambda values: values[:-1]),
    ("limit", lambda values: values[:-1]),
    ("low", lambda values: values[:-1]),
    ("columns", lambda values: np.array(1)),
    ("feature", lambda values: values.astype(np.float32)),
    ("low", lambda values: values.astype(np.float64)),
    ("roots", lambda values: values.astype(np.float64)),
    ("value", lambda values: values[:, None]),
    ("roots", lambda values: values[:, None]),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_arrays_that_are_no_forest_are_refused(arrays, name, damage):
    assert (arrays["low"][:2] > [0, 1]).all()
    with pytest.raises(InvalidInput, match="arrays of a forest"):
        Forest.of_arrays({**arrays, name: damage(arrays[name])})


def test_an_empty_forest_is_refused(arrays):
    with pytest.raises(InvalidInput, match="arrays of a forest"):
        Forest.of_arrays({name: values[:0] if values.ndim else values for name, values in arrays.items()})
