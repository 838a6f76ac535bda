"""What every deferral score promises for any logits: range, sign, invariances, no effect of batching."""

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp
from scipy.stats import kstest

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.logsumexp import row_logsumexp
from ebjr_det.core.scores import AGGREGATES, SCORES, deferral_scores
from ebjr_det.core.types import Logits

DETERMINED = [name for name in SCORES if name != "random"]
OF_WINNER = [name for name in DETERMINED if name != "rival_class"]
SHIFT_INVARIANT = ["max_softmax", "margin", "entropy", "probability_logsumexp", "energy_curvature"]
DTYPES = ["float16", "float32", "float64"]

every_score = pytest.mark.parametrize("name", SCORES)
every_determined_score = pytest.mark.parametrize("name", DETERMINED)
every_score_of_the_winner = pytest.mark.parametrize("name", OF_WINNER)


def batches_of_logits(bound=30.0, min_classes=1, dtype="float64"):
    """Logits [1..5 images, classes]; hypothesis likes equal values, so ties between classes are common."""
    shapes = st.tuples(st.integers(1, 5), st.integers(min_classes, 8))
    width = int(dtype.removeprefix("float"))
    return arrays(dtype, shapes, elements=st.floats(-bound, bound, width=width))


def scored(values, name, **options):
    return scored_rows(Logits.one_row(np.asarray(values)), name, **options)


def scored_rows(logits, name, **options):
    """Scores of logits that the score can use: some need more than one class."""
    if SCORES[name].all_classes and logits.values.shape[2] == 1:
        reject()
    return deferral_scores(logits, name, **options)


def with_winner_raised(values, by):
    raised = values.copy()
    raised[np.arange(len(values)), values.argmax(axis=1)] += by
    return raised


@given(values=st.sampled_from(DTYPES[1:]).flatmap(lambda dtype: batches_of_logits(1e4, dtype=dtype)))
def test_a_rows_logsumexp_is_scipys_to_the_bit(values):
    found, expected = row_logsumexp(values), logsumexp(values, axis=-1)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, expected)


# --- Shape, type, size ---


@every_score
@given(values=st.sampled_from(DTYPES).flatmap(lambda dtype: batches_of_logits(1e4, dtype=dtype)))
def test_one_finite_float64_an_image_even_for_extreme_logits(name, values):
    scores = scored(values, name)
    assert scores.shape == (len(values),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@every_score
@given(values=st.sampled_from(DTYPES).flatmap(lambda dtype: batches_of_logits(dtype=dtype)))
def test_narrow_logits_are_scored_in_float64(name, values):
    np.testing.assert_array_equal(scored(values, name), scored(values.astype(np.float64), name))


@every_score
def test_no_images_give_no_scores(name):
    assert scored(np.zeros((0, 3)), name).shape == (0,)


# --- Higher = more doubt ---


@every_determined_score
@given(values=batches_of_logits(bound=1e4), by=st.floats(0, 1e4))
def test_raising_the_winner_never_raises_the_doubt(name, values, by):
    before, after = scored(values, name), scored(with_winner_raised(values, by), name)
    assert (after <= before + 1e-12 * np.maximum(1, np.abs(before))).all()


@every_score_of_the_winner
@given(values=batches_of_logits(bound=5.0, min_classes=2), by=st.floats(0.5, 5))
def test_raising_the_winner_noticeably_lowers_the_doubt(name, values, by):
    assert (scored(with_winner_raised(values, by), name) < scored(values, name) - 1e-9).all()


@pytest.mark.parametrize("name", ["free_energy", "joint_energy", "max_logit"])
@given(values=batches_of_logits(), data=st.data())
def test_raising_any_logit_never_raises_an_energy(name, values, data):
    raised = values + data.draw(arrays("float64", values.shape, elements=st.floats(0, 10)))
    before = scored(values, name)
    assert (scored(raised, name) <= before + 1e-12 * np.maximum(1, np.abs(before))).all()


@given(values=batches_of_logits(min_classes=2, bound=5.0), by=st.floats(0.01, 5))
def test_the_rival_raises_the_doubt_and_the_winner_does_not_matter(values, by):
    before = scored(values, "rival_class")
    np.testing.assert_array_equal(scored(with_winner_raised(values, by), "rival_class"), before)
    assert (scored(values + by, "rival_class") > before).all()
    np.testing.assert_allclose(before, 1 / (1 + np.exp(-np.sort(values)[:, -2])), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.all_classes])
def test_a_score_of_all_classes_refuses_what_a_result_file_holds(name):
    with pytest.raises(ConfigError, match=f"all classes for score `{name}`, got one a box"):
        deferral_scores(Logits(np.zeros((2, 3, 1)), np.ones((2, 3), bool)), name)


# --- Invariances ---


@pytest.mark.parametrize("name", SHIFT_INVARIANT)
@given(values=batches_of_logits(min_classes=2), constant=st.floats(-100, 100))
def test_adding_a_constant_to_all_logits_changes_no_softmax_score(name, values, constant):
    np.testing.assert_allclose(scored(values + constant, name), scored(values, name), rtol=0, atol=1e-11)


