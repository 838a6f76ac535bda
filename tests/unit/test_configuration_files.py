"""Which file a name means: one here, a shipped one, one where a run was made; and for which command."""

import sys
from pathlib import Path

import pytest
import yaml

from ebjr_det.api.settings import load_settings
from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput
from ebjr_det.io.checkpoints.finding import shipped_folder
from ebjr_det.runtimes.cache import cache_folder
from ebjr_det.tasks.settings import load_config, load_specialize_config, load_train_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


# --- Shipped configurations ---


@pytest.mark.parametrize("name", ["configs/quickstart.yaml", "quickstart.yaml", "quickstart", "./quickstart"])
def test_a_shipped_configuration_is_found_by_its_name_in_any_folder(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert load_config(name) == load_config(CONFIGS / "quickstart.yaml")
    said = capsys.readouterr().err
    assert (
        said
        == f"Settings: `{Path(name).name}` of those that come with ebjr-det, {CONFIGS / 'quickstart.yaml'}.\n"
    )


def test_a_file_of_that_name_here_comes_first_and_nothing_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((CONFIGS / "quickstart.yaml").read_text()) | {"title": "mine"}
    Path("configs").mkdir()
    Path("configs/quickstart.yaml").write_text(yaml.safe_dump(content))
    assert load_config("configs/quickstart.yaml").title == "mine"
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("load", "name"),
    [(load_train_config, "train_cifar100_one_cycle"), (load_specialize_config, "specialize_digits")],
)
def test_those_of_other_commands_are_found_too(load, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(f"configs/{name}.yaml") == load(CONFIGS / f"{name}.yaml")


def test_an_unknown_name_offers_the_nearest_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="Did you mean `quickstart`"):
        load_config("configs/quikstart.yaml")


@pytest.mark.parametrize(
    "name", ["mine/quickstart.yaml", "/nowhere/configs/quickstart.yaml", "a" * 3000, "a\0b"]
)
def test_a_path_of_another_folder_is_taken_as_it_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="no such file"):
        load_config(name)


# --- Settings of another command ---


@pytest.mark.parametrize(
    ("load", "name", "said"),
    [
        (load_config, "train_cifar100_densenet", "those of a training. Run `ebjr-det train "),
        (load_config, "specialize_digits", "those of a specialisation. Run `ebjr-det specialize "),
        (load_train_config, "digits", "those of a pair. Run `ebjr-det evaluate "),
        (load_train_config, "specialize_digits", "those of a specialisation. Run `ebjr-det specialize "),
        (load_specialize_config, "digits", "those of a pair. Run `ebjr-det evaluate "),
        (load_specialize_config, "train_cifar100_densenet", "those of a training. Run `ebjr-det train "),
    ],
)
def test_settings_of_another_command_are_called_so(load, name, said):
    with pytest.raises(ConfigError) as caught:
        load(CONFIGS / f"{name}.yaml")
    assert said + f"{CONFIGS / name}.yaml`" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"replay": "detection", "student": "s.json"},
            "a replay, which has the outputs of two models and no models",
        ),
        (
            {"replay": "detection", "fit_router": {}},
            "a report of fit-router. Give the router's file as --router",
        ),
    ],
)
def test_the_folder_of_a_replay_is_called_so(content, said, tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "analysis.json").write_text("{}")
    with pytest.raises(ConfigError, match=said):
        load_settings(tmp_path)


def test_the_folder_of_a_training_is_called_so(tmp_path):
    (tmp_path / "config.yaml").write_text((CONFIGS / "train_cifar100_densenet.yaml").read_text())
    with pytest.raises(
        ConfigError, match=r"those of a training.*names the weights that it makes as `checkpoint`"
    ):
        load_settings(tmp_path)


def test_an_unfinished_run_is_told_to_go_on(tmp_path):
    (tmp_path / "config.yaml").write_text((CONFIGS / "digits.yaml").read_text())
    with pytest.raises(InvalidInput, match=f"evaluate {tmp_path}/config.yaml --out {tmp_path} --resume"):
        load_settings(tmp_path)


def test_a_folder_of_anything_is_told_what_is_expected(tmp_path):
    with pytest.raises(InvalidInput, match="the folder of a finished run or an export, got"):
        load_settings(tmp_path)


# --- Runs in other folders ---


def test_files_of_a_run_are_found_where_it_was_made(tmp_path, monkeypatch, capsys):
    from ebjr_det.api.settings import from_run

    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project / "weights", project / "data", project / "runs/one", elsewhere):
        folder.mkdir(parents=True)
    (project / "weights/student.safetensors").write_bytes(
        (shipped_folder() / "digits/student.safetensors").read_bytes()
    )
    changes = [
        "student.checkpoint=weights/student.safetensors",
        "data.root=data",
        "teacher.checkpoint=gone.pth",
    ]
    config = load_config(CONFIGS / "digits.yaml", changes)
    monkeypatch.chdir(project)
    assert from_run(config, Path("runs/one")) == config
    assert not capsys.readouterr().err
    monkeypatch.chdir(elsewhere)
    moved = from_run(config, Path("../project/runs/one"))
    assert moved.student.checkpoint == str(project / "weights/student.safetensors")
    assert moved.data.root == str(project / "data")
    assert moved.teacher.checkpoint == "gone.pth"
    said = capsys.readouterr().err
    assert "`student.checkpoint` of the run, `weights/student.safetensors`, is not here; taking" in said
    assert from_run(load_config(CONFIGS / "digits.yaml"), Path("../project/runs/one")).student.checkpoint == (
        "digits-student"
    )


# --- Without a home folder ---


def test_without_a_home_the_line_names_the_setting(monkeypatch):
    import pwd

    def nobody(_):
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "EBJR_DET_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(EbjrError, match=r"got no home folder\. Set EBJR_DET_CACHE"):
        cache_folder()
    monkeypatch.setenv("EBJR_DET_CACHE", "/some/where")
    assert cache_folder() == Path("/some/where")


@pytest.mark.skipif(sys.platform == "win32", reason="has no users of this kind")
def test_onnx_runtime_without_a_home_names_the_setting_and_no_other_runtime(monkeypatch):
    import pwd

    import torch

    from ebjr_det.runtimes.registry import build_network

    def nobody(_):
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "EBJR_DET_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    graph = torch.nn.Linear(3, 2).eval()
    with pytest.raises(EbjrError) as caught:
        build_network("onnxruntime", graph, torch.zeros(1, 3), "cpu")
    assert "Set EBJR_DET_CACHE" in str(caught.value)
    assert "another runtime" not in str(caught.value)
