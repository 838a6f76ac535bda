"""`fit-router` as a user runs it: files or a run in, a ranked table and one router file out."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import ROOT

from ebjr_det.core.scores import SCORES
from ebjr_det.io.records import load_run, save_run
from ebjr_det.routing.file import RouterFile
from ebjr_det.tasks.detection.routing.box_scores import BOX_SCORES

QUICK = ["--folds", 2, "--bootstrap", 5]
EBJR = {0.099: 0.348, 0.172: 0.515, 0.298: 0.697, 0.397: 0.792, 0.514: 0.889, 0.826: 0.975}
ENERGIES = {f"{base}_{how}" for base in ("free_energy", "joint_energy")
            for how in ("top1", "min", "logsumexp", "top100")}  # fmt: skip
OF_RESULT_FILES = (
    ENERGIES
    | {name for name, score in SCORES.items() if not score.all_classes}
    | {name for name, score in BOX_SCORES.items() if not score.candidates}
    | {"learned", "learned_features", "set_learned"}
)


@pytest.fixture
def fit(answer):
    """A function: arguments -> the JSON object that a fit prints."""
    return lambda *args: answer("fit-router", *args, *QUICK)


def columns(folder: Path, name: str = "class_curvature") -> np.ndarray:
    """[images] a score of the folder's run."""
    return load_run(folder / "run.npz").scores[name]


# --- Detectors ---


def test_the_table_ranks_every_score_beside_a_coin_the_oracle_and_the_published_curve(
    fitted_on, tmp_path, command, capsys, monkeypatch
):
    out = tmp_path / "router.safetensors"
    monkeypatch.setenv("COLUMNS", "200")  # so that no column goes below the others
    capsys.readouterr()
    assert command("fit-router", "detection", *fitted_on.options, *QUICK, "--out", out, "--verbose") == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    rows = {line[0]: line for line in lines if len(line) > 5 and re.fullmatch(r"\d\.\d{4}|-", line[1])}
    assert set(rows) - {"(coin)", "(oracle)"} == OF_RESULT_FILES
    areas = [float(row[1]) for name, row in rows.items() if not name.startswith("(")]
    assert areas == sorted(areas, reverse=True)
    assert "(coin)" in rows
    assert "(oracle)" in rows
    published = next(line for line in said.splitlines() if "(EBJR, published)" in line)
    assert published.split()[-6:] == [f"{share:.3f}" for share in EBJR.values()]
    assert said.splitlines()[-1] == str(out)
    assert "never seen" not in said


def test_the_evidence_parses_and_is_saved_in_the_router(fitted_on, tmp_path, fit):
    out = tmp_path / "router.safetensors"
    said = fit("detection", *fitted_on.options, "--out", out)
    file = RouterFile.load(out)
    assert said.pop("router") == str(out)
    assert said == file.header.evidence
    assert (said["images"], said["folds"], said["quality_name"]) == (70, 2, "AP")
    assert said["student_quality"] < said["teacher_quality"]
    rows = {row["score"]: row for row in said["scores"]}
    assert set(rows) == OF_RESULT_FILES | {"(coin)", "(oracle)", "(EBJR, published)"}
    for name in OF_RESULT_FILES:
        assert rows[name]["interval"][0] <= rows[name]["interval"][1], name
        low, high = rows[name]["minus_energy_interval"]
        assert low <= high, name
    assert rows["free_energy"]["minus_energy"] == 0
    assert rows["free_energy"]["minus_energy_interval"] == [0, 0]
    assert (rows["(coin)"]["coin_to_oracle"], rows["(oracle)"]["coin_to_oracle"]) == (0, 1)
    assert rows["(EBJR, published)"]["gap"] == {str(rate): share for rate, share in EBJR.items()}
    live = OF_RESULT_FILES - {"set_curvature", "set_learned", "random", "learned_features"}
    assert said["score"] in live
    assert rows[said["score"]]["area"] <= max(rows[name]["area"] for name in live)
    assert said["unseen_classes"] == []
    header = file.header
    assert header.score == (said["score"].rsplit("_", 1)[0] if said["score"] in ENERGIES else said["score"])
    assert (header.task, header.classes, header.class_names) == ("detection", 4, ("ant", "bee", "cow", "dog"))
    assert header.image_ids == tuple(map(str, range(1, 71)))
    assert len(file.reference) == len(header.fingerprints) == 70
    assert header.rescaling == said["rescaling"] in said["area_by_rescaling"]


