"""What belongs to a run's identity: `--resume` goes on where the records stay the same, and nowhere else."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copy, copytree

import numpy as np
import pytest

from ebjr_det.config import identity, training_identity
from ebjr_det.config.identity import BESIDE_RECORDS
from ebjr_det.config.training import BESIDE_WEIGHTS
from ebjr_det.core.errors import CheckpointError, ConfigError, InvalidInput
from ebjr_det.evaluation.judged import JUDGED, digest_of
from ebjr_det.evaluation.run_folder import RUN, finished_run, open_folder
from ebjr_det.inference.pair import Pair, with_checksums
from ebjr_det.io.records import PartStore, load_run
from ebjr_det.tasks.classification.data import ImageSet
from ebjr_det.tasks.settings import load_config, load_specialize_config, load_train_config, parse_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DIGITS, SCENES = CONFIGS / "digits.yaml", CONFIGS / "quickstart.yaml"
FEW = ("data.limit=9", "run.batch_size=4")

OTHERWISE = {
    "title": "another", "references": [{"name": "third", "quality": 0.5, "macs": 7.0}],
    "traffic": {"popular": ["0", "1"], "share": 0.9}, "latency": {"measure": False, "batch_size": 2},
    "data.verify": False, "data.skip_unreadable": False, "student.name": "s", "student.macs": 11.0,
    "teacher.name": "t", "teacher.macs": 12.0, "router.score": "entropy", "router.options": {},
    "router.threshold": 0.25, "router.target": {"kind": "macs", "value": 9.0}, "run.teacher_batch": 3,
    "run.patience_ms": 2.0, "run.overlap": True, "run.regroup": False, "run.tolerance": 0.5,
    "run.flush_seconds": 0.0, "run.workers": 1, "run.threads": 1, "run.bootstrap": 7, "run.int8_loss": 0.5,
    "topology": "cascade", "router.front": None, "router.front_threshold": None,  # which `evaluate` refuses
}  # fmt: skip
"""Another value of every setting that stands beside the records."""


def leaves(config):
    """Every setting by its whole name: the fields of the sections, and those of no section."""
    for key, value in config:
        if key == "tiers":  # what they say is in student, teacher and router
            continue
        fields = type(value).model_fields if hasattr(type(value), "model_fields") else None
        yield from [key] if fields is None else (f"{key}.{field}" for field in fields)


def changed(config, name, value):
    """A copy with another value, which is not checked."""
    section, _, key = name.rpartition(".")
    if not section:
        return config.model_copy(update={key: value})
    inner = getattr(config, section).model_copy(update={key: value})
    return config.model_copy(update={section: inner})


def under(name):
    return any(name == free or name.startswith(f"{free}.") for free in BESIDE_RECORDS)


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # a value of another type will do here
@pytest.mark.parametrize("path", [DIGITS, SCENES], ids=lambda path: path.stem)
def test_every_other_setting_is_part_of_a_runs_identity(path):
    config = load_config(path)
    config = changed(config, "student.sha256", "a" * 64)
    before = identity(config)
    special = {"student.checkpoint", "run.seed", "router.file", "router.options"}  # below
    names = set(leaves(config)) - special
    counted = {name for name in names if identity(changed(config, name, "another")) != before}
    assert counted == {name for name in names if not under(name)}
    assert counted >= {"data.dataset", "student.arch", "teacher.options", "router.top_k", "run.batch_size"}


def test_the_written_list_names_settings_that_are_there():
    there = {name for path in (DIGITS, SCENES) for name in leaves(load_config(path))}
    there |= {name.partition(".")[0] for name in there}
    assert set(BESIDE_RECORDS) == set(OTHERWISE) <= there


def run_of(config, out, resume=False):
    from ebjr_det.api.preflight import check_settings
    from ebjr_det.inference.pair import Pair

    scoring = check_settings(config)
    pair = Pair.build(config.model_copy(update={"router": scoring.section}))
    open_folder(out, pair.config, resume)
    return finished_run(out, pair.data, scoring.name, {}, lambda parts: pair.run(scoring.scores, parts))


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("identity") / "run"
    run_of(load_config(DIGITS, FEW), out)
    return out


@pytest.fixture(scope="module")
def digits_run(digits_folder):
    return load_run(digits_folder / RUN)


@pytest.mark.parametrize("name", [name for name in BESIDE_RECORDS if name != "data.skip_unreadable"])
def test_a_setting_beside_the_records_resumes_to_the_same_ones(name, digits_folder, digits_run, tmp_path):
    content = load_config(DIGITS, [*FEW, "router.target=null"]).model_dump()
    half = parse_config(content)
    section, _, key = name.rpartition(".")
    place = content[section] if section else content
    place[key] = OTHERWISE[name]
    other = parse_config(content)
    started = run_of(
        half.model_copy(update={"data": half.data.model_copy(update={"limit": 4})}), tmp_path / "a"
    )
    open_folder(tmp_path / "b", with_weights(half), False)
    PartStore(tmp_path / "b" / "parts").add(started)  # killed after the first batch
    copy(digits_folder / JUDGED, tmp_path / "b")
    resumed = run_of(other, tmp_path / "b", resume=True)
    assert resumed.image_ids == digits_run.image_ids
    for side in ("scores", "student", "teacher"):
        mine, theirs = getattr(resumed, side), getattr(digits_run, side)
        assert mine.keys() == theirs.keys()
        for column in mine:
            np.testing.assert_array_equal(mine[column], theirs[column])


def with_weights(config):
    from ebjr_det.inference.pair import with_checksums

    return with_checksums(config)


@pytest.mark.parametrize(("change", "names"), [
    ("data.limit=8", "data.limit"), ("run.batch_size=3", "run.batch_size"),
    ("student.depth=14", "student.depth"), ("student.preprocessing={}", "student.preprocessing"),
    ("router.options={temperature: 2.0}", "router.score and options"),
    ("router.other_logit=false", "router.other_logit"),
])  # fmt: skip
def test_a_setting_that_changes_records_is_refused_by_its_name(change, names, tmp_path):
    config = load_config(DIGITS, [*FEW, "router.score=free_energy"])
    open_folder(tmp_path / "run", config, False)
    with pytest.raises(ConfigError, match=f"Expected `{names}` as in the run"):
        open_folder(tmp_path / "run", load_config(DIGITS, [*FEW, "router.score=free_energy", change]), True)


def test_the_seed_counts_where_weights_follow_from_it():
    fresh = ["student.checkpoint=null", "student.random_weights=true"]
    for extra, same in ((["run.seed=1"], True), ([*fresh, "run.seed=1"], False)):
        before = [change for change in extra if change != "run.seed=1"]
        assert (identity(load_config(DIGITS, before)) == identity(load_config(DIGITS, extra))) is same


def test_weights_count_by_their_content_and_not_by_their_place():
    one, two, three = (
        identity(changed(changed(load_config(DIGITS), "student.sha256", digest), "student.checkpoint", place))
        for digest, place in (("a" * 64, "x"), ("a" * 64, "y"), ("b" * 64, "x"))
    )
    assert one == two != three


@pytest.mark.parametrize("kind", ["onnx", "ultralytics", "transformers"])
def test_a_file_that_arch_names_counts_by_its_content(kind, tmp_path):
    place, file = tmp_path / "net", tmp_path / "net"
    if kind == "transformers":
        place.mkdir()
        file = place / "model.safetensors"
    file.write_bytes(b"one")
    config = load_config(DIGITS, [f"student.arch={kind}/{place}", "student.checkpoint=null"])
    begun = with_checksums(config)
    open_folder(tmp_path / "run", begun, resume=False)
    open_folder(tmp_path / "run", with_checksums(config), resume=True)
    file.write_bytes(b"another")
    with pytest.raises(ConfigError, match=r"`student\.sha256` as in the run"):
        open_folder(tmp_path / "run", with_checksums(config), resume=True)
    with pytest.raises(CheckpointError, match="Expected sha256"):
        Pair.build(begun)


def test_a_run_without_the_score_that_now_decides_is_refused_before_it_goes_on(pair, tmp_path):
    PartStore(tmp_path / "parts").add(pair(images=4))

    class Images:
        image_ids, skip_unreadable = tuple(f"image-{n:04d}" for n in range(9)), False

    with pytest.raises(ConfigError, match="Expected a score of this run, got `support`"):
        finished_run(tmp_path, Images(), "support", {}, lambda parts: pytest.fail("it went on"))


@pytest.mark.parametrize("folder", ["a finished run", "the parts of one"])
def test_a_run_whose_pictures_and_classes_were_read_otherwise_is_not_gone_on_with(
    folder, digits_folder, digits_run, tmp_path
):
    out = copytree(digits_folder, tmp_path / "run")
    if folder == "the parts of one":
        (out / RUN).unlink()
        PartStore(out / "parts").add(digits_run)
    told = json.loads((out / JUDGED).read_text())
    for damaged in (None, "{", json.dumps(told | {"reading": told["reading"] - 1})):
        (out / JUDGED).unlink(missing_ok=True)
        if damaged is not None:
            (out / JUDGED).write_text(damaged)
        with pytest.raises(InvalidInput, match=r"of this version in .* got one of an earlier version"):
            run_of(load_config(DIGITS, FEW), out, resume=True)


def test_a_run_that_was_judged_by_other_labels_is_not_gone_on_with(digits_folder, tmp_path, monkeypatch):
    out = copytree(digits_folder, tmp_path / "run")
    assert run_of(load_config(DIGITS, FEW), out, resume=True).image_ids
    monkeypatch.setattr(ImageSet, "target", lambda self, index: (self.labels[index] + (index == 5)) % 10)
    with pytest.raises(InvalidInput, match=r"Expected the annotations by which the run in .* got others"):
        run_of(load_config(DIGITS, FEW), out, resume=True)


def test_the_digest_sees_every_box_area_crowd_and_name():
    from ebjr_det.tasks.detection.data import build_data

    data = build_data("digit_scenes", split="test", limit=3)
    digests = {digest_of(data)}
    truths = data.annotations.truths
    for change in ("boxes", "labels", "areas", "crowd"):
        column = getattr(truths[1], change).copy()
        column[-1] = ~column[-1] if change == "crowd" else column[-1] + 1
        other = [truths[0], replace(truths[1], **{change: column}), truths[2]]
        digests.add(digest_of(replace(data, annotations=replace(data.annotations, truths=other))))
    names = ("ten", *data.class_names[1:])
    digests.add(digest_of(replace(data, annotations=replace(data.annotations, class_names=names))))
    assert len(digests) == 6


# --- Trainings ---


TRAININGS = {
    "train_cifar100_one_cycle": load_train_config,
    "specialize_digits": load_specialize_config,
    "specialize_openimages_top50": load_specialize_config,
}


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
@pytest.mark.parametrize("name", TRAININGS)
def test_every_other_setting_is_part_of_a_trainings_identity(name):
    config = TRAININGS[name](CONFIGS / f"{name}.yaml")
    before = training_identity(config)
    names = {name for name in leaves(config) if not name.startswith("pair")}
    counted = {name for name in names if training_identity(changed(config, name, "another")) != before}
    assert counted == names - set(BESIDE_WEIGHTS)
    assert training_identity(changed(config, "data", None)) != before


def test_the_written_list_names_settings_of_trainings_that_are_there():
    there = {own for name, load in TRAININGS.items() for own in leaves(load(CONFIGS / f"{name}.yaml"))}
    assert {name for name in BESIDE_WEIGHTS if not name.startswith("teacher.")} <= there
    assert "teacher.macs" in BESIDE_WEIGHTS
