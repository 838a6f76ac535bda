"""Saved outputs that no file holds: the same bits, the same refusals, and a folder that says so."""

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import ebjr_det
from ebjr_det import CostModel, FitSettings, ReplaySettings, SavedOutputs
from ebjr_det.api.references import ReferenceFile
from ebjr_det.core.errors import EbjrError, InvalidInput
from ebjr_det.io.records import load_run
from ebjr_det.routing.file import RouterFile

SETTINGS = ReplaySettings(cost=CostModel(1e9, 9e9), rates=(0.3,), replicates=5)


def assert_same_run(first: Path, second: Path) -> None:
    """Records to the bit, and all that is said of them."""
    runs = [load_run(folder / "run.npz") for folder in (first, second)]
    assert runs[0].image_ids == runs[1].image_ids
    for part in ("scores", "student", "teacher"):
        columns = [getattr(run, part) for run in runs]
        assert columns[0].keys() == columns[1].keys()
        for name, column in columns[0].items():
            np.testing.assert_array_equal(column, columns[1][name])
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (first, second)]
    for summary in summaries:
        del summary["title"], summary["run_dir"]
    assert summaries[0] == summaries[1]


def coco_of(truth: dict, entries: list | None = None):
    """What pycocotools makes of annotations, or of results beside them."""
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = truth
        annotated.createIndex()
        return annotated if entries is None else annotated.loadRes(entries)


def numbered(entries: list) -> list:
    """Entries as a detector's loop has them, with numpy's numbers."""
    return [
        {
            "image_id": np.int64(entry["image_id"]),
            "category_id": np.int32(entry["category_id"]),
            "bbox": np.array(entry["bbox"]),
            "score": np.float64(entry["score"]),
        }
        for entry in entries
    ]


