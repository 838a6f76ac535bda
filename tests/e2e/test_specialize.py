"""`specialize` as users run it: a student of popular classes, its pair judged, routed, replayed; mistakes."""

import csv
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import ROOT
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

import ebjr_det
from ebjr_det.core.router import ABSTAINED
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import Logits
from ebjr_det.evaluation.run_folder import load_analysis
from ebjr_det.inference.pair import Pair
from ebjr_det.io.records import load_run
from ebjr_det.tasks.settings import load_config

CONFIG = ROOT / "configs" / "specialize_digits.yaml"
CHOSEN = [1, 4, 7]
FEW = ("schedule.steps=150", "schedule.validate_every=75", "schedule.save_every=25")
PAIR = ("run.bootstrap=5", "router.target=null")


def changes(*all_of: str) -> list[str]:
    return [f"--set={change}" for change in all_of]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def special(command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `specialize` wrote."""
    out = tmp_path_factory.mktemp("special") / "run"
    assert command("specialize", CONFIG, *changes(*FEW), "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def judged(command, special, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its pair on the first half of the test images, evaluated."""
    out = tmp_path_factory.mktemp("judged") / "run"
    how = changes(*PAIR, "data.part=[0.0, 0.5]")
    assert command("evaluate", special / "pair.yaml", *how, "--out", out) == 0
    return out


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    """Figures of traffic are drawn for `judged`; they take their time."""
    for figure in ("write_cost_figure", "write_share_figure"):
        monkeypatch.setattr(sys.modules[ebjr_det.traffic.__module__], figure, lambda *_: [])


@pytest.fixture(scope="module")
def logits(special):
    """Both networks' own logits on those images, student's [600, 4] and teacher's [600, 10], and labels."""
    pair = Pair.build(load_config(special / "pair.yaml", [*PAIR, "data.part=[0.0, 0.5]"]))
    images = [pair.data.load(i) for i in range(len(pair.data))]
    found = []
    for model in (pair.student.model, pair.teacher):  # the student before its answers are widened
        out = [
            model([model.preprocess(image) for image in images[at : at + 256]]).logits.values[:, 0]
            for at in range(0, len(images), 256)
        ]
        found.append(np.concatenate(out))
    return *found, pair.data.labels


# --- What is written ---


def test_classes_student_and_pair_are_written(special):
    told = yaml.safe_load((special / "popular.yaml").read_text())
    assert told["popular"] == ["1", "4", "7"]
    data = Pair.build(load_config(special / "pair.yaml", ["data.split=train", "data.part=[0.0, 0.8]"])).data
    assert told["counts"] == {str(digit): float((data.labels == digit).sum()) for digit in CHOSEN}
    assert told["share"] == pytest.approx(np.isin(data.labels, CHOSEN).mean(), abs=1e-6)
    weights = special / "student" / "weights.safetensors"
    with safe_open(weights, "np") as opened:
        assert json.loads(opened.metadata()["classes"]) == ["1", "4", "7", "other"]
    pair = yaml.safe_load((special / "pair.yaml").read_text())
    assert pair["student"]["checkpoint"] == str(weights)
    assert pair["student"]["sha256"] == digest(weights)
    assert pair["student"]["popular"] == ["1", "4", "7"]
    assert pair["teacher"]["checkpoint"] == "digits-teacher"
    summary = json.loads((special / "summary.json").read_text())
    assert summary["validation"]["accuracy"] > 0.5


# --- The pair ---


def test_the_evaluated_pair_is_that_of_both_networks_logits(judged, logits):
    student, teacher, labels = logits
    run = load_run(judged / "run.npz")
    said = student.argmax(axis=1)
    other = said == 3
    answer = np.array([*CHOSEN, -1])[said]
    right = {"student": answer == labels, "teacher": teacher.argmax(axis=1) == labels}
    np.testing.assert_array_equal(run.abstains, other)
    np.testing.assert_array_equal(run.student["correct"], right["student"])
    np.testing.assert_array_equal(run.student["top5_correct"], np.isin(labels, CHOSEN))
    np.testing.assert_array_equal(run.teacher["correct"], right["teacher"])
    odds = np.exp(student.astype(float) - student.max(axis=1, keepdims=True))
    doubt = -(odds / odds.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(run.scores["max_softmax"], doubt, atol=1e-6)
    decides = score_of(run, "max_softmax")
    summary = json.loads((judged / "summary.json").read_text())
    for point in summary["points"]:
        threshold = point["threshold"]
        if threshold is None:
            continue
        defer = decides > threshold
        assert point["deferral_rate"] == defer.mean()
        assert point["quality"] == np.where(defer, right["teacher"], right["student"]).mean()
        if threshold <= run.scores["max_softmax"][~other].max():
            assert defer[other].all()
            np.testing.assert_array_equal(defer, other | (run.scores["max_softmax"] > threshold))
        else:
            assert not defer[~other].any()
    assert summary["student"]["quality"] == right["student"].mean()


def test_the_traffic_of_an_evaluation_is_what_the_verb_traffic_tells(judged, command, tmp_path, capsys):
    how = ["--share", 0.7, "--bootstrap", 5, "--out", tmp_path / "t"]
    assert command("traffic", judged, *how) == 0, capsys.readouterr().err
    own, again = (
        json.loads((folder / "traffic.json").read_text()) for folder in (judged / "traffic", tmp_path / "t")
    )
    assert own["runs"] == again["runs"]
    run = load_run(judged / "run.npz")
    popular = np.isin(run.student["label"], CHOSEN)
    weights = np.where(popular, 0.7 / popular.sum(), 0.3 / (~popular).sum())
    student = own["runs"][0]["student"]
    assert student["overall"] == pytest.approx((weights * run.student["correct"]).sum())


def test_predict_decides_as_evaluate(judged, command, special, tmp_path):
    run = load_run(judged / "run.npz")
    data = Pair.build(load_config(special / "pair.yaml", [*PAIR, "data.part=[0.0, 0.5]"])).data
    (tmp_path / "in").mkdir()
    places = np.r_[np.flatnonzero(run.abstains)[:6], np.flatnonzero(~run.abstains)[:14]]
    for place in places:
        Image.fromarray(data.load(int(place))).save(tmp_path / "in" / f"{place:04d}.png")
    assert command("predict", judged, tmp_path / "in", "--out", tmp_path / "out") == 0
    found = {
        int(Path(e["file_name"]).stem): e for e in json.loads((tmp_path / "out" / "images.json").read_text())
    }
    decides, threshold = score_of(run, "max_softmax"), load_analysis(judged).threshold
    for place in places:
        assert found[place]["deferral_score"] == pytest.approx(decides[place], abs=1e-5)
        assert (found[place]["answered_by"] == "teacher") == (decides[place] > threshold)
    answers = json.loads((tmp_path / "out" / "predictions.json").read_text())
    for answer, place in zip(answers, sorted(places), strict=True):
        if decides[place] <= threshold:  # the student answers, and at this threshold also some "other"
            said = run.student["predicted"][place]
            assert answer["category_id"] == (None if run.abstains[place] else said)
            assert run.abstains[place] or said in CHOSEN
        else:
            assert answer["category_id"] == run.teacher["predicted"][place]


@pytest.fixture(scope="module")
def saved(logits, judged, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The same logits as the options of a replay."""
    folder = tmp_path_factory.mktemp("saved")
    ids = np.array(load_run(judged / "run.npz").image_ids)
    options: list[object] = []
    for side, own in zip(("student", "teacher"), logits[:2], strict=True):
        np.savez(folder / f"{side}.npz", logits=own, image_ids=ids)
        options += [f"--{side}-logits", folder / f"{side}.npz"]
    np.savez(folder / "labels.npz", labels=logits[2], class_names=np.array([*"0123456789"]))
    return [*options, "--labels", folder / "labels.npz", "--bootstrap", 5]


def test_a_replay_of_the_logits_is_the_evaluation(saved, judged, special, command, tmp_path):
    args = ["--popular", special / "popular.yaml", "--score", "max_softmax", "--out", tmp_path / "run"]
    assert command("replay", "classification", *saved, *args) == 0
    first, second = load_run(judged / "run.npz"), load_run(tmp_path / "run" / "run.npz")
    assert first.image_ids == second.image_ids
    np.testing.assert_array_equal(first.abstains, second.abstains)
    for records in ("student", "teacher"):
        for name, column in getattr(first, records).items():
            np.testing.assert_array_equal(column, getattr(second, records)[name])
    assert first.scores.keys() == second.scores.keys()
    for name, values in first.scores.items():
        if name != "random":  # a hash of the last bit
            np.testing.assert_allclose(values, second.scores[name], atol=1e-4)
    assert load_analysis(tmp_path / "run").popular == load_analysis(judged).popular == ("1", "4", "7")


def test_scores_without_the_logit_of_other_are_those_of_the_popular_logits(saved, logits, command, tmp_path):
    args = ["--popular", "7,1,4", "--no-other-logit", "--out", tmp_path / "run"]
    assert command("replay", "classification", *saved, *args) == 0
    run = load_run(tmp_path / "run" / "run.npz")
    for name, values in run.scores.items():
        np.testing.assert_array_equal(values, deferral_scores(Logits.one_row(logits[0][:, :3]), name))
    np.testing.assert_array_equal(run.abstains, logits[0].argmax(axis=1) == 3)


# --- Routers ---


@pytest.mark.parametrize("score", ["learned", "margin"])
@pytest.mark.parametrize("other_logit", ["true", "false"])
def test_a_fitted_router_scores_live_as_offline(
    score, other_logit, special, command, judged, tmp_path, capsys
):
    config, router = special / "pair.yaml", tmp_path / "router.safetensors"
    here, there = (
        changes(*PAIR, "data.part=[0.0, 0.5]"),
        changes(*PAIR, "data.part=[0.5, 0.7]", "router.score=null"),
    )
    first = judged
    if other_logit == "false":
        first = tmp_path / "first"
        assert command("evaluate", config, *here, *changes("router.other_logit=false"), "--out", first) == 0
    fit = ["--folds", 2, "--bootstrap", 5, "--score", score, "--out", router]
    assert command("fit-router", "run", first, *fit) == 0
    out = tmp_path / "run"
    assert command("evaluate", config, *there, f"--set=router.file={router}", "--out", out) == 0
    run, use = load_run(out / "run.npz"), load_analysis(out).router
    assert run.abstains.any()
    assert not run.abstains.all()
    assert use.drift.got[-1] == pytest.approx(0.8, abs=0.1)  # of those asked at the fit
    pair = Pair.build(load_config(config, [*PAIR, "data.part=[0.5, 0.7]"]))
    own = np.concatenate([
        pair.student.model([pair.student.preprocess(pair.data.load(i))]).logits.values[:, 0]
        for i in range(len(pair.data))
    ])  # fmt: skip
    seen = own if other_logit == "true" else own[:, :3]
    margin = deferral_scores(Logits.one_row(seen), "margin")
    np.testing.assert_allclose(run.scores["margin"], margin, atol=1e-5)

    (tmp_path / "in").mkdir()
    for index in range(12):
        Image.fromarray(pair.data.load(index)).save(tmp_path / "in" / f"{index:02d}.png")
    capsys.readouterr()
    given = ["--router", router, "--rate", 0.8, "--out", tmp_path / "out"]
    assert command("predict", config, tmp_path / "in", *given, "--set=router.score=null", "--json") == 0
    threshold = json.loads(capsys.readouterr().out)["threshold"]
    live = [entry["deferral_score"] for entry in json.loads((tmp_path / "out" / "images.json").read_text())]
    np.testing.assert_allclose(live, score_of(run, score)[:12], atol=1e-5)
    assert threshold < ABSTAINED / 4  # eight in ten are more than those handed on


def test_a_router_of_a_specialised_student_is_refused_for_others(saved, judged, command, refused, tmp_path):
    router = tmp_path / "router.safetensors"
    assert command("fit-router", "run", judged, "--folds", 2, "--bootstrap", 5, "--out", router) == 0
    args = ["replay", "classification", *saved, "--router", router, "--out", tmp_path / "run", "--popular"]
    assert "a student of 3 popular classes (1, 4, 8)" in refused(*args, "1,4,8")
    assert "that router" in refused(*args, "1,4,7")  # the same pictures
    assert not (tmp_path / "run").exists()


# --- Which classes ---


@pytest.mark.parametrize(
    ("choose", "expected"),
    [("{top: 3}", None), ("{classes: [8, '0']}", ["0", "8"]), ("{top: 2, histogram: HISTOGRAM}", ["5", "9"])],
)
def test_classes_are_chosen_by_counts_list_or_histogram(choose, expected, command, tmp_path):
    histogram = tmp_path / "seen.yaml"
    histogram.write_text("{'9': 0.5, '5': 0.3, '0': 0.2}\n")
    choose = choose.replace("HISTOGRAM", str(histogram))
    few = changes(f"choose={choose}", "schedule.steps=2", "validation=null", "distill=true")
    out = tmp_path / "run"
    assert command("specialize", CONFIG, *few, "--out", out) == 0
    told = yaml.safe_load((out / "popular.yaml").read_text())
    if expected is None:
        from ebjr_det.tasks.classification.data import build_data

        labels = build_data("digits", split="train", part=[0.0, 0.8]).labels
        expected = [str(i) for i in sorted(np.argsort(-np.bincount(labels), kind="stable")[:3])]
    assert told["popular"] == expected
    assert told["counted"] == ("in the recorded traffic" if "histogram" in choose else "in the training data")
    assert yaml.safe_load((out / "pair.yaml").read_text())["student"]["popular"] == expected


def test_distillation_learns_from_the_teacher(command, tmp_path):
    for how in ("true", "false"):
        few = changes("schedule.steps=3", f"distill={how}", "validation=null")
        assert command("specialize", CONFIG, *few, "--out", tmp_path / how) == 0
        (row,) = csv.DictReader((tmp_path / how / "student" / "log.csv").open())
        assert int(row["step"]) == 3
    weights = {digest(tmp_path / how / "student" / "weights.safetensors") for how in ("true", "false")}
    assert len(weights) == 2


# --- Mistakes ---


@pytest.mark.parametrize(("change", "says"), [
    ("choose={top: 0}", "got top 0"), ("choose={top: 10}", "got top 10"),
    ("choose={top: 99}", "got top 99"), ("choose={classes: []}", "got 0"),
    ("choose={classes: ['0','1','2','3','4','5','6','7','8','9']}", "got 10"),
    ("choose={classes: ['1', '1']}", "more than once"), ("choose={classes: ['one']}", "got `one`"),
    ("choose={classes: [10]}", "0..9"), ("choose={classes: ['1'], top: 2}", "both or neither"),
    ("choose={classes: ['1'], histogram: a.yaml}", "beside classes"),
    ("choose={top: 2, histogram: nowhere.yaml}", "nowhere.yaml"), ("data.limit=3", "got none of"),
    ("teacher.popular=['1']", "`popular`"), ("teacher.checkpoint=nowhere.pth", "nowhere.pth"),
    ("teacher.sha256=abcdef0123", "sha256 abcdef0123"),
    ("teacher.width=8", "digits-teacher` to fit the network"), ("student.popular=['1']", "`popular`"),
    ("pair.student={arch: resnet}", "`student`"), ("pair.teacher={arch: resnet}", "`teacher`"),
    ("pair.nonsense=1", "nonsense"), ("pair.router={score: nonsense}", "nonsense"),
    ("pair.data={dataset: digits, split: nowhere}", "nowhere"),
    ("pair.traffic={share: 0.7, zipf: 1.0}", "exactly one"),
    ("pair.traffic={histogram: {'1': 0.5, '2': 0.4}}", "sum of 0.9"),
    ("pair.traffic={histogram: {one: 1.0}}", "got `one`"), ("pair.traffic={share: 1.7}", "1.7"),
    ("pair.traffic={share: 0.7, popular: [one]}", "got `one`"), ("initial=nowhere.pth", "nowhere.pth"),
    ("schedule.device=gpu", "gpu"), ("student.depth=9", "9"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(change, says, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused("specialize", CONFIG, *changes(*FEW, change), "--out", tmp_path / "run")
    assert not list((tmp_path / "run").glob("*") if (tmp_path / "run").exists() else [])


@pytest.mark.parametrize(("content", "says"), [
    ("{'1': 5, one: 3}", "got `one`"), ("{'1': 5, '2': .nan}", "nan of `2`"),
    ("{'1': 5, '2': -1}", "-1.0 of `2`"), ("{'1': .inf, '2': 1}", "inf of `1`"),
    ("{'1': 5}", "Only 1 classes were seen"), ("{'1': 0, '2': 0}", "with none"),
    ("{'1': many}", "something else"), ("[1, 2]", "something else"), ("{'1': 5, '1': 6}", "twice"),
    ("{", "while parsing"),
])  # fmt: skip
def test_a_histogram_that_cannot_be_is_one_line(content, says, refused, tmp_path):
    (tmp_path / "seen.yaml").write_text(content)
    choose = f"choose={{top: 2, histogram: {tmp_path / 'seen.yaml'}}}"
    assert says in refused("specialize", CONFIG, *changes(choose), "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("student.popular=['1', '4', '8']", "(1, 4, 7, other)"),
        ("student.popular=['1', '4']", "Expected weights for 3 classes"),
        ("student.popular=null", "Expected weights for 10 classes"),
        ("teacher.popular=['1']", "`popular`"),
        ("traffic={share: 0.7, zipf: 1.0}", "exactly one"),
        ("traffic={histogram: {'1': 0.5, two: 0.5}}", "got `two`"),
        ("traffic={histogram: {'1': 0.5}}", "sum of 0.5"),
    ],
)
def test_a_pair_that_cannot_be_is_one_line(change, says, special, refused, tmp_path):
    how = changes(*PAIR, "student.sha256=null", change)
    assert says in refused("evaluate", special / "pair.yaml", *how, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_that_push_scores_among_those_handed_on_are_one_line(special, refused, tmp_path):
    how = changes(*PAIR, "data.limit=20", "router.score=free_energy", "router.options={temperature: 1.0e6}")
    args = [special / "pair.yaml", *how, "--out", tmp_path / "run"]
    assert "within" in refused("evaluate", *args, alone=False)
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.parametrize(
    ("popular", "says"),
    [("1,4", "[600, 3]"), ("1,4,7,8", "[600, 5]"), ("1,4,ten", "got `ten`"), ("1,1,4", "more than once"),
     ("0,1,2,3,4,5,6,7,8,9", "got 10"), ("", "got ``")],
)  # fmt: skip
def test_a_replay_of_other_classes_is_one_line(popular, says, saved, refused, tmp_path):
    args = ["--popular", popular, "--out", tmp_path / "run"]
    assert says in refused("replay", "classification", *saved, *args)
    assert not (tmp_path / "run").exists()


def test_a_specialised_students_logits_without_its_classes_are_one_line(saved, refused, tmp_path):
    assert "`popular`" in refused("replay", "classification", *saved, "--out", tmp_path / "run")


# --- Detectors ---


def test_a_replay_of_boxes_with_other_is_that_without_them_but_for_those_handed_on(others, command, tmp_path):
    truth = json.loads(others.annotations.read_text())
    entries = json.loads(others.student.read_text())
    ids = [c["id"] for c in truth["categories"]]
    popular = ids[1:3]
    called = [
        e | {"category_id": e["category_id"] if e["category_id"] in popular else max(ids) + 1}
        for e in entries
    ]
    extra = [called[0] | {"category_id": popular[0], "score": 0.01 + k / 1e4} for k in range(130)]
    mine = [*called, *extra]  # more boxes than scores look at
    special = others.changed(tmp_path, "student", mine)
    (tmp_path / "plain").mkdir()
    plain = others.changed(tmp_path / "plain", "student", [e for e in mine if e["category_id"] in popular])
    how = ["--bootstrap", 5, "--out"]
    given = ["--popular", "bee,cow", "--other-at", 0.5]
    assert command("replay", "detection", *special.options, *given, *how, tmp_path / "a") == 0
    assert command("replay", "detection", *plain.options, *how, tmp_path / "b") == 0
    first, second = (load_run(tmp_path / name / "run.npz") for name in "ab")
    for name, values in second.scores.items():
        np.testing.assert_array_equal(first.scores[name], values, err_msg=name)
    assert first.scores.keys() == second.scores.keys()
    for name, column in second.student.items():
        np.testing.assert_array_equal(first.student[name], column)
    expected = [
        any(e["image_id"] == int(i) and e["category_id"] > max(ids) and e["score"] >= 0.5 for e in mine)
        for i in first.image_ids
    ]
    assert first.abstains.tolist() == expected
    assert 0 < sum(expected) < len(expected)
    assert second.abstains is None
    blind = [*given, "--no-other-logit", *how, tmp_path / "c"]
    assert command("replay", "detection", *special.options, *blind) == 0
    np.testing.assert_array_equal(
        load_run(tmp_path / "c" / "run.npz").scores["free_energy"], first.scores["free_energy"]
    )


@pytest.mark.parametrize("value", ["-0.1", "1.01", "nan", "inf"])
def test_a_score_of_other_that_cannot_be_is_one_line(value, others, refused, tmp_path):
    args = ["--popular", "bee", f"--other-at={value}", "--out", tmp_path / "run"]
    assert "[0, 1]" in refused("replay", "detection", *others.options, *args)
    args = ["--other-at=0", "--out", tmp_path / "run"]
    assert "--popular" in refused("replay", "detection", *others.options, *args)
    assert not (tmp_path / "run").exists()


TINY = """{arch: effdet/efficientdet_d0, image_size: 128, options: {backbone_name: lcnet_050,
  backbone_args: {}, fpn_channels: 48, fpn_cell_repeats: 1, box_class_repeats: 1}"""
DETECTOR = """
task: detection
choose: {classes: ["1", "4"]}
data: {dataset: digit_scenes, split: calibration, limit: 12}
student: TINY}
teacher: TINY, random_weights: true, name: teacher}
schedule: {steps: 4, batch_size: 4, warmup_steps: 1, validate_every: 4}
pair:
  data: {dataset: digit_scenes, split: test, limit: 12}
  latency: {measure: false}
  run: {bootstrap: 2}
  traffic: {share: 0.5}
"""


@pytest.mark.slow
def test_a_specialised_detector_is_trained_and_judged(command, tmp_path):
    (tmp_path / "d.yaml").write_text(DETECTOR.replace("TINY", TINY))
    out = tmp_path / "special"
    assert command("specialize", tmp_path / "d.yaml", "--out", out) == 0
    pair = load_config(out / "pair.yaml")
    model = Pair.build(pair)
    own = model.student.model([model.student.preprocess(model.data.load(i)) for i in range(12)])
    other_at = float(np.median([b.scores[b.labels == 2].max(initial=0.0) for b in own.predictions]))
    how = changes(f"student.other_at={other_at}", "run.batch_size=12")
    assert command("evaluate", out / "pair.yaml", *how, "--out", tmp_path / "run") == 0
    run = load_run(tmp_path / "run" / "run.npz")
    assert 0 < run.abstains.sum() < 12
    for image, boxes in enumerate(own.predictions):
        assert run.abstains[image] == (boxes.scores[boxes.labels == 2] >= other_at).any()
        mine = boxes.labels < 2
        assert run.student["counts"][image] == min(mine.sum(), 100)
    assert set(np.unique(run.student["label"])) <= {1, 4}
    energies = []
    for image, boxes in enumerate(own.predictions):
        rows = own.logits.values[image : image + 1, : len(boxes)][:, boxes.labels < 2]
        logits = Logits(rows, np.ones(rows.shape[:2], bool))
        energies.append(deferral_scores(logits, "free_energy", top_k=10)[0])
    np.testing.assert_allclose(run.scores["free_energy"], energies, atol=1e-4)
    assert (tmp_path / "run" / "traffic" / "traffic.json").is_file()


def test_foreign_metadata_of_weights_say_nothing_of_classes(special, command, tmp_path):
    weights = special / "student" / "weights.safetensors"
    with safe_open(weights, "np") as opened:
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(arrays, tmp_path / "w.safetensors", metadata={"classes": "four"})
    how = changes(
        *PAIR, f"student.checkpoint={tmp_path / 'w.safetensors'}", "student.sha256=null", "data.limit=12"
    )
    assert command("evaluate", special / "pair.yaml", *how, "--out", tmp_path / "run") == 0
