"""The documentation's own blocks, each page in a folder of its own; links; what is made of the package."""

import re
import sys

import documents
import pytest
from common import ROOT

import ebjr_det
from ebjr_det.api import names
from ebjr_det.api.schema import section_of
from ebjr_det.api.scores import list_scores
from ebjr_det.cli import cli
from ebjr_det.config import describe
from ebjr_det.reporting.glossary import GLOSSARY
from ebjr_det.tasks import TASKS

SLOW = {"own_set", "speed", "own_detector", "popular", "from_yolo", "tiers", "front"}
"""They train, export or look at large networks, so that they are only read in a run of minutes."""
PAGES = [page for page in documents.DOCUMENTS[1:] if documents.blocks_of(page)]
READ = [pytest.param(page, True, id=f"{page.stem} read") for page in PAGES if page.stem in SLOW]
RUN = [
    pytest.param(page, False, id=page.stem, marks=[pytest.mark.slow] if page.stem in SLOW else [])
    for page in PAGES
]


@pytest.mark.parametrize(("page", "reading"), READ + RUN)
def test_every_block_does_what_it_says(page, reading, tmp_path, command, monkeypatch):
    documents.furnish(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in documents.blocks_of(page):
        documents.run(block, tmp_path, command, reading)
    for name in [name for name in sys.modules if name in ("my_detectors", "my_network")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("page", documents.DOCUMENTS, ids=lambda page: page.stem)
def test_every_linked_file_is_there(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


@pytest.fixture(scope="module")
def generated():
    """What the reference makes of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        import generated

        yield generated


def test_the_reference_has_every_command_setting_score_name_and_word(generated):
    commands, settings = generated.commands(), generated.settings()
    for words, command in generated.walk(cli, ()):
        assert f"## {' '.join(words)}\n" in commands
        for parameter in command.params:
            assert all(f"`{flag}`" in commands for flag in parameter.opts if flag.startswith("-"))
    for kind in names.kinds():
        for task in [None] if kind in TASKS else TASKS:
            for setting in describe(section_of(kind, task)):
                assert f"`{setting.name}`" in settings
                assert setting.meaning.replace("|", "\\|") in settings
    assert all(f"`{score.name}`" in generated.scores() for score in list_scores())
    assert all(f"ebjr_det.{name}" in generated.public_names() for name in ebjr_det.__all__)
    assert all(f"\n{word}\n" in generated.glossary() for word in GLOSSARY)
    pages = "".join(page.read_text() for page in documents.DOCUMENTS)
    assert set(generated.MARK.findall(pages)) == set(generated.PARTS)
