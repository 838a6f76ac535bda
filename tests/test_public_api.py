"""The public door: every verb and the values that they take, all there, typed and documented."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
import rich_click as click
from PIL import Image

import ebjr_det
from ebjr_det.cli import cli
from ebjr_det.core.errors import InvalidInput

OF_INSTALLATION = {"init", "schema", "download", "scores", "doctor"}
"""Commands that tell of this installation; the others do something with a pair."""


def verbs(name: str) -> set[str]:
    """The functions of a command: its own, or those of a group's commands where they have some."""
    command, function = cli.commands[name], name.replace("-", "_")
    inner = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else ()
    whole = {f"{function}_{word.replace('-', '_')}" for word in inner}
    return {function} | whole.intersection(ebjr_det.__all__) if function in ebjr_det.__all__ else whole


VERBS = set().union(*(verbs(name) for name in cli.commands.keys() - OF_INSTALLATION))


def test_every_verb_of_the_command_line_is_a_function():
    assert len(VERBS) > 15
    assert set(ebjr_det.__all__) > VERBS | {"load"}


@pytest.mark.parametrize("name", sorted(VERBS | {"load"}))
def test_a_verb_has_typed_arguments_and_a_class_as_its_result(name: str):
    signature = inspect.signature(getattr(ebjr_det, name))
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    assert signature.return_annotation not in (inspect.Signature.empty, dict)
    assert len(signature.parameters) <= 7
    assert not str(signature.return_annotation).startswith("dict")


@pytest.mark.parametrize("name", sorted(VERBS | {"load"}))
def test_a_verb_shows_an_example(name: str):
    assert ">>>" in str(inspect.getdoc(getattr(ebjr_det, name)))


def test_every_name_resolves_and_says_what_it_is():
    for name in ebjr_det.__all__:
        assert len(inspect.getdoc(getattr(ebjr_det, name)) or "") > 20, name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = ebjr_det.nope


def test_type_checkers_see_the_same_names():
    """The imports that they alone read; that each is there, mypy says of the package itself."""
    door = Path(ebjr_det.__file__)
    assert (door.parent / "py.typed").is_file()
    (block,) = (node for node in ast.parse(door.read_text()).body if isinstance(node, ast.If))
    seen = {alias.asname: (node.module, alias.name) for node in block.body for alias in node.names}
    assert seen == {name: (f"ebjr_det.{room}", name) for name, room in ebjr_det._HOMES.items()}


@pytest.fixture(scope="module")
def pair():
    return ebjr_det.load("digits", threshold=-0.9)


def test_a_loaded_pair_takes_paths_images_and_arrays(pair, tmp_path: Path):
    array = np.random.default_rng(0).integers(256, size=(8, 8, 3)).astype(np.uint8)
    image = Image.fromarray(array)
    image.save(tmp_path / "digit.png")
    path = tmp_path / "digit.png"
    answer = pair([array, image, path, str(path)])
    assert isinstance(pair, ebjr_det.JointModel)
    assert len(answer.predictions) == 4
    for prediction in answer.predictions:
        np.testing.assert_array_equal(prediction, answer.predictions[0])
    assert len(set(answer.decision.scores.tolist())) == 1


@pytest.mark.parametrize("threshold", [-np.inf, np.inf])
def test_its_threshold_can_be_set_at_any_time(pair, threshold, monkeypatch):
    monkeypatch.setattr(pair, "threshold", threshold)
    assert pair([np.zeros((8, 8, 3), np.uint8)]).decision.defer.tolist() == [threshold < 0]


@pytest.mark.parametrize("picture", [np.zeros((8, 8)), np.zeros((8, 8, 5), np.uint8), 7, "nope.png"])
def test_what_is_no_picture_is_one_line(pair, picture):
    with pytest.raises(InvalidInput, match="Expected") as caught:
        pair([picture])
    assert "\n" not in str(caught.value)
