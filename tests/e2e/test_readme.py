"""The README's own blocks: what needs no download runs as written, the rest is checked as far as it goes."""

import contextlib
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from common import ROOT

from ebjr_det.tasks.settings import parse_config

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(<!-- needs data -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(bool(needs), language, text) for needs, language, text in BLOCK.findall(README)]


def lines(needs_data: bool) -> list[str]:
    """Commands of the shell blocks, without those of scripts/."""
    text = [text for needs, language, text in BLOCKS if language == "sh" and needs == needs_data]
    return [line for block in text for line in block.splitlines() if not line.startswith("scripts/")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder with configs and eval, as a checkout has, after the README's python blocks.

    Its specialised student is trained for a tenth of the steps.
    """
    path = tmp_path_factory.mktemp("readme")
    (path / "eval").symlink_to(ROOT / "eval")
    special = Path(shutil.copytree(ROOT / "configs", path / "configs")) / "specialize_digits.yaml"
    whole = special.read_text()
    assert "steps: 600," in whole
    special.write_text(whole.replace("steps: 600,", "steps: 60,"))
    with contextlib.chdir(path):
        for _, language, text in BLOCKS:
            if language == "python":
                exec(compile(text, "README.md", "exec"), {"__name__": "__main__"})
    return path


@pytest.fixture
def run(folder: Path, command, capsys: pytest.CaptureFixture[str]):
    """A function: a line of the README, further options -> its exit code and what it complained."""

    def call(line: str, *extra: str) -> tuple[int, str]:
        program, *args = shlex.split(line, comments=True)
        assert program == "ebjr-det"
        with contextlib.chdir(folder):
            return command(*args, *extra), capsys.readouterr().err

    return call


def test_there_are_blocks_of_every_kind():
    assert {language for _, language, _ in BLOCKS} == {"sh", "python", "yaml"}
    assert len(lines(needs_data=False)) >= 7
    assert len(lines(needs_data=True)) == 12


def test_every_command_that_needs_no_download_runs_as_written(run):
    for line in lines(needs_data=False):
        code, complaint = run(line)
        assert code == 0, f"{line}\n{complaint}"


@pytest.mark.parametrize("line", [line for line in lines(needs_data=True) if " evaluate configs" in line])
def test_commands_that_need_data_are_sound(line: str, run):
    assert run(line, "--print-config")[0] == 0
    code, complaint = run(line)
    assert code == 2
    assert ("cocodataset.org" if "coco" in line else "cs.toronto.edu") in complaint


@pytest.mark.parametrize("text", [text for _, language, text in BLOCKS if language == "yaml"])
def test_the_configuration_is_a_valid_one(text: str):
    assert parse_config(yaml.safe_load(text)).router.target is not None


def test_every_linked_file_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.slow
def test_the_two_commands():
    done = subprocess.run([ROOT / "scripts" / "quickstart"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "single models mixed, same MACs" in done.stdout
    assert "runs/quickstart/" in done.stdout
    listed = subprocess.run(
        [ROOT / "scripts" / "test", "--collect-only", "-q"], capture_output=True, text=True
    )
    assert listed.returncode == 0
