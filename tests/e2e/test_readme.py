"""The README's own blocks: what needs no download runs as written, the rest is checked as far as it goes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ebjr_det.tasks.settings import parse_config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(<!-- needs data -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
BLOCKS = [(bool(needs), language, text) for needs, language, text in BLOCK.findall(README)]


def lines(needs_data: bool) -> list[str]:
    """Commands of the shell blocks, without those of scripts/."""
    text = [text for needs, language, text in BLOCKS if language == "sh" and needs == needs_data]
    return [line for block in text for line in block.splitlines() if not line.startswith("scripts/")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder that sees configs and eval, as a checkout does, after the README's python blocks."""
    path = tmp_path_factory.mktemp("readme")
    for name in ("configs", "eval"):
        (path / name).symlink_to(ROOT / name)
    for _, language, text in BLOCKS:
        if language == "python":
            subprocess.run([sys.executable, "-c", text], cwd=path, check=True, capture_output=True)
    return path


def run(line: str, folder: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    program, *args = shlex.split(line, comments=True)
    home = Path(sys.executable).parent
    command = [str(home / program), *args, *extra]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_there_are_blocks_of_every_kind():
    assert {language for _, language, _ in BLOCKS} == {"sh", "python", "yaml"}
    assert len(lines(needs_data=False)) >= 7
    assert len(lines(needs_data=True)) == 12


def test_every_command_that_needs_no_download_runs_as_written(folder: Path):
    for line in lines(needs_data=False):
        done = run(line, folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.parametrize("line", [line for line in lines(needs_data=True) if " evaluate configs" in line])
def test_commands_that_need_data_are_sound(line: str, folder: Path):
    assert run(line, folder, "--print-config").returncode == 0
    done = run(line, folder)
    assert done.returncode == 2
    assert ("cocodataset.org" if "coco" in line else "cs.toronto.edu") in done.stderr


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