def test_an_area_lies_within_its_interval_and_without_rescaling_the_student_stays_as_it_is(
    fitted_on, tmp_path, command, capsys
):
    args = [*fitted_on.options, "--out", tmp_path / "r.safetensors", "--folds", 2, "--bootstrap", 60]
    assert command("fit-router", "detection", *args, "--rescaling", "none", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["scores"]
    assert "rescaling" not in RouterFile.load(tmp_path / "r.safetensors").arrays
    assert all(row["area_without_rescaling"] in (None, row["area"]) for row in rows)
    inside = [r["interval"][0] <= r["area"] <= r["interval"][1] for r in rows if r["interval"]]
    assert len(inside) == len(OF_RESULT_FILES)
    assert np.mean(inside) > 0.9


def test_the_report_is_whole_and_redrawn_byte_for_byte(fitted, tmp_path, command):
    report = fitted / "report"
    names = {path.name for path in report.iterdir()}
    assert {"run.npz", "analysis.json", "config.yaml", "report.html", "table.md", "routes.csv"} <= names
    summary = json.loads((report / "summary.json").read_text())
    assert set(summary["scores"]) == OF_RESULT_FILES
    assert summary["score"] == RouterFile.load(fitted / "router.safetensors").header.evidence["score"]
    assert summary["images"] == 70
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("run.npz", "analysis.json", "config.yaml", "environment.json"):
        shutil.copy(report / name, copy / name)
    assert command("report", copy) == 0
    assert {path.name for path in copy.iterdir()} == names
    for name in names - {"summary.json"}:
        assert (copy / name).read_bytes() == (report / name).read_bytes(), name


def test_one_seed_gives_one_file_and_another_seed_another(fitted, fitted_on, tmp_path, command):
    """Also where classes are said to weigh 1, in JSON."""
    (tmp_path / "ones.json").write_text(json.dumps({"bee": 1, "dog": 1.0}))
    costs, ones = (
        ["--student-macs", "1e9", "--teacher-macs", "9e9"],
        ["--class-weights", tmp_path / "ones.json"],
    )
    for name, how in (("again", ones), ("other", ["--seed", 1])):
        given = [*costs, *how, "--out", tmp_path / name]
        assert command("fit-router", "detection", *fitted_on.options, *QUICK, *given) == 0
    first = (fitted / "router.safetensors").read_bytes()
    assert (tmp_path / "again").read_bytes() == first
    assert (tmp_path / "other").read_bytes() != first


@pytest.mark.parametrize("score", ["free_energy_min", "set_curvature"])
def test_a_score_and_a_rescaling_are_saved_as_asked_for(score, fitted_on, tmp_path, fit):
    given = ["--score", score, "--rescaling", "affine", "--out", tmp_path / "r.safetensors"]
    said = fit("detection", *fitted_on.options, *given, "--report", tmp_path / "report")
    file = RouterFile.load(tmp_path / "r.safetensors")
    assert (said["score"], said["rescaling"], said["picked_among"]) == (score, "affine", 0)
    assert list(said["area_by_rescaling"]) == ["affine"]
    assert "router/rescaling" not in file.arrays
    assert file.arrays["rescaling"].shape[0] == 4
    assert (file.header.score, file.header.rescaling) == (score.removesuffix("_min"), "affine")
    top_k, aggregate = (10, "min") if score.endswith("_min") else ("auto", "auto")
    assert file.header.settings == {"top_k": top_k, "aggregate": aggregate, "options": {}}
    np.testing.assert_array_equal(file.reference, columns(tmp_path / "report", score))


def test_class_weights_change_what_is_learned_and_the_weight_of_doubt(fitted_on, tmp_path, command):
    weights = tmp_path / "weights.yaml"
    weights.write_text("ant: 0\nbee: 0\ncow: 0\ndog: 5\n")
    found = {}
    for name, how in (("alike", []), ("weighed", ["--class-weights", weights])):
        given = ["--rescaling", "none", "--out", tmp_path / f"{name}.st", "--report", tmp_path / name]
        assert command("fit-router", "detection", *fitted_on.options, *QUICK, *given, *how) == 0
        found[name] = load_run(tmp_path / name / "run.npz")
    alike, weighed = (run.scores for run in found.values())
    for name in ("learned", "class_curvature", "class_rarity", "set_curvature"):
        assert not np.allclose(alike[name], weighed[name]), name
    for name in ("energy_curvature", "free_energy", "best_score"):
        np.testing.assert_array_equal(alike[name], weighed[name])
    records = found["weighed"].student
    image = np.repeat(np.arange(70), records["counts"])
    has_dog = np.bincount(image, records["label"] == 3, minlength=70) > 0
    assert has_dog.any()
    assert not has_dog.all()
    np.testing.assert_array_equal(weighed["class_rarity"] > 0, has_dog)
    assert RouterFile.load(tmp_path / "weighed.st").arrays["worth"].tolist() == [0, 0, 0, 5]
    settings = yaml.safe_load((tmp_path / "weighed" / "config.yaml").read_text())
    assert settings["fit_router"]["class_weights"]["dog"] == 5


@pytest.mark.parametrize(("used", "says"), [(1, "3 of 4 classes were never seen: bee, cow, dog."),
                                            (3, "1 of 4 classes was never seen: dog.")])  # fmt: skip
def test_classes_that_no_picture_shows_are_named(used, says, make_detectors, tmp_path, command, capsys):
    files = make_detectors(tmp_path, range(1, 61), 3, used=used)
    out = tmp_path / "r.safetensors"
    assert command("fit-router", "detection", *files.options, *QUICK, "--out", out) == 0
    assert says in capsys.readouterr().out
    assert RouterFile.load(out).header.evidence["unseen_classes"] == ["ant", "bee", "cow", "dog"][used:]
    others = make_detectors(tmp_path / "others", range(100, 130), 3, used=used)
    args = ["--router", out, "--bootstrap", 5, "--out", tmp_path / "run"]
    assert command("replay", "detection", *others.options, *args) == 0


# --- Classifiers ---


def test_classifiers_are_ranked_with_a_learned_router(classifiers, tmp_path, fit, command):
    files, out = classifiers(range(300), 0), tmp_path / "r.safetensors"
    said = fit("classification", *files, "--out", out, "--report", tmp_path / "report")
    file = RouterFile.load(out)
    names = {row["score"] for row in said["scores"]}
    assert names == {*SCORES, "learned", "(coin)", "(oracle)"}
    assert (said["quality_name"], said["rescaling"], said["unseen_classes"]) == ("accuracy", "none", [])
    assert file.header.image_ids == tuple(f"i{n}" for n in range(300))
    assert file.header.classes == 5
    np.testing.assert_array_equal(file.reference, columns(tmp_path / "report", said["score"]))
    before = (tmp_path / "report" / "report.html").read_bytes()
    assert command("report", tmp_path / "report") == 0
    assert (tmp_path / "report" / "report.html").read_bytes() == before


# --- Finished runs ---


def test_a_replay_and_its_files_give_the_same_router_but_for_names(fitted_on, tmp_path, fit, command):
    run = tmp_path / "run"
    assert command("replay", "detection", *fitted_on.options, "--bootstrap", 5, "--out", run) == 0
    given = ["--score", "class_curvature", "--rescaling", "affine"]
    of_run = fit("run", run, *given, "--out", tmp_path / "run.st")
    of_files = fit("detection", *fitted_on.options, *given, "--out", tmp_path / "files.st")
    first, second = (RouterFile.load(tmp_path / f"{name}.st") for name in ("run", "files"))
    np.testing.assert_array_equal(first.reference, second.reference)
    np.testing.assert_array_equal(first.student_scores, second.student_scores)
    for name, values in first.arrays.items():
        np.testing.assert_array_equal(values, second.arrays[name])
    assert first.header.fingerprints == second.header.fingerprints
    for row in [*of_run["scores"], *of_files["scores"]]:
        del row["minus_energy_interval_picked"]  # files offer more scores to pick among
    shared = {row["score"]: row for row in of_run["scores"]}
    for row in of_files["scores"]:
        assert row["score"] in ENERGIES or row == shared[row["score"]]


def test_how_a_runs_scores_came_from_logits_is_saved_with_them(fitted_on, others, tmp_path, command):
    run, out = tmp_path / "run", tmp_path / "r.safetensors"
    how = ["--top-k", 2, "--aggregate", "sum", "--bootstrap", 5]
    assert command("replay", "detection", *fitted_on.options, *how, "--out", run) == 0
    given = ["--score", "free_energy", "--rescaling", "none", "--out", out]
    assert command("fit-router", "run", run, *QUICK, *given) == 0
    file = RouterFile.load(out)
    assert file.header.settings == {"top_k": 2, "aggregate": "sum", "options": {}}
    np.testing.assert_array_equal(file.reference, columns(run, "free_energy"))
    for name, more in (("routed", ["--router", out, "--bootstrap", 5]), ("plain", how)):
        assert command("replay", "detection", *others.options, *more, "--out", tmp_path / name) == 0
    routed, plain = (columns(tmp_path / name, "free_energy") for name in ("routed", "plain"))
    np.testing.assert_array_equal(routed, plain)


def test_a_run_of_the_digits_pair_gives_a_router_with_their_names(tmp_path, fit, command):
    run = tmp_path / "run"
    quick = [f"--set={change}" for change in ("data.limit=120", "latency.measure=false", "run.bootstrap=5")]
    args = ["--set=router.target=null", *quick]
    assert command("evaluate", ROOT / "configs" / "digits.yaml", *args, "--out", run) == 0
    said = fit("run", run, "--out", tmp_path / "r.safetensors")
    header = RouterFile.load(tmp_path / "r.safetensors").header
    analysis = json.loads((run / "analysis.json").read_text())
    assert (header.student, header.teacher) == (analysis["student"]["name"], analysis["teacher"]["name"])
    assert header.student != ""
    assert (header.task, len(header.image_ids)) == ("classification", 120)
    assert "learned" in {row["score"] for row in said["scores"]}


def test_a_run_without_class_names_can_be_fitted_on(tmp_path, classifiers, command):
    run = tmp_path / "run"
    args = [*classifiers(range(60), 1), "--bootstrap", 5, "--out", run]
    assert command("replay", "classification", *args) == 0
    assert command("fit-router", "run", run, *QUICK, "--out", tmp_path / "r.safetensors") == 0
    assert RouterFile.load(tmp_path / "r.safetensors").header.classes == 5


def test_a_report_that_cannot_be_written_leaves_no_router(fitted_on, tmp_path, refused):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    args = [*fitted_on.options, *QUICK, "--out", tmp_path / "r.safetensors", "--report", taken]
    message = refused("fit-router", "detection", *args)
    assert len(message.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "mine.txt"]


def test_a_damaged_run_is_refused(tmp_path, classifiers, command, refused):
    run = tmp_path / "run"
    assert (
        command("replay", "classification", *classifiers(range(40), 1), "--bootstrap", 5, "--out", run) == 0
    )
    whole = load_run(run / "run.npz")
    scores = {name: values for name, values in whole.scores.items() if name != "margin"}
    save_run(type(whole)(whole.task, whole.image_ids, scores, whole.student, whole.teacher), run / "run.npz")
    assert "`margin`" in refused(
        "fit-router", "run", run, *QUICK, "--out", tmp_path / "r.safetensors", alone=False
    )
    assert not (tmp_path / "r.safetensors").exists()


# --- What speaks against a router ---


def test_a_router_below_chance_is_saved_with_a_warning_that_comes_back_when_it_is_used(
    fitted, fitted_on, others, tmp_path, command, capsys
):
    evidence = RouterFile.load(fitted / "router.safetensors").header.evidence
    areas = {row["score"]: row["area"] for row in evidence["scores"] if row["area"] is not None}
    assert evidence["warnings"] == []  # the best of all is better than a coin
    worst = min((name for name in areas if name in SCORES), key=lambda name: areas[name])
    router = tmp_path / "r.safetensors"
    capsys.readouterr()
    given = ["--score", worst, "--rescaling", evidence["rescaling"], "--out", router]
    assert command("fit-router", "detection", *fitted_on.options, *QUICK, *given, "--json") == 0
    said, complained = capsys.readouterr()
    (warning,) = json.loads(said)["warnings"]
    coin = f"area {areas[worst]:.4f}, a coin's {areas['(coin)']:.4f}"
    assert areas[worst] < areas["(coin)"]
    assert f"score `{worst}` routes no better than a coin on the 70 pictures of the fit: {coin}" in warning
    assert f"Warning: {warning}" in complained
    assert RouterFile.load(router).header.warnings == (warning,)
    args = [*others.options, "--router", router, "--bootstrap", 5, "--out", tmp_path / "run"]
    assert command("replay", "detection", *args) == 0
    assert f"Warning: router `{router}`: {warning}" in capsys.readouterr().err
    assert command("replay", "detection", *args, "--score", "class_curvature") == 0
    assert "Warning" not in capsys.readouterr().err


def test_a_router_below_the_hull_is_saved_with_a_warning(fitted_on, tmp_path, command, capsys):
    costs = ["--student-macs", "5e9", "--teacher-macs", "5e9"]
    capsys.readouterr()
    args = [*fitted_on.options, *QUICK, *costs, "--out", tmp_path / "r.safetensors"]
    assert command("fit-router", "detection", *args) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "below the hull of single models on the 70 pictures of the fit" in said
    assert "at a deferral rate of 30.00 % and equal multiply-adds" in said


def test_a_picked_score_says_among_how_many(fitted):
    evidence = RouterFile.load(fitted / "router.safetensors").header.evidence
    never = {"random", "set_curvature", "set_learned", "learned_features"}
    candidates = OF_RESULT_FILES - never - {"(coin)"}
    rows = {row["score"]: row for row in evidence["scores"]}
    assert evidence["picked_among"] == len([name for name in candidates if name in rows])
    best = rows[evidence["score"]]
    assert best["minus_energy_interval_picked"][0] <= best["minus_energy_interval"][0]
    summary = json.loads((fitted / "report" / "summary.json").read_text())
    assert summary["picked_among"] == evidence["picked_among"]
    assert summary["threshold_from"] == "rate"
    assert "was picked among" in (fitted / "report" / "report.html").read_text()
