"""What people see: the verdict first, no line too wide, every number whole, one unit a screen."""

import io
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from common import DIGITS_TRAINING
from rich.cells import cell_len

import ebjr_det
from ebjr_det.api import doctor
from ebjr_det.reporting.comparison import Comparison

WIDTHS = (80, 100, 132)
CLASSES, IMAGES = 5, 80
QUICK = ("--bootstrap", "5")
NAMES = ("small", "large", "a third model of a name that is rather long, v2 [bold]")


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Figures are drawn and installations are looked at elsewhere, and both take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebjr_det.reporting.write.write_figures", lambda *_: {})
        patch.setattr(Comparison, "write_figure", lambda *_: [])
        for figure in ("write_cost_figure", "write_share_figure"):
            patch.setattr(sys.modules[ebjr_det.traffic.__module__], figure, lambda *_: [])
        patch.setattr(doctor, "diagnose", lambda: CHECKS)
        yield


@pytest.fixture(scope="module")
def runs(command, fitted_on, tmp_path_factory):
    """A finished pair of classifiers with a further model and all costs, and one of detectors without any."""
    folder, generator = tmp_path_factory.mktemp("shown"), np.random.default_rng(0)
    labels = generator.integers(CLASSES, size=IMAGES)
    for name, hint in zip(NAMES, (1.0, 4.0, 2.0), strict=True):
        logits = generator.normal(size=(IMAGES, CLASSES)) + hint * np.eye(CLASSES)[labels]
        np.save(folder / f"{name[:5]}.npy", logits)
    np.save(folder / "labels.npy", labels)
    paths = [folder / f"{name}.npy" for name in ("small", "large", "labels")]
    files = zip(("--student-logits", "--teacher-logits", "--labels"), paths, strict=True)
    costs = "--student-macs 523456 --teacher-macs 7.8e9 --student-ms 0.0271 --teacher-ms 1913".split()
    third = f"{NAMES[2]}={folder / 'a thi.npy'}:3e9:41.9"
    given = [part for file in files for part in file]
    for name, rate in (("classes", "0.3"), ("other", "0.5")):
        out = ("--rates", rate, "--reference", third, "--out", folder / name)
        assert command("replay", "classification", *given, *costs, *QUICK, *out) == 0
    assert command("replay", "detection", *fitted_on.options, *QUICK, "--out", folder / "boxes") == 0
    return folder


@pytest.fixture
def shown(command, monkeypatch, capsys):
    """A function: width, arguments -> exit code and the lines on stdout of a plain terminal of this width,
    or of none.
    """
    for name, value in (("TTY_COMPATIBLE", "1"), ("TERM", "dumb"), ("LINES", "50")):
        monkeypatch.setenv(name, value)

    def run(width: int | None, *args: object) -> tuple[int, list[str]]:
        if width is None:
            for name in ("COLUMNS", "TTY_COMPATIBLE"):
                monkeypatch.delenv(name)
        else:
            monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        code = command(*args)
        return code, capsys.readouterr().out.splitlines()

    return run


