"""What users get wrong about fitted routers: one line, exit code 2, and nothing is written."""

import json
import pickle
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from common import DIGITS, QUICKSTART, ROOT
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import ebjr_det.api  # noqa: F401, so that its modules are there
from ebjr_det.config import RouterSection
from ebjr_det.inference.scoring import Scoring
from ebjr_det.routing.file import HEADER


@pytest.fixture
def refused(refused, tmp_path):
    """A function: arguments -> the one line; no file and no folder appears."""

    def run(*args):
        before = sorted(tmp_path.rglob("*"))
        *_, line = refused(*args, alone=False).strip().splitlines()
        assert sorted(tmp_path.rglob("*")) == before
        return line

    return run


# --- A fit ---

SETTINGS = {
    "one fold": (["--folds", 1], "at least 2 folds"),
    "too few pictures": (["--folds", 8], "at least 80 pictures for 8 folds, got 70"),
    "an unknown score": (["--score", "class_curvatur"], "Did you mean `class_curvature`"),
    "a score of all classes": (["--score", "rival_class"], "the logits of all classes"),
    "a score of candidates": (["--score", "nms_disagreement"], "raw candidates"),
    "an unknown rescaling": (["--rescaling", "afine"], "Did you mean `affine`"),
    "a seed below 0": (["--seed", -1], "seed"),
    "no resamples": (["--bootstrap", -1], "-1"),
    "a rate above 1": (["--rates", "0.3,1.5"], "1.5"),
    "rates in words": (["--rates", "half"], "half"),
    "half the costs": (["--student-macs", "1e9"], "of both models"),
}


def test_references_are_offered_beside_result_files_alone(command, capsys, refused, tmp_path):
    """A run keeps its own."""
    for source, offered in (("detection", True), ("classification", True), ("run", False)):
        capsys.readouterr()
        assert command("fit-router", source, "--help") == 0
        assert ("--reference" in capsys.readouterr().out) == offered
    args = ["--reference", "other=other.json:1e9", "--out", tmp_path / "r.safetensors"]
    assert "No such option" in refused("fit-router", "run", tmp_path, *args)


