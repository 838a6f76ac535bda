"""`ebjr-det replay` of more than two models: what it says, what it leaves, and what it refuses."""

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import ROOT
from PIL import Image
from tiny_graphs import write_graph

import ebjr_det
from ebjr_det.api.references import ReferenceFile
from ebjr_det.api.settings import load_settings, reference_scores
from ebjr_det.config.tiers import tiers_of
from ebjr_det.core.errors import CheckpointError, ConfigError, Infeasible
from ebjr_det.core.tiers import Chain, answering
from ebjr_det.evaluation.calibrated import split
from ebjr_det.inference.pair import resolve_device, with_checksums
from ebjr_det.io.files import checksum
from ebjr_det.io.records import load_tiers
from ebjr_det.runtimes.graph_file import RunsFile
from ebjr_det.tasks.classification.data import build_data
from ebjr_det.tasks.settings import load_config

COSTS = {"small": "1e9:2", "middle": "3e9:3", "large": "9e9:20"}
IMAGES, CLASSES = 90, 5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Labels and three classifiers' logits, by name."""
    folder, generator = tmp_path_factory.mktemp("logits"), np.random.default_rng(0)
    labels = generator.integers(CLASSES, size=IMAGES)
    arrays = {"labels": labels}
    for name, hint in zip(COSTS, (1.0, 2.0, 4.0), strict=True):
        arrays[name] = generator.normal(size=(IMAGES, CLASSES)) + hint * np.eye(CLASSES)[labels]
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {name: folder / f"{name}.npy" for name in arrays}


def tier(files, name: str, cost: str | None = None) -> list[object]:
    return ["--tier", f"{name}={files[name]}:{cost or COSTS[name]}"]


def arguments(files, out: Path, *options: object, names=tuple(COSTS)) -> list[object]:
    tiers = [part for name in names for part in tier(files, name)]
    fixed = ["--labels", files["labels"], "--bootstrap", 20, "--out", out, "--json"]
    return ["replay", "classification", *tiers, *fixed, *options]


@pytest.fixture(scope="module")
def replayed(files, tmp_path_factory, command):
    """The JSON object of a replay for a target, and its folder."""
    out = tmp_path_factory.mktemp("runs") / "tiers"
    assert command(*arguments(files, out, "--target", "macs=4e9")) == 0
    return json.loads((out / "summary.json").read_text()), out


def test_every_number_is_of_images_that_the_choice_did_not_see(replayed):
    summary, out = replayed
    run = load_tiers(out / "tiers.npz")
    chosen = summary["chosen"]
    assert [summary["calibration_images"], summary["images"]] == [45, 45]
    chain = Chain(tuple(chosen["tiers"]), tuple(chosen["scores"]), chosen["topology"] or "cascade")
    limits = {None: np.inf}
    thresholds = [limits.get(value, value) for value in chosen["thresholds"]]
    tiers = answering(chain.values(run), thresholds)
    for part, quality in zip(split(run, 0.5, 0), ("calibration_quality", "quality"), strict=True):
        right = [run.records[chain.tiers[tiers[image]]]["correct"][image] for image in part]
        assert chosen[quality] == pytest.approx(np.mean(right), abs=1e-12)
    assert chosen["answered"][chain.tiers[0]] == pytest.approx((tiers[part] == 0).mean())


def test_the_choice_keeps_its_budget_where_it_was_made_and_no_pair_is_better_there(replayed):
    summary, out = replayed
    fronts = json.loads((out / "front.json").read_text())["fronts"]
    assert len(fronts) == 3 + 3 + 2
    for kind in ("macs", "latency_ms"):
        assert len(summary["budgets"][kind]) == 9
        for row in summary["budgets"][kind]:
            allowed = [
                quality
                for front in fronts
                for cost, quality in zip(front[kind], front["quality"], strict=True)
                if cost <= row["budget"] + 1e-6
            ]
            assert row["best"]["calibration_quality"] == max(allowed)
            assert row["pair"]["calibration_quality"] <= max(allowed)
            assert len(row["pair"]["tiers"]) <= 2
            assert len(row["longer"]["tiers"]) == 3
            low, high = (row["longer_over_pair"][end] for end in ("low", "high"))
            assert low <= high
            difference = row["longer"]["quality"] - row["pair"]["quality"]
            assert row["longer_over_pair"]["value"] == pytest.approx(difference, abs=1e-12)


