"""A fitted router on other pictures: what it may see, what it changes, and what it says of itself."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import QUICKSTART, ROOT, SCENES_PAIR
from PIL import Image, ImageEnhance

from ebjr_det.api.settings import load_settings
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.io.records import load_run
from ebjr_det.routing.file import RouterFile
from ebjr_det.tasks.detection.datasets.digit_scenes import draw_scene

QUICK = ["--folds", 2, "--bootstrap", 5]


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def scores_of(folder: Path) -> dict[str, list[str]]:
    """The columns of `routes.csv`, but those that need labels."""
    with (folder / "routes.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    return {name: [row[name] for row in rows] for name in rows[0] if name != "reward"}


@pytest.fixture
def replay(command, tmp_path, capsys):
    """A function: name of the run folder, files, further options -> the folder."""

    def run(name, files, *options):
        out = tmp_path / name
        code = command("replay", "detection", *files.options, "--bootstrap", 5, *options, "--out", out)
        assert code == 0, capsys.readouterr().err
        return out

    return run


@pytest.fixture
def router(fitted):
    return fitted / "router.safetensors"


# --- Pictures of the fit ---


@pytest.mark.parametrize("how", [[], ["--top-k", "3"], ["--score", "learned", "--aggregate", "sum"]])
def test_on_the_pictures_of_the_fit_a_replay_is_refused_whatever_the_score(
    how, fitted_on, router, tmp_path, refused
):
    args = [*fitted_on.options, "--router", router, *how, "--bootstrap", 5, "--out", tmp_path / "out"]
    message = refused("replay", "detection", *args)
    assert "70" in message
    assert str(router) in message
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def mixed(make_detectors, tmp_path_factory):
    """Pictures 51 to 120, of which the fit saw 51 to 70, and of the same content pictures 71 to 120."""
    folder = tmp_path_factory.mktemp("mixed")
    return make_detectors(folder / "mixed", range(51, 121), 0)


def test_of_a_mix_only_the_unseen_pictures_are_in_any_number(mixed, others, router, replay):
    both = replay("both", mixed, "--router", router, "--rates", "0.2,0.5")
    alone = replay("alone", others, "--router", router, "--rates", "0.2,0.5")
    seen = [str(image) for image in range(51, 71)]
    of_both, of_alone = summary_of(both), summary_of(alone)
    assert of_both["router"].pop("left_out") == seen
    assert of_alone["router"].pop("left_out") == []
    assert of_both["images"] == of_alone["images"] == 50
    for key in of_alone:
        if key != "run_dir":
            assert of_both[key] == of_alone[key], key
    first, second = scores_of(both), scores_of(alone)
    assert first == second
    assert not set(seen) & set(first["image_id"])
    analysis = json.loads((both / "analysis.json").read_text())
    assert analysis["router"]["left_out"] == seen
    assert load_run(both / "run.npz").image_ids == tuple(map(str, range(71, 121)))
    assert "20" in next(line for line in (both / "table.md").read_text().splitlines() if "left out" in line)


def test_a_report_redraws_it_without_the_pictures_of_the_fit(mixed, router, replay, command):
    run = replay("both", mixed, "--router", router)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert command("report", run) == 0
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_calibration_does_not_use_them_either(mixed, others, router, replay, answer):
    found = {}
    for name, files in (("both", mixed), ("alone", others)):
        run = replay(name, files, "--router", router)
        found[name] = answer("calibrate", run, "--deferral-rate", "0.4")
        assert found[name].pop("run_dir")
    assert found["both"]["calibration"]["images"] + found["both"]["report"]["images"] == 50
    assert found["both"] == found["alone"]


def test_ids_that_merely_count_are_other_pictures(make_detectors, tmp_path, router, replay):
    strangers = make_detectors(tmp_path / "strangers", range(1001, 1051), 0)
    for path in strangers.__dict__.values():
        content = json.loads(path.read_text())
        entries = content["annotations"] + content["images"] if isinstance(content, dict) else content
        for entry in entries:
            key = "image_id" if "image_id" in entry else "id"
            entry[key] -= 1000
            if "file_name" in entry:
                entry["file_name"] = f"{entry['id']}.jpg"
        path.write_text(json.dumps(content))
    facts = summary_of(replay("run", strangers, "--router", router))
    assert (facts["images"], facts["router"]["left_out"]) == (50, [])


@pytest.fixture
def fit(fitted_on, tmp_path, command):
    """A function: score -> a router of it without rescaling."""

    def run(score):
        given = [*QUICK, "--score", score, "--rescaling", "none", "--out", tmp_path / "own.safetensors"]
        assert command("fit-router", "detection", *fitted_on.options, *given) == 0
        return given[-1]

    return run


def test_a_router_of_a_score_with_settings_of_its_own_knows_its_pictures(fitted_on, fit, tmp_path, refused):
    router = ["--router", fit("free_energy_top1"), "--out", tmp_path / "out"]
    said = refused("replay", "detection", *fitted_on.options, *router, alone=False)  # it is below a coin
    assert "all of which it was fitted on" in said


def test_a_router_of_a_score_of_whole_sets_works_on_another_set(others, fit, replay):
    facts = summary_of(replay("set", others, "--router", fit("set_learned")))
    assert facts["score"] == "set_learned"
    assert len(facts["router"]["drift"]["got"]) == 5


# --- Labels ---


@pytest.mark.parametrize("score", ["learned", "set_curvature"])
def test_labels_of_the_replayed_pictures_never_matter_for_routing(score, others, router, replay, tmp_path):
    truth = json.loads(others.annotations.read_text())
    generator = np.random.default_rng(0)
    images = generator.permutation([one["image_id"] for one in truth["annotations"]]).tolist()
    labels = generator.integers(1, 5, len(images)).tolist()
    for one, image, label in zip(truth["annotations"], images, labels, strict=True):
        one |= {"image_id": image, "category_id": label}
    shuffled = others.changed(tmp_path, "annotations", truth)
    how = ["--router", router, "--score", score]
    right, wrong = replay("right", others, *how), replay("wrong", shuffled, *how)
    assert summary_of(right)["teacher"]["quality"] > 2 * summary_of(wrong)["teacher"]["quality"]
    assert scores_of(right) == scores_of(wrong)


# --- What a router changes ---


def test_records_are_rescaled_and_the_student_alone_stays_as_good(others, router, replay):
    plain, routed = replay("plain", others), replay("routed", others, "--router", router)
    header = RouterFile.load(router).header
    assert header.rescaling != "none"
    before, after = (load_run(run / "run.npz") for run in (plain, routed))
    assert not np.allclose(before.student["score"], after.student["score"])
    for name in set(before.student) - {"score"}:
        np.testing.assert_array_equal(before.student[name], after.student[name])
    np.testing.assert_array_equal(before.teacher["score"], after.teacher["score"])
    for side in ("student", "teacher"):
        assert summary_of(plain)[side]["quality"] == pytest.approx(summary_of(routed)[side]["quality"])
    np.testing.assert_array_equal(before.scores["free_energy"], after.scores["free_energy"])


def test_the_routers_score_decides_unless_another_is_asked_for(others, router, replay):
    header = RouterFile.load(router).header
    own, energy = (replay(name, others, "--router", router, *how)
                   for name, how in (("own", []), ("energy", ["--score", "free_energy"])))  # fmt: skip
    assert summary_of(own)["score"] == header.score
    other = summary_of(energy)
    assert other["score"] == "free_energy"
    assert other["router"]["drift"] is None
    assert other["router"]["rescaling"] == header.rescaling
    assert (
        set(other["scores"])
        == set(summary_of(own)["scores"])
        >= {"learned", "class_curvature", "set_curvature"}
    )
    np.testing.assert_array_equal(*(load_run(run / "run.npz").student["score"] for run in (own, energy)))


def test_rates_asked_and_got_are_in_the_summary_the_table_and_on_the_page(others, router, replay):
    run, file = replay("run", others, "--router", router), RouterFile.load(router)
    scores = load_run(run / "run.npz").scores[file.header.score]
    drift = summary_of(run)["router"]["drift"]
    assert drift["asked"] == [0.1, 0.2, 0.3, 0.5, 0.8]
    for asked, got in zip(drift["asked"], drift["got"], strict=True):
        assert got == np.mean(scores > threshold_for_rate(file.reference, asked))
        for name in ("table.md", "report.html"):
            text = (run / name).read_text()
            assert "got here %" in text
            assert f"{100 * got:.1f}" in text
    assert summary_of(run)["router"]["fitted_on"] == 70
    # on pictures of one source a threshold survives: no systematic error from fewer pictures out of fold
    assert np.abs(np.subtract(drift["got"], drift["asked"])).max() < 0.2


@pytest.mark.parametrize("score", ["class_rarity", "learned"])
def test_thresholds_of_class_weighted_scores_survive(score, make_detectors, replay, tmp_path, fit):
    files = make_detectors(tmp_path / "files", range(200, 320), 0)
    drift = summary_of(replay("run", files, "--router", fit(score)))["router"]["drift"]
    assert not drift["moved"], drift
    assert np.abs(np.subtract(drift["got"], drift["asked"])).max() < 0.2, drift


def test_a_router_of_classifiers_works_in_a_replay(classifiers, tmp_path, command, refused):
    router = tmp_path / "r.safetensors"
    fitted, mixed, alone = (classifiers(ids, 0) for ids in (range(200), range(150, 350), range(200, 400)))
    args = [*fitted, *QUICK, "--score", "learned", "--out", router]
    assert command("fit-router", "classification", *args) == 0
    args = ["--router", router, "--bootstrap", 5, "--out", tmp_path / "run"]
    assert command("replay", "classification", *alone, *args) == 0
    summary = summary_of(tmp_path / "run")
    assert (summary["score"], summary["images"]) == ("learned", 200)
    assert summary["router"]["drift"]["asked"] == [0.1, 0.2, 0.3, 0.5, 0.8]
    # ids of other answers: none of the fit's pictures is known again
    assert command("replay", "classification", *mixed, *args) == 0
    assert summary_of(tmp_path / "run")["images"] == 200
    said = refused("replay", "classification", *fitted, *args[:-1], tmp_path / "again", alone=False)
    assert "got 200, all of which it was fitted on" in said.splitlines()[-1]  # a router of noise is warned of


# --- The live pair ---

SMALL = ["student.macs=1e8", "teacher.macs=1e9", "teacher.image_size=128"]
CHEAP = ["latency.measure=false", "run.bootstrap=5", "router.target=null"]


def evaluate_args(first: int, last: int) -> list[object]:
    ids = f"data.ids=[{','.join(map(str, range(first, last + 1)))}]"
    return [QUICKSTART, *(f"--set={change}" for change in (ids, *SMALL, *CHEAP))]


@pytest.fixture(scope="module")
def live(tmp_path_factory, command):
    """A run of scenes 1 to 20, a router from it, and a run of scenes 18 to 30 that it routes."""
    folder = tmp_path_factory.mktemp("live")
    router = folder / "router.safetensors"
    assert command("evaluate", *evaluate_args(1, 20), "--out", folder / "first") == 0
    given = ["--rescaling", "affine", "--score", "class_curvature", "--report", folder / "report"]
    assert command("fit-router", "run", folder / "first", *QUICK, *given, "--out", router) == 0
    args = [*evaluate_args(18, 30), "--router", router, "--out", folder / "second"]
    assert command("evaluate", *args) == 0
    return folder, args


def test_an_evaluation_is_routed_by_the_file_and_reports_what_it_has_not_seen(live):
    folder, _ = live
    file, run = RouterFile.load(folder / "router.safetensors"), folder / "second"
    settings = yaml.safe_load((run / "config.yaml").read_text())["router"]
    assert settings["file"] == str(folder / "router.safetensors")
    assert settings["score"] == "class_curvature"
    summary = summary_of(run)
    assert (summary["score"], summary["images"]) == ("class_curvature", 10)
    assert summary["router"]["left_out"] == ["18", "19", "20"]
    assert summary["router"]["drift"]["asked"] == [0.1, 0.2, 0.3, 0.5, 0.8]
    assert not {"18", "19", "20"} & set(scores_of(run)["image_id"])
    assert file.header.student == summary["student"]["name"]
    weights = {summary_of(folder / name)["student"]["weights_sha256"] for name in ("first", "second")}
    assert weights == {file.header.student_weights}
    assert "learned" in summary["scores"]


def test_the_live_students_answers_are_rescaled_as_records_are(live, command):
    folder, _ = live
    plain, routed = (load_run(folder / name / "run.npz") for name in ("first", "second"))
    for image in ("18", "20"):
        (own,), (other,) = (np.flatnonzero(np.array(run.image_ids) == image) for run in (plain, routed))
        first, second = (
            run.student["score"][run.student["counts"][:at].sum() :][: run.student["counts"][at]]
            for run, at in ((plain, own), (routed, other))
        )
        assert len(first) == len(second) > 0
        assert not np.allclose(first, second)
        np.testing.assert_array_equal(np.argsort(first), np.argsort(second))


def test_it_goes_on_with_resume(live, command, refused):
    folder, args = live
    before = summary_of(folder / "second")
    assert command("evaluate", *args) == 2
    assert command("evaluate", *args, "--resume") == 0
    assert summary_of(folder / "second") == before
    other = folder / "other.safetensors"
    assert command("fit-router", "run", folder / "first", *QUICK, "--seed", 5, "--out", other) == 0
    args = [*args[: args.index("--router")], "--router", other, *args[args.index("--out") :], "--resume"]
    assert "router.file" in refused("evaluate", *args)
    assert summary_of(folder / "second") == before


def test_a_run_that_a_router_routed_is_no_ground_for_another_one(live, tmp_path, refused):
    folder, _ = live
    for run in ("second", "report"):
        assert "without a fitted router" in refused(
            "fit-router", "run", folder / run, *QUICK, "--out", tmp_path / "r.safetensors"
        )
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(40, 44):
        draw_scene("test", index).save(folder / f"scene {index}.png")
    return folder


@pytest.mark.parametrize(("rate", "least", "most"), [(0.25, 0, 4), (1, 4, 4), (0, 0, 0)])
def test_predict_takes_the_threshold_of_a_rate_from_the_file(
    rate, least, most, live, pictures, tmp_path, answer
):
    """Those of the ends send all, or those beyond all of the fit."""
    router = live[0] / "router.safetensors"
    args = [pictures, "--router", router, "--rate", rate, "--out", tmp_path / "out"]
    said = answer("predict", QUICKSTART, *args)
    expected = threshold_for_rate(RouterFile.load(router).reference, rate)
    assert (said["score"], said["images"]) == ("class_curvature", 4)
    assert said["threshold"] == (expected if np.isfinite(expected) else None)
    entries = json.loads((tmp_path / "out" / "images.json").read_text())
    for entry in entries:
        assert entry["answered_by"] == ("teacher" if entry["deferral_score"] > expected else "student")
    assert said["deferred"] == sum(entry["answered_by"] == "teacher" for entry in entries)
    assert least <= said["deferred"] <= most


def test_predict_on_the_routed_run_uses_its_threshold_and_its_router(live, pictures, tmp_path, answer):
    folder, _ = live
    said = answer("predict", folder / "second", pictures, "--out", tmp_path / "out")
    assert said["score"] == "class_curvature"
    assert said["threshold"] == summary_of(folder / "second")["joint"]["threshold"]


def test_another_router_takes_the_place_of_the_one_that_routed_a_run(
    live, pictures, tmp_path, command, answer
):
    folder, other = live[0], tmp_path / "other.safetensors"
    given = [*QUICK, "--score", "learned", "--out", other]
    assert command("fit-router", "run", folder / "first", *given) == 0
    args = [pictures, "--router", other, "--rate", 0.25, "--out", tmp_path / "out"]
    said = answer("predict", folder / "second", *args)
    assert said["score"] == "learned"
    assert said["threshold"] == threshold_for_rate(RouterFile.load(other).reference, 0.25)
    args = ["--router", other, "--out", tmp_path / "run"]
    assert command("evaluate", folder / "second" / "config.yaml", *args) == 0
    assert summary_of(tmp_path / "run")["score"] == "learned"


def test_options_of_another_routers_score_are_not_taken_over(live, pictures, tmp_path, command):
    config, other = tmp_path / "config.yaml", tmp_path / "other.safetensors"
    settings = yaml.safe_load((live[0] / "second" / "config.yaml").read_text())
    settings["router"] |= dict.fromkeys(("file", "sha256"))
    settings["router"] |= {"score": "free_energy", "options": {"temperature": 2.0}}
    config.write_text(yaml.safe_dump(settings))
    rewritten(live[0] / "router.safetensors", other, settings={})  # one that says nothing of options
    args = ["--router", other, "--rate", 0.25, "--out", tmp_path / "out"]
    assert command("predict", config, pictures, *args) == 0


@pytest.mark.parametrize(
    "change",
    ["student.options={backbone_name: test_resnet}", "student.random_weights=true", "router.top_k=3"],
)
def test_the_threshold_of_a_run_is_not_taken_for_another_student_or_score(
    change, live, pictures, tmp_path, refused
):
    args = [live[0] / "first", pictures, "--out", tmp_path / "out", f"--set={change}"]
    said = refused("predict", *args, alone=False)
    assert "the run's threshold belongs to its own student" in said
    assert "Expected a threshold, got none" in said
    assert not (tmp_path / "out").exists()


def test_a_rate_that_ties_cannot_reach_is_said(live, pictures, tmp_path, command, capsys):
    file = RouterFile.load(live[0] / "router.safetensors")
    replace(file, reference=np.repeat([1.0, 2.0], [15, 5])).save(tmp_path / "r.safetensors")
    capsys.readouterr()
    args = [pictures, "--router", tmp_path / "r.safetensors", "--out", tmp_path / "out"]
    assert command("predict", QUICKSTART, *args, "--rate", 0.6) == 0
    assert "the threshold for at most 60.0 % deferred 25.0 % of them" in capsys.readouterr().err
    assert command("predict", QUICKSTART, *args, "--rate", 0.25) == 0
    assert "Note" not in capsys.readouterr().err


def test_the_live_score_of_a_picture_is_that_of_its_evaluation(live, tmp_path, command, capsys):
    folder, _ = live
    draw_scene("test", 29).save(tmp_path / "scene.png")
    args = [tmp_path / "scene.png", "--out", tmp_path / "out", "--json"]
    assert command("predict", folder / "second", *args) == 0
    (entry,) = json.loads((tmp_path / "out" / "images.json").read_text())
    columns = scores_of(folder / "second")
    place = columns["image_id"].index("30")
    assert entry["deferral_score"] == pytest.approx(float(columns["class_curvature"][place]), rel=1e-3)


@pytest.fixture(scope="module")
def other_student(tmp_path_factory):
    """The quickstart with a student of the same name that knows nothing."""
    settings = yaml.safe_load(QUICKSTART.read_text())
    del settings["student"]["checkpoint"]
    settings["student"]["random_weights"] = True
    path = tmp_path_factory.mktemp("other") / "other.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def rewritten(router: Path, path: Path, **header) -> Path:
    """A router with other words in its header."""
    file = RouterFile.load(router)
    replace(file, header=replace(file.header, **header)).save(path)
    return path


VERBS = ("predict", "demo", "export", "benchmark", "evaluate")


def at_work(verb: str, config: Path, router: Path, pictures: object, out: Path) -> list[object]:
    """The arguments of a verb that defers by a router."""
    if verb == "benchmark":
        changes = [f"--set=router.{key}" for key in (f"file={router}", "target=null", "score=null")]
        few = ["--images", 2, "--seconds", 0.01, "--batch-sizes", 1, "--rates", 0.3, "--out", out]
        return [verb, config, *(f"--set={change}" for change in SMALL), *changes, *few]
    if verb == "evaluate":
        return [verb, config, *evaluate_args(31, 62)[1:], "--router", router, "--out", out / "run"]
    given = ["--router", router, "--rate", 0.3, "--out", out / "film.mp4" if verb == "demo" else out]
    if verb == "export":
        return [verb, config, f"--set={SCENES_PAIR[1]}", *given]
    few = ["--limit", 2] if verb == "demo" else []
    return [verb, config, pictures, *(f"--set={change}" for change in SMALL), *few, *given]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder of 32 scenes."""
    folder = tmp_path_factory.mktemp("drawn")
    for index in range(50, 82):
        draw_scene("test", index).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def scenes_here(drawn, tmp_path):
    """A copy of the scenes and a folder for results, which `demo` wants to be there."""
    (tmp_path / "out").mkdir()
    return shutil.copytree(drawn, tmp_path / "scenes"), tmp_path / "out"


