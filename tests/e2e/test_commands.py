"""Every command as a user runs it, on the embedded pair: real weights, real digits, real files."""

import csv
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from common import DIGITS, ROOT
from safetensors.torch import load_file, save_file

from ebjr_det.config import dump_config
from ebjr_det.core.tradeoff import select
from ebjr_det.inference.pair import with_checksums
from ebjr_det.io.records import load_run, save_run
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.settings import load_config

QUICK = ["--set", "run.bootstrap=20", "--set", "latency.batches=5", "--set", "latency.warmup=1"]
FILES = {
    "accuracy_by_deferral_rate.png", "accuracy_by_deferral_rate.svg", "accuracy_by_latency_ms.png",
    "accuracy_by_latency_ms.svg", "accuracy_by_macs.png", "accuracy_by_macs.svg", "analysis.json",
    "config.yaml", "curve.json", "environment.json", "gallery", "gallery.json", "judged.json",
    "report.html", "router.safetensors", "routes.csv", "run.npz", "score_histogram.png",
    "score_histogram.svg", "summary.json", "table.md",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, command) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert command("evaluate", DIGITS, *QUICK, "--out", out) == 0
    return out


def test_evaluate_writes_the_whole_run_folder(finished: Path):
    assert {path.name for path in finished.iterdir()} == FILES


def test_the_summary_agrees_with_the_routes(finished: Path):
    summary = json.loads((finished / "summary.json").read_text())
    rows = list(csv.DictReader((finished / "routes.csv").open()))
    assert len(rows) == summary["images"] == 600
    deferred = np.array([row["deferred"] == "1" for row in rows])
    student = np.array([row["student_correct"] == "1" for row in rows])
    teacher = np.array([row["teacher_correct"] == "1" for row in rows])
    assert summary["student"]["quality"] == student.mean()
    assert summary["teacher"]["quality"] == teacher.mean()
    assert summary["joint"]["quality"] == np.where(deferred, teacher, student).mean()
    assert summary["joint"]["deferral_rate"] == deferred.mean()
    assert summary["joint"]["student_share"] == 1 - deferred.mean()
    macs = summary["student"]["macs"] + deferred.mean() * summary["teacher"]["macs"]
    assert summary["joint"]["macs"] == pytest.approx(macs, rel=1e-12)
    scores = np.array([float(row[summary["score"]]) for row in rows])
    assert ((scores > summary["joint"]["threshold"]) == deferred).all()


def test_the_calibration_images_are_not_reported(finished: Path):
    summary = json.loads((finished / "summary.json").read_text())
    everything = load_run(finished / "run.npz")
    reported = {row["image_id"] for row in csv.DictReader((finished / "routes.csv").open())}
    assert summary["calibration"]["images"] + len(reported) == len(everything)
    assert reported < set(everything.image_ids)


def test_the_curve_file_holds_every_point_of_every_score(finished: Path):
    curves = json.loads((finished / "curve.json").read_text())
    main = curves["curves"][curves["score"]]
    assert main["threshold"][0] is None
    assert main["threshold"][-1] is None
    assert main["deferral_rate"][0] == 0
    assert main["deferral_rate"][-1] == 1
    assert len(curves["oracle"]) == curves["images"] + 1
    assert set(curves["curves"]) >= {"free_energy", "max_softmax", "margin", "random"}


def test_the_environment_says_where_the_figures_come_from(finished: Path):
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["versions"]["torch"]
    assert environment["device"]
    assert "seed" in environment
    assert "git_revision" in environment


def test_evaluate_refuses_to_overwrite_and_resumes_to_the_same(finished: Path, answer, refused):
    before = (finished / "summary.json").read_text()
    assert "--resume" in refused("evaluate", DIGITS, *QUICK, "--out", finished)
    again = answer("evaluate", DIGITS, *QUICK, "--out", finished, "--resume")
    first = json.loads(before)
    for key in ("points", "scores", "score_intervals", "calibration"):
        old = [{**p, "latency_ms": 0} for p in first[key]] if key == "points" else first[key]
        new = [{**p, "latency_ms": 0} for p in again[key]] if key == "points" else again[key]
        assert old == new, key
    other = ["--set", "data.limit=300", "--out", finished, "--resume"]
    assert "Expected `data.limit` as in the run" in refused("evaluate", DIGITS, *QUICK, *other)


