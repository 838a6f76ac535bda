"""Checkpoints as published tools write them: their tensors are taken, and nothing of them is run."""

import argparse
import collections
import io
import pathlib
import pickle
import threading
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ebjr_det.core.errors import CheckpointError
from ebjr_det.io.checkpoints.fitting import load_fitting, load_into
from ebjr_det.io.checkpoints.reading import read_state


def network(classes=2, value=None):
    """A network with weights, a bias and buffers; all of one value where that is given."""
    module = nn.Sequential(
        OrderedDict(body=nn.Linear(3, 4), norm=nn.BatchNorm1d(4), head=nn.Linear(4, classes))
    )
    if value is not None:
        for tensor in module.state_dict().values():
            tensor.fill_(value)
    return module


STATE = {name: tensor.clone() for name, tensor in network().state_dict().items()}
OTHER = {name: tensor + 1 for name, tensor in STATE.items()}


def loaded(path):
    """The state of a fresh network that has taken a file."""
    module = network(value=9)
    load_into(module, read_state(path), path.name)
    return module.state_dict()


def assert_state(state, expected=STATE):
    assert set(state) == set(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def prefixed(prefix, state=None):
    return {prefix + name: tensor for name, tensor in (state or STATE).items()}


# --- Wrappings ---


def lightning(**more):
    """The layout of Lightning's ModelCheckpoint."""
    return {
        "epoch": 1,
        "global_step": 20,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**prefixed("model."), "loss.weight": torch.ones(2), "ema.decay": torch.tensor(0.9)},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 2}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val'}": {
                "best_model_score": torch.tensor(0.4),
                "best_model_path": "a.ckpt",
                "dirpath": pathlib.PosixPath("runs"),
                "best_k_models": {"a.ckpt": torch.tensor(0.4)},
            }
        },
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(4, 3)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "root": pathlib.PosixPath("data"),
            "sizes": [1, (2, 3)],
            "names": {"a", "b"},
            "counts": collections.defaultdict(list, {"a": [1]}),
            "options": argparse.Namespace(lr=0.1),
            "dtype": torch.float16,
            "device": torch.device("cuda"),
            "shape": torch.Size([2, 3]),
        },
        **more,
    }


WRAPPED = {
    "model_state_dict": lambda: {"epoch": 3, "model_state_dict": STATE, "loss": 0.3},
    "ema": lambda: {"ema": STATE, "updates": 10},
    "net": lambda: {"net": STATE, "acc": 91.2},
    "weights": lambda: {"weights": STATE},
    "params": lambda: {"params": STATE},
    "network in a state": lambda: {"state": {"network": prefixed("module.")}},
    "namespace": lambda: {
        "state_dict": STATE,
        "args": argparse.Namespace(lr=0.1, root=pathlib.PosixPath("a")),
    },
    "numpy": lambda: {"state_dict": STATE, "best": np.float64(91.2), "mean": np.ones(3), "at": np.int64(3)},
    "lightning": lightning,
    "lightning, net": lambda: lightning(state_dict=prefixed("net.")),
    "compiled inside": lambda: {"net._orig_mod." + name: tensor for name, tensor in STATE.items()},
    "optimizer of NaN": lambda: {"model": STATE, "optimizer": {"state": {0: {"m": torch.tensor(np.nan)}}}},
    "beside an optimizer": lambda: {**STATE, "optimizer": {"state": {0: {"m": torch.zeros(2)}}}},
}


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".bin", ".pt"])
@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED.keys())
def test_the_networks_tensors_are_taken_out_of_every_wrapping(tmp_path, make, suffix, options):
    torch.save(make(), tmp_path / f"w{suffix}", **options)
    assert_state(loaded(tmp_path / f"w{suffix}"))


def test_what_timms_own_saver_writes_is_taken(tmp_path):
    from timm.utils import CheckpointSaver, ModelEmaV3

    module = network(value=0.25)
    ema = ModelEmaV3(network(value=0.75))
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    module(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    args = argparse.Namespace(model="tiny", lr=0.1, data_dir=pathlib.PosixPath("data"), mean=np.float64(0.5))
    for name, averaged in (("plain", None), ("both", ema)):
        (tmp_path / name).mkdir()
        saver = CheckpointSaver(
            module, optimizer, args=args, model_ema=averaged, checkpoint_dir=str(tmp_path / name)
        )
        saver.save_checkpoint(1, metric=np.float64(0.9))
        assert_state(loaded(tmp_path / name / "model_best.pth.tar"), module.state_dict())


def test_of_weights_and_their_average_the_weights_are_taken_and_the_choice_is_told(tmp_path, capsys):
    torch.save({"state_dict_ema": OTHER, "state_dict": STATE, "epoch": 1}, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))
    said = capsys.readouterr().err
    assert said.startswith("`w.pth`: took the tensors under `state_dict/`, not those under `state_dict_ema/`")


