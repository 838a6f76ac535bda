"""Nobody labelled the pictures: every verb works on what both models say, and says that it estimates."""

import json

import numpy as np
import pytest
from common import DIGITS, QUICKSTART
from PIL import Image

import ebjr_det
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.records import join_runs, load_run
from ebjr_det.routing.file import RouterFile

LEAD = "Estimated without labels. "
FEW = ["--set", "latency.measure=false", "--set", "run.bootstrap=5"]


@pytest.fixture(scope="module")
def detectors(tmp_path_factory, make_detectors):
    """Result files of 150 pictures with their annotations."""
    return make_detectors(tmp_path_factory.mktemp("unlabelled"), range(1, 151), 0)


def unlabelled(options: list[object], flag: str) -> list[object]:
    """Options of two models' files without those of the labels."""
    at = options.index(flag)
    return [*options[:at], *options[at + 2 :]]


@pytest.fixture(scope="module")
def pairs(detectors, classifiers) -> dict[str, list[object]]:
    """By task, the options of both models' files alone."""
    return {
        "detection": unlabelled(list(detectors.options), "--annotations"),
        "classification": unlabelled(classifiers(range(150), 0), "--labels"),
    }


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_replay_of_answers_alone_says_that_it_estimates(task, pairs, tmp_path, command, capsys):
    costs = ["--student-macs", "1e9", "--teacher-macs", "9e9", "--bootstrap", 5]
    assert command("replay", task, *pairs[task], *costs, "--out", tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert out.startswith(LEAD)
    assert "No labels were given" in " ".join(out.split())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["estimated"] is True
    assert summary["title"].startswith("Estimated: ")
    assert load_run(tmp_path / "run" / "run.npz").estimated
    assert LEAD in (tmp_path / "run" / "report.html").read_text()
    assert RouterFile.load(tmp_path / "run" / "router.safetensors").header.task == task
    assert 0 < summary["student"]["quality"] < summary["teacher"]["quality"] < 1


@pytest.mark.parametrize("task", ["detection", "classification"])
def test_a_router_fitted_without_labels_serves_labelled_pictures(
    task, pairs, detectors, classifiers, tmp_path, answer
):
    router = tmp_path / "router.safetensors"
    fit = ["--folds", 2, "--bootstrap", 5, "--out", router, "--report", tmp_path / "fit"]
    # named classes, as those of the router's later work
    described = ["--pictures", detectors.annotations] if task == "detection" else []
    assert answer("fit-router", task, *pairs[task], *described, *fit)["estimated"] is True
    labelled = list(detectors.options) if task == "detection" else classifiers(range(150), 0)
    others = ["--threshold", 0, "--bootstrap", 5, "--out", tmp_path / "out"]
    if task == "detection":
        args = ["replay", task, *labelled, "--router", router, *others]
        with pytest.raises(InvalidInput, match="fitted on"):  # these very pictures
            ebjr_det.replay(
                ebjr_det.SavedOutputs(task, dict(_files(labelled))),
                tmp_path / "same",
                ebjr_det.ReplaySettings(router=ebjr_det.config.RouterSection(file=str(router))),
            )
        return
    args = ["replay", task, *classifiers(range(200, 260), 1), "--router", router, *others]
    assert answer(*args)["estimated"] is False


def _files(options: list[object]) -> list[tuple[str, object]]:
    return [(str(flag)[2:], path) for flag, path in zip(options[::2], options[1::2], strict=True)]


def test_labels_change_nothing_where_they_are_not_read(tmp_path, answer):
    """The digits with and without their labels: the same answers, other qualities, the same scores."""
    run = {}
    for labels in ("true", "false"):
        args = [DIGITS, "--set", f"data.labels={labels}", "--set", "data.limit=300", *FEW]
        summary = answer("evaluate", *args, "--out", tmp_path / labels)
        assert summary["estimated"] is (labels == "false")
        run[labels] = load_run(tmp_path / labels / "run.npz")
    for name, values in run["true"].scores.items():
        assert (values == run["false"].scores[name]).all(), name
    assert run["false"].student["correct"].dtype == np.float64
    assert abs(run["false"].student["correct"].mean() - run["true"].student["correct"].mean()) < 0.05


def test_draws_hang_on_pictures_and_not_on_batches(tmp_path, command):
    """So a run that was broken off goes on to the same records, wherever its batches begin."""
    runs = []
    for size in (3, 8):
        args = [QUICKSTART, "--set", "data.labels=false", "--set", "data.limit=12", *FEW]
        args += ["--set", "router.target=null", "--set", f"run.batch_size={size}"]
        assert command("evaluate", *args, "--out", tmp_path / str(size)) == 0
        runs.append(load_run(tmp_path / str(size) / "run.npz"))
    first, second = (run.teacher["truths"] for run in runs)
    assert first.sum() > 0
    assert (first == second).all()


def test_a_folder_of_pictures_is_enough(tmp_path, answer, capsys):
    """Pictures, both models, names of the classes; nothing else."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    (folder / "note.txt").write_text("no picture")
    generator = np.random.default_rng(0)
    for index in range(12):
        picture = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / ("below" if index % 2 else ".") / f"{index}.png")
    data = f"data={{dataset: pictures, root: {folder}, labels: false, classes: [{','.join('abcdefghij')}]}}"
    summary = answer(
        "evaluate", DIGITS, "--set", data, *FEW, "--set", "router.target=null", "--out", tmp_path / "o"
    )
    assert (summary["images"], summary["estimated"]) == (12, True)
    assert "below/1.png" in load_run(tmp_path / "o" / "run.npz").image_ids
    timed = ["--images", 8, "--seconds", "0.02", "--out", tmp_path / "timed"]
    summary = answer("benchmark", DIGITS, "--set", data, *timed)
    assert summary["single_stream"]["joint 30 %"]["queries"] >= 8


def test_detectors_answer_a_folder_of_pictures_and_leave_no_gallery(tmp_path, answer):
    folder = tmp_path / "pictures"
    folder.mkdir()
    data = ebjr_det.tasks.load_task("detection").data.build_data(dataset="digit_scenes", limit=6)
    for index in range(6):
        data.load(index).save(folder / f"{index}.png")
    classes = ",".join(f'"{name}"' for name in data.class_names)
    settings = f"data={{dataset: pictures, root: {folder}, labels: false, classes: [{classes}]}}"
    args = [QUICKSTART, "--set", settings, *FEW, "--set", "router.target=null", "--out", tmp_path / "out"]
    assert answer("evaluate", *args)["estimated"] is True
    assert not (tmp_path / "out" / "gallery.json").exists()


def test_a_comparison_marks_the_estimate_beside_the_exact_run(pairs, detectors, tmp_path, command, answer):
    few = ["--bootstrap", 5]
    assert command("replay", "detection", *detectors.options, *few, "--out", tmp_path / "exact") == 0
    assert command("replay", "detection", *pairs["detection"], *few, "--out", tmp_path / "guess") == 0
    said = answer("compare", tmp_path / "exact", tmp_path / "guess", "--out", tmp_path / "both")
    names = [run["run"] for run in said["runs"]]
    assert names == [str(tmp_path / "exact"), f"{tmp_path / 'guess'} (estimated)"]


def test_a_threshold_is_calibrated_but_never_certified(pairs, tmp_path, command, refused, answer):
    args = ["replay", "classification", *pairs["classification"], "--score", "margin", "--bootstrap", 5]
    assert command(*args, "--out", tmp_path / "run") == 0
    assert answer("calibrate", tmp_path / "run", "--max-drop", 0.05)["feasible"] is True
    line = refused("calibrate", tmp_path / "run", "--max-drop", 0.05, "--confidence", 0.9)
    assert "Expected labels for a target with `confidence`" in line


def test_estimates_are_said_and_mix_with_no_labelled_run(pairs, detectors, make_detectors, tmp_path, command,
                                                         answer, refused, capsys):  # fmt: skip
    """A threshold of estimates says so; on labelled images, or under a mix of classes, it is refused."""
    others = make_detectors(tmp_path, range(200, 260), 0)
    few = ["--score", "free_energy", "--threshold", 0, "--bootstrap", 2, "--out"]
    assert command("replay", "detection", *pairs["detection"], *few, tmp_path / "guess") == 0
    assert command("replay", "detection", *others.options, *few, tmp_path / "exact") == 0
    capsys.readouterr()
    target = ["--deferral-rate", 0.3]
    assert answer("calibrate", tmp_path / "guess", *target)["estimated"] is True
    assert answer("calibrate", tmp_path / "exact", *target)["estimated"] is False
    assert command("calibrate", tmp_path / "guess", *target) == 0
    assert capsys.readouterr().out.startswith(LEAD)
    for first, second, words in (("guess", "exact", "none for cal"), ("exact", "guess", "labels for cal")):
        line = refused("calibrate", tmp_path / first, "--report-on", tmp_path / second, *target)
        assert words in line
    mix = ["--popular", "0", "--share", 0.7, "--out", tmp_path / "traffic"]
    assert "Expected runs with labels" in refused("traffic", tmp_path / "guess", *mix)
    assert not (tmp_path / "traffic").exists()


BAD = [
    (
        ["router.target={kind: max_drop, value: 0.1, confidence: 0.9}", "data.labels=false"],
        "certifies nothing",
    ),
    (["data={dataset: pictures, root: ., classes: [a]}"], "`data.labels: false` with `pictures`"),
    (["data={dataset: pictures, labels: false, root: .}"], "`data.classes`"),
    (["data={dataset: pictures, labels: false, classes: [a]}"], "`data.root`"),
    (["data={dataset: pictures, labels: false, classes: [a, a], root: .}"], "distinct names"),
    (
        ["data={dataset: pictures, labels: false, classes: [a], root: nowhere}"],
        "folder of pictures at `nowhere`",
    ),
    (["data.labels=false", "traffic={kind: popular, share: 0.9, popular: ['1']}"], ""),
]


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_settings_that_cannot_go_with_missing_labels(changes, words, tmp_path, refused):
    args = [part for change in changes for part in ("--set", change)]
    assert words in refused("evaluate", DIGITS, *args, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_beside_annotations_are_refused(detectors, tmp_path, refused):
    files = ["--pictures", detectors.annotations, "--out", tmp_path / "out"]
    assert "either annotations or" in refused("replay", "detection", *detectors.options, *files)


def test_a_training_needs_labels(tmp_path):
    with pytest.raises(ConfigError, match="labels"):
        ebjr_det.tasks.settings.parse_train_config(
            {"data": {"dataset": "digits", "labels": False}, "model": {"arch": "resnet"}}
        )


def test_parts_with_and_without_labels_are_no_run(tmp_path, pairs, command):
    args = ["replay", "classification", *pairs["classification"], "--score", "margin", "--bootstrap", 5]
    assert command(*args, "--out", tmp_path / "run") == 0
    run = load_run(tmp_path / "run" / "run.npz")
    with pytest.raises(InvalidInput, match="labels for all parts"):
        join_runs([run, ebjr_det.core.types.PairedRun(**{**run.__dict__, "estimated": False})])
