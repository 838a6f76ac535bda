"""A fitted router on disk: back to the bit, whole or not at all, and nothing else is taken for one."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ebjr_det.core.errors import InvalidInput
from ebjr_det.inference.student import weights_of
from ebjr_det.routing.file import HEADER, VERSION, RouterFile, RouterHeader, check_classes, check_model_of

NAMES = ("ant", "cat", "cow")
WORDS = RouterHeader(
    task="detection",
    score="learned",
    rescaling="affine",
    classes=3,
    class_names=NAMES,
    student="small",
    teacher="großer",
    image_ids=("1", "2", "pic ture"),
    fingerprints=(0.25, 0.1, 1 / 3),
    settings={"top_k": 1, "aggregate": "mean"},
    evidence={"AP": {"learned": 0.1, "random": None}},
)
ARRAYS = {
    "history/seen": np.array([3.0, 0.0, 1e300]),
    "forest/columns": np.array(27, dtype=np.int32),
    "forest/feature": np.array([-1, 5], dtype=np.int16),
    "forest/value": np.array([0.1, -0.2], dtype=np.float32),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "b/none": np.zeros((0, 3)),
}
FILE = RouterFile(WORDS, np.array([0.1, 1 / 3, -2.0]), np.linspace(0, 1, 5), ARRAYS)


@pytest.fixture
def path(tmp_path):
    """A good file."""
    FILE.save(tmp_path / "router.safetensors")
    return tmp_path / "router.safetensors"


def refusal(path):
    """The one line with which a file is refused."""
    with pytest.raises(InvalidInput) as caught:
        RouterFile.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert message.startswith("Expected")
    return message


def rewritten(path, header=None, **arrays):
    """The good file with other tensors or another header."""
    with safe_open(path, "numpy") as opened:
        text = opened.metadata()[HEADER]
    save_file(load_file(path) | arrays, path, {HEADER: text if header is None else header})
    return path


def header_with(**changes):
    own = {**WORDS.__dict__, **changes}
    return json.dumps(own)


# --- There and back ---


def test_everything_comes_back_to_the_bit(path):
    again = RouterFile.load(path)
    assert again.header == WORDS
    assert set(again.arrays) == set(ARRAYS)
    both = [(again.arrays[name], ARRAYS[name]) for name in ARRAYS]
    for got, expected in [
        *both,
        (again.reference, FILE.reference),
        (again.student_scores, FILE.student_scores),
    ]:
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(got, expected)


def test_one_router_is_always_the_same_bytes(path, tmp_path):
    FILE.save(tmp_path / "again.safetensors")
    RouterFile.load(path).save(tmp_path / "third.safetensors")
    shuffled = replace(FILE, arrays=dict(reversed(ARRAYS.items())))
    shuffled.save(tmp_path / "fourth.safetensors")
    written = [file.read_bytes() for file in tmp_path.glob("*.safetensors")]
    assert len(written) == 4
    assert len(set(written)) == 1


def test_a_router_that_learned_nothing_has_no_arrays(tmp_path):
    replace(FILE, arrays={}).save(tmp_path / "plain.safetensors")
    assert RouterFile.load(tmp_path / "plain.safetensors").arrays == {}


def test_a_router_replaces_the_one_that_was_there(path):
    replace(FILE, header=replace(WORDS, score="energy_curvature")).save(path)
    assert RouterFile.load(path).header.score == "energy_curvature"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# --- Whole or not at all ---


def test_a_failed_save_leaves_what_was_there_and_nothing_beside_it(path, monkeypatch):
    before = path.read_bytes()

    def full(self, content):
        with self.open("wb") as half:
            half.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InvalidInput, match="No space left on device"):
        replace(FILE, header=replace(WORDS, score="energy_curvature")).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_no_folder_to_write_in_is_said_in_one_line(tmp_path):
    with pytest.raises(InvalidInput, match="Expected to write") as caught:
        FILE.save(tmp_path / "nowhere" / "router.safetensors")
    assert "\n" not in str(caught.value)


# --- What is no router ---


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "a fitted router" in refusal(tmp_path / "none.safetensors")
    assert "a fitted router" in refusal(tmp_path)


class Bomb:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("A pickle was run.",)


@pytest.mark.parametrize(
    "content",
    [b"", b"a router\n", b"{}", pickle.dumps(Bomb()), b"\x00" * 64, b"\xff" * 64],
    ids=["empty", "text", "json", "pickle", "zeros", "ones"],
)
def test_a_file_of_something_else_is_refused_and_not_run(tmp_path, content):
    path = tmp_path / "router.safetensors"
    path.write_bytes(content)
    assert "a fitted router" in refusal(path)


def test_a_file_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refusal(path)


def test_tensors_of_something_else_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"weight": np.zeros(3)}, path)
    assert "other tensors. Make one: fit-router" in refusal(path)
    save_file({"weight": np.zeros(3)}, path, {"format": "pt"})
    assert "other tensors" in refusal(path)


@pytest.mark.parametrize("name", ["reference", "student_scores"])
def test_a_file_without_what_thresholds_rest_on_is_refused(path, name):
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, {HEADER: header_with()})
    assert f"`{path}`, got a file without '{name}'" in refusal(path)


@pytest.mark.parametrize("version", [0, VERSION + 1, None, "1"])
def test_another_version_is_refused_with_what_to_do(path, version):
    message = refusal(rewritten(path, header_with(version=version)))
    assert f"version {VERSION}" in message
    assert f"got {version}. Fit it again." in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["reference", "student_scores", "router/history/seen"])
def test_numbers_that_are_not_finite_are_refused_by_name(path, name, bad):
    values = np.array([0.5, bad])
    assert f"got others in `{name}`" in refusal(rewritten(path, **{name: values}))


@pytest.mark.parametrize("header", [
    header_with(colour="red"), header_with(fingerprints="many"), header_with(fingerprints=(0.25, 0.1)),
    header_with(classes="three"), header_with(image_ids=5), json.dumps({"version": VERSION}), "{", "[1, 2]",
    "7", "null", "", '{"version": 1',
])  # fmt: skip
def test_a_header_that_says_something_else_is_refused(path, header):
    refusal(rewritten(path, header))


def test_the_good_file_is_good_when_written_that_way(path):
    assert RouterFile.load(rewritten(path, header_with())).header == WORDS


# --- Classes ---


@pytest.mark.parametrize("names", [NAMES, (), list(NAMES)])
def test_the_same_classes_or_unknown_ones_pass(names):
    check_classes(WORDS, names, "r.safetensors")
    check_classes(replace(WORDS, class_names=()), names, "r.safetensors")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("ant", "cat"), "the 2 classes of the data, got `r.safetensors` for 3, `cow` in one of them only"),
        ((*NAMES, "bee"), "the 4 classes of the data, got `r.safetensors` for 3, `bee` in one of them only"),
        (NAMES[::-1], "the 3 classes of the data, got `r.safetensors` for 3, another order"),
    ],
)
def test_other_classes_are_refused_with_one_that_differs(names, said):
    with pytest.raises(InvalidInput) as caught:
        check_classes(WORDS, names, "r.safetensors")
    assert said in str(caught.value)
    assert str(caught.value).endswith("Fit a router on these classes.")


# --- Students ---


def test_a_router_of_an_earlier_version_tells_no_weights_and_no_warnings(path):
    before = {name: value for name, value in WORDS.__dict__.items() if name != "student_weights"}
    again = RouterFile.load(rewritten(path, json.dumps(before))).header
    assert (again.student_weights, again.warnings) == ("", ())
    check_model_of(again, "small", "ab" * 32, "r.safetensors")


def test_a_student_of_another_name_or_of_other_weights_is_refused():
    known = replace(WORDS, student_weights="ab" * 32)
    check_model_of(known, "small", "ab" * 32, "r.safetensors")
    check_model_of(known, "small", "", "r.safetensors")  # one that shows no weights
    check_model_of(replace(WORDS, student=""), "any", "", "r.safetensors")
    with pytest.raises(InvalidInput, match=r"for student `large`, got `r.safetensors` for `small`"):
        check_model_of(known, "large", "ab" * 32, "r.safetensors")
    with pytest.raises(
        InvalidInput, match=r"other weights \(sha256 abababababab..., here cdcdcdcdcdcd"
    ) as caught:
        check_model_of(known, "small", "cd" * 32, "r.safetensors")
    assert "\n" not in str(caught.value)


class Wrapped(torch.nn.Module):
    """The same network under another name of its tensors."""

    def __init__(self, network):
        super().__init__()
        self.module = network


class Holds:
    """A model as adapters are: the network is one of its attributes."""

    name = "held"

    def __init__(self, **networks):
        self.__dict__.update(networks)


def test_a_digest_is_of_the_weights_and_nothing_else():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    digest = weights_of(Holds(graph=network))
    assert len(digest) == 64
    assert weights_of(Holds(network=Wrapped(network))) == weights_of(network) == digest
    network[1].num_batches_tracked += 5
    assert weights_of(network) == digest
    with torch.no_grad():
        network[0].weight[0, 0] += 1e-3
    assert weights_of(network) != digest
    assert weights_of(Holds()) == weights_of(Holds(graph=lambda images: images)) == ""


class Scaled(torch.nn.Module):
    """Two layers of one shape and a temperature."""

    def __init__(self, first, second, temperature):
        super().__init__()
        self.layers = torch.nn.ModuleList([first, second])
        self.temperature = torch.nn.Parameter(torch.tensor(temperature))


def test_a_digest_sees_single_numbers_and_the_order_of_layers():
    one, two = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    networks = Scaled(one, two, 1.0), Scaled(one, two, 9.0), Scaled(two, one, 1.0)
    assert len({weights_of(network) for network in networks}) == 3


class Packed(torch.nn.Module):
    """Keeps what is no tensor beside its weights, as quantised layers do."""

    def __init__(self, kept):
        super().__init__()
        self.layer, self.kept = torch.nn.Linear(3, 4), kept

    def get_extra_state(self):
        return self.kept


@pytest.mark.parametrize("kept", [torch.qint8, (1, torch.ones(2)), torch.eye(3).to_sparse()])
def test_weights_that_are_packed_have_no_digest(kept):
    assert weights_of(Packed(kept)) == ""