def test_a_finished_run_takes_another_target_and_an_infeasible_one_keeps_it(
    finished: Path, tmp_path: Path, capsys, command
):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    before, report = (out / "run.npz").read_bytes(), (out / "summary.json").read_bytes()
    target = "router.target={kind: min_quality, value: 0.99999}"
    again = [*QUICK, "--out", out, "--resume", "--json", "--set"]
    assert command("evaluate", DIGITS, *again, target) == 3
    assert json.loads(capsys.readouterr().out)["feasible"] is False
    assert (out / "summary.json").read_bytes() == report, "nothing is lost"
    assert "0.99999" not in (out / "config.yaml").read_text(), "settings are those of the report"
    assert command("evaluate", DIGITS, *again, "router.target={kind: deferral_rate, value: 0.2}") == 0
    got = json.loads(capsys.readouterr().out)
    assert got["calibration"]["deferral_rate"] == 0.2
    assert (out / "run.npz").read_bytes() == before
    assert "deferral_rate" in (out / "config.yaml").read_text()


def test_resume_notices_other_weights_under_the_same_name(tmp_path: Path, command, refused):
    weights = tmp_path / "student.safetensors"
    weights.write_bytes((ROOT / "checkpoints" / "digits" / "student.safetensors").read_bytes())
    args = [
        *QUICK, "--set", f"student.checkpoint={weights}", "--set", "data.limit=50", "--out",
        tmp_path / "r",
    ]  # fmt: skip
    assert command("evaluate", DIGITS, *args) == 0
    settings = load_config(tmp_path / "r" / "config.yaml")
    assert None not in (settings.student.sha256, settings.teacher.sha256)
    state = load_file(weights)
    key = next(name for name in state if name.endswith("weight"))
    save_file(state | {key: state[key] * 2}, weights)
    assert "Expected `student.sha256` as in the run" in refused("evaluate", DIGITS, *args, "--resume")


def test_resume_refuses_parts_of_other_images_before_it_goes_on(
    finished: Path, tmp_path: Path, capsys, command, refused
):
    args = [*QUICK, "--out", tmp_path / "r", "--set", "data.limit=1200"]
    (tmp_path / "r" / "parts").mkdir(parents=True)
    assert command("evaluate", DIGITS, *args, "--print-config") == 0
    (tmp_path / "shown.yaml").write_text(capsys.readouterr().out)
    settings = with_checksums(load_config(tmp_path / "shown.yaml"))
    (tmp_path / "r" / "config.yaml").write_text(dump_config(settings))
    run = load_run(finished / "run.npz")
    save_run(select(run, Accuracy(), np.arange(5, 10)), tmp_path / "r" / "parts" / "000000.npz")
    assert "Expected the images that the run" in refused("evaluate", DIGITS, *args, "--resume")
    assert not (tmp_path / "r" / "run.npz").exists()


def test_a_report_that_is_cut_off_leaves_no_summary_of_another(
    finished: Path, tmp_path: Path, monkeypatch, command
):
    """What a kill does between the first and the last file of a new report."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.setattr("ebjr_det.reporting.write._routes", lambda *_: (_ for _ in ()).throw(Cut()))
    with pytest.raises(Cut):
        command("evaluate", DIGITS, *QUICK, "--out", tmp_path / "run", "--resume")
    monkeypatch.undo()
    assert not (tmp_path / "run" / "summary.json").exists()
    assert command("report", tmp_path / "run") == 0
    assert (tmp_path / "run" / "summary.json").exists()


class Cut(BaseException):
    """Not an Exception: nothing may catch it on the way."""


def test_print_config_round_trips(tmp_path: Path, capsys, command):
    assert command("evaluate", DIGITS, "--batch-size", "7", "--print-config") == 0
    text = capsys.readouterr().out
    path = tmp_path / "again.yaml"
    path.write_text(text)
    assert command("evaluate", path, "--print-config") == 0
    assert capsys.readouterr().out == text
    assert "batch_size: 7" in text


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    """Logits and labels of a made-up pair, as another framework would save them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(5, size=200)
    student = rng.normal(size=(200, 5)) + 1.5 * np.eye(5)[labels]
    teacher = student + 2.0 * np.eye(5)[labels]
    np.save(tmp_path / "S.npy", student)
    np.savez(tmp_path / "T.npz", logits=teacher, image_ids=np.array([f"img{i}" for i in range(200)]))
    np.savez(tmp_path / "Y.npz", labels=labels)
    return {key: tmp_path / name for key, name in (("S", "S.npy"), ("T", "T.npz"), ("Y", "Y.npz"))}


def replay(saved: dict[str, Path], *extra: object) -> list[object]:
    files = ["--student-logits", saved["S"], "--teacher-logits", saved["T"], "--labels", saved["Y"]]
    return ["replay", "classification", *files, "--bootstrap", "20", *extra]


