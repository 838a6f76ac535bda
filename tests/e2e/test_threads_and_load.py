"""The setting of threads, and the load beside measured times, through the commands."""

import json
import os
import subprocess
import sys
from shutil import copytree

import pytest
from common import DIGITS

import ebjr_det
from ebjr_det.io import threads
from ebjr_det.tasks.settings import load_config

QUICK = ["data.limit=40", "run.bootstrap=5", "latency.batches=3", "latency.warmup=1", "run.workers=0"]
ASKED = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on three threads, as if this machine had three CPUs for it."""
    folder = tmp_path_factory.mktemp("run")
    changes = [*QUICK, f"run.threads={ASKED}", "latency.batch_sizes=[2]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "usable_cpus", lambda: ASKED)
        result = ebjr_det.evaluate(load_config(DIGITS, changes), folder)
    return folder, result


def test_the_threads_of_a_run_reach_torch_and_are_recorded(run):
    environment = json.loads((run[0] / "environment.json").read_text())
    assert environment["torch_threads"] == ASKED
    assert set(environment["waiting"]) == {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT"}


def test_another_number_of_threads_goes_on_with_the_same_run(run, tmp_path):
    changes = [*QUICK, "run.threads=1", "latency.measure=false"]
    folder = copytree(run[0], tmp_path / "run")
    again = ebjr_det.evaluate(load_config(DIGITS, changes), folder, resume=True).summary
    assert again["student"]["quality"] == run[1].summary["student"]["quality"]


def test_every_latency_of_a_run_stands_beside_its_load(run):
    for side in ("student", "teacher", "joint"):
        load = run[1].summary[side]["latency"]["load"]
        assert set(load) == {"others", "own", "cpus", "seconds", "noisy"}
        assert load["seconds"] > 0


@pytest.mark.parametrize(("others", "noisy"), [(1.3, True), (0.05, False)])
def test_the_report_says_beside_what_load_latency_was_measured(run, tmp_path, others, noisy):
    folder = copytree(run[0], tmp_path / "run")
    path = folder / "analysis.json"
    content = json.loads(path.read_text())
    load = {"others": others, "own": 0.7, "cpus": 2, "seconds": 9.0}
    for latency in (content["live"], content["student"]["latency"], content["teacher"]["latency"]):
        latency["load"] = load
    content["batch_load"] = load
    path.write_text(json.dumps(content))
    report = ebjr_det.report(folder).report
    text = (folder / "table.md").read_text()
    words = f"beside a load of {others:.2f} of 2 CPUs" + ": noisy" * noisy
    assert text.count(words) == 2 + noisy  # both captions, and a sentence where it is noisy
    assert ("Measure them again on a quiet machine." in text) is noisy
    assert report.sides()["joint"]["latency"]["load"]["noisy"] is noisy


def test_a_run_of_the_version_before_is_read(run, tmp_path):
    folder = copytree(run[0], tmp_path / "run")
    content = json.loads((folder / "analysis.json").read_text())
    for latency in filter(None, (content["live"], *(content[s]["latency"] for s in ("student", "teacher")))):
        del latency["load"]
    content.pop("batch_load")
    (folder / "analysis.json").write_text(json.dumps(content))
    ebjr_det.report(folder)
    assert "beside a" not in (folder / "table.md").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings another OpenMP elsewhere")
def test_the_command_sets_threads_and_waiting_before_torch_is_loaded(tmp_path, digit_pictures):
    """OpenMP itself says what it goes by."""
    clean = {name: value for name, value in os.environ.items() if name[:4] not in ("OMP_", "GOMP")}
    command = [sys.executable, "-m", "ebjr_det", "predict", DIGITS, digit_pictures, "--threads", "1"]
    done = subprocess.run(
        [*command, "--threshold", "0", "--out", tmp_path / "out", "--json"],
        env={**clean, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    for told in ("OMP_NUM_THREADS = '1'", "OMP_WAIT_POLICY = 'PASSIVE'", "GOMP_SPINCOUNT = '800'"):
        assert told in done.stderr
    assert json.loads(done.stdout)["load"]["cpus"] == len(os.sched_getaffinity(0))