def test_of_two_networks_the_first_is_taken_and_the_choice_is_told(tmp_path, capsys):
    torch.save({"teacher": prefixed("module.", OTHER), "student": prefixed("module.")}, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"), OTHER)
    said = capsys.readouterr().err
    assert "took the tensors under `teacher/module.`, not those under `student/module.`" in said


def test_the_network_that_fits_by_shape_is_taken(tmp_path, capsys):
    content = {"student": network(classes=5).state_dict(), "teacher": STATE}
    torch.save(content, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))
    assert not capsys.readouterr().err


@pytest.mark.parametrize("buffers", [False, True])
def test_what_torchs_averaged_model_writes_is_taken(tmp_path, buffers, capsys):
    averaged = torch.optim.swa_utils.AveragedModel(network(value=0.5), use_buffers=buffers)
    torch.save(averaged.state_dict(), tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"), network(value=0.5).state_dict())
    assert "left 1 other (n_averaged)" in capsys.readouterr().err


def test_a_copy_of_the_network_beside_it_is_left_and_told(tmp_path, capsys):
    torch.save({**STATE, **prefixed("ema.module.", OTHER)}, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))
    assert "`their plain names`, not those under `ema.module.`" in capsys.readouterr().err


def without(name, state=None):
    return {key: tensor for key, tensor in (state or STATE).items() if key != name}


RENAMED = without("head.bias") | {"head.offset": STATE["head.bias"]}
TWO_NETWORKS = {
    "one missing": ({**prefixed("model.", without("head.bias")), **prefixed("teacher.", OTHER)}, "model."),
    "one renamed": ({**prefixed("teacher.", OTHER), **prefixed("model.", RENAMED)}, "model."),
    "plain": ({**without("head.bias"), **prefixed("teacher.", OTHER)}, "their plain names"),
    "dictionaries": ({"model": without("body.weight"), "teacher": prefixed("module.", OTHER)}, "model/"),
    "neither preferred": ({"student": without("head.bias"), "teacher": OTHER}, "student/"),
}


@pytest.mark.parametrize("load", [load_into, load_fitting])
@pytest.mark.parametrize("kind", TWO_NETWORKS)
def test_of_two_networks_one_of_which_is_not_whole_none_is_taken(tmp_path, kind, load):
    content, other = TWO_NETWORKS[kind]
    torch.save(content, tmp_path / "w.pth")
    module = network(value=9)
    with pytest.raises(
        CheckpointError, match=r"Expected one network in `w`, got two: .*Save the one"
    ) as caught:
        load(module, read_state(tmp_path / "w.pth"), "w")
    assert f"`{other}`" in str(caught.value)
    assert "`teacher" in str(caught.value)
    assert_state(module.state_dict(), network(value=9).state_dict())


def test_counters_that_nobody_needs_make_no_network_less_whole(tmp_path, capsys):
    old = {name: tensor for name, tensor in STATE.items() if "num_batches" not in name}
    torch.save({**prefixed("teacher.", OTHER), **prefixed("model.", old)}, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"), STATE | {"norm.num_batches_tracked": torch.tensor(9)})
    assert "under `model.`, not those under `teacher.`" in capsys.readouterr().err


@pytest.mark.parametrize("own", ["model.", "module.", "state_dict.", "model.module.", ""])
def test_a_whole_network_is_taken_beside_an_average_of_its_parameters(tmp_path, own):
    """An average without buffers is no other network, and nobody's own."""
    part = {name: tensor + 1 for name, tensor in network().named_parameters()}
    averaged = {name: tensor.detach() for name, tensor in part.items()}
    assert 2 * len(averaged) > len(STATE)
    torch.save({**prefixed("ema.", averaged), **prefixed(own)}, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))


@pytest.mark.parametrize("folder", [False, True], ids=["bare", "in a dictionary"])
@pytest.mark.parametrize("own", ["model.", "module.", "state_dict.", "model.module."])
def test_an_average_that_comes_first_does_not_go_before_the_network(tmp_path, own, folder, capsys):
    content = {**prefixed("ema.", OTHER), **prefixed(own)}
    torch.save({"state_dict": content} if folder else content, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))
    assert f"{own}`, not those under" in capsys.readouterr().err


