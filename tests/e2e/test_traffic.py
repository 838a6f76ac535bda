"""`traffic` as users run it: finished runs in, tables, figures and JSON out, or one line and nothing."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ebjr_det
from ebjr_det.api.traffic import judge
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.tradeoff import score_of, select
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.io.records import load_run, save_run
from ebjr_det.reporting.traffic.tables import traffic_findings, traffic_tables
from ebjr_det.tasks import load_task
from ebjr_det.tasks.detection.metric import AveragePrecision

IMAGES, CLASSES = 150, 6
COSTS = ("--student-macs", "2e9", "--teacher-macs", "10e9", "--student-ms", "3", "--teacher-ms", "20")
QUICK = ("--bootstrap", "20")
POPULAR = (4, 1)
ASKED = {"classification": ("special", "general", "4,1"), "detection": ("boxes", "noisy", "ant")}
FILES = {"table.md", "traffic.json", "environment.json"}
CHANGED = ("analysis.json", "run.npz")


def change(folder: Path, source: Path, run=None, **analysis) -> Path:
    """A copy of a finished run with other records or another analysis."""
    folder.mkdir(parents=True)
    for name in CHANGED:
        shutil.copy(source / name, folder / name)
    if run is not None:
        save_run(run, folder / "run.npz")
    own = json.loads((folder / "analysis.json").read_text())
    (folder / "analysis.json").write_text(json.dumps(own | analysis))
    return folder


def traffic_of(run, analysis, asked, *, name: str = "pair", replicates: int = 1000):
    """The report of one run alone, which need not be in a folder."""
    return judge([(name, run, analysis)], asked, replicates=replicates, seed=0)


def specialised(run, seed: int = 0):
    """A student that tells two popular classes apart, with some faults, and hands on most of the rest."""
    generator = np.random.default_rng(seed)
    label = run.student["label"]
    popular = np.isin(label, POPULAR)
    abstains = np.where(popular, generator.random(len(run)) < 0.1, generator.random(len(run)) < 0.85)
    student = {**run.student, "correct": popular & ~abstains & (generator.random(len(run)) < 0.9)}
    return replace(run, student=student, abstains=abstains)


@pytest.fixture(scope="module")
def runs(command, make_detectors, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two finished pairs of each task on the same images, the classifiers' first one specialised."""
    folder, generator = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    labels = generator.choice(CLASSES, size=IMAGES, p=[0.3, 0.1, 0.2, 0.1, 0.1, 0.2])
    files = {"labels": labels}
    for side, hint in (("student-logits", 1.2), ("teacher-logits", 3.0)):
        files[side] = generator.normal(size=(IMAGES, CLASSES)) + hint * np.eye(CLASSES)[labels]
    options = []
    for name, array in files.items():
        np.save(folder / f"{name}.npy", array)
        options += [f"--{name}", folder / f"{name}.npy"]
    paths = {name: folder / name for name in ("general", "special", "boxes", "noisy")}
    made = ("replay", "classification", *options, *COSTS, *QUICK)
    assert command(*made, "--score", "max_softmax", "--out", paths["general"]) == 0
    run, analysis = load_folder(paths["general"])
    student = json.loads((paths["general"] / "analysis.json").read_text())["student"] | {"name": "special"}
    cost = vars(analysis.cost) | {"student_macs": 1e9, "student_ms": 1.0}
    change(paths["special"], paths["general"], specialised(run), student=student, cost=cost)
    detectors = make_detectors(folder / "files", range(1, 61), 3)
    other = make_detectors(folder / "other", range(1, 61), 3)
    found = json.loads(other.student.read_text())
    cut = other.changed(folder / "other", "student", found[::2])
    for name, own in (("boxes", detectors), ("noisy", cut)):
        assert command("replay", "detection", *own.options, *COSTS, *QUICK, "--out", paths[name]) == 0
    return paths