def test_replay_gives_every_point_and_the_promised_keys(saved, tmp_path: Path, answer):
    got = answer(*replay(saved, "--score", "free_energy", "--out", tmp_path / "run"))
    assert len(got["points"]) == 201
    assert set(got["points"][0]) >= {"deferral_rate", "threshold", "quality", "macs", "gap_recovered"}
    for side in ("student", "teacher", "joint"):
        assert set(got[side]) >= {"quality", "macs", "latency_ms"}
        assert got[side]["macs"] is None
    assert got["run_dir"] == str(tmp_path / "run")
    labels = np.load(saved["Y"])["labels"]
    assert got["student"]["quality"] == (np.load(saved["S"]).argmax(1) == labels).mean()
    assert got["teacher"]["quality"] == (np.load(saved["T"])["logits"].argmax(1) == labels).mean()


@pytest.mark.parametrize(("threshold", "rate"), [("inf", 0.0), ("-inf", 1.0)])
def test_replay_takes_a_threshold_that_defers_none_or_all(saved, threshold, rate, tmp_path: Path, answer):
    options = [f"--threshold={threshold}", "--bootstrap", "2", "--out", tmp_path / "r"]
    assert answer(*replay(saved, *options))["joint"]["deferral_rate"] == rate


def test_replay_rates_pick_the_points_and_the_first_is_chosen(saved, tmp_path: Path, answer, refused):
    macs = ["--student-macs", "10", "--teacher-macs", "100"]
    got = answer(*replay(saved, "--rates", ".1,.25", "--score", "margin", *macs, "--out", tmp_path / "r"))
    assert [point["deferral_rate"] for point in got["points"]] == [0.1, 0.25]
    assert [point["macs"] for point in got["points"]] == [20, 35]
    assert got["joint"]["deferral_rate"] == 0.1
    rows = list(csv.DictReader((tmp_path / "r" / "routes.csv").open()))
    assert sum(row["deferred"] == "1" for row in rows) == 20
    assert rows[3]["image_id"] == "img3"
    assert "of both models or of neither" in refused(
        *replay(saved, "--student-macs", "10", "--out", tmp_path / "one")
    )


def test_replay_at_a_threshold(saved, tmp_path: Path, answer):
    got = answer(*replay(saved, "--threshold", "-0.9", "--score", "max_softmax", "--out", tmp_path / "r"))
    rows = list(csv.DictReader((tmp_path / "r" / "routes.csv").open()))
    assert got["joint"]["threshold"] == -0.9
    for row in rows:
        assert (float(row["max_softmax"]) > -0.9) == (row["deferred"] == "1")


def test_replay_replaces_an_earlier_replay_but_no_other_folder(saved, tmp_path: Path, command, answer):
    out = tmp_path / "r"
    assert answer(*replay(saved, "--out", out)) == answer(*replay(saved, "--out", out))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    assert command(*replay(saved, "--out", tmp_path / "mine")) == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_replay_that_is_cut_off_leaves_no_summary_of_the_one_before(
    saved, tmp_path: Path, monkeypatch, command
):
    assert command(*replay(saved, "--out", tmp_path / "r")) == 0
    monkeypatch.setattr(
        import_module("ebjr_det.api.replay"), "save_run", lambda *_: (_ for _ in ()).throw(Cut())
    )
    with pytest.raises(Cut):
        command(*replay(saved, "--out", tmp_path / "r"))
    assert not (tmp_path / "r" / "summary.json").exists()


def test_a_refused_replay_writes_nothing(saved, tmp_path: Path, refused):
    logits = np.load(saved["S"])
    logits[7, 2] = np.nan
    np.save(saved["S"], logits)
    err = refused(*replay(saved, "--out", tmp_path / "r"))
    assert "NaN" in err
    assert "index 7" in err
    assert not (tmp_path / "r").exists()


def test_calibrate_chooses_on_one_part_and_reports_on_the_other(finished: Path, answer):
    got = answer("calibrate", finished, "--max-drop", "0.02", "--confidence", "0.9")
    assert got["feasible"]
    assert got["calibration"]["images"] == got["report"]["images"] == 300  # not those of the router
    assert got["calibration"]["quality"] >= got["calibration"]["teacher_quality"] - 0.02
    run = load_run(finished / "run.npz")
    assert got["report"]["threshold"] == got["threshold"] == got["calibration"]["threshold"]
    assert 0 < (run.scores[got["score"]] > got["threshold"]).mean() < 1


