"""A user's mistake ends in one clear line, exit code 2, and leaves nothing behind."""

from pathlib import Path

import pytest

from ebjr_det.cli import cli
from ebjr_det.exits import run_safely

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = str(ROOT / "configs" / "quickstart.yaml")
NONE = "router.target=null"
ENERGY = ["--set", "router.score=free_energy"]

MISTAKES = {
    "no such config": (["nope.yaml"], "nope.yaml"),
    "unknown key": ([QUICKSTART, "--set", "student.dept=3"], "Did you mean `depth`"),
    "unknown section": ([QUICKSTART, "--set", "studnt.depth=3"], "Did you mean `student`"),
    "unknown arch": ([QUICKSTART, "--set", "student.arch=resnt"], "Did you mean `resnet`"),
    "unknown score": ([QUICKSTART, "--set", "router.score=free_enrgy"], "Did you mean `free_energy`"),
    "unknown option of a score": (
        [QUICKSTART, *ENERGY, "--set", "router.options.temperatur=2"],
        "Did you mean `temperature`",
    ),
    "temperature below 0": (
        [QUICKSTART, *ENERGY, "--set", "router.options.temperature=-1"],
        "`temperature` from 1e-6",
    ),
    "unknown data set": ([QUICKSTART, "--set", "data.dataset=digit"], "Did you mean `digits`"),
    "unknown split": ([QUICKSTART, "--set", "data.split=tests"], "test, train"),
    "unknown checkpoint": (
        [QUICKSTART, "--set", "student.checkpoint=digits-studen"],
        "Did you mean `digits-student`",
    ),
    "wrong checksum": ([QUICKSTART, "--set", f"student.sha256={'a' * 64}"], "Expected sha256 aaaa"),
    "weights of another width": ([QUICKSTART, "--set", "student.width=4"], "of another shape"),
    "impossible depth": ([QUICKSTART, "--set", "student.depth=9"], "Nearest: 8"),
    "unknown timm model": ([QUICKSTART, "--set", "student.arch=timm/resnet18x"], "resnet18"),
    "unknown torchvision model": ([QUICKSTART, "--set", "student.arch=torchvision/resnet19"], "resnet18"),
    "callable that is not there": ([QUICKSTART, "--set", "student.arch=os:nope"], "os:nope"),
    "package that is not there": ([QUICKSTART, "--set", "student.arch=nopkg:f"], "nopkg"),
    "option the network does not take": ([QUICKSTART, "--set", "student.options.foo=1"], "foo"),
    "a field of preprocessing": (
        [QUICKSTART, "--set", "student.preprocessing.men=[0]"],
        "Did you mean `mean`",
    ),
    "device not here": ([QUICKSTART, "--device", "cuda:99"], "cuda:99"),
    "device that is none": ([QUICKSTART, "--device", "meta"], "meta"),
    "batch size 0": ([QUICKSTART, "--batch-size", "0"], "run.batch_size"),
    "batch size x": ([QUICKSTART, "--batch-size", "x"], "--batch-size"),
    "NaN threshold": ([QUICKSTART, "--set", NONE, "--set", "router.threshold=nan"], "router.threshold"),
    "threshold and target": ([QUICKSTART, "--set", "router.threshold=1"], "got both"),
    "target out of range": ([QUICKSTART, "--set", "router.target.value=-1"], "router.target.value"),
    "rate above 1": (
        [QUICKSTART, "--set", "router.target={kind: deferral_rate, value: 1.5}"],
        "deferral rate in [0, 1]",
    ),
    "calibration without images": (
        [QUICKSTART, "--set", "data.limit=1"],
        "leaves images on both sides",
    ),
    "a value that yaml cannot make": ([QUICKSTART, "--set", "title=!!bool foo"], "--set"),
    "confidence with a budget": (
        [QUICKSTART, "--set", "router.target={kind: macs, value: 1, confidence: 0.9}"],
        "min_quality",
    ),
    "not a change": ([QUICKSTART, "--set", "student.depth"], "--set"),
    "cifar without a root": ([QUICKSTART, "--set", "data.dataset=cifar10"], "data.root"),
    "cifar that is not there": (
        [QUICKSTART, "--set", "data.dataset=cifar10", "--set", "data.root=/nope"],
        "cs.toronto.edu",
    ),
    "unknown option": ([QUICKSTART, "--foo"], "--foo"),
}


@pytest.mark.parametrize(("args", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_evaluate_explains_in_one_line(args: list[str], says: str, tmp_path: Path, capsys):
    out = tmp_path / "out"
    code = run_safely(lambda: cli(["evaluate", *args, "--out", str(out)], standalone_mode=False))
    stdout, stderr = capsys.readouterr()
    assert code == 2
    assert stdout == ""
    assert len(stderr.strip().splitlines()) == 1
    assert says in stderr
    assert not out.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, capsys):
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "out"
    assert run_safely(lambda: cli(["evaluate", QUICKSTART, "--out", str(out)], standalone_mode=False)) == 2
    assert "folder that can be written" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["evalute", "calibrat", "replai"])
def test_an_unknown_command_offers_the_nearest(word: str, capsys):
    assert run_safely(lambda: cli([word], standalone_mode=False)) == 2
    assert "Did you mean" in capsys.readouterr().err
