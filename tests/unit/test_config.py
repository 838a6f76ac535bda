"""Configurations: one definition for files, `--set` and printing; mistakes get the nearest name."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.config import dump_config
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.tasks.settings import load_config, load_specialize_config, load_train_config, parse_config

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))
LOADERS = {"train": load_train_config, "specialize": load_specialize_config}
"""By the first word of a file's name; all others are pairs."""


def settings(**sections):
    """The smallest valid mapping, with sections replaced or added to."""
    content = {"data": {"dataset": "digits"}, "student": {"arch": "resnet"}, "teacher": {"arch": "wrn"}}
    return content | {name: content.get(name, {}) | section for name, section in sections.items()}


@pytest.fixture
def file(tmp_path):
    """The smallest valid file."""
    path = tmp_path / "pair.yaml"
    path.write_text(yaml.safe_dump(settings()))
    return path


@pytest.fixture(scope="session")
def printed(tmp_path_factory):
    """Where a printed configuration is written to be read again."""
    return tmp_path_factory.mktemp("printed") / "config.yaml"


def reread(config, path, load=load_config):
    path.write_text(dump_config(config), encoding="utf-8", newline="")
    return load(path)


def refusal(content):
    with pytest.raises(ConfigError) as caught:
        parse_config(content)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- Files and round trips ---


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_of_the_project_parses_and_survives_printing(path, printed):
    load = LOADERS.get(path.stem.split("_")[0], load_config)
    config = load(path)
    again = reread(config, printed, load)
    assert dump_config(again) == dump_config(config)
    if (
        config.__dict__.get("teacher") is None or config.teacher.arch != "pair"
    ):  # whose defaults are not yet stated
        assert again == config
    assert config.title
    assert path.read_text().startswith("# ")


def test_there_are_files_to_parse():
    assert len(CONFIGS) >= 5


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x85"), max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.: #-\n1", max_size=4), inner),
    max_leaves=6,
)


@given(
    title=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])),
    options=st.dictionaries(TEXT, PLAIN, max_size=3),
    threshold=st.floats(allow_nan=False, allow_infinity=False),
    seed=st.integers(0, 10**20),
)
def test_any_configuration_survives_printing_to_the_bit(printed, title, options, threshold, seed):
    content = settings(run={"seed": seed}, student={"options": options}, router={"threshold": threshold})
    config = parse_config(content | {"title": title})
    again = reread(config, printed)
    assert again == config
    assert again.router.threshold.hex() == threshold.hex()
    assert dump_config(again) == dump_config(config)


@pytest.mark.parametrize("text", ["1e-3", "2E5", "a\x85b"])
def test_a_word_that_another_yaml_reads_differently_survives_printing(printed, text):
    config = parse_config(settings(student={"options": {"word": text}}))
    assert reread(config, printed) == config


@pytest.mark.parametrize("text", ["two\nlines", "\x00", "\x1b[31m", "a\x85b", "x" * 201])
def test_a_title_or_name_that_would_spoil_a_table_is_refused(text):
    assert "`title`" in refusal(settings() | {"title": text})
    assert "`student.name`" in refusal(settings(student={"name": text}))


def test_printing_writes_every_default_out(file):
    printed = yaml.safe_load(dump_config(load_config(file)))
    assert printed["run"]["batch_size"] == 256
    ways = {
        "options": {},
        "top_k": "auto",
        "aggregate": "auto",
        "other_logit": True,
        "threshold": None,
        "target": None,
        "front": None,
        "front_threshold": None,
    }
    assert printed["router"] == {"file": None, "sha256": None, "score": "auto"} | ways
    assert list(printed)[:3] == ["task", "title", "data"]


def test_a_configuration_cannot_be_changed_by_accident(file):
    config = load_config(file)
    with pytest.raises(ValueError, match="frozen"):
        config.run.seed = 5


