"""eval/ebjr.py takes EBJR's published command line and prints its lines."""

import re
import runpy
import subprocess
import sys

import pytest
from common import ROOT

from ebjr_det.cli.exits import run_safely

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
#Samples: {count}
Samples Processed by Student \(%\): ([\d.]+)
Samples Processed by Teacher \(%\): ([\d.]+)
Accuracy \(%\): ([\d.]+)
FLOPs \(10\^8\): ([\d.]+)
Average Latency \(s\): ([\d.e-]+)
"""


@pytest.fixture(scope="module")
def command():
    """The script's own `main`."""
    return runpy.run_path(str(SCRIPT))["main"]


@pytest.fixture
def released(command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A function: arguments of the script -> its exit code, its lines and its complaint."""

    def ended(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, args)])
        return run_safely(command), *capsys.readouterr()

    return ended


@pytest.mark.shared
@pytest.mark.parametrize(("batch", "count"), [(1, 40), (50, 120)])
def test_the_published_command_line_prints_the_published_lines(
    batch, count, cifar_root, published_weights, released
):
    code, lines, complaint = released(
        *"--evaluate --dataset cifar10 --arch densenet --depth 52 --growthRate 6 --tarch densenet".split(),
        *"--tdepth 64 --tgrowthRate 12 --router_threshold 2.46".split(),
        *("--resume", published_weights / "cifar10__densenet-bc-52-6.pth.tar"),
        *("--tresume", published_weights / "cifar10__densenet-bc-64-12.pth.tar"),
        *("--data", cifar_root, "--limit", count, "--test-batch", batch),
    )
    assert code == 0, complaint
    found = re.fullmatch(LINES.replace("{count}", str(count)), lines)
    assert found, lines
    student, teacher, accuracy, flops, _ = map(float, found.groups())
    assert student + teacher == pytest.approx(100)
    assert flops == pytest.approx(0.54754784 + teacher / 100 * 2.92380404, rel=1e-12)
    assert accuracy > 85
    assert re.search(rf"\({count}/{count}\).*top1: +\d+\.\d{{4}} \| top5: +\d+\.\d{{4}}", complaint)


@pytest.mark.parametrize(("args", "says"), [
    (["--dataset", "cifar11"], "Did you mean"), (["--test-batch", "0"], "0 is below 1"),
    (["-j", "-1"], "-1 is below 0"), (["--depht", "52"], "--depht"), (["--data", "/nope"], "/nope"),
    (["--dataset", "imagenet", "--depth", "99", "--data", "/nope"], "/nope"),
])  # fmt: skip
def test_a_mistake_is_one_line(args: list[str], says: str, released):
    code, _, complaint = released(*args)
    assert (code, len(complaint.strip().splitlines())) == (2, 1)
    assert says in complaint


def test_the_script_runs_as_a_program():
    done = subprocess.run([sys.executable, SCRIPT, "--depht", "52"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("--depht 52. --help lists them.")