@given(values=batches_of_logits(), constant=st.floats(-100, 100), temperature=st.floats(0.1, 10))
def test_adding_a_constant_to_all_logits_lowers_the_free_energy_by_it(values, constant, temperature):
    moved = scored(values + constant, "free_energy", temperature=temperature)
    unmoved = scored(values, "free_energy", temperature=temperature)
    np.testing.assert_allclose(moved, unmoved - constant, rtol=0, atol=1e-11)


@every_determined_score
@given(values=batches_of_logits(), data=st.data())
def test_the_order_of_the_classes_does_not_matter(name, values, data):
    order = data.draw(st.permutations(range(values.shape[1])))
    np.testing.assert_allclose(scored(values[:, order], name), scored(values, name), rtol=1e-13, atol=1e-13)


@every_score
@given(values=batches_of_logits())
def test_a_batch_is_its_images_one_by_one_to_the_bit(name, values):
    alone = [scored(values[index : index + 1], name)[0] for index in range(len(values))]
    np.testing.assert_array_equal(scored(values, name), alone)


# --- Stated ranges ---


@given(values=batches_of_logits(bound=1e4), temperature=st.floats(0.01, 100))
def test_free_energy_lies_between_the_largest_logit_and_log_k_more(values, temperature):
    energy = scored(values, "free_energy", temperature=temperature)
    largest = values.max(axis=1)
    slack = 1e-12 * np.maximum(1, np.abs(largest)) + 1e-12 * temperature
    assert (energy <= -largest + slack).all()
    assert (energy >= -largest - temperature * np.log(values.shape[1]) - slack).all()


@given(values=batches_of_logits(bound=1e3), exponent=st.integers(1, 6))
def test_free_energy_falls_to_max_logit_as_the_temperature_falls_to_zero(values, exponent):
    temperature = 10.0**-exponent
    cold = scored(values, "free_energy", temperature=temperature)
    gap = scored(values, "max_logit") - cold
    slack = 1e-12 * np.maximum(1, np.abs(values).max())
    assert (gap >= -slack).all()
    assert (gap <= temperature * np.log(values.shape[1]) + slack).all()


@given(values=batches_of_logits(bound=1e4))
def test_bounded_scores_keep_their_stated_ranges(values):
    classes, slack = max(values.shape[1], 2), 1e-12  # a single logit has two probabilities
    for name, low, high in [
        ("max_softmax", -1, -1 / classes),
        ("entropy", 0, np.log(classes)),
        ("margin", -1, 0),
        ("random", 0, np.nextafter(1, 0) - slack),
        ("probability_logsumexp", -np.log(classes - 1 + np.e), -(np.log(classes) + 1 / classes)),
    ]:
        scores = scored(values, name)
        assert (scores >= low - slack).all(), name
        assert (scores <= high + slack).all(), name


@given(classes=st.integers(2, 200), height=st.floats(-100, 100))
def test_equal_logits_and_a_certain_winner_reach_the_ends_of_the_ranges(classes, height):
    level = np.full((1, classes), height)
    certain = level.copy()
    certain[0, -1] += 800.0
    for name, at_most, at_least in [
        ("max_softmax", -1 / classes, -1),
        ("entropy", np.log(classes), 0),
        ("margin", 0, -1),
        ("probability_logsumexp", -(np.log(classes) + 1 / classes), -np.log(classes - 1 + np.e)),
    ]:
        assert scored(level, name) == pytest.approx(at_most, abs=1e-12), name
        assert scored(certain, name) == pytest.approx(at_least, abs=1e-12), name


@given(values=batches_of_logits())
def test_joint_energy_adds_up_over_classes(values):
    by_class = [scored(values[:, [c]], "joint_energy") for c in range(values.shape[1])]
    np.testing.assert_allclose(scored(values, "joint_energy"), np.sum(by_class, axis=0), rtol=1e-13)
    assert (scored(values, "joint_energy") <= 0).all()


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), 1e-308, 1e-7, 1e7])
def test_a_temperature_out_of_its_stated_range_is_refused(temperature):
    with pytest.raises(ConfigError, match="temperature"):
        scored(np.zeros((1, 2)), "free_energy", temperature=temperature)


@pytest.mark.parametrize("temperature", [1e-6, 1e6])
@given(values=batches_of_logits(bound=1e4))
def test_the_ends_of_the_temperatures_range_still_give_finite_scores(temperature, values):
    assert np.isfinite(scored(values, "free_energy", temperature=temperature)).all()


# --- The coin ---


def test_the_coin_is_uniform_and_another_seed_is_another_coin():
    values = np.random.default_rng(0).normal(size=(4000, 10))
    first, second = scored(values, "random"), scored(values, "random", seed=1)
    assert kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(len(values))
    assert len(np.unique(first)) == len(values)