@pytest.mark.parametrize(("options", "says"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be_are_refused_before_anything_is_fitted(
    options, says, fitted_on, refused, tmp_path, monkeypatch
):
    def never(*args, **kwargs):
        raise AssertionError("a fold ran")

    monkeypatch.setattr(import_module("ebjr_det.api.fit_router"), "cross_fit", never)
    given = ["--folds", 2, "--bootstrap", 5, *options, "--report", tmp_path / "report"]
    assert says in refused("fit-router", "detection", *fitted_on.options, *given, "--out", tmp_path / "r.st")


WEIGHTS = {
    "an unknown class": ("zebra: 2", "`zebra`"),
    "a negative weight": ("ant: -1", "at least 0"),
    "a weight that is no number": ("ant: .nan", "at least 0"),
    "an endless weight": ("ant: .inf", "at least 0"),
    "nothing but zeros": ("{ant: 0, bee: 0, cow: 0, dog: 0}", "at least 0"),
    "a weight in words": ("ant: much", "much"),
    "a truth value": ("ant: true", "True"),
    "a broken file": ("ant: [1", "YAML"),
    "a list": ("- ant\n- bee\n", "mapping"),
    "an empty file": ("", "mapping"),
    "an empty mapping": ("{}", "class names"),
    "not UTF-8": (b"\xff\xfe\x00", "YAML"),
}


@pytest.mark.parametrize(("content", "says"), WEIGHTS.values(), ids=WEIGHTS)
def test_class_weights_that_cannot_be_are_refused(content, says, fitted_on, refused, tmp_path):
    path = tmp_path / "weights.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    args = ["--folds", 2, "--class-weights", path, "--out", tmp_path / "r.st"]
    assert says in refused("fit-router", "detection", *fitted_on.options, *args)


def test_class_weights_are_for_classes_of_detectors(classifiers, refused, tmp_path):
    (tmp_path / "weights.yaml").write_text("ant: 2")
    args = ["--folds", 2, "--class-weights", tmp_path / "weights.yaml", "--out", tmp_path / "r.st"]
    assert "weights" in refused("fit-router", "classification", *classifiers(range(60), 0), *args)


def test_a_place_that_cannot_be_written_is_refused(fitted_on, refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for out in (tmp_path / "file" / "r.st", tmp_path / "folder", "/proc/nothing/r.st"):
        message = refused("fit-router", "detection", *fitted_on.options, "--folds", 2, "--out", out)
        assert str(out if out == tmp_path / "folder" else Path(out).parent) in message


def test_a_student_that_finds_no_annotated_class_cannot_be_learned_from(make_detectors, refused, tmp_path):
    files = make_detectors(tmp_path, range(1, 51), 0, used=2)
    entries = [e for e in json.loads(files.student.read_text()) if e["category_id"] > 2]
    blind = files.changed(tmp_path, "student", entries)
    message = refused("fit-router", "detection", *blind.options, "--folds", 2, "--out", tmp_path / "r.st")
    assert "got none to learn from" in message


def test_no_run_is_no_ground(refused, tmp_path):
    assert "nothing" in refused("fit-router", "run", tmp_path / "nothing", "--out", tmp_path / "r.st")


# --- A router file ---


def rewritten(router: Path, path: Path, header=(), metadata=None, **arrays) -> Path:
    """The router with some of its header or its tensors replaced; a tensor that is None is left out."""
    with safe_open(router, "numpy") as opened:
        words = json.loads(opened.metadata()[HEADER]) | dict(header)
    tensors = {**load_file(router), **{name.replace("__", "/"): values for name, values in arrays.items()}}
    tensors = {name: values for name, values in tensors.items() if values is not None}
    save_file(tensors, path, {HEADER: json.dumps(words)} if metadata is None else metadata)
    return path


def spoil(case: str, router: Path, path: Path) -> None:
    content = router.read_bytes()
    plain = {
        "truncated": content[: len(content) // 2],
        "only its beginning": content[:20],
        "empty": b"",
        "a pickle": pickle.dumps({"reference": [1, 2, 3]}),
        "a text": b"score: learned\n",
    }
    changes = {
        "other tensors": {"metadata": {"format": "pt"}},
        "a header that is none": {"metadata": {HEADER: "[1, 2]"}},
        "another version": {"header": {"version": 99}},
        "a header with more": {"header": {"surprise": 1}},
        "NaN inside": {"reference": np.full(70, np.nan)},
        "no reference": {"reference": None},
        "no trees": {"router__forest__value": None},
        "a tree that leads nowhere": {"router__forest__low": np.full(3, 10**6, dtype=np.int32)},
        "other classes": {"header": {"class_names": ["ant", "bee", "cow", "emu"]}},
        "an unknown score": {"header": {"score": "magic", "settings": {}}},
        "unknown settings": {"header": {"settings": {"top_k": "many"}}},
        "another task": {"header": {"task": "classification"}},
        "an unknown task": {"header": {"task": "poetry"}},
    }
    if case in plain:
        path.write_bytes(plain[case])
    elif case != "missing":
        rewritten(router, path, **changes[case])


FILES = {
    "missing": "No such file", "truncated": "a fitted router", "only its beginning": "a fitted router",
    "empty": "a fitted router", "a pickle": "a fitted router", "a text": "a fitted router",
    "other tensors": "other tensors", "a header that is none": "header", "another version": "version 1",
    "a header with more": "header", "NaN inside": "finite", "no reference": "`reference`|'reference'",
    "no trees": "numbers of a detection router", "a tree that leads nowhere": "forest",
    "other classes": "`dog`", "an unknown score": "`magic`", "unknown settings": "top_k",
    "another task": "for classification", "an unknown task": "poetry",
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_such_router_is_refused(case, fitted, others, refused, tmp_path):
    path = tmp_path / "r.safetensors"
    spoil(case, fitted / "router.safetensors", path)
    args = [*others.options, "--router", path, "--bootstrap", 5, "--out", tmp_path / "out"]
    message = refused("replay", "detection", *args)
    assert any(part in message for part in FILES[case].split("|")), message


@pytest.mark.parametrize("case", ["missing", "a pickle", "other classes"])
def test_evaluate_and_predict_refuse_it_too(case, fitted, refused, tmp_path):
    path = tmp_path / "r.safetensors"
    spoil(case, fitted / "router.safetensors", path)
    picture = ROOT / "nothing.png"
    refused("evaluate", QUICKSTART, "--set=data.limit=2", "--router", path, "--out", tmp_path / "out")
    refused("predict", QUICKSTART, picture, "--router", path, "--rate", 0.5, "--out", tmp_path / "out")


def test_a_router_of_detectors_routes_no_classifiers(fitted, refused, tmp_path, classifiers):
    router = fitted / "router.safetensors"
    args = ["--router", router, "--out", tmp_path / "out"]
    assert "router for classification" in refused(
        "replay", "classification", *classifiers(range(40), 0), *args
    )
    assert "router for classification" in refused("evaluate", DIGITS, *args)


def test_another_students_scores_are_told_apart(fitted, others, refused, tmp_path):
    entries = json.loads(others.student.read_text())
    timid = others.changed(tmp_path, "student", [e | {"score": e["score"] / 5} for e in entries])
    args = [*timid.options, "--router", fitted / "router.safetensors", "--out", tmp_path / "out"]
    assert "made for this student" in refused("replay", "detection", *args)


def test_another_students_name_is_told_apart(fitted, refused, tmp_path):
    names = list("0123456789")
    path = rewritten(
        fitted / "router.safetensors",
        tmp_path / "r.st",
        {"student": "resnet", "classes": 10, "class_names": names},
    )
    args = ["--router", path, "--set=data.limit=2", "--out", tmp_path / "out"]
    assert "`resnet`" in refused("evaluate", QUICKSTART, *args)


# --- Scores and rates ---


def test_predict_needs_a_rate_or_a_threshold_beside_a_router(fitted, refused, tmp_path):
    args = ["--router", fitted / "router.safetensors", "--out", tmp_path / "out"]
    assert "--rate" in refused("predict", QUICKSTART, "x.png", *args)


@pytest.mark.parametrize("rate", [-0.1, 1.5, "nan"])
def test_a_rate_is_a_share(rate, fitted, refused, tmp_path):
    args = ["--router", fitted / "router.safetensors", f"--rate={rate}", "--out", tmp_path / "out"]
    assert str(rate) in refused("predict", QUICKSTART, "x.png", *args)


def test_a_rate_needs_a_router(refused, tmp_path):
    assert "router" in refused("predict", QUICKSTART, "x.png", "--rate", 0.5, "--out", tmp_path / "out")


def test_a_rate_and_a_threshold_are_one_too_many(fitted, refused, tmp_path):
    args = ["--router", fitted / "router.safetensors", "--rate", 0.5, "--threshold", 1]
    assert "either" in refused("predict", QUICKSTART, "x.png", *args, "--out", tmp_path / "out")


SCORES = {
    "learned": "a fitted router",
    "class_curvature": "class counts",
    "rival_class": "the logits of all classes",
    "nms_disagreement": "raw candidates",
    "energy_curvatur": "Did you mean",
    "doubt": "It is `energy_curvature` now",
}


@pytest.mark.parametrize("score", SCORES)
def test_a_score_that_result_files_do_not_give_is_refused(score, others, refused, tmp_path):
    args = [*others.options, "--score", score, "--bootstrap", 5, "--out", tmp_path / "out"]
    assert SCORES[score] in refused("replay", "detection", *args)


def test_a_router_of_an_earlier_version_decides_by_todays_name_of_its_score(fitted, tmp_path):
    router = rewritten(fitted / "router.safetensors", tmp_path / "r.st", {"score": "class_doubt"})
    scoring = Scoring.load("detection", RouterSection(file=str(router)))
    assert scoring.name == scoring.file.header.score == "class_curvature"


def test_learned_without_a_router_is_refused_for_classifiers(classifiers, refused, tmp_path):
    args = [*classifiers(range(40), 0), "--score", "learned", "--out", tmp_path / "out"]
    assert "a fitted router" in refused("replay", "classification", *args)


def test_a_score_of_whole_sets_does_not_work_live(fitted, refused, tmp_path):
    args = ["--set=data.limit=2", "--set=latency.measure=false", "--set=run.bootstrap=5"]
    message = refused(
        "evaluate", QUICKSTART, "--set=router.score=set_curvature", *args, "--out", tmp_path / "o"
    )
    assert "set_curvature" in message
    router = rewritten(fitted / "router.safetensors", tmp_path / "r.st", {"score": "set_curvature"})
    for more in (["evaluate", QUICKSTART, *args], ["predict", QUICKSTART, "x.png", "--rate", 0.5]):
        assert "whole set" in refused(*more, "--router", router, "--out", tmp_path / "o")