@pytest.mark.parametrize("text", [
    "a: [1", "\ttab: 1", "a: b: c", "\x00", "a: &x 1\nb: *x", "a: !!python/object/apply:os.getcwd []",
    "{[1]: 2}",
])  # fmt: skip
def test_what_is_no_yaml_is_refused_with_the_path(file, text):
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"Expected YAML in .*pair\.yaml") as caught:
        load_config(file)
    assert "\n" not in str(caught.value)


def test_a_file_in_another_encoding_is_refused(file):
    file.write_bytes("title: Größe".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"pair\.yaml"):
        load_config(file)


@pytest.mark.parametrize("text", ["title: 2024-13-45", "title: !!int one"])
def test_a_value_that_yaml_cannot_make_is_refused(file, text):
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"pair\.yaml"):
        load_config(file)


@pytest.mark.parametrize("text", ["", "- 1\n- 2", "3", "just words", "null", "# only a comment"])
def test_what_is_no_mapping_is_refused(file, text):
    file.write_text(text)
    with pytest.raises(ConfigError, match="mapping of settings"):
        load_config(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


def test_a_key_that_comes_twice_is_refused(file):
    file.write_text(file.read_text() + "student: {arch: densenet}\n")
    with pytest.raises(ConfigError, match="student"):
        load_config(file)


# --- `--set` ---


@pytest.mark.parametrize(
    ("change", "section", "key", "value"),
    [
        ("run.seed=5", "run", "seed", 5),
        ("run.seed= 5 ", "run", "seed", 5),
        ("router.threshold=-2.46", "router", "threshold", -2.46),
        ("router.threshold=1e-3", "router", "threshold", 0.001),
        ("router.threshold=null", "router", "threshold", None),
        ("data.root=/a=b/c", "data", "root", "/a=b/c"),
        ("data.verify=false", "data", "verify", False),
        ("data.root='5'", "data", "root", "5"),
        ("student.arch=timm/resnet18.a1_in1k", "student", "arch", "timm/resnet18.a1_in1k"),
        ("student.options={drop: 0.5}", "student", "options", {"drop": 0.5}),
        ("student.options.stem.width=3", "student", "options", {"stem": {"width": 3}}),
        ("student.preprocessing.mean=[0.5, 0.5, 0.5]", "student", "preprocessing", {"mean": [0.5, 0.5, 0.5]}),
    ],
)
def test_a_change_sets_one_value(file, change, section, key, value):
    assert getattr(getattr(load_config(file, [change]), section), key) == value


def test_changes_are_applied_in_order_and_leave_the_rest_alone(file):
    config = load_config(file, ["run.seed=1", "run.workers=2", "run.seed=3", "title=mine"])
    assert (config.run.seed, config.run.workers, config.title) == (3, 2, "mine")
    assert config.student.arch == "resnet"
    assert load_config(file).run.seed == 0


def test_a_change_adds_to_a_section_of_the_file(file):
    file.write_text(yaml.safe_dump(settings(student={"options": {"a": 1, "b": 2}})))
    assert load_config(file, ["student.options.b=3"]).student.options == {"a": 1, "b": 3}


def test_a_change_replaces_a_whole_section(file):
    config = load_config(file, ["student={arch: densenet, depth: 22}"])
    assert (config.student.arch, config.student.depth) == ("densenet", 22)


@pytest.mark.parametrize("change", ["run.seed", "=5", "run..seed=5", ".seed=5", "run.=5", ""])
def test_a_change_that_is_none_is_refused(file, change):
    with pytest.raises(ConfigError, match=r"a.b=value"):
        load_config(file, [change])


def test_a_value_that_is_no_yaml_is_refused(file):
    with pytest.raises(ConfigError, match=r"run\.seed"):
        load_config(file, ["run.seed=[1"])


def test_a_change_of_an_unknown_key_is_refused_with_the_nearest(file):
    with pytest.raises(ConfigError, match=r"`run.sede`. Did you mean `seed`"):
        load_config(file, ["run.sede=1"])


# --- Unknown and missing keys ---


@pytest.mark.parametrize(
    ("content", "where", "nearest"),
    [
        (settings() | {"routr": {}}, "routr", "router"),
        (settings(data={"rot": "x"}), "data.rot", "root"),
        (settings(student={"deph": 8}), "student.deph", "depth"),
        (settings(teacher={"checkpiont": "x"}), "teacher.checkpiont", "checkpoint"),
        (settings(router={"scor": "margin"}), "router.scor", "score"),
        (
            settings(router={"target": {"kind": "max_drop", "value": 0.1, "confidance": 0.9}}),
            "router.target.confidance",
            "confidence",
        ),
        (settings(latency={"bathces": 3}), "latency.bathces", "batches"),
        (settings(run={"sed": 3}), "run.sed", "seed"),
    ],
)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest(content, where, nearest):
    assert f"got `{where}`. Did you mean `{nearest}`?" in refusal(content)


@pytest.mark.parametrize("missing", ["data", "student", "teacher"])
def test_a_missing_section_is_named(missing):
    content = settings()
    del content[missing]
    assert refusal(content) == f"Expected the setting `{missing}`, got none."


def test_a_missing_key_is_named_with_its_section():
    assert "`data.dataset`" in refusal(settings() | {"data": {"root": "x"}})


@pytest.mark.parametrize(
    ("content", "nearest"),
    [
        ({"data": {"datset": "digits"}, "student": {"arch": "wrn"}, "teacher": {"arch": "wrn"}}, "dataset"),
        ({"data": {"dataset": "digits"}, "studnt": {"arch": "wrn"}, "teacher": {"arch": "wrn"}}, "student"),
    ],
)
def test_a_misspelt_key_that_must_be_there_is_refused_with_the_nearest(content, nearest):
    assert f"Did you mean `{nearest}`" in refusal(content)


# --- Values ---


@pytest.mark.parametrize(("section", "key", "value"), [
    ("run", "batch_size", "many"), ("run", "batch_size", 2.5), ("run", "batch_size", None),
    ("run", "seed", [1]), ("run", "device", 3), ("data", "dataset", 5), ("data", "verify", "perhaps"),
    ("student", "arch", None), ("student", "depth", "deep"), ("student", "options", [1]),
    ("student", "pretrained", "2"), ("router", "threshold", "low"), ("router", "target", "max_drop"),
    ("latency", "measure", 7),
])  # fmt: skip
def test_a_value_of_another_type_is_refused_with_its_place(section, key, value):
    message = refusal(settings(**{section: {key: value}}))
    assert f"`{section}.{key}`" in message
    assert f"got {value!r}" in message


@pytest.mark.parametrize(("section", "key", "value"), [
    ("run", "batch_size", 0), ("run", "batch_size", 10**7), ("run", "seed", -1), ("run", "workers", -1),
    ("run", "bootstrap", 1), ("data", "limit", 0), ("latency", "batch_size", 0), ("latency", "batches", 0),
    ("latency", "warmup", -1), ("router", "threshold", float("nan")), ("router", "threshold", float("inf")),
])  # fmt: skip
def test_a_value_out_of_range_is_refused_with_its_place(section, key, value):
    assert f"`{section}.{key}`" in refusal(settings(**{section: {key: value}}))


@pytest.mark.parametrize(("key", "value"), [
    ("kind", "max_drp"), ("value", -0.1), ("value", float("nan")), ("confidence", 0.0), ("confidence", 1.0),
    ("fraction", 0.0), ("fraction", 1.0), ("fraction", float("nan")),
])  # fmt: skip
def test_a_target_out_of_range_is_refused_with_its_place(key, value):
    target = {"kind": "max_drop", "value": 0.01} | {key: value}
    assert f"`router.target.{key}`" in refusal(settings(router={"target": target}))


def test_a_threshold_and_a_target_are_one_too_many():
    message = refusal(settings(router={"threshold": 1.0, "target": {"kind": "max_drop", "value": 0.1}}))
    assert "either a threshold or a target" in message


def test_a_section_that_is_no_mapping_is_refused():
    for section in ("data", "student", "router", "run"):
        assert f"`{section}`" in refusal(settings() | {section: [1]})


def test_a_truth_value_is_no_number():
    assert "`run.batch_size`" in refusal(settings(run={"batch_size": True}))
