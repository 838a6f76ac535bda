"""The public door: few names, all there, all documented."""

import inspect

import pytest

import ebjr_det


def test_at_most_fifteen_names():
    assert len(ebjr_det.__all__) <= 15


@pytest.mark.parametrize("name", ebjr_det.__all__)
def test_every_name_resolves_and_says_what_it_is(name: str):
    assert len(inspect.getdoc(getattr(ebjr_det, name)) or "") > 20


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = ebjr_det.nope