@given(values=batches_of_logits(min_classes=2), constant=st.floats(0.5, 3))
def test_the_coin_falls_anew_for_other_logits_in_any_memory_order(values, constant):
    assert (scored(values + constant, "random") != scored(values, "random")).all()
    np.testing.assert_array_equal(scored(values.copy(order="F"), "random"), scored(values, "random"))


@given(hundredths=arrays("int64", (3, 4), elements=st.integers(-3000, 3000)), noise=st.floats(-1e-3, 1e-3))
def test_the_coin_does_not_see_the_last_bits_of_a_logit(hundredths, noise):
    np.testing.assert_array_equal(
        scored(hundredths / 100 + noise, "random"), scored(hundredths / 100, "random")
    )


# --- Several rows an image ---


@st.composite
def images_with_rows(draw):
    """Logits [images, rows, classes] whose images have 1..6 valid rows at the front or scattered."""
    images, rows, classes = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    values = draw(arrays("float64", (images, rows, classes), elements=st.floats(-30, 30)))
    valid = draw(arrays("bool", (images, rows)))
    valid[:, draw(st.integers(0, rows - 1))] = True
    return values, valid


@every_score
@given(batch=images_with_rows())
def test_an_image_scores_the_mean_of_its_valid_rows(name, batch):
    values, valid = batch
    expected = [scored(rows[real], name).mean() for rows, real in zip(values, valid, strict=True)]
    scores = scored_rows(Logits(values, valid), name, aggregate="mean")
    np.testing.assert_allclose(scores, expected, rtol=1e-13, atol=1e-13)


@every_score
@given(batch=images_with_rows(), padding=st.floats(-1e4, 1e4) | st.sampled_from([np.nan, np.inf, -np.inf]))
def test_what_stands_in_padding_rows_does_not_matter(name, batch, padding):
    values, valid = batch
    padded = np.where(valid[..., None], values, padding)
    np.testing.assert_array_equal(
        scored_rows(Logits(padded, valid), name), scored_rows(Logits(values, valid), name)
    )


def test_an_image_scores_the_same_bits_whatever_it_is_padded_to():
    generator = np.random.default_rng(0)
    for rows in range(1, 60):
        values = generator.normal(size=(1, rows, 5))
        alone = deferral_scores(Logits(values, np.ones((1, rows), bool)), "free_energy")
        longer = np.concatenate([values, np.zeros((1, 100 - rows, 5))], axis=1)
        padded = deferral_scores(Logits(longer, np.arange(100)[None] < rows), "free_energy")
        assert padded[0] == alone[0]


REDUCED = {"mean": np.mean, "sum": np.sum, "min": np.min, "logsumexp": logsumexp}


@pytest.mark.parametrize("aggregate", AGGREGATES)
@given(batch=images_with_rows(), top_k=st.none() | st.integers(1, 8))
def test_the_first_k_valid_rows_are_aggregated(aggregate, batch, top_k):
    values, valid = batch
    got = deferral_scores(Logits(values, valid), "free_energy", top_k=top_k, aggregate=aggregate)
    kept = [rows[real][:top_k] for rows, real in zip(values, valid, strict=True)]
    expected = [float(REDUCED[aggregate](scored(rows, "free_energy"))) for rows in kept]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@every_score
@given(batch=images_with_rows(), at=st.integers(0, 3), aggregate=st.sampled_from([*AGGREGATES]))
def test_an_image_without_rows_counts_as_one_row_in_which_nothing_is_there(name, aggregate, batch, at):
    values, valid = batch
    full = scored_rows(Logits(values, valid), name, aggregate=aggregate)
    at = min(at, len(values) - 1)
    valid = valid.copy()
    valid[at] = False
    got = deferral_scores(Logits(values, valid), name, aggregate=aggregate)
    others = np.arange(len(values)) != at
    np.testing.assert_array_equal(got[others], full[others])
    nothing = Logits(np.full((1, 1, values.shape[2]), -20.0), np.ones((1, 1), bool), "sigmoid")
    assert got[at] == deferral_scores(nothing, name, aggregate=aggregate)[0]


def test_a_batch_in_which_no_image_has_rows_is_scored():
    empty = Logits(np.zeros((2, 0, 3)), np.zeros((2, 0), bool))
    np.testing.assert_allclose(deferral_scores(empty, "free_energy"), 20 - np.log(3))


def test_unknown_aggregates_and_impossible_k_are_refused():
    logits = Logits.one_row(np.zeros((1, 2)))
    with pytest.raises(ConfigError, match="Did you mean `mean`"):
        deferral_scores(logits, "entropy", aggregate="mena")
    with pytest.raises(ConfigError, match="top_k"):
        deferral_scores(logits, "entropy", top_k=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e101, -1e101])
def test_logits_that_are_not_finite_are_refused_with_their_place(bad):
    values = np.zeros((4, 3))
    values[2, 1] = bad
    with pytest.raises(InvalidInput, match=r"1 of 4 images.*index 2"):
        Logits.one_row(values)
