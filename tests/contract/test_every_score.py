"""What every registered deferral score owes its users: words, options, and errors that help."""

import numpy as np
import pytest

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.types import Logits

LOGITS = Logits.one_row(np.random.default_rng(0).normal(scale=3, size=(20, 5)))

# Another value than the default, and values that no score can mean, for every option that any score takes.
OPTIONS = {"temperature": 2.0, "dtype": "float32", "seed": 1}
WRONG = {
    "temperature": [0, -1.0, float("nan"), "hot", None],
    "dtype": ["float99", "int8"],
    "seed": [1.5, "one", 2**63, -(2**63)],
}

every_score = pytest.mark.parametrize("name", SCORES)
TAKEN = [(name, option) for name, score in SCORES.items() for option in score.options]


WRONGLY_TAKEN = [(name, option, value) for name, option in TAKEN for value in WRONG[option]]


def test_every_option_is_tried_here():
    taken = {option for _, option in TAKEN}
    assert taken == set(OPTIONS) == set(WRONG)


@every_score
def test_it_says_what_it_is_and_where_it_comes_from(name):
    score = SCORES[name]
    assert score.name == name == score.function.__name__
    assert score.formula.strip()
    assert score.source.strip()
    assert len(score.function.__doc__.split()) >= 3
    assert all(f"{option}:" in score.function.__doc__ for option in score.options if option != "seed")


@every_score
def test_a_misspelt_one_is_refused_with_its_name(name):
    with pytest.raises(ConfigError, match=f"`{name}x`. Did you mean `{name}`"):
        deferral_scores(LOGITS, name + "x")


@pytest.mark.parametrize(("name", "option"), TAKEN)
def test_an_option_is_accepted_and_matters(name, option):
    changed = deferral_scores(LOGITS, name, **{option: OPTIONS[option]})
    assert changed.shape == (20,)
    assert (changed != deferral_scores(LOGITS, name)).any()


@pytest.mark.parametrize(("name", "option"), TAKEN)
def test_a_misspelt_option_is_refused_with_the_nearest(name, option):
    misspelt = option[:-1] + "x"
    with pytest.raises(ConfigError, match=f"`{name}`, got `{misspelt}`. Did you mean `{option}`"):
        deferral_scores(LOGITS, name, **{misspelt: OPTIONS[option]})


@every_score
def test_an_unknown_option_is_refused(name):
    with pytest.raises(ConfigError, match=f"option of score `{name}`, got `colour`"):
        deferral_scores(LOGITS, name, colour="red")


@pytest.mark.parametrize(("name", "option", "value"), WRONGLY_TAKEN)
def test_a_wrong_value_of_an_option_is_refused_by_name(name, option, value):
    with pytest.raises(ConfigError, match=option):
        deferral_scores(LOGITS, name, **{option: value})


def test_a_score_without_options_says_so():
    with pytest.raises(ConfigError) as caught:
        deferral_scores(LOGITS, "margin", temperature=2.0)
    assert "Valid: ." not in str(caught.value)
