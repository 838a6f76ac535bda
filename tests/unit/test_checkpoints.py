"""Weights: found, whole, of the right network, and read without running what a file asks for."""

import hashlib
import io
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ebjr_det.core.errors import CheckpointError
from ebjr_det.io.checkpoints import finding
from ebjr_det.io.checkpoints.finding import (
    FOLDER_VARIABLE,
    ManifestEntry,
    check_sha256,
    find_checkpoint,
    folders,
    manifest,
    shipped_folder,
)
from ebjr_det.io.checkpoints.fitting import load_into
from ebjr_det.io.checkpoints.reading import read_state

STATE = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.tensor([-1.0, 1.0])}
LEGACY = {"_use_new_zipfile_serialization": False}


def network(classes=2):
    """A network whose tensors are called fc.weight and fc.bias."""
    return nn.ModuleDict({"fc": nn.Linear(3, classes)})


def assert_state(state, expected=STATE):
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def loaded(path):
    """What a network of two classes holds after it has taken a file."""
    module = network()
    load_into(module, read_state(path), str(path))
    return module.state_dict()


# --- Reading ---


ODD = {
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8),
    "complex": lambda: torch.ones(2, 3, dtype=torch.complex64),
    "sparse": lambda: torch.ones(2, 3).to_sparse(),
    "NaN": lambda: torch.full((2, 3), float("nan"), dtype=torch.bfloat16),
    "packed": lambda: torch.zeros(2, 3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
}


@pytest.mark.filterwarnings("ignore")  # torch finds some of these kinds old
@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
def test_tensors_that_are_no_plain_finite_numbers_are_refused(tmp_path, make):
    torch.save(STATE | {"fc.weight": make()}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError):
        load_into(network(), read_state(tmp_path / "weights.pth"), "weights")


@pytest.mark.parametrize("options", [{}, LEGACY])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".bin"])
def test_a_torch_file_gives_its_tensors(tmp_path, suffix, options):
    torch.save(STATE, tmp_path / f"w{suffix}", **options)
    assert_state(read_state(tmp_path / f"w{suffix}"))


def test_a_safetensors_file_gives_its_tensors(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    assert_state(read_state(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state"])
def test_a_training_checkpoint_gives_its_nested_state(tmp_path, key):
    content = {"epoch": 3, "acc": 0.5, key: STATE, "optimizer": {"lr": 0.1, "state": {0: torch.zeros(2)}}}
    torch.save(content, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_wrapper_prefixes_are_taken_off(tmp_path, prefix):
    torch.save({"state_dict": {prefix + name: v for name, v in STATE.items()}}, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))


def test_a_compiled_parallel_network_loses_both_prefixes(tmp_path):
    torch.save({"_orig_mod.module." + name: v for name, v in STATE.items()}, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, {"state_dict": {}}, torch.zeros(3)])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"named tensors in .*w\.pth"):
        read_state(tmp_path / "w.pth")


# --- Damaged files ---


def zip_file(path):
    torch.save({"state_dict": STATE, "epoch": 1}, path)


def legacy_file(path):
    torch.save({"state_dict": STATE, "epoch": 1}, path, **LEGACY)


def safetensors_file(path):
    save_file(STATE, path)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        pytest.param(".pth", zip_file, id="zip"),
        pytest.param(".pth", legacy_file, id="legacy"),
        pytest.param(".safetensors", safetensors_file, id="safetensors"),
    ],
)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, suffix, write):
    path = tmp_path / f"w{suffix}"
    write(path)
    whole = path.read_bytes()
    for length in [*range(30), *range(30, len(whole), 13), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"`.*w\.(pth|safetensors)`"):
            read_state(path)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(64), bytes(range(256)) * 4, b"PK\x03\x04" + bytes(99)]
)
def test_a_file_of_garbage_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=str(path)):
        read_state(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=str(path)):
            read_state(path)


# --- Malicious files ---


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def bare_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def zip_pickle(content, path):
    torch.save(content, path)


def legacy_pickle(content, path):
    torch.save(content, path, **LEGACY)


@pytest.mark.parametrize("write", [bare_pickle, zip_pickle, legacy_pickle])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pth.tar", ".safetensors"])
@pytest.mark.parametrize("place", ["bare", "beside the tensors", "in the state", "in an optimizer"])
def test_a_pickle_that_wants_to_run_code_is_refused_before_it_runs(tmp_path, write, suffix, place):
    evil, path = Evil(tmp_path / "made"), tmp_path / f"w{suffix}"
    content = {
        "bare": evil,
        "beside the tensors": {"state_dict": STATE, "args": evil},
        "in the state": {"state_dict": {**STATE, "extra": evil}},
        "in an optimizer": {"state_dict": STATE, "optimizer": {"param_groups": [evil]}},
    }[place]
    write(content, path)
    with pytest.raises(CheckpointError, match=str(path)):
        read_state(path)
    assert not (tmp_path / "made").exists()


def test_the_malicious_file_would_have_worked(tmp_path):
    """The file in the test above is a real one: read without care it runs."""
    buffer = io.BytesIO()
    torch.save({"state_dict": STATE, "args": Evil(tmp_path / "made")}, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=False)["args"].close()
    assert (tmp_path / "made").exists()