@pytest.mark.parametrize("verb", VERBS)
def test_a_router_of_other_weights_is_refused_by_every_verb(verb, live, other_student, scenes_here, refused):
    pictures, out = scenes_here
    args = at_work(verb, other_student, live[0] / "router.safetensors", pictures, out)
    weights = summary_of(live[0] / "first")["student"]["weights_sha256"]
    assert refused(*args).count(f"with other weights (sha256 {weights[:12]}") == 1
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("verb", VERBS)
def test_where_it_tells_no_weights_the_answers_tell_every_verb_before_it_writes(
    verb, live, other_student, scenes_here, tmp_path, command, capsys, refused
):
    """Such a router would defer everything, or nothing."""
    pictures, out = scenes_here
    untold = {"student": "", "student_weights": ""}
    router = rewritten(live[0] / "router.safetensors", tmp_path / "r.safetensors", **untold)
    said = refused(*at_work(verb, other_student, router, pictures, out))
    assert "whose scores are distributed otherwise: distance" in said
    assert list(out.iterdir()) == []
    assert command(*at_work(verb, QUICKSTART, router, pictures, out)) == 0
    assert "Warning" not in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "light"), [("predict", 0.05), ("predict", 0.0), ("demo", 0.05)])
def test_dark_pictures_are_answered_with_a_warning(verb, light, live, scenes_here, tmp_path, command, capsys):
    """The student is that of the fit, as the pictures of the configured data tell."""
    pictures, out = scenes_here
    for path in pictures.iterdir():
        ImageEnhance.Brightness(Image.open(path)).enhance(light).save(path)
    untold = {"student": "", "student_weights": ""}
    router = rewritten(live[0] / "router.safetensors", tmp_path / "r.safetensors", **untold)
    capsys.readouterr()
    assert command(*at_work(verb, QUICKSTART, router, pictures, out)) == 0
    assert "Warning: the student's scores here are distributed otherwise" in capsys.readouterr().err
    assert list(out.iterdir()) != []


