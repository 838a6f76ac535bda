"""The README: short, its blocks run as written, its commands do not ask for what is not there."""

import subprocess

import documents
import pytest
from common import ROOT

README = documents.DOCUMENTS[0]
COMMANDS = [
    (block.remark, words)
    for block in documents.blocks_of(README)
    if block.language == "sh"
    for words in block.commands
]


def test_it_is_short_and_has_every_kind_of_command():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 170
    verbs = {words[1] for _, words in COMMANDS if words[0] == "ebjr-det"}
    assert verbs >= {"evaluate", "predict", "export", "replay", "init", "demo"}


def test_every_block_does_what_it_says(tmp_path, command):
    documents.furnish(tmp_path)
    for block in documents.blocks_of(README):
        documents.run(block, tmp_path, command)


@pytest.mark.parametrize("name", ["coco_d0_d4", "cifar10_densenet"])
def test_commands_that_need_data_say_where_it_is(name, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert any(words[1:3] == ["evaluate", name] for _, words in COMMANDS)
    complaint = refused("evaluate", name, alone=False)
    assert ("cocodataset.org" if "coco" in name else "cs.toronto.edu") in complaint


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
