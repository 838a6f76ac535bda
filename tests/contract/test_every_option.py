"""Every option that takes a name lists the names, and shells complete them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rich_click as click
from click.shell_completion import BashComplete

from ebjr_det.cli import cli
from ebjr_det.cli.options import Name
from ebjr_det.core.scores import SCORES
from ebjr_det.runtimes.registry import RUNTIMES


def commands(command: click.Command = cli, path: tuple[str, ...] = ()):
    """(words, command) of every command, of groups too."""
    context = click.Context(command)
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))


PARAMETERS = [
    (" ".join((*path, parameter.name)), parameter)
    for path, command in commands()
    for parameter in command.params
]


def test_free_text_says_its_form_and_a_name_lists_the_names():
    for words, parameter in PARAMETERS:
        if isinstance(parameter.type, Name):
            assert len(parameter.type.names) == len(set(parameter.type.names)) > 1, words
            assert all(name in parameter.help for name in parameter.type.names), words
        elif parameter.type is click.STRING:
            assert parameter.metavar not in (None, "NAME"), (
                f"{words}: say what it looks like, or make it a Name"
            )
        assert parameter.help or not isinstance(parameter, click.Option), words


def test_names_are_those_of_the_registries():
    by_name = {(words, param.type.of) for words, param in PARAMETERS if isinstance(param.type, Name)}
    assert {of for _, of in by_name} >= {
        "scores", "fitted_scores", "deciding_scores", "rescalings", "aggregates", "runtimes", "devices",
        "configurations", "downloads", "kinds", "tasks",
    }  # fmt: skip
    assert ("evaluate runtime", "runtimes") in by_name
    assert ("replay detection score", "deciding_scores") in by_name


@pytest.mark.parametrize(
    ("args", "begun", "offered"),
    [
        ([], "cal", {"calibrate"}),
        (["replay"], "", {"classification", "detection"}),
        (["replay", "classification", "--score"], "", {"auto", "published", "learned", *SCORES}),
        (["replay", "detection", "--score"], "class_", {"class_curvature", "class_rarity", "class_variety"}),
        (["evaluate"], "quick", {"quickstart"}),
        (["evaluate", "digits", "--student-runtime"], "", {"auto", *RUNTIMES}),
        (["init"], "", {"detection", "classification", "train", "specialize"}),
    ],
)
def test_shells_are_offered_names(args, begun, offered):
    shell = BashComplete(cli, {}, "ebjr-det", "_EBJR_DET_COMPLETE")
    assert {item.value for item in shell.get_completions(args, begun)} == offered


def test_a_file_is_completed_where_no_name_fits():
    shell = BashComplete(cli, {}, "ebjr-det", "_EBJR_DET_COMPLETE")
    assert [item.type for item in shell.get_completions(["evaluate"], "./my_pair")] == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_the_documented_line_makes_bash_complete(tmp_path: Path):
    program = tmp_path / "ebjr-det"
    run = "import sys; from ebjr_det.__main__ import main; sys.argv[0] = 'ebjr-det'; main()"
    program.write_text(f"#!{sys.executable}\n{run}\n")
    program.chmod(0o755)
    script = (
        'eval "$(_EBJR_DET_COMPLETE=bash_source ebjr-det)"; COMP_WORDS=(ebjr-det ca); COMP_CWORD=1; '
        '_ebjr_det_completion ebjr-det; echo "${COMPREPLY[@]}"'
    )
    paths = os.pathsep.join((str(tmp_path), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env=os.environ | {"PATH": paths}
    )
    assert done.stdout.split() == ["calibrate"], done.stderr
