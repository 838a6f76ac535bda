"""Documents as a reader uses them: their blocks in order, in a folder with configurations and recipes.

A block of python runs, of shell runs line by line, of yaml is a configuration; one whose fence names a file
is written to it. Below `<!-- needs data -->` a command is read and not run, as all of a page that is only
read, below `<!-- for your shell -->` neither. Trainings are a few steps long here, and made-up sets a sixth
as large.
"""

import contextlib
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import rich_click as click
import yaml
from common import ROOT

from ebjr_det.cli import cli
from ebjr_det.tasks.settings import parse_config

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:<!-- ([\w ]+) -->\n)?```(python|sh|yaml)(?: (\S+))?\n(.*?)```", re.DOTALL)
FEW = 3
"""Steps of a training in a test."""
FEWER = {name: ["--bootstrap", "20"] for name in ("replay", "fit-router", "traffic")}
FEWER |= {"placement": FEWER["traffic"], "fit-router front": ["--epochs", "1"]}
FEWER["evaluate"] = ["--set=run.bootstrap=20"]
"""Resamples of the intervals and rounds in a test, of which no document tells a number."""


class Block(NamedTuple):
    """One block: what stands above it, its language, the file that it is, its text."""

    remark: str
    language: str
    file: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line of a shell block, comments left out."""
        text = self.text.replace("\\\n", " ")
        lines = (shlex.split(line, comments=True) for line in text.splitlines())
        return [words for words in lines if words]


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a document in their order."""
    return [Block(*found) for found in BLOCK.findall(path.read_text(encoding="utf-8"))]


def furnish(folder: Path) -> None:
    """Make a folder as a checkout has it, trainings a few steps long."""
    (folder / "eval").symlink_to(ROOT / "eval")
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path in (folder / "configs").glob("*.yaml"):
        path.write_text(_short(path.read_text()))


def _small(text: str) -> str:
    """A block that draws scenes, with fewer of them."""
    return re.sub(r"range\((\d+)\)", lambda found: f"range({int(found[1]) // 6})", text)


def _short(text: str) -> str:
    """Settings of a training of a few steps."""
    text = re.sub(r"\bsteps: \d+", f"steps: {FEW}", text)
    return re.sub(r"\b(validate_every|warmup_steps): \d+", rf"\1: {FEW - 1}", text)


def run(block: Block, folder: Path, command: Callable[..., int], reading: bool = False) -> None:
    """Do with a block what a reader does, one who writes files and runs nothing if `reading`."""
    with contextlib.chdir(folder):
        if block.file:
            Path(block.file).write_text(_short(block.text))
        elif block.language == "python":
            text = _small(block.text) if "draw_scene" in block.text else block.text
            code = compile(text, "a block", "exec")
            if not reading:
                exec(code, {"__name__": "__main__"})
        elif block.language == "yaml":
            parse_config(yaml.safe_load(block.text))
        elif block.remark != "for your shell":
            for words in block.commands:
                _call(words, reading or block.remark == "needs data", command)


def _call(words: list[str], reading: bool, command: Callable[..., int]) -> None:
    program, *args = words
    if program == "ebjr-det" and reading:
        parse(args)
    elif program == "ebjr-det":
        args = args[: args.index(">")] if ">" in args else args
        quick = FEWER.get(" ".join(args[:2]), FEWER.get(args[0], [])) if "--bootstrap" not in args else []
        assert command(*args, *quick) == 0, words
    elif program == "python":
        assert (ROOT / args[0]).is_file(), words
    else:
        assert program.startswith("scripts/"), words
        assert (ROOT / program).is_file(), words


def parse(args: list[str]) -> None:
    """Read a command line as the program does, without running it. Raises for what it would refuse."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        _, command, args = command.resolve_command(click.Context(command), args)
    command.make_context(command.name, list(args))
