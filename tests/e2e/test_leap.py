"""Three tiers whose first score picks who answers: live in every way."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import ROOT
from PIL import Image

import ebjr_det
from ebjr_det.api.calibrate_tiers import TieredCalibration
from ebjr_det.api.settings import load_settings
from ebjr_det.api.tiers import load_tiered_folder
from ebjr_det.config.tiers import tiers_of
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.joint import LeapTeacher
from ebjr_det.core.tiers import answering
from ebjr_det.evaluation.calibrated import split
from ebjr_det.evaluation.tiers.choice import Chooser, at_work
from ebjr_det.evaluation.tiers.report import calibrated
from ebjr_det.io.records import load_tiers
from ebjr_det.tasks import load_task
from ebjr_det.tasks.classification.data import build_data
from ebjr_det.tasks.settings import load_config

THRESHOLDS = (-0.9, -0.7)
IMAGES = 500


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, command):
    """A configuration of three tiers that leap, and the folder of its run."""
    folder = tmp_path_factory.mktemp("leap")
    settings = yaml.safe_load((ROOT / "configs" / "digits_tiers.yaml").read_text())
    for tier, threshold in zip(settings["tiers"], THRESHOLDS, strict=False):
        tier["router"] = {"score": "max_softmax", "threshold": threshold}
    settings |= {"topology": "leap", "latency": {"measure": False}, "run": {"bootstrap": 10}}
    (folder / "leap.yaml").write_text(yaml.safe_dump(settings))
    assert command("evaluate", folder / "leap.yaml", "--out", folder / "run") == 0
    return folder / "leap.yaml", folder / "run"


@pytest.fixture(scope="module")
def exported(evaluated, tmp_path_factory, command):
    pytest.importorskip("onnxscript")
    out = tmp_path_factory.mktemp("exports") / "exported"
    assert command("export", evaluated[1], "--out", out) == 0
    return out


def tier_of(run, images: int = IMAGES) -> np.ndarray:
    """Which tier answers, by the records."""
    return answering(np.stack([run.scores["small"]["max_softmax"][:images]] * 2), THRESHOLDS)


def test_who_answers_live_and_what_is_that_of_the_records(evaluated, exported):
    run, data = load_tiers(evaluated[1] / "tiers.npz"), build_data("digits")
    tiers, pictures = tier_of(run), [data.load(index) for index in range(IMAGES)]
    assert (np.bincount(tiers, minlength=3) > 3).all()
    for source in (*evaluated, exported):
        pair = ebjr_det.load(source)
        answer, inner = pair(pictures), pair.teacher.joint
        np.testing.assert_array_equal(answer.decision.defer, tiers > 0)
        for tier, model in enumerate((pair.student, inner.student, inner.teacher)):
            theirs = np.flatnonzero(tiers == tier)
            alone = model([model.preprocess(pictures[index]) for index in theirs]).predictions
            np.testing.assert_allclose(np.array(answer.predictions)[theirs], alone, atol=1e-4)
            right = np.argmax(alone, axis=1) == [data.target(index) for index in theirs]
            np.testing.assert_array_equal(right, run.records[run.names[tier]]["correct"][theirs])


def test_the_run_tells_how_it_leaps_and_what_a_target_chooses_goes_into_the_configuration(
    evaluated, tmp_path, command
):
    path, out = evaluated
    chosen = json.loads((out / "summary.json").read_text())["chosen"]
    assert (chosen["topology"], chosen["thresholds"]) == ("leap", list(THRESHOLDS))
    run = load_tiers(out / "tiers.npz")
    reported = tier_of(run, None)[split(run, 0.5, 0)[1]]
    shares = np.bincount(reported, minlength=3) / len(reported)
    assert list(chosen["answered"].values()) == pytest.approx(shares)
    target, (tiered, analysis) = ebjr_det.Target("macs", 5e5), load_tiered_folder(out)
    task = load_task("classification").judge()
    fronts = calibrated(tiered, task, replace(analysis, target=target, chosen=None))
    leaps = [points for points in at_work(fronts.fronts) if points.chain.topology == "leap"]
    cascades = [points.chain.topology for points in at_work(fronts.fronts, "cascade")]
    assert cascades == ["cascade"] * 4  # three of them pairs
    choice = Chooser(fronts.reported, task, leaps).for_target(target, analysis.costs)
    leaping = TieredCalibration(task, analysis, target, choice, len(fronts.reported), analysis.scores)
    assert "topology=leap" in leaping.changes
    changes = [part for change in leaping.changes for part in ("--set", change)]
    assert command("evaluate", path, "--out", tmp_path / "run", "--json", *changes) == 0
    again = ebjr_det.report(tmp_path / "run", tmp_path / "page").summary["chosen"]
    assert again == leaping.choice.to_dict(leaping.analysis.costs)
    config, threshold = load_settings(tmp_path / "run")
    thresholds = [tier.router.threshold for tier in tiers_of(config)[:-1]]
    assert (config.topology, thresholds) == ("leap", list(leaping.choice.thresholds))
    assert threshold == thresholds[0]


def test_predict_serves_and_films_alike(evaluated, exported, tmp_path, command, capsys):
    testclient = pytest.importorskip("starlette.testclient")
    folder, images = tmp_path / "pictures", 40
    folder.mkdir()
    tiers = tier_of(load_tiers(evaluated[1] / "tiers.npz"), images)
    for index in range(images):
        Image.fromarray(build_data("digits").load(index)).save(folder / f"{index:03d}.png")
    pictures = sorted(folder.iterdir())
    expected = ebjr_det.load(evaluated[1])(pictures)
    labels = np.argmax(expected.predictions, axis=1)
    for source in (evaluated[1], exported):
        out = tmp_path / source.name
        options = ("--set", "run.batch_size=7", "--set", "run.workers=2")
        assert command("predict", source, folder, "--out", out, *options) == 0
        answered = [image["answered_by"] for image in json.loads((out / "images.json").read_text())]
        assert answered == ["teacher" if tier else "student" for tier in tiers] == list(expected.answered_by)
        entries = json.loads((out / "predictions.json").read_text())
        assert [entry["category_id"] for entry in entries] == labels.tolist()
        with testclient.TestClient(ebjr_det.build_serving(source)) as client:
            for index, picture in enumerate(pictures):
                data = [base64.b64encode(picture.read_bytes()).decode()]
                content = {"name": "image", "shape": [1], "datatype": "BYTES", "data": data}
                response = client.post("/v2/models/pair/infer", json={"inputs": [content]})
                outputs = {o["name"]: o["data"] for o in response.json()["outputs"]}
                assert (outputs["answered_by"][0], outputs["label"][0]) == (answered[index], labels[index])
    capsys.readouterr()
    assert command("demo", evaluated[1], folder, "--out", tmp_path / "film.mp4", "--json") == 0
    assert json.loads(capsys.readouterr().out)["deferred"] == np.count_nonzero(tiers)


def test_other_settings_of_the_first_tier_leave_no_threshold_of_the_leap(evaluated, capsys):
    for change, left in (
        ("tiers.0.router.top_k=1", [None, None]),
        ("tiers.1.router.top_k=1", list(THRESHOLDS)),  # whose score is not asked
        ("tiers.1.router.threshold=-0.5", [THRESHOLDS[0], -0.5]),
    ):
        config, _ = load_settings(evaluated[1], [change])
        assert [tier.router.threshold for tier in tiers_of(config)[:-1]] == left
    assert load_settings(evaluated[1], ["topology=null"])[0].topology == "leap"  # as the run chose
    config, _ = load_settings(evaluated[1], ["topology=cascade"])
    assert config.topology == "cascade"
    assert "is not taken" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="Expected a threshold, got none"):
        ebjr_det.load(evaluated[1], changes=["topology=cascade"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "{path}", "--set", "topology=jump"], "cascade"),
        (["evaluate", "digits", "--set", "topology=leap"], "`tiers` in this file beside `topology: leap`"),
        (["evaluate", "{two}"], "three `tiers` at least for `topology: leap`"),
        (["bulk", "predict", "{run}", "{pictures}"], "all tiers of a leap in one process"),
    ],
    ids=["an odd one", "a pair", "two tiers", "bulk"],
)
def test_what_cannot_leap_is_refused_in_one_line(arguments, message, evaluated, tmp_path, command, capsys):
    pictures, two = tmp_path / "pictures", tmp_path / "two.yaml"
    pictures.mkdir()
    Image.new("RGB", (8, 8)).save(pictures / "a.png")
    settings = yaml.safe_load(evaluated[0].read_text())
    two.write_text(yaml.safe_dump(settings | {"tiers": settings["tiers"][1:]}))
    places = {"path": evaluated[0], "run": evaluated[1], "pictures": pictures, "two": two}
    assert command(*(part.format(**places) for part in arguments), "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_leaps_is_served_with_its_student_alone(evaluated):
    pytest.importorskip("starlette")
    for settings in ({"tier": "teacher"}, {"teacher": "http://127.0.0.1:1"}):
        with pytest.raises(ConfigError, match="all tiers of a leap in one process"):
            ebjr_det.build_serving(evaluated[1], ebjr_det.ServeSettings(**settings))


def test_a_server_asks_every_model_before_its_first_request(evaluated, monkeypatch):
    pytest.importorskip("starlette")
    answer, asked = LeapTeacher.__call__, []
    monkeypatch.setattr(
        LeapTeacher, "__call__", lambda self, inputs: asked.extend(inputs) or answer(self, inputs)
    )
    ebjr_det.build_serving(evaluated[1])
    assert [above for _, above in asked] == [False, *[False] * 2, True, *[True] * 2]


def test_settings_of_a_leap_are_read_as_they_are_written(evaluated):
    path, out = evaluated
    read, written = load_config(path), load_config(out / "config.yaml")
    assert read.topology == written.topology == "leap"
    assert len(tiers_of(written)) == 3
    assert "topology: leap" in Path(out / "config.yaml").read_text()
    assert "topology" not in Path(ROOT / "configs" / "digits_tiers.yaml").read_text()