FORMS = {
    "lists": lambda truth, entries: (truth, *entries),
    "numpy": lambda truth, entries: (truth, *map(numbered, entries)),
    "pycocotools": lambda truth, entries: (coco_of(truth), *(coco_of(truth, found) for found in entries)),
    "mixed": lambda truth, entries: (truth, entries[0], None),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_replay_of_detections_in_memory_is_that_of_their_files(form, others, tmp_path):
    files = {name: str(path) for name, path in others.__dict__.items()}
    truth, *entries = (json.loads(path.read_text()) for path in others.__dict__.values())
    before = json.dumps([truth, entries])
    given = dict(zip(files, FORMS[form](json.loads(json.dumps(truth)), entries), strict=True))
    given = {name: files[name] if value is None else value for name, value in given.items()}
    medium = [ReferenceFile("medium", 3e9, file=content) for content in (files["teacher"], entries[1])]
    ebjr_det.replay(SavedOutputs("detection", files, medium[:1]), tmp_path / "files", SETTINGS)
    result = ebjr_det.replay(SavedOutputs("detection", given, medium[1:]), tmp_path / "memory", SETTINGS)
    assert_same_run(tmp_path / "files", tmp_path / "memory")
    assert form == "pycocotools" or json.dumps([truth, entries]) == before
    kept = yaml.safe_load((tmp_path / "memory" / "config.yaml").read_text())
    assert re.fullmatch("<in memory> sha256 [0-9a-f]{64}", kept["student"])
    assert kept["references"][0]["file"].startswith("<in memory> sha256")
    assert kept["teacher"] == files["teacher"] or form != "mixed"
    assert result.report.analysis.title.startswith("Replay: student + ")


def test_report_and_compare_go_on_from_such_a_folder(others, tmp_path):
    files = {name: json.loads(path.read_text()) for name, path in others.__dict__.items()}
    summary = ebjr_det.replay(SavedOutputs("detection", files), tmp_path / "one", SETTINGS).summary
    assert ebjr_det.report(tmp_path / "one").summary == summary
    ebjr_det.replay(SavedOutputs("detection", files), tmp_path / "two", SETTINGS)
    assert ebjr_det.compare([tmp_path / "one", tmp_path / "two"], tmp_path / "both").folder.is_dir()
    kept = [yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("one", "two")]
    assert kept[0] == kept[1]
    files["student"][0]["score"] /= 2
    ebjr_det.replay(SavedOutputs("detection", files), tmp_path / "two", SETTINGS)
    assert yaml.safe_load((tmp_path / "two" / "config.yaml").read_text())["student"] != kept[0]["student"]


def test_routers_fitted_in_memory_are_those_of_files(others, tmp_path):
    settings = FitSettings(folds=2, replicates=5, rates=(0.3,))
    contents = {name: json.loads(path.read_text()) for name, path in others.__dict__.items()}
    routers = []
    for name, files in (("files", others.__dict__), ("memory", contents)):
        outputs = SavedOutputs("detection", files)
        result = ebjr_det.fit_router(outputs, tmp_path / f"{name}.safetensors", settings, tmp_path / name)
        routers.append(RouterFile.load(result.path))
    assert routers[0].arrays.keys() == routers[1].arrays.keys()
    for name, values in routers[0].arrays.items():
        np.testing.assert_array_equal(values, routers[1].arrays[name])
    assert routers[0].header.fingerprints == routers[1].header.fingerprints
    assert routers[1].header.teacher == "teacher"


ARRAYS = {
    "numpy": lambda arrays: arrays,
    "tensors": lambda arrays: {name: torch.as_tensor(values) for name, values in arrays.items()},
    "lists": lambda arrays: {name: values.tolist() for name, values in arrays.items()},
    "mappings": lambda arrays: {
        name: {"labels" if name == "labels" else "logits": values} for name, values in arrays.items()
    },
}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Logits and labels, and the files of them."""
    generator, folder = np.random.default_rng(0), tmp_path_factory.mktemp("arrays")
    labels = generator.integers(4, size=120)
    student = generator.normal(size=(120, 4)) + 2 * np.eye(4)[labels]
    values = {"student": student, "teacher": student + np.eye(4)[labels], "labels": labels}
    for name, array in values.items():
        np.save(folder / f"{name}.npy", array)
    return values, {name: folder / f"{name}.npy" for name in values}


@pytest.mark.parametrize("form", ARRAYS)
def test_a_replay_of_arrays_is_that_of_their_files(form, arrays, tmp_path):
    values, files = arrays
    ebjr_det.replay(SavedOutputs("classification", files), tmp_path / "files", SETTINGS)
    ebjr_det.replay(SavedOutputs("classification", ARRAYS[form](values)), tmp_path / "memory", SETTINGS)
    assert_same_run(tmp_path / "files", tmp_path / "memory")
    kept = yaml.safe_load((tmp_path / "memory" / "config.yaml").read_text())
    assert kept["labels"].startswith("<in memory> sha256")


def test_nor_do_files_matter_without_labels(arrays, others, tmp_path):
    values, paths = arrays
    contents = {name: json.loads(path.read_text()) for name, path in others.__dict__.items()}
    for task, judged, files, given in (
        ("classification", "labels", paths, values),
        ("detection", "annotations", others.__dict__, contents),
    ):
        for name, sources in (("files", files), ("memory", given)):
            models = {side: source for side, source in sources.items() if side != judged}
            ebjr_det.replay(SavedOutputs(task, models), tmp_path / task / name, SETTINGS)
        assert_same_run(tmp_path / task / "files", tmp_path / task / "memory")


def test_ids_and_names_of_classes_in_memory_count_as_in_a_file(arrays, tmp_path):
    values, _ = arrays
    ids, names = [f"i{n}" for n in range(120)], ["a", "b", "c", "d"]
    given = {name: {"logits": values[name], "image_ids": ids} for name in ("student", "teacher")}
    given["labels"] = {"labels": values["labels"], "image_ids": ids, "class_names": names}
    result = ebjr_det.replay(SavedOutputs("classification", given), tmp_path / "run", SETTINGS)
    assert result.report.run.image_ids == tuple(ids)
    assert result.report.analysis.class_names == tuple(names)


WRONG_ARRAYS = [
    (
        "student",
        np.zeros((120, 4), int),
        "floating-point logits in `<student in memory>`, got int64",
    ),
    ("student", np.full((120, 4), np.nan), "In the student's logits, `<student in memory>`"),
    ("student", np.zeros((7, 4)), r"got \[7, 4\] in `<student in memory>`"),
    ("teacher", [[1.0, 2.0], [3.0]], "Expected the teacher's logits as arrays in `<teacher in memory>`"),
    ("teacher", torch.zeros(120, 4, requires_grad=True), "requires grad"),
    ("teacher", {"logit": np.zeros((120, 4))}, "Expected the key `logits` in `<teacher in memory>`"),
    ("teacher", None, "got"),
    ("labels", np.full(120, 9), r"Expected labels in 0..3 in `<labels in memory>`, got 9..9"),
    ("labels", ["a"] * 120, "Expected integer labels"),
]


@pytest.mark.parametrize(("name", "content", "says"), WRONG_ARRAYS)
def test_wrong_arrays_are_one_line(name, content, says, arrays, tmp_path):
    outputs = SavedOutputs("classification", arrays[0] | {name: content})
    with pytest.raises(InvalidInput, match=says) as caught:
        ebjr_det.replay(outputs, tmp_path / "run", SETTINGS)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["half \ud800", "itself"])
def test_what_no_json_holds_is_one_line(name, others, tmp_path):
    truth = json.loads(others.annotations.read_text())
    truth["info"] = truth if name == "itself" else name
    files = others.__dict__ | {"annotations": truth}
    with pytest.raises(InvalidInput, match="`<annotations in memory>`") as caught:
        ebjr_det.replay(SavedOutputs("detection", files), tmp_path / "run", SETTINGS)
    assert "\n" not in str(caught.value)


def without(entry: dict, key: str) -> dict:
    return {name: value for name, value in entry.items() if name != key}


WRONG_ENTRIES = {
    "no list": lambda truth, entries: (truth, "text", entries),
    "no entry": lambda truth, entries: (truth, [], entries),
    "the truth as results": lambda truth, entries: (truth, truth, entries),
    "no score": lambda truth, entries: (truth, [without(entry, "score") for entry in entries], entries),
    "percent": lambda truth, entries: (truth, [e | {"score": 90 * e["score"]} for e in entries], entries),
    "NaN": lambda truth, entries: (truth, [entries[0] | {"score": float("nan")}, *entries[1:]], entries),
    "negative box": lambda truth, entries: (truth, [entries[0] | {"bbox": [1, 1, -1, 1]}], entries),
    "strangers": lambda truth, entries: (truth, [e | {"image_id": 9000} for e in entries], entries),
    "no images": lambda truth, entries: (truth | {"images": []}, entries, entries),
    "twice": lambda truth, entries: (truth | {"images": truth["images"] * 2}, entries, entries),
    "results as truth": lambda truth, entries: (entries, entries, entries),
}


@pytest.mark.parametrize("fault", WRONG_ENTRIES)
def test_wrong_entries_are_refused_as_in_a_file(fault, others, tmp_path):
    truth, student, _ = (json.loads(path.read_text()) for path in others.__dict__.values())
    contents = dict(zip(others.__dict__, WRONG_ENTRIES[fault](truth, student), strict=True))
    if contents["student"] == "text":  # a text is a path
        contents["student"] = {"a": "text"}
    messages = []
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    for files in (contents, {name: tmp_path / f"{name}.json" for name in contents}):
        with pytest.raises(EbjrError) as caught:
            ebjr_det.replay(SavedOutputs("detection", files), tmp_path / "run", SETTINGS)
        messages.append(re.sub(r"`[^`]*?(\w+)( in memory>|\.json)`", r"\1", str(caught.value)))
        assert not (tmp_path / "run").exists()
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
