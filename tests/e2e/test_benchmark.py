"""`benchmark` as a user runs it, on both embedded pairs; no test judges how long anything takes."""

import json
from shutil import copytree

import pytest
from common import DIGITS, QUICKSTART
from PIL import Image

from ebjr_det.evaluation.benchmark.result import Benchmark

SUBJECTS = ["student", "teacher", "joint 10 %", "joint 30 %", "joint 50 %"]
IMAGES = 8  # the least number of rounds, so that every image has its turn however slow the machine
SHORT = ("--seconds", "0.02")
FILES = {"benchmark.json", "benchmark.md", "benchmark.png", "benchmark.svg"}


@pytest.fixture(scope="module")
def digits(command, tmp_path_factory):
    """A folder with the benchmark of the pair of classifiers."""
    folder = tmp_path_factory.mktemp("digits")
    assert command("benchmark", DIGITS, "--images", IMAGES, *SHORT, "--out", folder) == 0
    return folder


def test_every_file_is_there_and_whole(digits):
    assert {path.name for path in digits.iterdir()} == FILES
    content = json.loads((digits / "benchmark.json").read_text(), parse_constant=pytest.fail)
    assert content["summary"]["out"] == str(digits)
    assert Image.open(digits / "benchmark.png").width > 200
    text = (digits / "benchmark.md").read_text()
    for words in ("Single stream", "Offline", "Joining", "Server", "Stages at batch 1", "Stages at batch 8"):
        assert f"## {words}" in text


def test_every_call_of_every_subject_is_kept(digits):
    result = Benchmark.load(digits)
    summary = json.loads((digits / "benchmark.json").read_text())["summary"]
    assert result.subjects == SUBJECTS
    assert len(set(result.image_ids)) == IMAGES
    assert [lot.batch_size for lot in result.offline] == [lot.batch_size for lot in result.stages] == [1, 8]
    for name in SUBJECTS:
        numbers = summary["single_stream"][name]
        assert len(result.single[name].ms) == numbers["queries"] >= 8
        assert numbers["mean_ms"] == pytest.approx(result.single[name].mean, rel=1e-6)
        assert len(result.server.requests[name].latency_ms) == len(result.server.arrivals_s) >= 8
    assert {model.split for model in result.models.values()} == {True}
    assert set(result.stages[0].ms["student"]) == {
        "decode",
        "preprocess",
        "student network",
        "post-processing",
    }
    assert {"routing", "student network"} <= set(result.stages[0].ms["joint 50 %"])
    columns = result.stages[1].ms["joint 30 %"].values()
    assert len({len(column) for column in columns}) == 1
    assert all(ms >= 0 for column in columns for ms in column)
    assert result.environment["versions"]["torch"]
    assert result.config["student"]["checkpoint"] == "digits-student"


def test_the_load_stands_beside_every_scenario(digits):
    result = Benchmark.load(digits)
    assert list(result.machine.beside) == ["stages", "single stream", "offline", "server"]
    cpus = result.environment["cpus"]
    for load in result.machine.beside.values():
        assert load.seconds > 0
        assert load.own > 0
        assert load.others is None or 0 <= load.others <= cpus + 1  # a tick more


def test_deferred_shares_follow_the_rates(digits):
    """A whole pass over the sample defers as many as the rate allows; the last one may be a part."""
    result = Benchmark.load(digits)
    for name, deferred in (("joint 10 %", 0), ("joint 30 %", 2), ("joint 50 %", 4)):
        lot = result.single[name]
        assert sum(lot.deferred[:IMAGES]) == deferred
        assert set(lot.deferred[IMAGES : 2 * IMAGES]) <= {0, 1}
    assert [point.rate for point in result.points.values()] == [0.1, 0.3, 0.5]


def test_against_itself_nothing_differs_and_speedups_are_one(digits):
    from ebjr_det.evaluation.benchmark.against import Against

    result = Benchmark.load(digits)
    itself = Against.of(result, result)
    assert not itself.differences
    assert {row.subject for row in itself.rows} == set(SUBJECTS)
    assert all(row.speedup.value == pytest.approx(1.0) for row in itself.rows)
    assert {row.speedup.verdict() for row in itself.rows} == {"not told apart"}


def test_an_earlier_benchmark_is_read_before_the_new_one_replaces_it(digits, command, capsys, tmp_path):
    out = copytree(digits, tmp_path / "out")
    capsys.readouterr()
    assert command("benchmark", DIGITS, "--images", 4, *SHORT, "--out", out, "--against", out) == 0
    assert "Against the earlier benchmark" in capsys.readouterr().out
    again = json.loads((out / "benchmark.json").read_text())["summary"]
    rows = again["against"]["rows"]
    assert [row["subject"] for row in rows if row["scenario"] == "single stream"] == SUBJECTS
    assert all(row["speedup_old_over_new"]["value"] > 0 for row in rows)
    assert {row["verdict"] for row in rows} <= {"faster", "slower", "not told apart"}
    assert f"images {IMAGES} then, 4 now" in again["against"]["differences"]