def test_without_the_configured_data_other_answers_are_warned_of(
    live, other_student, scenes_here, tmp_path, command, capsys, monkeypatch
):
    """The pictures at hand may be of another kind, as far as anybody knows."""
    from ebjr_det.tasks.detection import data

    def gone(**settings):
        raise InvalidInput("no such data")

    monkeypatch.setattr(data, "build_data", gone)
    monkeypatch.setattr(data, "build_named", lambda *args, **how: data.Named(names))
    pictures, out = scenes_here
    untold = {"student": "", "student_weights": ""}
    router = rewritten(live[0] / "router.safetensors", tmp_path / "r.safetensors", **untold)
    header = RouterFile.load(router).header
    names = dict(enumerate(header.class_names))
    capsys.readouterr()
    args = at_work("predict", other_student, router, pictures, out)
    assert command(*(0.5 if one == 0.3 else one for one in args)) == 0
    said = capsys.readouterr().err
    assert "where this threshold deferred 50.0 % of the 20" in said
    assert "Warning: the student's scores here are distributed otherwise than at the router's fit" in said


def test_a_stated_threshold_of_a_run_is_not_taken_for_another_router(live, tmp_path, capsys):
    run = Path(shutil.copytree(live[0] / "second", tmp_path / "run"))
    settings = yaml.safe_load((run / "config.yaml").read_text())
    threshold = json.loads((run / "analysis.json").read_text())["threshold"]
    settings["router"] |= {"threshold": threshold, "target": None}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert load_settings(run)[1] == threshold
    rewritten(live[0] / "router.safetensors", tmp_path / "other.safetensors", settings={})
    changes = [f"router.file={tmp_path / 'other.safetensors'}", "router.sha256=null"]
    config, of_run = load_settings(run, changes)
    assert (config.router.threshold, of_run) == (None, None)
    assert "the run's threshold belongs to its own student" in capsys.readouterr().err