def test_a_report_is_drawn_again_byte_for_byte(replayed, tmp_path, command):
    _, out = replayed
    assert command("report", out, "--out", tmp_path / "again", "--json") == 0
    for name in ("report.html", "table.md", "front.json", "summary.json", "accuracy_by_macs.svg"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    page = (out / "report.html").read_text()
    assert "third tier" in page[page.index("<h1>") :][:200]


def test_commands_of_pairs_say_what_the_folder_holds(replayed, command, capsys):
    assert command("compare", replayed[1], replayed[1], "--out", replayed[1].parent / "compared") == 2
    assert "got one of several tiers, which `report` and `calibrate` take" in capsys.readouterr().err


def test_python_takes_the_same_and_prints_the_answer(files, replayed, tmp_path):
    tiers = [
        ReferenceFile(name, *map(float, cost.split(":")), file=np.load(files[name]))
        for name, cost in COSTS.items()
    ]
    outputs = ebjr_det.TieredOutputs("classification", tiers, {"labels": np.load(files["labels"])})
    settings = ebjr_det.TierSettings(target=ebjr_det.Target("macs", 4e9), replicates=20)
    result = ebjr_det.replay(outputs, tmp_path / "out", settings)
    assert result.summary["budgets"] == replayed[0]["budgets"]
    assert "third tier" in repr(result)
    assert repr(ebjr_det.report(tmp_path / "out")) == repr(result)
    hopeless = ebjr_det.TierSettings(target=ebjr_det.Target("macs", 1e6))
    with pytest.raises(
        Infeasible, match=r"at most 0.001000 GMACs an image, got 1.000 GMACs for the cheapest"
    ):
        ebjr_det.replay(outputs, tmp_path / "none", hopeless)
    assert not (tmp_path / "none").exists()


def test_tiers_in_no_order_of_cost_are_said(files, tmp_path, command, capsys):
    arguments_ = arguments(files, tmp_path / "out", names=("large", "small"))
    assert command(*(part for part in arguments_ if part != "--json")) == 0
    assert "in no order of multiply-adds: large costs no less than small" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_pair_may_take_the_folder_of_tiers(files, tmp_path, command):
    out = tmp_path / "out"
    assert command(*arguments(files, out)) == 0
    pair = ["--student-logits", files["small"], "--teacher-logits", files["large"]]
    fixed = ["--labels", files["labels"], "--bootstrap", 5, "--out", out]
    assert command("replay", "classification", *pair, *fixed) == 0
    assert "student" in ebjr_det.report(out).summary


REFUSED = {
    "a single tier": (("small",), [], "2 to 5 tiers, got 1"),
    "two of one name": (("small", "small"), [], "`small` twice"),
    "a student beside": (("small", "large"), ["--student-logits", "x.npy"], "without a file of `student`"),
    "a threshold": (("small", "large"), ["--threshold", 0], "no --threshold beside --tier"),
    "an odd target": (("small", "large"), ["--target", "drop=1"], "--target as macs, latency_ms, quality"),
    "two targets": (
        ("small", "large"),
        ["--target", "macs=1", "--target", "quality=1"],
        "Expected one --target",
    ),
    "a target of two": (
        ("small", "large"),
        ["--target", "macs=1,2"],
        "--target as macs, latency_ms, quality",
    ),
    "an endless target": (("small", "large"), ["--target", "macs=inf"], "`macs` to be finite"),
    "no such score": (("small", "large"), ["--score", "nope"], "known score, got `nope`"),
    "a fraction of all": (("small", "large"), ["--fraction", 1], "leaves images on both sides"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(case, files, tmp_path, command, capsys):
    names, options, message = REFUSED[case]
    assert command(*arguments(files, tmp_path / "out", *options, names=names)) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_fit_are_refused_in_one_line(files, tmp_path, command, capsys):
    other = {name: tmp_path / f"{name}.npy" for name in ("classes", "pictures")}
    np.save(other["classes"], np.zeros((IMAGES, CLASSES + 1)))
    np.save(other["pictures"], np.zeros((IMAGES - 1, CLASSES)))
    end = [*tier(files, "large"), "--labels", files["labels"], "--out", tmp_path / "out"]
    cases = [
        (["--tier", f"a={other['classes']}:1:1"], "of one shape"),
        (["--tier", f"a={other['pictures']}:1:1"], "of one shape"),
        (["--tier", f"a={files['small']}"], "tier as NAME=FILE:MACS"),
        (["--tier", f"a={tmp_path / 'none.npy'}:1:1"], "none.npy"),
        (["--tier", f"a={files['small']}:1"], "ms of every tier or of none"),
    ]
    for options, message in cases:
        assert command("replay", "classification", *options, *end) == 2
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error
    assert command("replay", "classification", "--out", tmp_path / "out") == 2
    assert "Missing option '--student-logits', or two and more '--tier'" in capsys.readouterr().err
    assert (
        command("replay", "classification", *tier(files, "small"), *end[:2], "--out", tmp_path / "out") == 2
    )
    assert "labels or annotations beside tiers" in capsys.readouterr().err


def test_tiers_of_other_images_are_not_joined_row_by_row(files, tmp_path, command, capsys):
    ids, logits = np.arange(IMAGES), {name: np.load(files[name]) for name in ("small", "middle")}
    named = {name: tmp_path / f"{name}.npz" for name in logits}
    np.savez(named["small"], logits=logits["small"], image_ids=ids)
    np.savez(named["middle"], logits=logits["middle"][::-1], image_ids=ids[::-1])
    assert command(*arguments(files | named, tmp_path / "out")) == 2
    assert "the `image_ids` of `small`, in one order, in `middle`, got others" in capsys.readouterr().err
    np.savez(named["middle"], logits=logits["middle"], image_ids=ids)
    assert command(*arguments(files | named, tmp_path / "out")) == 0


# --- Live ---

SHAPE = "mean: [%s, 0.3, 0.3], std: [0.4, 0.4, 0.4], resize: 8, crop: 8"
NETWORK = "{arch: resnet, depth: 8, width: 2, checkpoint: digits-student, preprocessing: {%s}}"
LARGE = NETWORK.replace("8, width: 2", "14, width: 16").replace("student", "teacher")
INNER = f"""
data: {{dataset: digits}}
student: {NETWORK % SHAPE % 0.3}
teacher: {LARGE % SHAPE % 0.3}
router: {{score: max_softmax, threshold: -0.6}}
"""
OUTER = f"""
data: {{dataset: digits}}
student: {NETWORK % SHAPE % 0.1}
teacher: {{arch: pair, checkpoint: inner.yaml}}
router: {{score: entropy, threshold: 1.0}}
"""


@pytest.fixture
def nested(tmp_path, monkeypatch):
    """The folder of two configurations, the teacher of one of which is the pair of the other."""
    monkeypatch.chdir(tmp_path)
    Path("inner.yaml").write_text(INNER)
    Path("outer.yaml").write_text(OUTER)
    return tmp_path


@pytest.mark.usefixtures("nested")
def test_live_decisions_of_three_tiers_are_those_of_the_replay_on_500_pictures():
    pictures = list(np.random.default_rng(0).integers(256, size=(500, 8, 8, 3), dtype=np.uint8))
    cascade, inner = ebjr_det.load("outer.yaml"), ebjr_det.load("inner.yaml")
    live = [answer for at in range(0, 500, 50) for answer in cascade(pictures[at : at + 50]).predictions]
    alone = [cascade(pictures, threshold=np.inf), *(inner(pictures, threshold=t) for t in (np.inf, -np.inf))]
    scores = np.stack([alone[0].decision.scores, alone[1].decision.scores])
    tiers = answering(scores, [1.0, -0.6])
    assert (np.bincount(tiers, minlength=3) > 20).all()
    expected = [alone[tier].predictions[picture] for picture, tier in enumerate(tiers)]
    np.testing.assert_allclose(live, expected, atol=1e-4)


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("teacher.macs=null", "Expected `teacher.macs`, what the pair"),
        ("teacher.checkpoint=null", "configuration of a pair as `teacher.checkpoint`"),
        ("teacher.sha256=" + 64 * "0", "sha256"),
    ],
)
def test_a_teacher_that_is_no_whole_pair_is_refused_in_one_line(change, message, tmp_path, command, capsys):
    assert command("evaluate", "outer.yaml", "--set", change, "--out", tmp_path / "run") == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("outer.yaml", OUTER.replace("inner.yaml", "outer.yaml"), "outer.yaml` within itself"),
        ("inner.yaml", INNER.replace(", threshold: -0.6", ""), "Expected a threshold, got none"),
    ],
    ids=["within itself", "no threshold"],
)
def test_a_pair_that_cannot_be_a_teacher_is_refused(file, text, message, tmp_path, command, capsys):
    Path(file).write_text(text)
    assert command("evaluate", "outer.yaml", "--out", tmp_path / "run") == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("nested")