CHECKS = [
    doctor.Check("torch runs", "ok", "2.14.1+cu130, 1 thread"),
    doctor.Check("ebjr-cifar100-densenet-bc-88-8", "note", f"not here; https://a.org/{'long/' * 12}x.pth"),
    doctor.Check("a folder", "ok", "words that take more room than what is left of eighty columns here"),
]
PAIR = r"This pair |It is not shown that this pair pays, because "
COMPARED = r"No run is better than |.* is best: "
TARGET = r"The target is (met|MISSED) on 40 images"
TRAFFIC = ("traffic", "classes", "other", "--popular", "1,2", "--share", "0.7", *QUICK)
COMMANDS = {
    "report": (("report", "classes"), PAIR),
    "report, all": (("report", "classes", "--verbose"), PAIR),
    "boxes": (("report", "boxes", "--verbose"), "Whether this pair pays is not known without"),
    "compare": (("compare", "classes", "other", "--out", "both"), COMPARED),
    "compare, all": (("compare", "classes", "other", "--verbose", "--out", "both"), COMPARED),
    "rate": (("calibrate", "classes", "--deferral-rate", "0.3"), TARGET),
    "gmacs": (("calibrate", "classes", "--max-gmacs", "2.5"), TARGET),
    "drop": (("calibrate", "classes", "--max-drop", "0.1"), TARGET),
    "fit": (
        ("fit-router", "run", "classes", "--folds", 2, *QUICK, "--out", "r.safetensors"),
        r"\w+, chosen among ",
    ),
    "traffic": ((*TRAFFIC, "--out", "t"), "At equal multiply-adds "),
    "traffic, all": ((*TRAFFIC, "--verbose", "--out", "t"), "At equal multiply-adds "),
    "scores": (("scores",), r"\d+ deferral scores: "),
    "doctor": (("doctor",), r"This installation is sound: \d+ checks, 0 faults, 1 note"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_verdict_is_first_and_no_line_is_wider_than_the_terminal(
    name, runs, shown, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(runs)
    args, first = COMMANDS[name]
    for width in (*WIDTHS, None):
        if args[0] in ("traffic", "compare", "fit-router"):
            args = (*args[:-1], tmp_path / f"{width}{args[-1]}")
        code, lines = shown(width, *args)
        assert code == 0
        assert re.match(first, lines[0])
        assert all(cell_len(line) <= (width or 80) or Path(line).exists() for line in lines), lines
        assert len(set(re.findall(r"\b[kMGTP]MACs\b", "\n".join(lines)))) <= 1


@pytest.fixture(scope="module")
def worked(runs, command, digit_pictures, scene_pictures, tmp_path_factory):
    """A folder with what the commands below begin with: pictures, a specialised pair, a benchmark ..."""
    folder = tmp_path_factory.mktemp("worked")
    (folder / "train.yaml").write_text(DIGITS_TRAINING)
    (folder / "pictures").symlink_to(digit_pictures)
    (folder / "scenes").symlink_to(scene_pictures)
    few = ("--set", "schedule.steps=6", "--set", "schedule.validate_every=6", "--out", folder / "popular")
    assert command("specialize", "specialize_digits", *few) == 0
    short = ("--images", 4, "--seconds", 0.01, "--out", folder / "earlier")
    assert command("benchmark", "digits", *short) == 0
    return folder


def given(*changes: str) -> tuple[str, ...]:
    return tuple(part for change in changes for part in ("--set", change))


FEW = given("run.bootstrap=5", "latency.batches=4", "latency.warmup=1")
STEPS = given("schedule.steps=6", "schedule.validate_every=3")
FILES = ("--student-logits", "small.npy", "--teacher-logits", "large.npy", "--labels", "labels.npy")
BENCHMARK = ("benchmark", "digits", "--images", "4", "--seconds", "0.01")
WORK = {
    "evaluate": (("evaluate", "digits", *FEW, *given("data.limit=60")), PAIR),
    "evaluate boxes": (("evaluate", "quickstart", *FEW, *given("data.limit=12", "router.target=null")), PAIR),
    "evaluate popular": (("evaluate", "popular/pair.yaml", *FEW, *given("router.target=null")), PAIR),
    "replay": (("replay", "classification", *FILES, *QUICK), r"Whether this pair pays is not known without"),
    "benchmark": (BENCHMARK, r"(NOISY, not to be trusted: )?Beside its teacher, one image after the other"),
    "benchmark against": ((*BENCHMARK, "--against", "earlier"), r"(NOISY, .*)?Beside its teacher"),
    "train": (("train", "train.yaml", *STEPS), r"\S+: [\d,]+ parameters, validation accuracy \d\.\d{4}, "),
    "specialize": (("specialize", "specialize_digits", *STEPS), r"\S.*: 3 popular classes and other, "),
    "predict": (
        ("predict", "digits", "pictures", "--threshold", "-0.9"),
        r"12 pictures, \d+ \(\S+ %\) answered",
    ),
    "predict boxes": (("predict", "quickstart", "scenes", "--threshold", "-0.6"), r"6 pictures, \d+ \(\S+ %"),
    "export": (
        ("export", "digits", "--threshold", "-0.9"),
        r"Exported: defers where energy_curvature > -0\.9\.",
    ),
    "demo": (("demo", "digits", "pictures", "--threshold", "-0.9"), r"12 frames, \d+ \(\S+ %\) answered"),
}
LONG = {name for name in WORK if name.split()[0] in ("evaluate", "replay", "benchmark")}


def numbers_of(lines: list[str]) -> set[str]:
    return {number for line in lines for number in re.findall(r"\d(?:[\d.,]*\d)?", line)}


def too_wide(line: str, width: int) -> bool:
    """Whether more than a path is; a few words may stand beside one."""
    words = [word for word in line.split() if not ("/" in word and os.path.exists(word.rstrip(",.")))]
    beside = cell_len(" ".join(words))
    return cell_len(line) > width and (beside > width // 2 or len(words) == len(line.split()))


@pytest.mark.parametrize("name", WORK)
def test_what_a_command_did_is_told_first_in_whole_numbers_and_no_line_is_too_wide(
    name, runs, worked, shown, tmp_path: Path, monkeypatch
):
    """The same result at every width: all the numbers of a very wide terminal, and no pieces of any."""
    monkeypatch.chdir(runs if name == "replay" else worked)
    args, first = WORK[name]
    args = (*args, "--out", tmp_path / ("out.mp4" if name == "demo" else "out"))
    verb, results = getattr(ebjr_det, args[0]), []

    def once(*given, **how):
        if not results:
            result = verb(*given, **how)
            if name == "demo":
                result = replace(result, load=replace(result.load, others=12.34, cpus=128))
            results.append(result)
        return results[0]

    monkeypatch.setattr(ebjr_det, args[0], once)
    for more in ((), ("--verbose",)) if name in LONG else ((),):
        code, wide = shown(1000, *args, *more)
        assert code == 0
        assert numbers_of(wide)
        for width in WIDTHS:
            code, lines = shown(width, *args, *more)
            assert code == 0
            assert re.match(first, " ".join(lines))
            assert not [line for line in lines if too_wide(line, width)]
            assert numbers_of(lines) == numbers_of(wide)
            assert len(set(re.findall(r"\b[kMGTP]MACs\b", "\n".join(lines)))) <= 1


def test_one_small_table_stands_under_the_verdict_and_the_long_ones_come_when_asked_for(runs, shown):
    _, short = shown(80, "report", runs / "classes")
    _, long = shown(80, "report", runs / "classes", "--verbose")
    assert sum(set(line.strip()) == {"─"} for line in short) == 1
    assert len(short) <= 30 < len(long)
    sentences = " ".join(short[: short.index("")]).split(". ")
    assert [sentence.split()[0] for sentence in sentences] == ["This", "30.00", "Judged"]
    assert short[-1] == long[-1] == str(runs / "classes" / "report.html")
    assert "--verbose" in short[-2]
    assert [line for line in long if line.startswith("Operating points of ")]


def test_a_heading_stays_in_one_line_where_there_is_room(runs, shown):
    _, lines = shown(80, "report", runs / "boxes")
    assert "deferred %" in next(line for line in lines if line.startswith("model "))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_numbers_of_the_summary_are_whole_on_the_screen(width, runs, shown):
    summary = json.loads((runs / "classes" / "summary.json").read_text())
    _, lines = shown(width, "report", runs / "classes", "--verbose")
    cells = set(" ".join(lines).split())
    for side in ("student", "teacher", "joint"):
        assert f"{100 * summary[side]['quality']:.2f}" in cells
        assert f"{summary[side]['macs'] / 1e9:#.4g}" in cells
    for point in summary["points"]:
        assert f"{100 * point['quality']:.2f}" in cells
        assert f"{point['threshold']:.8g}" in cells
    text = "\n".join(lines)
    for score, area in summary["scores"].items():
        assert score in cells
        assert f"{area:.4f}" in cells
        low, high = summary["score_intervals"][score]
        assert f"[{low:.4f}, {high:.4f}]" in text
    for rows in summary["margins"].values():
        for row in rows:
            assert f"[{100 * row['low']:.2f}, {100 * row['high']:.2f}]" in text
    assert "0.0271" in cells
    assert "1,913" in cells


def test_a_target_and_what_became_of_it_have_one_unit(runs, shown):
    _, lines = shown(100, "calibrate", runs / "classes", "--max-gmacs", "2.5")
    said = " ".join(lines)
    assert re.search(r"[\d.]{5,6} GMACs an image \(asked: at most 2\.500 GMACs an image\)", said)
    assert "2500000000" not in said


def test_a_budget_that_nothing_meets_is_told_in_the_same_unit(runs, command, capsys):
    capsys.readouterr()
    assert command("calibrate", runs / "classes", "--max-gmacs", "0.0001") == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "at most 0.0001000 GMACs an image, got 0.0005235 GMACs for the student alone" in line


def test_a_target_that_is_missed_on_other_images_says_so(runs, command, capsys, answer):
    told = answer("calibrate", runs / "classes", "--deferral-rate", "0.3")
    assert command("calibrate", runs / "classes", "--deferral-rate", "0.3") == 0
    said = " ".join(capsys.readouterr().out.split())
    rate = told["report"]["deferral_rate"]
    assert said.startswith(
        f"The target is {'met' if rate <= 0.3 else 'MISSED'} on 40 images that the choice did not see: "
        f"{100 * rate:.4g} % deferred (asked: at most 30 % deferred)."
    )
    assert f": {told['threshold']} (" in said


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_of_another_code_page_shows_what_it_can(
    encoding, runs, tmp_path: Path, command, monkeypatch
):
    shutil.copytree(runs / "boxes", tmp_path / "run")
    path = tmp_path / "run" / "analysis.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"title": "\u5b66 \u2713"}))
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert command("report", tmp_path / "run") == 0
    assert b"\\u5b66 \\u2713, on 70 images" in raw.getvalue()