def test_a_threshold_of_another_score_is_not_taken_over(live, pictures, tmp_path, refused):
    settings = yaml.safe_load(QUICKSTART.read_text())
    settings["router"] = {"score": "free_energy", "threshold": -2.0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    args = ["--router", live[0] / "router.safetensors", "--out", tmp_path / "out"]
    assert "--rate" in refused("predict", tmp_path / "config.yaml", pictures, *args)
    assert not (tmp_path / "out").exists()


def test_what_speaks_against_a_router_is_said_once(live, tmp_path, command, capsys):
    doubt = {"evidence": {"warnings": ["score `class_curvature` routes no better than a coin"]}}
    router = rewritten(live[0] / "router.safetensors", tmp_path / "r.safetensors", **doubt)
    capsys.readouterr()
    args = ["--router", router, "--out", tmp_path / "out"]
    assert command("evaluate", *evaluate_args(18, 30), *args) == 0
    assert capsys.readouterr().err.count("no better than a coin") == 1


@pytest.fixture
def refused_ahead(refused, tmp_path):
    """A function: arguments -> the error of an evaluation that answers no batch and leaves nothing."""

    def line(*args) -> str:
        said = refused("evaluate", *args, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return said

    return line


def test_pictures_that_all_were_in_the_fit_are_told_before_any_batch(live, refused_ahead):
    args = [*evaluate_args(1, 20), "--router", live[0] / "router.safetensors"]
    said = refused_ahead(*args)
    assert "has not seen, got 20, all of which it was fitted on" in said


def test_the_pictures_that_calibrate_are_counted_without_those_of_the_fit(live, refused_ahead):
    """Of 13 pictures 10 are left: 4 in 100 of 13 would be one."""
    target = "router.target={kind: deferral_rate, value: 0.5, fraction: 0.04}"
    args = [*evaluate_args(18, 30)[:-1], f"--set={target}", "--router", live[0] / "router.safetensors"]
    assert "images on both sides, got 0.04 of 10" in refused_ahead(*args)


def test_a_classifiers_pictures_of_the_fit_are_told_before_any_batch(tmp_path, command, refused_ahead):
    """By a sample of its answers: the ids of digits merely count, and other digits have the same."""
    digits = [ROOT / "configs" / "digits.yaml", *(f"--set={change}" for change in CHEAP)]
    first, router = tmp_path / "first", tmp_path / "r.safetensors"
    assert command("evaluate", *digits, "--set=data.limit=60", "--out", first) == 0
    assert command("fit-router", "run", first, *QUICK, "--out", router) == 0
    args = [*digits, "--router", router]
    said = refused_ahead(*args, "--set=data.limit=40")
    assert "has not seen, got 40, all of which it was fitted on" in said
    target = "router.target={kind: deferral_rate, value: 0.5, fraction: 0.02}"
    said = refused_ahead(*args, "--set=data.limit=80", f"--set={target}")
    assert "images on both sides, got 0.02 of 20" in said
    others = ["--set=data.limit=60", "--set=data.split=train"]
    assert command("evaluate", *args, *others, "--out", tmp_path / "others") == 0
    assert summary_of(tmp_path / "others")["images"] == 60
