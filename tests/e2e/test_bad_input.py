"""A user's mistake ends in one clear line, exit code 2, and leaves nothing behind."""

from pathlib import Path

import pytest
from common import DIGITS

NONE = "router.target=null"
ENERGY = ["--set", "router.score=free_energy"]

MISTAKES = {
    "no such config": (["nope.yaml"], "nope.yaml"),
    "unknown key": ([DIGITS, "--set", "student.dept=3"], "Did you mean `depth`"),
    "unknown section": ([DIGITS, "--set", "studnt.depth=3"], "Did you mean `student`"),
    "unknown arch": ([DIGITS, "--set", "student.arch=resnt"], "Did you mean `resnet`"),
    "unknown score": ([DIGITS, "--set", "router.score=free_enrgy"], "Did you mean `free_energy`"),
    "unknown option of a score": (
        [DIGITS, *ENERGY, "--set", "router.options.temperatur=2"],
        "Did you mean `temperature`",
    ),
    "temperature below 0": (
        [DIGITS, *ENERGY, "--set", "router.options.temperature=-1"],
        "`temperature` from 1e-6",
    ),
    "unknown data set": ([DIGITS, "--set", "data.dataset=digit"], "Did you mean `digits`"),
    "unknown split": ([DIGITS, "--set", "data.split=tests"], "test, train"),
    "unknown checkpoint": (
        [DIGITS, "--set", "student.checkpoint=digits-studen"],
        "Did you mean `digits-student`",
    ),
    "wrong checksum": ([DIGITS, "--set", f"student.sha256={'a' * 64}"], "Expected sha256 aaaa"),
    "weights of another width": ([DIGITS, "--set", "student.width=4"], "of another shape"),
    "impossible depth": ([DIGITS, "--set", "student.depth=9"], "Nearest: 8"),
    "unknown timm model": ([DIGITS, "--set", "student.arch=timm/resnet18x"], "resnet18"),
    "unknown torchvision model": ([DIGITS, "--set", "student.arch=torchvision/resnet19"], "resnet18"),
    "callable that is not there": ([DIGITS, "--set", "student.arch=os:nope"], "os:nope"),
    "package that is not there": ([DIGITS, "--set", "student.arch=nopkg:f"], "nopkg"),
    "option the network does not take": ([DIGITS, "--set", "student.options.foo=1"], "foo"),
    "a field of preprocessing": ([DIGITS, "--set", "student.preprocessing.men=[0]"], "Did you mean `mean`"),
    "device not here": ([DIGITS, "--device", "cuda:99"], "cuda:99"),
    "device that is none": ([DIGITS, "--device", "meta"], "meta"),
    "batch size 0": ([DIGITS, "--batch-size", "0"], "run.batch_size"),
    "batch size x": ([DIGITS, "--batch-size", "x"], "--batch-size"),
    "NaN threshold": ([DIGITS, "--set", NONE, "--set", "router.threshold=nan"], "router.threshold"),
    "threshold and target": ([DIGITS, "--set", "router.threshold=1"], "got both"),
    "target out of range": ([DIGITS, "--set", "router.target.value=-1"], "router.target.value"),
    "rate above 1": (
        [DIGITS, "--set", "router.target={kind: deferral_rate, value: 1.5}"],
        "deferral rate in [0, 1]",
    ),
    "calibration without images": ([DIGITS, "--set", "data.limit=1"], "leaves images on both sides"),
    "a value that yaml cannot make": ([DIGITS, "--set", "title=!!bool foo"], "--set"),
    "confidence with a budget": (
        [DIGITS, "--set", "router.target={kind: macs, value: 1, confidence: 0.9}"],
        "min_quality",
    ),
    "not a change": ([DIGITS, "--set", "student.depth"], "--set"),
    "cifar without a root": ([DIGITS, "--set", "data.dataset=cifar10"], "data.root"),
    "cifar that is not there": (
        [DIGITS, "--set", "data.dataset=cifar10", "--set", "data.root=/nope"],
        "cs.toronto.edu",
    ),
    "unknown option": ([DIGITS, "--foo"], "--foo"),
}


@pytest.mark.parametrize(("args", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_evaluate_explains_in_one_line(args: list[str], says: str, tmp_path: Path, refused):
    assert says in refused("evaluate", *args, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path, refused):
    (tmp_path / "file").write_text("x")
    line = refused("evaluate", DIGITS, "--out", tmp_path / "file" / "out")
    assert "folder that can be written" in line


@pytest.mark.parametrize("word", ["evalute", "calibrat", "replai"])
def test_an_unknown_command_offers_the_nearest(word: str, refused):
    assert "Did you mean" in refused(word)
