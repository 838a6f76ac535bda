"""Popular classes: how they are named, counted, mapped and drawn, and every way to name them wrongly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.core.errors import ConfigError
from ebjr_det.tasks.popular import OTHER, Popular
from ebjr_det.training.order import Order

NAMES = ("ant", "bee", "cat", "dog")


def test_names_and_indices_in_any_order_name_the_same_classes():
    for chosen in (["dog", "bee"], [3, 1], ["bee", 3]):
        popular = Popular.of(chosen, NAMES)
        assert popular.classes == (1, 3)
        assert popular.names == ("bee", "dog")
        assert popular.class_names == ("bee", "dog", OTHER)
        assert popular.other == 2


@pytest.mark.parametrize(("chosen", "says"), [
    ([], "1 to 3 popular classes among 4, got 0"), (list(NAMES), "1 to 3 popular classes among 4, got 4"),
    (["ant", "be"], r"got `be`\. Did you mean `bee`"), (["other"], "got `other`"),
    ([4], r"0\.\.3, got \[4\]"), ([-1], r"0\.\.3, got \[-1\]"),
    (["ant", "bee", "ant"], "got `ant` more than once"), (["bee", 1], "got `bee` more than once"),
    ([2, 2], "got `2` more than once"),
])  # fmt: skip
def test_a_wrong_list_is_one_line(chosen, says):
    with pytest.raises(ConfigError, match=says) as caught:
        Popular.of(chosen, NAMES)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("classes", [(), (0, 1, 2, 3), (1, 0), (1, 1), (0, 4), (-1, 2)])
def test_no_object_is_made_of_wrong_indices(classes):
    with pytest.raises(ConfigError):
        Popular(classes, NAMES)


def test_the_top_are_the_largest_counts_and_among_equals_the_first():
    assert Popular.top(2, [3, 9, 5, 5], NAMES).classes == (1, 2)
    assert Popular.top(3, [3, 9, 5, 5], NAMES).classes == (1, 2, 3)
    assert Popular.top(1, [0.1, 0.2, 0.3, 0.4], NAMES).names == ("dog",)


@pytest.mark.parametrize(("count", "says"), [
    (0, "top 1 to 3 of 4 classes, got top 0"), (-1, "got top -1"), (4, "got top 4"), (9, "got top 9"),
    (3, r"got `cat` with none\. Only 2 classes were seen"),
])  # fmt: skip
def test_a_top_that_is_not_there_is_one_line(count, says):
    with pytest.raises(ConfigError, match=says) as caught:
        Popular.top(count, [3, 9, 0, 0], NAMES)
    assert len(str(caught.value).splitlines()) == 1


@given(data=st.data(), total=st.integers(2, 30))
def test_narrowed_labels_name_the_same_class_or_other(data, total):
    names = tuple(f"class-{index}" for index in range(total))
    chosen = data.draw(st.lists(st.integers(0, total - 1), min_size=1, max_size=total - 1, unique=True))
    labels = data.draw(st.lists(st.integers(0, total - 1), max_size=50))
    popular = Popular.of(chosen, names)
    for label, own in zip(labels, popular.narrow(labels), strict=True):
        assert popular.class_names[own] == (names[label] if label in chosen else OTHER)


def test_weights_give_popular_images_their_share_and_are_even_within_each_side():
    popular, labels = Popular((0, 2), NAMES), np.array([0, 2, 2, 1, 2, 2, 0])
    weights = popular.weights(0.8, labels)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights[labels < 2], 0.8 / 3)
    np.testing.assert_allclose(weights[labels == 2], 0.2 / 4)


@pytest.mark.parametrize(("labels", "says"), [([0, 1], "got 2 and 0"), ([2, 2, 2], "got 0 and 3")])
def test_a_share_of_images_that_are_not_there_is_one_line(labels, says):
    with pytest.raises(ConfigError, match=says):
        Popular((0, 2), NAMES).weights(0.5, np.array(labels))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_share_is_drawn_within_four_standard_deviations(share):
    popular = Popular((3,), NAMES)
    labels = np.arange(500) % 7 != 0  # one in seven is popular, whatever the share
    order = Order(500, 0, popular.weights(share, labels.astype(int)))
    drawn = np.array([labels[order.image_at(k)] == 0 for k in range(20_000)])
    assert abs(drawn.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(drawn))
    assert len({order.image_at(k) for k in range(20_000)}) > 495, "every image has its turn"


def test_a_name_that_two_classes_have_names_neither():
    names = ("ant", "bee", "ant", "cow")
    with pytest.raises(ConfigError, match="the name of one class, got `ant` of 2"):
        Popular.of(["ant"], names)
    assert Popular.of(["bee", 2], names).classes == (1, 2)