def test_a_pair_of_a_file_is_exported_too(tmp_path, command):
    pytest.importorskip("onnxscript")
    assert command("export", "outer.yaml", "--out", tmp_path / "exported") == 0
    pictures = list(np.random.default_rng(0).integers(256, size=(50, 8, 8, 3), dtype=np.uint8))
    answers = [ebjr_det.load(source)(pictures).predictions for source in ("outer.yaml", "exported")]
    np.testing.assert_allclose(*answers, atol=1e-4)


@pytest.mark.usefixtures("nested")
def test_other_weights_of_the_inner_pair_change_the_digest_of_the_teacher():
    Path("inner.yaml").write_text(INNER.replace("digits-teacher", "weights.bin"))
    digests = []
    for content in (b"a", b"b"):
        Path("weights.bin").write_bytes(content)
        digests.append(with_checksums(load_config("outer.yaml")).teacher.sha256)
    assert digests[0] != digests[1]
    for stated in (digests[1], checksum(Path("inner.yaml"))):  # the latter as folders of before have it
        config = load_config("outer.yaml", [f"teacher.sha256={stated}"])
        assert with_checksums(config).teacher.sha256 == digests[1]
    with pytest.raises(CheckpointError, match="Expected sha256"):
        with_checksums(load_config("outer.yaml", [f"teacher.sha256={digests[0]}"]))


