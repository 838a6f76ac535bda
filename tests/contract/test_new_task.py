"""A task that is no part of the package: evaluated, swept, calibrated, compared and reported."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from tagging import TAGS, RightTags, Tags

from ebjr_det.cli import cli
from ebjr_det.cli.exits import run_safely
from ebjr_det.core.errors import ConfigError
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.tasks import load_task

CONFIG = {
    "task": "tagging:Tagging",
    "data": {"images": 300},
    "student": {"arch": "quick", "noise": 2.5, "macs": 1e6},
    "teacher": {"arch": "thorough", "noise": 0.8, "macs": 1e7},
    "router": {"score": "free_energy"},
    "latency": {"measure": False},
    "run": {"bootstrap": 20, "batch_size": 64},
}


def main(args):
    return run_safely(lambda: cli(args, standalone_mode=False))


@pytest.fixture(autouse=True)
def _beside(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagging")
    (folder / "pair.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        assert main(["evaluate", str(folder / "pair.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_a_task_of_60_lines_is_evaluated_and_reported(run):
    summary = json.loads((run / "summary.json").read_text())
    records, _ = load_folder(run)
    assert (run / "report.html").is_file()
    assert summary["quality_name"] == "right_tags"
    student, teacher = (float(getattr(records, side)["share"].mean()) for side in ("student", "teacher"))
    assert summary["student"]["metrics"]["right_tags"] == pytest.approx(student, abs=1e-12)
    assert summary["teacher"]["metrics"]["right_tags"] == pytest.approx(teacher, abs=1e-12)
    assert teacher > student + 0.05


def test_its_curve_is_swept_exactly(run):
    """Each point against the answers of a mixture that is put together by hand."""
    records, analysis = load_folder(run)
    scores = records.scores[analysis.score]
    data = Tags(300)
    shares = {side: np.asarray(getattr(records, side)["share"]) for side in ("student", "teacher")}
    for point in json.loads((run / "summary.json").read_text())["points"]:
        threshold = np.inf if point["threshold"] is None else point["threshold"]
        if point["threshold"] is None and point["deferral_rate"] == 1:
            threshold = -np.inf
        defer = scores > threshold
        mixed = np.where(defer, shares["teacher"], shares["student"]).mean()
        assert point["quality"] == pytest.approx(float(mixed), abs=1e-12)
        assert defer.mean() == pytest.approx(point["deferral_rate"])
    assert len(data) == len(records)
    assert data.class_names == TAGS


def test_it_is_calibrated_compared_and_reported_again(run, capsys):
    assert main(["calibrate", str(run), "--deferral-rate", "0.3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calibration"]["deferral_rate"] <= 0.3
    again = [str(run.parent / "pair.yaml"), "--out", str(run.parent / "margin")]
    again += ["--set", "router.score=margin"]
    assert main(["evaluate", *again]) == 0
    assert main(["compare", str(run), str(run.parent / "margin"), "--out", str(run.parent / "both")]) == 0
    assert main(["report", str(run), "--out", str(run.parent / "again")]) == 0


def test_what_it_lacks_is_told_in_one_line(run, capsys):
    code = main(["predict", str(run), str(run), "--out", str(run.parent / "answers")])
    assert code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "Expected a task whose models can be shown, got `tagging:Tagging`" in last
    with pytest.raises(ConfigError, match="can be trained, got `tagging:Tagging`, which cannot"):
        load_task("tagging:Tagging").training  # noqa: B018


def test_a_class_that_is_no_plugin_of_its_name_is_refused():
    with pytest.raises(ConfigError, match="Expected a `TaskPlugin` whose `name` is `tagging:RightTags`"):
        load_task("tagging:RightTags")
    assert RightTags.name == "tagging:Tagging"


@pytest.mark.parametrize(
    "name", ["os:getcwd", "sys:exit", "collections:namedtuple", "pathlib:Path", "os:sep"]
)
def test_what_is_no_plugin_is_never_called(name):
    """Records name their task, and may be anybody's; `sys.exit` would end the process."""
    with pytest.raises(ConfigError, match=f"Expected a `TaskPlugin` whose `name` is `{name}`, got"):
        load_task(name)