def test_the_refusal_of_code_says_so(tmp_path):
    torch.save({"a": Evil(tmp_path / "made")}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="wants to run code; refused"):
        read_state(tmp_path / "w.pth")


# --- Into a network ---


def test_a_state_that_fits_is_loaded():
    module = network()
    load_into(module, STATE, "w.pth")
    assert_state(module.state_dict())


def test_missing_and_unexpected_tensors_are_named_and_nothing_is_loaded():
    module, wrong = network(), {"fc.weight": STATE["fc.weight"], "head.bias": torch.zeros(2)}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"`w`.*1 missing \(fc.bias\); 1 unexpected \(head.bias\)"):
        load_into(module, wrong, "w")
    assert_state(module.state_dict(), before)


def test_a_wrong_class_count_is_named_first():
    with pytest.raises(
        CheckpointError, match=r"tensors 2 of another shape, so another class count"
    ) as caught:
        load_into(network(classes=10), STATE, "w")
    assert "fc.bias [2] instead of [10]" in str(caught.value)
    assert "fc.weight [2, 3] instead of [10, 3]" in str(caught.value)


def test_many_faults_are_counted_and_three_are_shown():
    wrong = STATE | {f"extra{index}": torch.zeros(1) for index in range(7)}
    with pytest.raises(CheckpointError, match=r"7 unexpected \(extra0, extra1, extra2, \.\.\.\)"):
        load_into(network(), wrong, "w")


# --- Finding ---


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A manifest of one file, not yet there, and the folder where it belongs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "weights"))
    entry = ManifestEntry(
        "tiny-net",
        ("nets/tiny-v1.pth", "tiny.pth"),
        hashlib.sha256(b"tiny").hexdigest(),
        "https://example.org/tiny",
        "MIT",
    )
    monkeypatch.setattr(finding, "manifest", lambda: {"tiny-net": entry})
    return tmp_path / "weights"


def put(path, content=b"tiny"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("file", ["nets/tiny-v1.pth", "tiny.pth"])
def test_a_name_is_found_in_the_chosen_folder(known, file):
    path = put(known / file)
    assert find_checkpoint("tiny-net") == path


def test_a_name_is_found_beside_the_user_and_the_chosen_folder_comes_first(known):
    here = put(known.parent / "checkpoints" / "tiny.pth")
    assert find_checkpoint("tiny-net").resolve() == here
    chosen = put(known / "tiny.pth")
    assert find_checkpoint("tiny-net") == chosen


def test_a_missing_file_of_the_manifest_says_where_to_get_it_and_where_to_put_it(known):
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("tiny-net")
    for hint in ("https://example.org/tiny", str(known / "nets" / "tiny-v1.pth"), FOLDER_VARIABLE):
        assert hint in str(caught.value)


def test_a_file_of_the_manifest_with_another_content_is_refused(known):
    put(known / "tiny.pth", b"tinier")
    with pytest.raises(CheckpointError, match=hashlib.sha256(b"tinier").hexdigest()):
        find_checkpoint("tiny-net")


def test_a_path_is_taken_as_it_is(known):
    path = put(known / "of_my_own.pth", b"anything")
    assert find_checkpoint(str(path)) == path


def test_a_path_to_a_known_file_is_checked(known):
    assert find_checkpoint(str(put(known / "tiny.pth")))
    with pytest.raises(CheckpointError, match="sha256"):
        find_checkpoint(str(put(known / "tiny.pth", b"damaged")))


def test_a_path_to_a_known_file_in_its_folder_is_checked(known):
    with pytest.raises(CheckpointError, match="sha256"):
        find_checkpoint(str(put(known / "nets" / "tiny-v1.pth", b"damaged")))


def test_an_unknown_name_offers_the_nearest(known):
    with pytest.raises(CheckpointError, match="Did you mean `tiny-net`"):
        find_checkpoint("tiny-nett")


def test_a_checksum_is_compared_whatever_its_case(tmp_path):
    path = put(tmp_path / "w.pth")
    check_sha256(path, hashlib.sha256(b"tiny").hexdigest().upper())
    with pytest.raises(CheckpointError, match="fetch it again"):
        check_sha256(path, "0" * 64)


# --- What this project ships ---


def test_the_shipped_manifest_is_complete():
    assert shipped_folder() in folders()
    for name, entry in manifest().items():
        assert entry.name == name
        assert entry.files
        assert len(bytes.fromhex(entry.sha256)) in (
            4,
            32,
        )  # torch.hub's file names end in the first four bytes
        assert entry.sha256 in entry.url or len(entry.sha256) == 64
        assert entry.source
        assert entry.licence


def test_every_shipped_file_is_in_the_manifest_and_whole():
    files = {file: entry for entry in manifest().values() for file in entry.files}
    shipped = [path for path in shipped_folder().rglob("*") if path.is_file() and path.suffix != ".yaml"]
    assert shipped
    for path in shipped:
        check_sha256(path, files[path.relative_to(shipped_folder()).as_posix()].sha256)
        assert read_state(path)