@pytest.mark.usefixtures("nested")
def test_a_file_in_the_inner_pair_is_put_on_the_device(monkeypatch):
    pytest.importorskip("onnxruntime")
    write_graph("small.onnx", {"logits": range(10)}, (8, 8))
    network = "arch: resnet, depth: 8, width: 2, checkpoint: digits-student"
    Path("inner.yaml").write_text(INNER.replace(network, "arch: onnx/small.onnx"))
    taken = list[tuple[str, str]]()
    monkeypatch.setattr(RunsFile, "run_in", lambda model, *where: taken.append(where) or "onnxruntime")
    ebjr_det.load("outer.yaml")
    assert taken[1:] == [("eager", resolve_device("auto"))]  # the first one builds it


# --- `tiers` of a configuration ---


TIERS = f"""
data: {{dataset: digits}}
latency: {{measure: false}}
run: {{bootstrap: 10}}
tiers:
- {{name: small, {(NETWORK % SHAPE % 0.1)[1:-1]}, router: {{score: entropy, threshold: 1.0}}}}
- {{name: middle, {(NETWORK % SHAPE % 0.3)[1:-1]}, router: {{score: max_softmax, threshold: -0.6}}}}
- {{name: large, {(LARGE % SHAPE % 0.3)[1:-1]}}}
"""
THRESHOLDS = (1.0, -0.6)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, command):
    """A configuration of three tiers, and the folder of its run."""
    folder = tmp_path_factory.mktemp("tiers")
    (folder / "three.yaml").write_text(TIERS)
    assert command("evaluate", folder / "three.yaml", "--out", folder / "run", "--json") == 0
    return folder / "three.yaml", folder / "run"