@pytest.mark.parametrize("flag", ["--max-gmacs", "--max-latency-ms", "--deferral-rate", "--min-quality"])
def test_calibrate_takes_every_target(flag: str, finished: Path, answer):
    value = {"--max-gmacs": "0.001", "--max-latency-ms": "1000", "--deferral-rate": "0.2"}.get(flag, "0.97")
    got = answer("calibrate", finished, flag, value)
    assert got["feasible"]
    if flag == "--max-gmacs":
        assert got["calibration"]["macs"] <= 1e6
    if flag == "--deferral-rate":
        assert got["calibration"]["deferral_rate"] <= 0.2
    pair = json.loads((finished / "summary.json").read_text())["joint"]
    live, expected = pair["live_deferral_rate"], pair["expected_latency_ms"]
    measured = {
        "deferral_rate": live,
        "latency_ms": pair["latency_ms"],
        "expected_latency_ms": expected,
    }
    assert got["live"] == measured


def test_an_infeasible_target_is_an_answer_with_the_nearest_point(finished: Path, capsys, command):
    assert command("calibrate", finished, "--min-quality", "0.99999", "--json") == 3
    out, err = capsys.readouterr()
    got = json.loads(out)
    assert got["feasible"] is False
    assert got["nearest"]["quality"] > 0.98
    assert len(err.strip().splitlines()) == 1


def test_calibrate_refuses_a_report_on_the_same_images(finished: Path, refused):
    assert "disjoint" in refused("calibrate", finished, "--deferral-rate", "0.2", "--report-on", finished)


def test_calibrate_refuses_a_report_on_another_pair(finished: Path, saved, tmp_path: Path, command, refused):
    assert command(*replay(saved, "--out", tmp_path / "r")) == 0
    assert "Expected two runs of one pair" in refused(
        "calibrate", finished, "--deferral-rate", "0.2", "--report-on", tmp_path / "r"
    )


@pytest.mark.parametrize(("rate", "says"), [("0", "inf (defer none)"), ("1", "-inf (defer all)")])
def test_calibrate_names_the_end_thresholds(rate: str, says: str, finished: Path, capsys, command):
    assert command("calibrate", finished, "--deferral-rate", rate) == 0
    assert f": {says}" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [
    lambda analysis: analysis.pop("score"), lambda analysis: analysis.update(score=[]),
    lambda analysis: analysis.update(score="energie"), lambda analysis: analysis.update(student=None),
    lambda analysis: analysis["cost"].update(teacher_macs="x"),
    lambda analysis: analysis["cost"].update(teacher_macs=-1),
])  # fmt: skip
def test_an_edited_run_is_refused(damage, finished: Path, tmp_path: Path, capsys, command):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "analysis.json"
    analysis = json.loads(path.read_text())
    damage(analysis)
    path.write_text(json.dumps(analysis))
    for refused in (["calibrate", tmp_path / "run", "--deferral-rate", "0.2"], ["report", tmp_path / "run"]):
        assert command(*refused) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_scores_lists_formula_and_source(capsys, command):
    assert command("scores") == 0
    out = capsys.readouterr().out
    for name in ("free_energy", "probability_logsumexp", "joint_energy", "random"):
        assert name in out
    assert "logsumexp" in out
    assert "2010.03759" in out


def test_doctor_is_content_here(answer):
    got = answer("doctor")
    assert got["healthy"], [check for check in got["checks"] if check["state"] == "fault"]


def test_the_installed_command_says_its_version():
    program = Path(sys.executable).with_name("ebjr-det")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ebjr-det, version ")


def test_evaluate_does_not_depend_on_the_working_folder_or_batch_size(
    finished, tmp_path: Path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "other"
    assert command("evaluate", DIGITS, *QUICK, "--batch-size", "17", "--out", out) == 0
    first, second = load_run(finished / "run.npz"), load_run(out / "run.npz")
    assert first.image_ids == second.image_ids
    for column in first.student:
        assert (first.student[column] == second.student[column]).all()
        assert (first.teacher[column] == second.teacher[column]).all()
    np.testing.assert_allclose(first.scores["free_energy"], second.scores["free_energy"], atol=1e-4)


def test_loader_processes_change_nothing(finished: Path, tmp_path: Path, command):
    out = tmp_path / "workers"
    assert command("evaluate", DIGITS, *QUICK, "--workers", "1", "--out", out) == 0
    assert (finished / "run.npz").read_bytes() == (out / "run.npz").read_bytes()


def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "ebjr_det", "scores", "--json"], stdout=full, stderr=-1)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_strange_window_system_does_not_stop_the_figures(finished: Path, tmp_path: Path):
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    call = [sys.executable, "-m", "ebjr_det", "report", finished, "--out", tmp_path / "r"]
    subprocess.run(call, env=environment, check=True, capture_output=True)
    assert (tmp_path / "r" / "accuracy_by_macs.png").exists()


def test_a_pipe_that_closes_is_no_traceback():
    program = f"{sys.executable} -m ebjr_det scores | head -1"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=os.environ)
    assert "Traceback" not in done.stderr