@pytest.mark.slow
def test_detectors_and_every_option(tmp_path, answer):
    given = ("--rates", "0.25", "--threshold", "-1e9", "--images", "4", "--batch-sizes", "2", *SHORT)
    load = ("--arrival-rate", "50", "--latency-bound-ms", "1e6", "--set", "teacher.image_size=128")
    summary = answer("benchmark", QUICKSTART, *given, *load, "--out", tmp_path)
    assert list(summary["points"]) == ["joint 25 %", "joint at threshold"]
    assert summary["single_stream"]["joint at threshold"]["deferral_rate"] == 1.0
    assert summary["server"]["arrival_rate"] == 50.0
    assert summary["server"]["latency_bound_ms"] == 1e6
    for row in summary["server"]["subjects"].values():
        assert row["inside_bound"] == row["answered"]
    assert [lot["batch_size"] for lot in summary["offline"]] == [2]
    assert [lot["batch_size"] for lot in summary["stages_ms"]] == [1, 2]
    assert summary["models"]["teacher"]["name"] == "256 px"
    joined = summary["offline"][0]["subjects"]["joint 25 %"]["over_student_plus_p_teacher"]
    assert joined["low"] <= joined["value"] <= joined["high"]


def test_the_threshold_of_a_finished_run_is_one_more_point(command, tmp_path, answer):
    quick = ("--set", "run.bootstrap=5", "--set", "latency.measure=false", "--set", "data.limit=60")
    assert command("evaluate", DIGITS, *quick, "--out", tmp_path / "run") == 0
    threshold = json.loads((tmp_path / "run" / "analysis.json").read_text())["threshold"]
    given = ("--rates", "0.25,0.75", "--images", "4", "--batch-sizes", "1", *SHORT)
    summary = answer("benchmark", tmp_path / "run", *given, "--out", tmp_path / "out")
    assert list(summary["points"]) == ["joint 25 %", "joint 75 %", "joint at threshold"]
    assert summary["points"]["joint at threshold"]["threshold"] == pytest.approx(threshold)
    assert (tmp_path / "run" / "summary.json").is_file()


MISTAKES = {
    "rate above 1": (["--rates", "1.5"], "deferral rate in [0, 1]"),
    "NaN rate": (["--rates", "nan"], "deferral rate in [0, 1]"),
    "rate that is a word": (["--rates", "some"], "--rates"),
    "no image": (["--images", "0"], "at least 1 image"),
    "batch size 0": (["--batch-sizes", "1,0"], "batch sizes from 1"),
    "batch size 1.5": (["--batch-sizes", "1.5"], "--batch-sizes"),
    "NaN bound": (["--latency-bound-ms", "nan"], "`latency bound`"),
    "arrival rate 0": (["--arrival-rate", "0"], "`arrival rate`"),
    "endless arrival rate": (["--arrival-rate", "inf"], "`arrival rate`"),
    "no time": (["--seconds", "0"], "`seconds`"),
    "NaN threshold": (["--threshold", "nan"], "`threshold`"),
    "device not here": (["--device", "cuda:99"], "cuda:99"),
    "no earlier benchmark": (["--against", "nope.json"], "nope.json"),
}


@pytest.mark.parametrize(("args", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_explained_in_one_line(args, says, tmp_path, refused):
    assert says in refused("benchmark", DIGITS, *args, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("ebjr-det benchmark 1", "ebjr-det benchmark 0"),
        lambda text: text.replace('"ms": [', '"ms": ["x", ', 1),
        lambda text: text.replace('"ms": [', '"ms": [NaN, ', 1),
        lambda text: text.replace('"single": {"student"', '"single": {"pupil"', 1),
        lambda text: "[]",
        lambda text: "",
    ],
    ids=["cut", "version", "word", "NaN", "subject", "list", "empty"],
)
def test_a_damaged_earlier_benchmark_is_refused(damage, digits, tmp_path, refused):
    text = (digits / "benchmark.json").read_text()
    path = tmp_path / "damaged.json"
    path.write_text(damage(text))
    assert path.read_text() != text
    assert "enchmark" in refused("benchmark", DIGITS, "--out", tmp_path / "out", "--against", path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "args", "says"),
    [(DIGITS, ["--rates", "0.2"], "joint 20 %"), (QUICKSTART, [], "resnet-8-2")],
    ids=["points", "models"],
)
def test_an_earlier_benchmark_of_other_subjects_is_refused(config, args, says, digits, tmp_path, refused):
    given = [config, *args, "--images", "2", "--batch-sizes", "1", "--out", tmp_path, "--against", digits]
    assert says in refused("benchmark", *given)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, refused):
    (tmp_path / "file").write_text("x")
    assert "folder that can be written" in refused("benchmark", DIGITS, "--out", tmp_path / "file" / "out")