def check_live(pair, run, chosen=None, images=500):
    """The live decisions and answers on the digits themselves are those of the records."""
    chosen = chosen or {"scores": ["entropy", "max_softmax"], "thresholds": THRESHOLDS}
    data = build_data("digits")
    pictures, labels = zip(*((data.load(i), data.target(i)) for i in range(images)), strict=True)
    scores = [
        run.scores[tier][score][:images] for tier, score in zip(run.names, chosen["scores"], strict=False)
    ]
    tiers = answering(np.stack(scores), chosen["thresholds"])
    assert (np.bincount(tiers, minlength=3) > 3).all()
    answer = pair(pictures)
    np.testing.assert_array_equal(answer.decision.defer, tiers > 0)
    deferred = [pictures[index] for index in np.flatnonzero(tiers)]
    np.testing.assert_array_equal(pair.teacher.joint(deferred).decision.defer, tiers[tiers > 0] == 2)
    right = np.argmax(answer.predictions, axis=1) == labels
    expected = [run.records[run.names[tier]]["correct"][image] for image, tier in enumerate(tiers)]
    np.testing.assert_array_equal(right, expected)


def test_one_evaluate_keeps_all_tiers_and_draws_the_page_of_a_replay(evaluated, replayed):
    _, out = evaluated
    run, summary = load_tiers(out / "tiers.npz"), json.loads((out / "summary.json").read_text())
    assert run.names == ("small", "middle", "large")
    assert {file.name for file in replayed[1].iterdir()} >= {"report.html", "front.json", "table.md"}
    assert summary.keys() == replayed[0].keys()
    assert len(json.loads((out / "front.json").read_text())["fronts"]) == 8
    assert summary["chosen"]["tiers"] == ["small", "middle", "large"]
    assert summary["chosen"]["thresholds"] == list(THRESHOLDS)
    assert sum(summary["chosen"]["answered"].values()) == pytest.approx(1)


def test_live_decisions_are_those_of_the_run_on_500_pictures(evaluated):
    path, out = evaluated
    for source in (path, out):
        check_live(ebjr_det.load(source), load_tiers(out / "tiers.npz"))


@pytest.mark.parametrize(
    ("changes", "thresholds", "of_run"),
    [
        (["tiers.0.router.score=max_softmax"], [None, -0.6], False),
        (["tiers.0.checkpoint=digits-middle", "tiers.0.width=6"], [None, -0.6], False),
        (["tiers.1.router.top_k=1"], [1.0, None], True),
        (["tiers.0.router={score: max_softmax, threshold: -0.7}"], [-0.7, -0.6], False),
        (["tiers.1.router.threshold=-0.5"], [1.0, -0.5], True),
        (["tiers.2.checkpoint=digits-middle", "tiers.0.runtime=onnxruntime"], list(THRESHOLDS), True),
    ],
)
def test_a_threshold_of_a_run_of_tiers_goes_with_what_it_was_chosen_for(
    changes, thresholds, of_run, evaluated, capsys
):
    config, threshold = load_settings(evaluated[1], changes)
    assert [tier.router.threshold for tier in tiers_of(config)[:-1]] == thresholds
    assert threshold == (thresholds[0] if of_run else None)
    assert (reference_scores(evaluated[1], threshold) is None) is not of_run
    said = capsys.readouterr().err
    for name, value in zip(COSTS, thresholds, strict=False):
        assert (f"`{name}`'s threshold belongs to its own" in said) is (value is None)
    assert ("was chosen with runtime `eager`" in said) is ("tiers.0.runtime=onnxruntime" in changes)
    if None in thresholds:
        with pytest.raises(ConfigError, match="Expected a threshold, got none"):
            ebjr_det.load(evaluated[1], changes=changes)
    with pytest.raises(ConfigError, match="Expected the 3 tiers of the run"):
        load_settings(evaluated[1], ["tiers=[{arch: resnet}, {arch: resnet}]"])


