"""A user's mistake ends in one clear line, exit code 2, and leaves nothing behind."""

from pathlib import Path

import pytest
from common import DIGITS

NONE = "router.target=null"
ENERGY = "router.score=free_energy"


def changed(*changes):
    return [DIGITS, *(f"--set={change}" for change in changes)]


MISTAKES = {
    "no such config": (["nope.yaml"], "nope.yaml"),
    "unknown key": (changed("student.dept=3"), "Did you mean `depth`"),
    "unknown section": (changed("studnt.depth=3"), "Did you mean `student`"),
    "unknown arch": (changed("student.arch=resnt"), "Did you mean `resnet`"),
    "unknown score": (changed("router.score=free_enrgy"), "Did you mean `free_energy`"),
    "unknown option": (changed(ENERGY, "router.options.temperatur=2"), "Did you mean `temperature`"),
    "temperature below 0": (changed(ENERGY, "router.options.temperature=-1"), "`temperature` from 1e-6"),
    "unknown data set": (changed("data.dataset=digit"), "Did you mean `digits`"),
    "unknown split": (changed("data.split=tests"), "test, train"),
    "unknown checkpoint": (changed("student.checkpoint=digits-studen"), "Did you mean `digits-student`"),
    "wrong checksum": (changed(f"student.sha256={'a' * 64}"), "Expected sha256 aaaa"),
    "weights of another width": (changed("student.width=4"), "of another shape"),
    "impossible depth": (changed("student.depth=9"), "Nearest: 8"),
    "unknown timm model": (changed("student.arch=timm/resnet18x"), "resnet18"),
    "unknown torchvision model": (changed("student.arch=torchvision/resnet19"), "resnet18"),
    "callable that is not there": (changed("student.arch=os:nope"), "os:nope"),
    "package that is not there": (changed("student.arch=nopkg:f"), "nopkg"),
    "option the network does not take": (changed("student.options.foo=1"), "foo"),
    "a field of preprocessing": (changed("student.preprocessing.men=[0]"), "Did you mean `mean`"),
    "device not here": ([DIGITS, "--device", "cuda:99"], "cuda:99"),
    "device that is none": ([DIGITS, "--device", "meta"], "meta"),
    "batch size 0": ([DIGITS, "--batch-size", "0"], "run.batch_size"),
    "batch size x": ([DIGITS, "--batch-size", "x"], "--batch-size"),
    "NaN threshold": (changed(NONE, "router.threshold=nan"), "router.threshold"),
    "threshold and target": (changed("router.threshold=1"), "got both"),
    "target out of range": (changed("router.target.value=-1"), "router.target.value"),
    "rate above 1": (changed("router.target={kind: deferral_rate, value: 1.5}"), "deferral rate in [0, 1]"),
    "calibration without images": (changed("data.limit=1"), "leaves images on both sides"),
    "a value that yaml cannot make": (changed("title=!!bool foo"), "--set"),
    "confidence with a budget": (
        changed("router.target={kind: macs, value: 1, confidence: 0.9}"),
        "min_quality",
    ),
    "not a change": (changed("student.depth"), "--set"),
    "cifar without a root": (changed("data.dataset=cifar10"), "data.root"),
    "cifar that is not there": (changed("data.dataset=cifar10", "data.root=/nope"), "cs.toronto.edu"),
    "unknown flag": ([DIGITS, "--foo"], "--foo"),
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
