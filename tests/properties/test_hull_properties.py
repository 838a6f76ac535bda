"""The hull of single models: what is reached by drawing one of them at random for each image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.evaluation.hull import Hull

number = st.floats(0, 100, allow_nan=False)
models = st.lists(st.tuples(number, number), min_size=1, max_size=8)


@given(models, st.data())
def test_it_is_the_best_mixture_of_two_models_of_that_mean_cost(points, data):
    hull = Hull.of(points)
    cheapest = min(cost for cost, _ in points)
    cost = data.draw(st.floats(cheapest, 120))
    best = max(quality for own, quality in points if own <= cost)
    for low, first in points:
        for high, second in points:
            if low <= cost <= high and low < high:
                share = (cost - low) / (high - low)
                best = max(best, first + share * (second - first))
    assert hull.at(cost) == pytest.approx(best, abs=1e-6)


@given(models)
def test_it_lies_on_or_above_every_model_and_never_falls(points):
    hull = Hull.of(points)
    for cost, quality in points:
        assert hull.at(cost) >= quality - 1e-9
    ends = np.linspace(min(c for c, _ in points), 120, 40)
    assert (np.diff([hull.at(float(cost)) for cost in ends]) >= -1e-9).all()