def test_a_finished_run_is_looked_at_again_with_other_thresholds_or_none(evaluated, command, capsys):
    path, out = evaluated
    records, config = (out / "tiers.npz").read_bytes(), (out / "config.yaml").read_text()
    change = ["--set", "tiers.1.router.threshold=-0.5"]
    assert command("evaluate", path, "--out", out, "--resume", "--json", *change) == 0
    assert json.loads(capsys.readouterr().out)["chosen"]["thresholds"] == [1.0, -0.5]
    for tier in "01":
        change = [*change, "--set", f"tiers.{tier}.router={{}}"]
    assert command("evaluate", path, "--out", out, "--resume", "--json", *change) == 0
    summary = json.loads(capsys.readouterr().out)
    assert ebjr_det.load(out).threshold == summary["chosen"]["thresholds"][0]
    assert 0.2 < summary["chosen"]["passed"][0] < 0.4
    assert command("evaluate", path, "--out", out, "--resume", "--json") == 0
    assert ((out / "tiers.npz").read_bytes(), (out / "config.yaml").read_text()) == (records, config)


BAD_TIERS = {
    "one tier": ("tiers=[{arch: resnet}]", "at least 2 items"),
    "six tiers": (f"tiers={[{'arch': 'resnet'}] * 6}", "at most 5 items"),
    "two of one name": ("tiers.1.name=small", "`small` twice"),
    "two of one name by default": ("tiers.1.name=large", "`large` twice"),
    "a misspelt setting": ("tiers.1.archh=x", "`tiers.1.archh`. Did you mean `arch`"),
    "a misspelt router": ("tiers.0.router.treshold=1", "`tiers.0.router.treshold`. Did you mean `threshold`"),
    "a router of the last": ("tiers.2.router.threshold=1", "no `router` of the last"),
    "a student beside": ("student.arch=resnet", "no `student` beside `tiers`"),
    "a threshold beside": ("router.threshold=1", "`router` beside `tiers` with `target` alone"),
    "a tier that is not there": ("tiers.7.name=x", "a place below 3"),
    "a file that is not there": ("tiers.1.checkpoint=nowhere.pt", "nowhere.pt"),
    "no labels": ("data.labels=false", "labelled pictures for tiers"),
    "a second target": ("tiers.1.router={target: {kind: macs, value: 1}}", "one target for all tiers"),
    "an odd target": ("router={target: {kind: max_drop, value: 0.1}}", "target of macs, latency_ms"),
    "a target beside a threshold": ("router={target: {kind: macs, value: 1}}", "Leave out tiers.1.router.th"),
    "popular classes": ("tiers.0.popular=[1]", "tiers of all classes"),
}


