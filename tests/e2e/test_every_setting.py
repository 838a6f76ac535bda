"""Every setting says what it means, and what is written of it for people is what the loader takes."""

import json
import re

import jsonschema
import pytest
import yaml
from common import ROOT

from ebjr_det.api import names
from ebjr_det.api.schema import schema, section_of, verb_of
from ebjr_det.config import commented, describe, parse_section
from ebjr_det.core.errors import ConfigError
from ebjr_det.io.yaml import FlatLoader
from ebjr_det.tasks import TASKS, load_task
from ebjr_det.tasks.settings import load_config, load_specialize_config, load_train_config

KINDS = [(kind, None) for kind in TASKS] + [
    (kind, task) for kind in ("train", "specialize") for task in TASKS
]
LOADERS = {"evaluate": load_config, "train": load_train_config, "specialize": load_specialize_config}


@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_every_setting_has_a_meaning_in_one_sentence(kind, task):
    settings = list(describe(section_of(kind, task)))
    assert len({setting.name for setting in settings}) == len(settings) > 40
    for setting in settings:
        assert re.fullmatch(r"[A-Z\"`].{8,}\.(\.\.)?`?\.?", setting.meaning), setting
        assert setting.kind


@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_first_settings_load_as_they_are_and_with_every_default_uncommented(
    kind, task, tmp_path, command, refused
):
    path, load = tmp_path / "first.yaml", LOADERS[verb_of(kind)]
    task_options = [] if task is None else ["--task", task]
    assert command("init", kind, *task_options, "--out", path) == 0
    text = path.read_text()
    config = load(path)
    (tmp_path / "whole.yaml").write_text(re.sub(r"^( *)#(?=\w)", r"\1", text, flags=re.MULTILINE))
    assert load(tmp_path / "whole.yaml") == config
    for setting in describe(section_of(kind, task)):
        if "." not in setting.name:
            assert re.search(rf"^#?{setting.name}:", text, re.MULTILINE)
    assert "which is there" in refused("init", kind, *task_options, "--out", path)
    assert path.read_text() == text


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_with_comments_is_the_same_and_keeps_to_the_schema(path):
    content = yaml.load(path.read_text(), FlatLoader)
    kind = next(k for k in ("train", "specialize", "evaluate") if path.stem in names.configurations(k))
    config = LOADERS[kind](path)
    text = commented(type(config), config.model_dump())
    assert parse_section(type(config), yaml.load(text, FlatLoader)) == config
    checker = jsonschema.Draft202012Validator(
        schema(config.task if kind == "evaluate" else kind, None if kind == "evaluate" else config.task)
    )
    checker.check_schema(checker.schema)
    checker.validate(content)
    with pytest.raises(jsonschema.ValidationError, match="nope"):
        checker.validate(content | {"nope": 1})


@pytest.mark.parametrize("task", TASKS)
def test_the_sets_that_a_task_builds_are_the_examples_of_its_setting(task):
    section = load_task(task).evaluate_config.model_fields["data"].annotation
    with pytest.raises(ConfigError) as caught:
        load_task(task).data.build_data("nope")
    valid = str(caught.value).partition("Valid: ")[2].removesuffix(".").split(", ")
    assert sorted(section.model_fields["dataset"].examples) == sorted(valid)


def test_a_schema_is_printed_and_knows_names(answer_of):
    definitions = answer_of("schema", "detection")["$defs"]
    assert {"auto", "published", "class_curvature"} <= set(
        definitions["RouterSection"]["properties"]["score"]["examples"]
    )
    assert "onnxruntime" in definitions["DetectorSection"]["properties"]["runtime"]["examples"]


@pytest.fixture
def answer_of(command, capsys):
    def printed(*args):
        assert command(*args) == 0
        return json.loads(capsys.readouterr().out)

    return printed


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["init", "detections"], "Did you mean `detection`?"),
        (["init", "detection", "--task", "classification"], "no other task beside `detection`"),
        (["init", "train", "--task", "nope"], "Expected a known task, got `nope`"),
        (["schema", "nope"], "Expected a kind of configuration"),
        (["init", "detection", "--out", "nowhere/first.yaml"], "nowhere/first.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(args, complaint, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(*args)
    assert not list(tmp_path.iterdir())