def test_tensors_that_lack_the_prefix_of_the_others_are_taken_and_told(tmp_path, capsys):
    plain = ("norm.running_mean", "norm.running_var")
    mixed = {name if name in plain else f"module.{name}": tensor for name, tensor in STATE.items()}
    torch.save({"state_dict": mixed}, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))
    assert "and 2 that lack it (norm.running_mean, norm.running_var)" in capsys.readouterr().err


def test_other_modules_of_a_wrapping_are_left_and_told(tmp_path, capsys):
    torch.save(lightning(), tmp_path / "w.ckpt")
    assert_state(loaded(tmp_path / "w.ckpt"))
    assert "under `state_dict/model.`, left 2 others (loss.weight, ema.decay)" in capsys.readouterr().err


def test_plain_weights_are_taken_without_a_word(tmp_path, capsys):
    torch.save(STATE, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))
    assert not capsys.readouterr().err


def test_missing_tensors_are_counted_and_the_wrappings_told(tmp_path):
    part = {name: tensor for name, tensor in STATE.items() if not name.startswith("head")}
    torch.save({"ema": prefixed("module.", part), "optimizer": {"m": torch.ones(1)}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError) as caught:
        loaded(tmp_path / "w.pth")
    line = str(caught.value)
    assert "tensors 2 missing (head.weight, head.bias) under `ema/module.`" in line
    assert "the file's tensors are ema (7), optimizer (1)." in line


def test_a_file_of_another_network_tells_what_it_has(tmp_path):
    torch.save({"generator": {"a": torch.ones(2)}, "discriminator": {"b": torch.ones(2)}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"the file's tensors are generator \(1\), discriminator \(1\)"):
        loaded(tmp_path / "w.pth")


def test_unknown_layers_under_the_prefix_are_still_refused(tmp_path):
    torch.save({"net": {**STATE, "second.weight": torch.ones(2)}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"1 unexpected \(second.weight\)"):
        loaded(tmp_path / "w.pth")


def test_a_training_starts_from_a_wrapped_network_with_another_head(tmp_path, capsys):
    torch.save(lightning(), tmp_path / "w.ckpt")
    module = network(classes=5, value=9)
    load_fitting(module, read_state(tmp_path / "w.ckpt"), "w")
    assert torch.equal(module.body.weight, STATE["body.weight"])
    assert torch.equal(module.head.weight, torch.full((5, 4), 9.0))
    assert "lacks 2 tensors, which start anew: head.weight, head.bias" in capsys.readouterr().err


# --- Files that are something else ---


def test_the_content_says_what_a_file_is(tmp_path):
    save_file(STATE, tmp_path / "w.pth")
    assert_state(loaded(tmp_path / "w.pth"))
    torch.save({"state_dict": STATE}, tmp_path / "w.safetensors")
    assert_state(loaded(tmp_path / "w.safetensors"))


PAGE = b"\n<!DOCTYPE html><html><body>Log in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n"
ELSE = {
    "pointer": (POINTER, "a git-lfs pointer to them. Run `git lfs pull` in its repository."),
    "page": (PAGE, "a web page"),
    "empty": (b"", "an empty file"),
    "index": (b'{"metadata": {}, "weight_map": {"a": "b"}}', "JSON text, such as the index of weights"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ELSE)
def test_a_file_that_holds_no_weights_is_called_what_it_is(tmp_path, kind, suffix):
    content, said = ELSE[kind]
    (tmp_path / f"w{suffix}").write_bytes(content)
    with pytest.raises(CheckpointError, match="Expected weights in ") as caught:
        read_state(tmp_path / f"w{suffix}")
    assert said in str(caught.value)


def test_a_cut_off_archive_is_called_so(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"a zip archive that is cut off or damaged\. Fetch it again"):
        read_state(tmp_path / "w.pth")


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_archive_is_called_so(tmp_path):
    torch.jit.save(torch.jit.script(network()), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="a TorchScript archive, which is code"):
        read_state(tmp_path / "w.pt")


def test_a_whole_pickled_network_is_refused_by_name(tmp_path):
    torch.save(network(), tmp_path / "w.pth")
    with pytest.raises(
        CheckpointError, match=r"asks for `torch\.nn\.modules\.\S+`.*Save the network's state_dict"
    ):
        read_state(tmp_path / "w.pth")


# --- Malicious files ---


class Call:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.made = function, args

    def __reduce__(self):
        return self.made


class Built:
    """Pickles as an object of a class that is then given a state, through its own `__setstate__` or not."""

    def __init__(self, kind, args, state):
        self.made = kind, args, state

    def __reduce__(self):
        return self.made


def attacks(canary):
    """What makes the file `canary` when read without care, by name; and part of the name that is refused."""
    import os

    touch = f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": (Call(os.system, f"touch {canary}"), "posix.system"),
        "eval": (Call(eval, touch), "builtins.eval"),
        "exec": (Call(exec, touch), "builtins.exec"),
        "getattr": (Call(getattr, Call(__import__, "os"), "system"), "builtins.getattr"),
        "inside a namespace": (argparse.Namespace(a=Call(os.system, f"touch {canary}")), "posix.system"),
        "a namespace's state": (Built(argparse.Namespace, (), {"a": Call(eval, touch)}), "builtins.eval"),
        "attrgetter": (Call(__import__("operator").attrgetter, "a"), "operator.attrgetter"),
        "partial": (Call(__import__("functools").partial, eval, touch), "functools.partial"),
        "numpy.load": (Call(np.load, "x", None, True), "numpy"),
        "runpy": (Call(__import__("runpy").run_path, str(canary)), "runpy.run_path"),
    }


NAMES = [
    "os.system", "getattr", "eval", "exec", "inside a namespace", "a namespace's state", "attrgetter",
    "partial",
]  # fmt: skip
NAMES += ["numpy.load", "runpy"]
LAYOUTS = {
    "timm": lambda evil: {"state_dict": STATE, "args": argparse.Namespace(lr=0.1, a=evil), "metric": 0.9},
    "lightning": lambda evil: lightning(hyper_parameters={"a": evil}),
    "averaged": lambda evil: OrderedDict([("n_averaged", evil), *prefixed("module.").items()]),
}


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_malicious_file_of_a_tools_layout_runs_nothing_and_is_named(tmp_path, name, layout, options):
    evil, asked = attacks(tmp_path / "canary")[name]
    torch.save(LAYOUTS[layout](evil), tmp_path / "w.pth", **options)
    with pytest.raises(CheckpointError, match="wants to run code; refused") as caught:
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "canary").exists()
    assert asked.removeprefix("builtins.") in str(caught.value)


def test_such_a_file_would_have_worked(tmp_path):
    evil, _ = attacks(tmp_path / "canary")["eval"]
    buffer = io.BytesIO()
    torch.save(LAYOUTS["timm"](evil), buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=False)
    assert (tmp_path / "canary").exists()


def test_a_name_that_is_refused_cannot_write_to_the_terminal(tmp_path):
    content = pickle.dumps({"a": Call(exec, "")}, protocol=2).replace(b"exec\n", b"\x1b[2Jx\n")
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="refused") as caught:
        read_state(tmp_path / "w.pth")
    assert str(caught.value).isprintable()


def test_known_types_are_never_built_from_what_a_file_says(tmp_path, monkeypatch):
    """A numpy scalar of objects hands numpy raw bytes as addresses; a namespace takes any attribute."""
    calls = []
    monkeypatch.setattr(argparse.Namespace, "__init__", lambda *args, **named: calls.append(args))
    scalar = np.float64(1).__reduce__()[0]
    objects = Built(
        np.dtype, ("O8", False, True), (3, "|", None, None, None, 8, 8, 0)
    )  # flags of plain bytes
    content = {
        "state_dict": STATE,
        "metric": Call(scalar, objects, b"\x41" * 8),
        "args": Built(argparse.Namespace, (), {"__setstate__": 1, "__class__": 2}),
    }
    torch.save(content, tmp_path / "w.pth")
    calls.clear()
    assert_state(loaded(tmp_path / "w.pth"))
    assert not calls


def test_the_names_that_pass_are_let_through_for_the_one_file_only(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save({"state_dict": STATE, "args": argparse.Namespace()}, tmp_path / "w.pth")
    threads = [threading.Thread(target=lambda: results.append(loaded(tmp_path / "w.pth"))) for _ in range(8)]
    results: list = []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "w.pth", weights_only=True)


def test_dictionaries_that_hold_themselves_are_refused(tmp_path):
    circle: dict = {"a": torch.ones(1)}
    circle["b"] = circle
    torch.save(circle, tmp_path / "w.pth")
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "w.pth")


def test_a_zip_file_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(CheckpointError, match=r"w\.pth"):
        read_state(tmp_path / "w.pth")
