"""The first changes that CONTRIBUTING shows, made as it says and seen by the commands."""

import doctest
import json
import re
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import rich_click as click
import torch

from ebjr_det import ReplaySettings, SavedOutputs, load, replay
from ebjr_det.cli import cli
from ebjr_det.cli.exits import run_safely
from ebjr_det.cli.options import AS_JSON, PATH
from ebjr_det.cli.printing import print_json
from ebjr_det.config import RouterSection
from ebjr_det.core import scores
from ebjr_det.core.tradeoff import score_of
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.runtimes.registry import RUNTIMES, Runtime

TEXT = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```python (\w+)\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def outputs(tmp_path):
    generator = np.random.default_rng(0)
    labels = generator.integers(5, size=200)
    student = generator.normal(size=(200, 5)) + 2 * np.eye(5)[labels]
    saved = {"student": student, "teacher": student + 2 * np.eye(5)[labels], "labels": labels}
    for name, values in saved.items():
        np.save(tmp_path / f"{name}.npy", values)
    return SavedOutputs("classification", {name: tmp_path / f"{name}.npy" for name in saved})


def test_every_kind_of_change_has_a_block():
    assert set(BLOCKS) == {"score", "runtime", "command"}


def test_a_new_score_decides_and_is_in_every_table(outputs, tmp_path):
    names = dict(vars(scores))
    try:
        exec(BLOCKS["score"], names)
        for test in doctest.DocTestFinder().find(names["runner_up"], "runner_up", globs=names):
            assert doctest.DocTestRunner().run(test).failed == 0
        settings = ReplaySettings(RouterSection(score="runner_up"), replicates=10)
        result = replay(outputs, tmp_path / "run", settings)
    finally:
        scores.SCORES.pop("runner_up", None)
    assert result.summary["score"] == "runner_up"
    assert "runner_up" in (tmp_path / "run" / "report.html").read_text()
    assert "runner_up" in result.summary["scores"]


def test_a_new_runtime_answers_as_eager_torch(monkeypatch):
    module = ModuleType("ebjr_det.runtimes.float64")
    vars(module).update(deepcopy=deepcopy, torch=torch, RUNTIMES=RUNTIMES, Runtime=Runtime)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    pictures = np.random.default_rng(1).integers(256, size=(6, 8, 8, 3)).astype(np.uint8)
    try:
        exec(BLOCKS["runtime"], vars(module))
        exact = load("digits", threshold=-0.9, changes=["student.runtime=float64"])
        eager = load("digits", threshold=-0.9)
        answers = exact(list(pictures)), eager(list(pictures))
    finally:
        RUNTIMES.pop("float64", None)
    np.testing.assert_allclose(*(answer.decision.scores for answer in answers), atol=1e-5)


def test_a_new_command_is_run_and_offered(outputs, tmp_path, capsys):
    replay(outputs, tmp_path / "run", ReplaySettings(replicates=10))
    names = {
        "NamedTuple": NamedTuple, "Path": Path, "np": np, "load_folder": load_folder, "score_of": score_of,
        "click": click, "PATH": PATH, "AS_JSON": AS_JSON, "print_json": print_json, "cli": cli,
        "__name__": __name__,
    }  # fmt: skip
    try:
        exec(BLOCKS["command"], names)
        args = ["undecided", str(tmp_path / "run"), "--json"]
        assert run_safely(lambda: cli(args, standalone_mode=False)) == 0
        answer = json.loads(capsys.readouterr().out)
        assert run_safely(lambda: cli(["undecide"], standalone_mode=False)) == 2
        assert "Did you mean `undecided`?" in capsys.readouterr().err
    finally:
        cli.commands.pop("undecided", None)
    run, analysis = load_folder(tmp_path / "run")
    near = np.abs(run.scores[analysis.score] - analysis.threshold) < 0.05
    assert answer == {"images": len(run), "near": int(near.sum())}