@pytest.mark.parametrize("case", BAD_TIERS)
def test_tiers_that_cannot_be_are_refused_in_one_line(case, evaluated, tmp_path, command, capsys):
    change, message = BAD_TIERS[case]
    change = ["--set", change]
    if change[1].startswith("router="):
        change += ["--set", "tiers.0.router={}"]
    assert command("evaluate", evaluated[0], *change, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_thresholds_for_a_target_go_into_the_configuration(evaluated, tmp_path, command, capsys):
    path, out = evaluated
    budget = 221_734  # of the table's budgets the first at which a cascade of three is best
    assert command("calibrate", out, "--max-gmacs", budget / 1e9) == 0
    printed = capsys.readouterr().out
    assert command("calibrate", out, "--max-gmacs", budget / 1e9, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["tiers"]) == 3
    assert all(change in printed for change in answer["settings"])
    changes = [part for change in answer["settings"] for part in ("--set", change)]
    scores = enumerate(answer["scores"])
    open_routers = [part for tier, s in scores for part in ("--set", f"tiers.{tier}.router={{score: {s}}}")]
    target = ["--set", f"router.target={{kind: macs, value: {budget}}}"]
    for name, settings in (("stated", changes), ("aimed", [*open_routers, *target])):
        assert command("evaluate", path, "--out", tmp_path / name, "--json", *settings) == 0
        chosen = json.loads(capsys.readouterr().out)["chosen"]
        assert chosen == {key: answer[key] for key in chosen}
        check_live(ebjr_det.load(tmp_path / name), load_tiers(out / "tiers.npz"), answer)
    assert command("calibrate", out, "--min-quality", 1) == 3
    assert command("calibrate", out, "--max-drop", 0.1) == 2
    assert "target of macs, latency_ms, min_quality" in capsys.readouterr().err


def test_a_target_may_leave_tiers_out(evaluated, tmp_path):
    path, out = evaluated
    answer = ebjr_det.calibrate(out, ebjr_det.Target("macs", 428_156))
    assert answer.choice.chain.tiers == ("middle", "large")
    assert "Leave out small." in repr(answer)
    settings = yaml.safe_load(path.read_text())
    settings |= {"tiers": settings["tiers"][1:], "router": {"target": {"kind": "macs", "value": 1e6}}}
    settings["tiers"][0]["router"] = {"score": "entropy", "top_k": 1}
    (threshold,), (score,) = answer.choice.thresholds, answer.choice.chain.scores
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(settings))
    router = load_config(tmp_path / "two.yaml", answer.changes).router
    assert (router.score, router.threshold, router.target, router.top_k) == (score, threshold, None, 1)
    of_another = ebjr_det.calibrate(out, answer.target, score="free_energy").changes
    assert "tiers.0.router.options={}" in of_another, "those of a tier's own score are not of another"
    assert not any(".options" in change for change in answer.changes)
    data, values = build_data("digits"), load_tiers(out / "tiers.npz").scores["middle"][score]
    live = ebjr_det.load(tmp_path / "two.yaml", changes=answer.changes)(
        [data.load(index) for index in range(500)]
    )
    np.testing.assert_array_equal(live.decision.defer, values[:500] > threshold)


@pytest.fixture(scope="module")
def exported(evaluated, tmp_path_factory, command):
    pytest.importorskip("onnxscript")
    out = tmp_path_factory.mktemp("exports") / "exported"
    assert command("export", evaluated[1], "--out", out) == 0
    return out


def test_an_export_of_three_tiers_decides_and_answers_as_the_run(evaluated, exported):
    names = {"pair.json", "student.onnx", "teacher-student.onnx", "teacher-teacher.onnx"}
    assert {file.name for file in exported.iterdir()} == names
    assert json.loads((exported / "pair.json").read_text())["version"] == 3
    check_live(ebjr_det.load(exported), load_tiers(evaluated[1] / "tiers.npz"))


def test_predict_takes_configuration_run_and_export_of_tiers(evaluated, exported, tmp_path, command):
    folder = tmp_path / "pictures"
    folder.mkdir()
    data, run = build_data("digits"), load_tiers(evaluated[1] / "tiers.npz")
    for index in range(40):
        Image.fromarray(data.load(index)).save(folder / f"{index:03d}.png")
    deferred = [score > THRESHOLDS[0] for score in run.scores["small"]["entropy"][:40]]
    answers = []
    for source in (*evaluated, exported):
        out = tmp_path / source.name
        assert command("predict", source, folder, "--out", out) == 0
        images = json.loads((out / "images.json").read_text())
        assert [image["answered_by"] == "teacher" for image in images] == deferred
        entries = json.loads((out / "predictions.json").read_text())
        answers.append([entry["category_id"] for entry in entries])
    assert answers[0] == answers[1] == answers[2]


