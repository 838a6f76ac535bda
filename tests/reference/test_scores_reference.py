"""Every deferral score against torch's own functions and against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical
from torch.nn import functional

from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.types import Logits

TORCH = {
    "free_energy": lambda f: -torch.logsumexp(f, -1),
    "probability_logsumexp": lambda f: -torch.logsumexp(torch.softmax(f, -1), -1),
    "max_softmax": lambda f: -torch.softmax(f, -1).max(-1).values,
    "max_logit": lambda f: -f.max(-1).values,
    "entropy": lambda f: Categorical(logits=f).entropy(),
    "margin": lambda f: -torch.softmax(f, -1).topk(2).values.diff().abs().squeeze(-1),
    "joint_energy": lambda f: -functional.softplus(f, threshold=700).sum(-1),
    "energy_curvature": lambda f: 1 - torch.softmax(f, -1).square().sum(-1),
    "rival_class": lambda f: torch.sigmoid(f.topk(2).values[..., 1]),
}


def made_up(scale, classes, images=200):
    return np.random.default_rng(classes).normal(scale=scale, size=(images, classes))


def scored(values, name, **options):
    return deferral_scores(Logits.one_row(values), name, **options)


def test_every_score_but_the_coin_has_a_reference():
    assert set(TORCH) == set(SCORES) - {"random"}


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0, 300.0])
@pytest.mark.parametrize("name", TORCH)
def test_score_equals_torch_in_float64(name, scale, classes):
    values = made_up(scale, classes)
    expected = TORCH[name](torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(scored(values, name), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 2.0, 50.0])
def test_free_energy_at_a_temperature_equals_torch_in_float64(temperature):
    values = made_up(3.0, 10)
    expected = -temperature * torch.logsumexp(torch.from_numpy(values) / temperature, -1)
    np.testing.assert_allclose(
        scored(values, "free_energy", temperature=temperature), expected.numpy(), rtol=1e-12
    )


@pytest.mark.parametrize("classes", [10, 100])
def test_released_score_in_float32_equals_torch_in_float32(classes):
    values = made_up(4.0, classes).astype(np.float32)
    scores = scored(values, "probability_logsumexp", dtype="float32")
    expected = TORCH["probability_logsumexp"](torch.from_numpy(values)).numpy()
    assert expected.dtype == np.float32
    assert np.abs(scores - expected).max() <= 2 * np.spacing(np.abs(expected)).max()


def test_released_score_in_float32_is_not_the_float64_one_in_disguise():
    values = made_up(4.0, 10)
    narrow = scored(values, "probability_logsumexp", dtype=np.float32)
    wide = scored(values, "probability_logsumexp")
    np.testing.assert_array_equal(narrow, narrow.astype(np.float32))
    assert 0 < np.abs(narrow - wide).max() < 1e-6


def test_a_row_of_three_classes_by_hand():
    """f = log 6, log 3, log 1, so p = .6, .3, .1 and the sigmoids are 6/7, 3/4, 1/2."""
    values = np.log([[6.0, 3.0, 1.0]])
    by_hand = {
        "free_energy": -2.302585092994046,  # -log 10
        "probability_logsumexp": -1.453286555329249,  # -log(e^.6 + e^.3 + e^.1)
        "max_softmax": -0.6,
        "max_logit": -1.791759469228055,  # -log 6
        "entropy": 0.8979457248567797,  # .6 log(1/.6) + .3 log(1/.3) + .1 log 10
        "margin": -0.3,
        "joint_energy": -4.02535169073515,  # -log(7 * 4 * 2)
        "energy_curvature": 0.54,  # 1 - .36 - .09 - .01
        "rival_class": 0.75,
    }
    assert set(by_hand) == set(TORCH)
    for name, number in by_hand.items():
        assert scored(values, name)[0] == pytest.approx(number, abs=1e-14), name
    assert scored(np.log([[16.0, 9.0]]), "free_energy", temperature=2)[0] == pytest.approx(-2 * np.log(7))


@pytest.mark.parametrize("background", [None, 0.7])
@pytest.mark.parametrize("classes", [2, 7])
def test_curvature_is_the_second_derivative_of_the_energy_by_autograd(classes, background):
    """Of a softmax the trace of the Hessian over the classes; of sigmoids under a common shift."""
    rows = made_up(2.0, classes, images=5)
    rest = [] if background is None else [background]
    rest = torch.tensor(rest, dtype=torch.float64)
    traces = [_trace(lambda f: torch.logsumexp(torch.cat([f, rest]), 0), row) for row in rows]
    column = None if background is None else np.full((5, 1), background)
    softmax = Logits(rows[:, None], np.ones((5, 1), bool), "softmax", column)
    np.testing.assert_allclose(deferral_scores(softmax, "energy_curvature"), traces, rtol=1e-12)
    shifted = _trace(lambda shift: functional.softplus(torch.from_numpy(rows) + shift).sum(), [0.0])
    sigmoids = Logits(rows[None], np.ones((1, 5), bool), "sigmoid")
    np.testing.assert_allclose(deferral_scores(sigmoids, "energy_curvature"), shifted, rtol=1e-12)


def _trace(function, at):
    hessian = torch.autograd.functional.hessian(function, torch.tensor(at, dtype=torch.float64))
    return float(torch.atleast_2d(hessian).trace())


def test_released_score_is_to_second_order_a_function_of_the_curvature():
    nearly_level = made_up(0.01, 10)
    squares = 1 - scored(nearly_level, "energy_curvature")
    expected = -np.log(10 + 1 + squares / 2)
    np.testing.assert_allclose(scored(nearly_level, "probability_logsumexp"), expected, atol=2e-3 / 6)


@pytest.mark.parametrize(("classes", "lowest", "highest"), [(10, 2.4026, 2.4612), (100, 4.6152, 4.6222)])
def test_released_score_has_the_published_range(classes, lowest, highest):
    level, certain = np.zeros((1, classes)), 1e3 * np.eye(1, classes)
    assert -scored(level, "probability_logsumexp")[0] == pytest.approx(lowest, abs=5e-5)
    assert -scored(certain, "probability_logsumexp")[0] == pytest.approx(highest, abs=5e-5)


@pytest.mark.parametrize("name", ["max_softmax", "entropy", "margin", "probability_logsumexp"])
def test_a_single_logit_is_a_sigmoid_against_nothing(name):
    """A box of which only its score is known: p and 1 - p are its two probabilities."""
    values = np.array([[3.0], [-8.0], [0.0]])
    both = np.concatenate([values, np.zeros_like(values)], axis=1)
    np.testing.assert_array_equal(scored(values, name), scored(both, name))
    p = 1 / (1 + np.exp(-values[:, 0]))
    if name == "margin":
        np.testing.assert_allclose(scored(values, name), -np.abs(2 * p - 1), atol=1e-15)