@pytest.fixture(scope="module")
def found(runs, command, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of results for each task."""
    out = tmp_path_factory.mktemp("found")
    for task, (first, second, popular) in ASKED.items():
        given = (runs[first], runs[second], "--popular", popular, "--share", "0.7", *QUICK)
        assert command("traffic", *given, "--out", out / task) == 0
    return {task: out / task for task in ASKED}


def content(folder: Path) -> dict:
    return json.loads((folder / "traffic.json").read_text())


@pytest.fixture
def _no_figures(monkeypatch):
    """For numbers and words alone."""
    for figure in ("write_cost_figure", "write_share_figure"):
        monkeypatch.setattr(sys.modules[ebjr_det.traffic.__module__], figure, lambda *_: [])


# --- What it writes ---


@pytest.mark.parametrize(("task", "quality"), [("classification", "accuracy"), ("detection", "AP")])
def test_it_writes_tables_figures_and_all_numbers(found, task, quality):
    figures = {f"{quality}_by_{what}.{kind}" for what in ("macs", "popular_share") for kind in ("png", "svg")}
    assert {path.name for path in found[task].iterdir()} == FILES | figures
    table = (found[task] / "table.md").read_text()
    first, second = (run["run"] for run in content(found[task])["runs"])
    margin = f"Margin of {first} at equal multiply-adds"
    assert all(text in table for text in ("70 % popular", margin, "over the popular share", second))
    assert ("hands on as other" in table) == (task == "classification")
    drawing = (found[task] / f"{quality}_by_popular_share.svg").read_text()
    assert f"at the MACs of {first}" in drawing
    assert "random deferral" in (found[task] / f"{quality}_by_macs.svg").read_text()


def weights_of(run, share):
    """Of the pictures by hand: the share of each group over that in the data."""
    popular = np.isin(run.student["label"], POPULAR)
    return np.where(popular, share / popular.mean(), (1 - share) / (~popular).mean()), popular


@pytest.mark.parametrize(("index", "name"), [(0, "special"), (1, "general")])
def test_a_classifiers_numbers_are_those_by_hand(runs, found, index, name):
    run, analysis = load_folder(runs[name])
    answer = content(found["classification"])
    own, weights, popular = answer["runs"][index], *weights_of(run, 0.7)
    defer = score_of(run, analysis.score) > analysis.threshold
    rate = weights @ defer / IMAGES
    macs = (1e9 if name == "special" else 2e9) + 10e9 * rate
    assert own["deferral_rate"] == pytest.approx(rate)
    assert own["joint"]["macs"] == pytest.approx(macs)
    assert own["joint"]["latency_ms"] == pytest.approx((1 if name == "special" else 3) + 20 * rate)
    right = {side: getattr(run, side)["correct"] for side in ("student", "teacher")}
    right["joint"] = np.where(defer, right["teacher"], right["student"])
    for side, answers in right.items():
        assert own[side]["overall"] == pytest.approx(weights @ answers / IMAGES)
        assert own[side]["popular"] == pytest.approx(answers[popular].mean())
        assert own[side]["rest"] == pytest.approx(answers[~popular].mean())
        assert own[side]["unweighted"] == pytest.approx(answers.mean())
    if name == "general":
        assert own["other"] is None
        return
    rest, other, handed = ~popular, own["other"], run.abstains
    assert other["recall"] == pytest.approx((weights * handed)[rest].sum() / weights[rest].sum())
    assert other["precision"] == pytest.approx(
        (weights * rest)[run.abstains].sum() / weights[run.abstains].sum()
    )
    assert other["f1"] == pytest.approx(2 / (1 / other["recall"] + 1 / other["precision"]))
    assert other["popular_handed_on"] == pytest.approx(handed[popular].mean())
    assert (defer | ~handed).all()


def test_the_other_run_is_read_at_the_first_ones_cost_at_every_share(runs, found):
    run, analysis = load_folder(runs["special"])
    other, _ = load_folder(runs["general"])
    answer = content(found["classification"])
    assert [row["share"] for row in answer["shares"]] == pytest.approx(np.arange(0.1, 0.96, 0.05))
    defer = score_of(run, analysis.score) > analysis.threshold
    order = np.argsort(-score_of(other, analysis.score), kind="stable")
    for row in answer["shares"]:
        weights, _ = weights_of(run, row["share"])
        macs = 1e9 + 10e9 * (weights @ defer / IMAGES)
        rates = np.concatenate([[0], np.cumsum(weights[order])]) / IMAGES
        gain = weights * (other.teacher["correct"].astype(int) - other.student["correct"])
        curve = (weights @ other.student["correct"] + np.concatenate([[0], np.cumsum(gain[order])])) / IMAGES
        (equal,) = row["equal_macs"]
        expected = np.interp(macs, 2e9 + 10e9 * rates, curve)
        right = np.where(defer, run.teacher["correct"], run.student["correct"])
        assert equal["macs"] == row["runs"][0]["macs"] == pytest.approx(macs)
        assert equal["other_quality"] == pytest.approx(expected, abs=1e-9)
        assert equal["margin"] == pytest.approx(weights @ right / IMAGES - expected, abs=1e-9)
        assert row["shown_share"] == pytest.approx(row["share"])


def test_the_crossing_and_the_intervals_belong_to_the_margins(found):
    answer = content(found["classification"])
    margins = [row["equal_macs"][0]["margin"] for row in answer["shares"]]
    shares = [row["share"] for row in answer["shares"]]
    start = answer["ahead_from"]["general"]
    assert margins[0] < 0 < margins[-1]
    assert np.interp(start, shares, margins) == pytest.approx(0, abs=1e-9)
    assert all(margin > 0 for share, margin in zip(shares, margins, strict=True) if share > start)
    for name, says in (
        ("table.md", "from a popular share of"),
        ("accuracy_by_popular_share.svg", "ahead from"),
    ):
        text = (found["classification"] / name).read_text()
        assert f"{says} {100 * start:.0f} % on" in text
    assert [row["mix"] for row in answer["margins"]] == [f"{s} % popular" for s in (70, 30, 50, 90)]
    by_share = dict(zip(shares, margins, strict=True))
    for row, share in zip(answer["margins"], (0.7, 0.3, 0.5, 0.9), strict=True):
        (one,) = row["runs"]
        assert one["margin"] == pytest.approx(by_share[share])
        assert one["low"] < one["margin"] < one["high"]


def test_a_detectors_numbers_are_those_of_weighted_pictures(runs, found):
    run, analysis = load_folder(runs["boxes"])
    answer, counts = content(found["detection"]), run.student["truths"][:, :, 0].astype(float)
    share = counts.sum(axis=0) / counts.sum()
    wanted = np.where(np.arange(4) == 0, 0.7, 0.3 * share / share[1:].sum())
    objects = counts.sum(axis=1)
    weights = counts @ (wanted / share) / objects
    weights /= weights.mean()
    shown = weights @ counts / (weights @ counts).sum()
    assert [row["class"] for row in answer["classes"]] == ["ant", "bee", "cow", "dog"]
    assert [row["traffic_share"] for row in answer["classes"]] == pytest.approx(wanted.tolist())
    assert [row["shown_share"] for row in answer["classes"]] == pytest.approx(shown.tolist())
    assert answer["shown_popular_share"] == pytest.approx(shown[0])
    assert abs(shown[0] - 0.7) > 0.01
    table = (found["detection"] / "table.md").read_text()
    assert f"show {100 * shown[0]:.1f} % popular objects where 70.0 % were asked for" in table
    own = answer["runs"][0]
    values = score_of(run, analysis.score)
    assert own["deferral_rate"] == pytest.approx(weights @ (values > analysis.threshold) / len(run))
    order, ends = np.argsort(-values, kind="stable"), [0, int((values > analysis.threshold).sum()), len(run)]
    by_class = AveragePrecision().mixtures(run.student, run.teacher).by_class(order, np.array(ends), weights)
    for column, side in enumerate(("student", "joint", "teacher")):
        ap = by_class[:, column]
        numbers = [own[side][key] for key in ("overall", "popular", "rest", "mean")]
        assert numbers == pytest.approx([wanted @ ap, ap[0], ap[1:].mean(), ap.mean()], abs=1e-9)
        if side != "joint":
            assert own[side]["unweighted"] == AveragePrecision().metrics(getattr(run, side))["AP"]


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_on_the_screen_are_the_tables_and_with_json_one_object(task, runs, found, tmp_path, answer):
    first, second, popular = ASKED[task]
    given = (runs[first], runs[second], "--popular", popular, "--share", "0.7", *QUICK)
    told = answer("traffic", *given, "--out", tmp_path / "o")
    whole = content(found[task])
    assert set(whole) - set(told) == {"asked", "curves", "folders"}
    assert [key for key in told if key != "out" and told[key] != whole[key]] == []
    for path in found[task].iterdir():
        if path.name == "environment.json":  # tells the time
            continue
        assert (tmp_path / "o" / path.name).read_bytes() == path.read_bytes(), path.name
    curve = whole["curves"][whole["runs"][0]["run"]]
    assert len(curve["quality"]) == len(curve["macs"]) == len(curve["threshold"]) > 20
    assert curve["quality"][0] == pytest.approx(whole["runs"][0]["student"]["overall"])


@pytest.mark.usefixtures("_no_figures")
def test_every_table_and_sentence_is_on_the_screen(runs, command, capsys, tmp_path):
    capsys.readouterr()
    given = (runs["special"], runs["general"], "--popular", "4,1", "--share", "0.7")
    assert command("traffic", *given, *QUICK, "--out", tmp_path / "o", "--verbose") == 0
    screen, table = " ".join(capsys.readouterr().out.split()), (tmp_path / "o" / "table.md").read_text()
    for line in table.splitlines():
        if line.startswith(("## ", "- ")):
            assert " ".join(line.lstrip("#- ").split()) in screen
    assert str(tmp_path / "o") in screen


# --- How the mix may be given ---


def test_zipf_follows_the_listed_order_then_that_of_the_data(runs):
    run, analysis = load_folder(runs["general"])
    report = traffic_of(run, analysis, ebjr_det.StatedMix([4, 1], zipf=1.0), replicates=2)
    falling = 1 / np.array([3, 2, 4, 5, 1, 6])
    np.testing.assert_allclose(report.mix, falling / falling.sum())


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize(
    ("name", "text"),
    [("p.txt", "4\n\n1\n"), ("p.yaml", "- 4\n- '1'\n"), ("p.json", '["4", 1]'), ("p.yml", "[4, 1]")],
)
def test_popular_classes_may_stand_in_a_file(runs, found, tmp_path, name, text, answer):
    (tmp_path / name).write_text(text)
    given = (runs["special"], "--popular", tmp_path / name, "--share", "0.7", *QUICK)
    told = answer("traffic", *given, "--out", tmp_path / "o")
    assert told["runs"][0] == content(found["classification"])["runs"][0]
    assert told["margins"] == []


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize(
    ("name", "dump"), [("h.yaml", lambda c: str(c).replace("'", '"')), ("h.json", json.dumps)]
)
def test_a_histogram_may_leave_classes_out(runs, tmp_path, name, dump, answer):
    (tmp_path / name).write_text(dump({"4": 0.5, "0": 0.25, "2": 0.25}))
    given = (runs["special"], "--popular", "4,1", "--histogram", tmp_path / name, *QUICK)
    told = answer("traffic", *given, "--out", tmp_path / "o")
    assert [row["traffic_share"] for row in told["classes"]] == [0.25, 0, 0.25, 0, 0.5, 0]
    assert told["popular_share"] == 0.5
    label, right = (load_run(runs["special"] / "run.npz").teacher[key] for key in ("label", "correct"))
    by_hand = 0.5 * right[label == 4].mean() + 0.25 * (right[label == 0].mean() + right[label == 2].mean())
    assert told["runs"][0]["teacher"]["overall"] == pytest.approx(by_hand)


def test_a_whole_group_without_traffic_has_no_quality(runs):
    run, analysis = load_folder(runs["general"])
    report = traffic_of(run, analysis, ebjr_det.StatedMix([4, 1], share=1.0), replicates=2)
    row = report.runs[0].to_dict()["student"]
    assert row["rest"] is None
    assert row["popular"] == pytest.approx(row["overall"])
    assert traffic_tables(report)[0].rows[0][4] == "-"


def test_a_runs_own_popular_classes_need_not_be_listed(runs, tmp_path):
    names = tuple("abcdef")
    given = {"popular": ["b", "e"], "class_names": names}
    run, analysis = load_folder(change(tmp_path / "own", runs["special"], **given))
    own = traffic_of(run, analysis, ebjr_det.StatedMix(share=0.7), replicates=2)
    listed = traffic_of(run, analysis, ebjr_det.StatedMix(["e", "b"], share=0.7), replicates=2)
    assert own.to_dict() == listed.to_dict()
    assert [row["class"] for row in own.to_dict()["classes"] if row["popular"]] == ["b", "e"]


def test_a_detectors_other_is_every_picture_that_shows_an_object_of_another_class(runs):
    run, analysis = load_folder(runs["boxes"])
    rest = run.student["truths"][:, 1:, 0].any(axis=1)
    abstains = rest ^ (np.random.default_rng(0).random(len(run)) < 0.3)
    report = traffic_of(replace(run, abstains=abstains), analysis, ebjr_det.StatedMix(["ant"], share=0.6))
    weights, other = report.composition.weights(report.mix).images, report.runs[0].other
    assert other.recall == pytest.approx((weights * abstains)[rest].sum() / weights[rest].sum())
    assert other.popular_handed_on == pytest.approx((weights * abstains)[~rest].sum() / weights[~rest].sum())
    assert 0 < other.popular_handed_on < 1
    assert "shows any object of a class" in traffic_tables(report)[1].caption


# --- A run alone, and runs that are not alike ---


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_report_of_a_run_alone_holds_the_same_numbers(task, runs, found):
    name, popular = {"classification": ("special", ["4", "1"]), "detection": ("boxes", ["ant"])}[task]
    report = traffic_of(*load_folder(runs[name]), ebjr_det.StatedMix(popular, share=0.7), name=name)
    whole, own = content(found[task]), json.loads(json.dumps(report.to_dict()))
    assert own["runs"][0] == whole["runs"][0]
    assert [row["runs"][0] for row in own["shares"]] == [row["runs"][0] for row in whole["shares"]]
    assert (own["margins"], own["ahead_from"]) == ([], {})
    assert "Margin" not in " ".join(table.title for table in traffic_tables(report))
    assert all("equal" not in sentence for sentence in traffic_findings(report))


@pytest.mark.usefixtures("_no_figures")
def test_the_order_of_images_does_not_matter_and_those_of_one_run_only_are_left_out(runs, found, tmp_path):
    (run, _), (first, _) = (load_folder(runs[name]) for name in ("general", "special"))
    task = load_task("classification").judge()
    order = np.random.default_rng(0).permutation(IMAGES)
    change(tmp_path / "general", runs["general"], select(run, task, order))
    given = ebjr_det.StatedMix(["4", "1"], share=0.7)
    ebjr_det.traffic([runs["special"], tmp_path / "general"], tmp_path / "a", given, replicates=20)
    again, before = content(tmp_path / "a"), content(found["classification"])
    again["folders"] = before["folders"]
    assert again == before
    part = np.arange(20, IMAGES)
    change(tmp_path / "less" / "general", runs["general"], select(run, task, part))
    ebjr_det.traffic([runs["special"], tmp_path / "less" / "general"], tmp_path / "b", given, replicates=20)
    change(tmp_path / "less" / "special", runs["special"], select(first, task, part))
    both = [tmp_path / "less" / name for name in ("special", "general")]
    ebjr_det.traffic(both, tmp_path / "c", given, replicates=20)
    less, expected = content(tmp_path / "b"), content(tmp_path / "c")
    less["folders"] = expected["folders"]
    assert less == expected
    assert less["images"] == IMAGES - 20


def test_without_multiply_adds_pairs_are_not_compared_at_equal_cost(runs, tmp_path):
    change(tmp_path / "bare", runs["general"], cost={})
    given = [runs["special"], tmp_path / "bare"]
    ebjr_det.traffic(given, tmp_path / "o", ebjr_det.StatedMix(["4", "1"], share=0.7), replicates=20)
    answer, table = content(tmp_path / "o"), (tmp_path / "o" / "table.md").read_text()
    assert answer["runs"][1]["joint"]["macs"] is None
    assert all(row["equal_macs"] == [] for row in answer["shares"])
    assert answer["ahead_from"] == {"bare": None}
    assert "cannot be compared" in table
    assert "deferral rate (% of the traffic)" in (tmp_path / "o" / "accuracy_by_macs.svg").read_text()


@pytest.mark.usefixtures("_no_figures")
def test_a_run_that_cannot_cost_as_little_is_read_at_its_cheapest_and_marked(runs, tmp_path):
    dear = {"student_macs": 90e9, "teacher_macs": 10e9}
    change(tmp_path / "dear", runs["general"], cost=dear)
    given = [runs["special"], tmp_path / "dear"]
    ebjr_det.traffic(given, tmp_path / "o", ebjr_det.StatedMix(["4", "1"], share=0.7), replicates=20)
    answer = content(tmp_path / "o")
    (one,) = answer["margins"][0]["runs"]
    assert one["other_macs"] == 90e9
    assert one["other_quality"] == pytest.approx(answer["runs"][1]["student"]["overall"])
    assert "* it cannot cost that" in (tmp_path / "o" / "table.md").read_text()


# --- Mistakes ---

SHARE = ("--share", "0.7")
BOTH = ("{special}", "{general}")
MISTAKES = {
    "no mix": ((*BOTH, "--popular", "1,4"), "got none"),
    "two mixes": ((*BOTH, "--popular", "1,4", *SHARE, "--zipf", "1"), "got 2"),
    "a share above 1": ((*BOTH, "--popular", "1,4", "--share", "1.5"), "[0, 1], got 1.5"),
    "a share that is no number": ((*BOTH, "--popular", "1,4", "--share", "nan"), "got nan"),
    "a negative exponent": ((*BOTH, "--popular", "1,4", "--zipf", "-1"), "got -1"),
    "no popular classes": ((*BOTH, *SHARE), "--popular"),
    "an empty list": ((*BOTH, "--popular", "", *SHARE), "got ``"),
    "an unknown class": (("{boxes}", "--popular", "ant,bea", *SHARE), "Did you mean `bee`"),
    "a class twice": ((*BOTH, "--popular", "1,4,1", *SHARE), "`1` more than once"),
    "all classes": ((*BOTH, "--popular", "0,1,2,3,4,5", *SHARE), "1 to 5 popular classes"),
    "no such list": ((*BOTH, "--popular", "{tmp}/no.yaml", *SHARE), "no.yaml"),
    "a list of other things": ((*BOTH, "--popular", "{tmp}/map.yaml", *SHARE), "names of classes"),
    "an empty file": ((*BOTH, "--popular", "{tmp}/empty.txt", *SHARE), "popular classes among 6, got 0"),
    "a sum of 0.9": ((*BOTH, "--popular", "1", "--histogram", "{tmp}/sum.yaml"), "a sum of 0.9"),
    "a negative share": ((*BOTH, "--popular", "1", "--histogram", "{tmp}/minus.json"), "got -0.5"),
    "a share of nan": ((*BOTH, "--popular", "1", "--histogram", "{tmp}/nan.yaml"), "got nan"),
    "words for shares": ((*BOTH, "--popular", "1", "--histogram", "{tmp}/words.yaml"), "`class: share`"),
    "a class of a histogram twice": ((*BOTH, "--popular", "1", "--histogram", "{tmp}/twice.json"), "twice"),
    "an unknown class of a histogram": (
        ("{boxes}", "--popular", "ant", "--histogram", "{tmp}/bea.yaml"),
        "Did you mean `bee`",
    ),
    "a histogram that is not there": ((*BOTH, "--popular", "1", "--histogram", "{tmp}/no.json"), "no.json"),
    "no run": (("{tmp}", "--popular", "1", *SHARE), "a finished run folder"),
    "one run twice": (("{special}", "{special}", "--popular", "1", *SHARE), "different runs"),
    "another task": (("{special}", "{boxes}", "--popular", "1", *SHARE), "runs of one task"),
    "other images": (("{special}", "{strange}", "--popular", "1", *SHARE), "special and strange share"),
    "other labels": (("{special}", "{relabelled}", "--popular", "1", *SHARE), "other objects in `7`"),
    "other classes": (("{named}", "{renamed}", "--popular", "b", *SHARE), "the same classes"),
    "records without labels": (("{old}", "--popular", "1", *SHARE), "Evaluate again"),
    "too few resamples": ((*BOTH, "--popular", "1", *SHARE, "--bootstrap", "1"), "got 1"),
    "a negative seed": ((*BOTH, "--popular", "1", *SHARE, "--seed", "-1"), "seed"),
    "a class that no image shows": (("{seven}", "--popular", "a", "--zipf", "1"), "`g`"),
    "popular classes in no image": (("{seven}", "--popular", "g", *SHARE), "popular classes, got none"),
}
TEXTS = {
    "map.yaml": "{a: 1}", "empty.txt": "\n", "sum.yaml": "{0: 0.4, 1: 0.5}",
    "minus.json": '{"0": 1.5, "1": -0.5}',
    "nan.yaml": "{0: .nan, 1: 1.0}", "words.yaml": "{0: many}", "twice.json": '{"0": 0.5, "0": 0.5}',
    "bea.yaml": "{ant: 0.5, bea: 0.5}",
}  # fmt: skip


@pytest.fixture(scope="module")
def places(runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that do not go together, and files that hold no mix."""
    folder = tmp_path_factory.mktemp("places")
    run, _ = load_folder(runs["general"])
    sides = {side: dict(getattr(run, side)) for side in ("student", "teacher")}
    labels = run.student["label"].copy()
    labels[7] = (labels[7] + 1) % CLASSES
    changed = {side: own | {"label": labels} for side, own in sides.items()}
    without = {side: {k: v for k, v in own.items() if k != "label"} for side, own in sides.items()}
    made = {
        "strange": {"run": replace(run, image_ids=tuple(f"x{i}" for i in range(IMAGES)))},
        "relabelled": {"run": replace(run, **changed)},
        "old": {"run": replace(run, **without)},
        "named": {"class_names": list("abcdef")},
        "renamed": {"class_names": list("bacdef")},
        "seven": {"class_names": list("abcdefg")},
    }
    for name, given in made.items():
        change(folder / name, runs["general"], **given)
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return {**runs, **{name: folder / name for name in made}, "tmp": folder}


@pytest.mark.parametrize(("given", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_explained_in_one_line_and_leaves_nothing(places, refused, tmp_path, given, says):
    options = [one.format(**places) for one in given]
    assert says in refused("traffic", *options, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_stays_as_it_is(runs, tmp_path, refused):
    (tmp_path / "mine.txt").write_text("mine")
    given = (runs["special"], "--popular", "4,1", *SHARE, *QUICK, "--out", tmp_path)
    assert "Expected an empty --out" in refused("traffic", *given)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_out_nothing_is_done(runs, refused):
    assert "--out" in refused("traffic", runs["special"], "--popular", "4,1", *SHARE)


@pytest.mark.parametrize(
    "given", [{}, {"share": 0.5, "zipf": 1.0}, {"share": 2.0}, {"histogram": {"a": 0.4}}]
)
def test_a_mix_is_checked_when_it_is_asked_for(given):
    with pytest.raises(ConfigError):
        ebjr_det.StatedMix(["a"], **given)