def test_a_damaged_or_missing_graph_of_an_inner_tier_is_refused(exported, tmp_path, command, capsys):
    for name, change in (
        ("teacher-student.onnx", lambda path: path.unlink()),
        ("teacher-teacher.onnx", lambda path: path.write_bytes(b"other")),
    ):
        folder = tmp_path / name
        shutil.copytree(exported, folder)
        change(folder / name)
        assert command("predict", folder, "nowhere.png", "--out", tmp_path / "out") == 2
        error = capsys.readouterr().err.strip()
        assert name in error
        assert "\n" not in error


def test_an_export_of_two_models_replaces_one_of_three(evaluated, exported, tmp_path, command):
    folder = tmp_path / "folder"
    shutil.copytree(exported, folder)
    settings = yaml.safe_load(evaluated[0].read_text())
    settings["tiers"] = settings["tiers"][1:]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(settings))
    assert command("export", tmp_path / "two.yaml", "--out", folder) == 0
    assert {file.name for file in folder.iterdir()} == {"pair.json", "student.onnx", "teacher.onnx"}
    assert json.loads((folder / "pair.json").read_text())["version"] == 2


def test_a_server_of_three_tiers_decides_and_answers_as_load(evaluated, exported):
    testclient = pytest.importorskip("starlette.testclient")
    data = build_data("digits")
    pictures = [data.load(index) for index in range(40)]
    contents = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        contents.append(base64.b64encode(buffer.getvalue()).decode())
    tensor = {"name": "image", "shape": [40], "datatype": "BYTES", "data": contents}
    for source in (evaluated[1], exported):
        expected = ebjr_det.load(source)(pictures)
        with testclient.TestClient(ebjr_det.build_serving(source)) as client:
            response = client.post("/v2/models/pair/infer", json={"inputs": [tensor]})
        assert response.status_code == 200, response.text
        outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
        assert outputs["answered_by"] == list(expected.answered_by)
        assert outputs["label"] == np.argmax(expected.predictions, axis=1).tolist()


def test_a_film_of_three_tiers_tells_no_cost_that_nobody_knows(evaluated, tmp_path, command, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(build_data("digits").load(index)).resize((64, 64)).save(folder / f"{index}.png")
    assert command("demo", evaluated[1], folder, "--out", tmp_path / "film.mp4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["macs"] == {"pair": None, "teacher": None}


def test_a_fitted_router_belongs_to_the_student_of_its_tier(routed_digits, tmp_path, command, capsys):
    settings = yaml.safe_load((ROOT / "configs" / "digits_tiers.yaml").read_text())
    small, middle, large = settings["tiers"]
    small["name"] = "resnet-8-2"  # as the router has it
    fitted, plain = {"file": str(routed_digits / "router.safetensors")}, small["router"]
    settings |= {"latency": {"measure": False}, "run": {"bootstrap": 10}}
    path, out, exported = tmp_path / "three.yaml", tmp_path / "run", tmp_path / "exported"
    settings["tiers"] = [middle | {"router": fitted}, small | {"router": plain}, large]
    path.write_text(yaml.safe_dump(settings))
    assert command("evaluate", path, "--out", out) == 2
    assert "a router made for student `middle`" in capsys.readouterr().err.strip().splitlines()[-1]
    settings["tiers"] = [middle | {"router": plain}, small | {"router": fitted}, large]
    path.write_text(yaml.safe_dump(settings))
    assert command("evaluate", path, "--out", out) == 0
    note = "in no order of multiply-adds: middle costs no less than resnet-8-2"
    assert note in " ".join(capsys.readouterr().out.split())
    assert json.loads((out / "summary.json").read_text())["input_remarks"]["router of resnet-8-2"]
    assert command("export", out, "--out", exported) == 0
    assert (exported / "teacher-router.safetensors").is_file()
    pictures = [build_data("digits").load(index) for index in range(200)]
    answers = [ebjr_det.load(source)(pictures).predictions for source in (out, exported)]
    np.testing.assert_allclose(*answers, atol=1e-4)
