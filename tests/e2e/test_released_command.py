"""eval/ebjr.py takes EBJR's published command line and prints its lines."""

import re
import subprocess
import sys

import pytest
from common import ROOT

SCRIPT = ROOT / "eval" / "ebjr.py"
LINES = r"""==> Preparing dataset cifar10
==> creating model 'densenet'
==> creating teacher model 'densenet'
    Total params: 0\.07M
    Total teacher params: 0\.37M
==> Resuming from checkpoint\.\.
---------------------
Student:\s
Params: 0\.07M
FLOPs \(10\^8\): 0\.54754784
---------------------
Teacher:\s
Params: 0\.37M
FLOPs \(10\^8\): 2\.92380404

Evaluation only
---------------------
#Samples: 120
Samples Processed by Student \(%\): ([\d.]+)
Samples Processed by Teacher \(%\): ([\d.]+)
Accuracy \(%\): ([\d.]+)
FLOPs \(10\^8\): ([\d.]+)
Average Latency \(s\): ([\d.e-]+)
"""


def released(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, args)], capture_output=True, text=True, check=False
    )


@pytest.mark.shared
@pytest.mark.parametrize("batch", [1, 50])
def test_the_published_command_line_prints_the_published_lines(batch, cifar_root, published_weights):
    done = released(
        *"--evaluate --dataset cifar10 --arch densenet --depth 52 --growthRate 6 --tarch densenet".split(),
        *"--tdepth 64 --tgrowthRate 12 --router_threshold 2.46".split(),
        *("--resume", published_weights / "cifar10__densenet-bc-52-6.pth.tar"),
        *("--tresume", published_weights / "cifar10__densenet-bc-64-12.pth.tar"),
        *("--data", cifar_root, "--limit", 120, "--test-batch", batch),
    )
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(LINES, done.stdout)
    assert found, done.stdout
    student, teacher, accuracy, flops, _ = map(float, found.groups())
    assert student + teacher == pytest.approx(100)
    assert flops == pytest.approx(0.54754784 + teacher / 100 * 2.92380404, rel=1e-12)
    assert accuracy > 85
    assert re.search(r"\(120/120\).*top1: +\d+\.\d{4} \| top5: +\d+\.\d{4}", done.stderr)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--dataset", "cifar11"], "Did you mean"),
        (["--test-batch", "0"], "0 is below 1"),
        (["-j", "-1"], "-1 is below 0"),
        (["--depht", "52"], "--depht"),
        (["--data", "/nope"], "/nope"),
        (["--dataset", "imagenet", "--depth", "99", "--data", "/nope"], "/nope"),
    ],
)
def test_a_mistake_is_one_line(args: list[str], says: str):
    done = released(*args)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert says in done.stderr
