"""Every score of `ebjr-det scores` in Python: by its name, on models in memory, the bits that runs record."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from common import QUICKSTART

import ebjr_det
from ebjr_det import JointModel, Logits, Output, build_router
from ebjr_det.api.scores import list_scores
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.records import load_run
from ebjr_det.tasks.detection import replay as result_files
from ebjr_det.tasks.detection.coco.annotations import load_annotations, load_results
from ebjr_det.tasks.detection.datasets.digit_scenes import draw_scene

COCO = ("person", "bicycle", "car", "motorcycle")
COST = ["--student-macs", "1e6", "--teacher-macs", "9e6", "--bootstrap", 5]
WHOLE_SET = {listed.name for listed in list_scores() if "whole set" in listed.needs}


@dataclass
class Saved:
    """A model whose answers were saved."""

    output: Output
    name: str = "saved"

    def preprocess(self, image):
        return image

    def __call__(self, inputs):
        return self.output


def assert_all_agree(joint: JointModel, output: Output, recorded: dict, task: str) -> set[str]:
    """Every score of the task has the recorded bits, or says in one line what it lacks; those that agree."""
    agreeing = set()
    for listed in list_scores():
        if listed.task not in ("any", task):
            continue
        if listed.name in recorded:
            got = joint.deferral_scores(output, listed.name)
            np.testing.assert_array_equal(got, recorded[listed.name], err_msg=listed.name)
            agreeing.add(listed.name)
        elif listed.name not in WHOLE_SET:
            with pytest.raises((ConfigError, InvalidInput), match=listed.name) as caught:
                joint.deferral_scores(output, listed.name)
            assert "\n" not in str(caught.value)
    return agreeing


def output_of_results(files) -> Output:
    return result_files.output_of(load_results(files.student, load_annotations(files.annotations)))


@pytest.mark.parametrize("fit", [False, True])
def test_classifiers_have_all_that_a_replay_records(fit, classifiers, command, tmp_path):
    router, names, routed = tmp_path / "router.safetensors", tuple("01234"), []
    if fit:
        given = ["--folds", 2, "--bootstrap", 5, "--score", "learned", "--out", router]
        assert command("fit-router", "classification", *classifiers(range(200), 0), *given) == 0
        routed = ["--router", router]
    options = classifiers(range(200, 260), 0)
    assert (
        command(
            "replay", "classification", *options, *COST, *routed, "--rates", 0.3, "--out", tmp_path / "run"
        )
        == 0
    )
    recorded = load_run(tmp_path / "run" / "run.npz").scores
    logits = np.load(options[1])["logits"]
    student = Saved(Output(list(logits), Logits.one_row(logits)))
    chosen = (
        build_router(file=router, class_names=names) if fit else build_router("entropy", class_names=names)
    )
    joint = JointModel(student, student, chosen, 0.0)
    output, decision = joint.judge(range(60))
    np.testing.assert_array_equal(decision.scores, recorded["learned" if fit else "entropy"])
    agreeing = assert_all_agree(joint, output, recorded, "classification")
    assert len(agreeing) == len([listed for listed in list_scores() if listed.task == "any"]) + fit


@pytest.mark.parametrize("fit", [False, True])
def test_detectors_have_all_that_a_replay_records(fit, fitted, others, make_detectors, command, tmp_path):
    files = others if fit else make_detectors(tmp_path, range(71, 121), 0, names=COCO)
    router = fitted / "router.safetensors"
    routed = ["--router", router] if fit else ["--score", "class_curvature"]
    assert command("replay", "detection", *files.options, *COST, *routed, "--out", tmp_path / "run") == 0
    recorded = load_run(tmp_path / "run" / "run.npz").scores
    student = Saved(output_of_results(files))
    names = load_annotations(files.annotations).class_names
    chosen = build_router(None if fit else "class_curvature", file=router if fit else None, class_names=names)
    joint = JointModel(student, student, chosen, 0.0)
    output, decision = joint.judge(range(50))
    np.testing.assert_array_equal(decision.scores, recorded[chosen.name])
    agreeing = assert_all_agree(joint, output, recorded, "detection")
    assert agreeing > {"class_curvature", "energy_curvature", "set_curvature"}
    assert ({"learned", "set_learned"} <= agreeing) == fit


CHEAP = ["latency.measure=false", "run.bootstrap=5", "run.batch_size=4", "run.workers=0"]
CHEAP += ["student.macs=1e8", "teacher.macs=1e9"]


def scenes(ids: range, *changes: str) -> ebjr_det.config.EvaluateConfig:
    listed = f"data.ids=[{','.join(map(str, ids))}]"
    return ebjr_det.load_config(QUICKSTART, [listed, *CHEAP, "router.target=null", *changes])


@pytest.fixture(scope="module")
def routed(tmp_path_factory) -> Path:
    """A folder with a run `first` of scenes, a router that was fitted on it, and a run `second` of others."""
    folder = tmp_path_factory.mktemp("routed")
    ebjr_det.evaluate(scenes(range(1, 25), "router.score=nms_disagreement"), folder / "first")
    settings = ebjr_det.FitSettings(score="learned_features", folds=2, replicates=5)
    router = ebjr_det.fit_router(folder / "first", folder / "router.safetensors", settings).path
    ebjr_det.evaluate(scenes(range(31, 43), f"router.file={router}", "router.score=null"), folder / "second")
    return folder


@pytest.mark.parametrize(("run", "first"), [("first", 1), ("second", 31)])
def test_a_loaded_pair_has_all_that_its_evaluation_records(run, first, routed):
    """With raw candidates and the student's own features, in the batches of the run."""
    pair = ebjr_det.load(routed / run, changes=CHEAP)
    recorded = load_run(routed / run / "run.npz").scores
    pictures = [draw_scene("test", index - 1) for index in range(first, first + 4)]
    output, decision = pair.judge([pair.student.preprocess(picture) for picture in pictures])
    agreeing = assert_all_agree(pair, output, {name: v[:4] for name, v in recorded.items()}, "detection")
    assert ({"learned", "learned_features", "class_curvature"} <= agreeing) == (run == "second")
    assert agreeing > {"nms_disagreement", "energy_curvature", "rival_class", "best_margin"}
    np.testing.assert_array_equal(pair.deferral_scores(output), decision.scores)
    np.testing.assert_array_equal(pair.deferral_scores(output, pair.score_name), decision.scores)


def test_the_threshold_of_one_call_and_who_answered(routed):
    pair = ebjr_det.load(routed / "second", changes=CHEAP)
    pictures, own = [draw_scene("test", index) for index in range(30, 34)], pair.threshold
    everything, nothing = (pair(pictures, threshold=end) for end in (-np.inf, np.inf))
    assert everything.answered_by == ("teacher",) * 4
    assert nothing.answered_by == ("student",) * 4
    answer = pair(pictures)
    assert (answer.decision.threshold, pair.threshold) == (own, own)
    expected = tuple("teacher" if score > own else "student" for score in answer.decision.scores)
    assert answer.answered_by == expected
    np.testing.assert_array_equal(answer.decision.scores, everything.decision.scores)
    with pytest.raises(InvalidInput, match="NaN"):
        pair(pictures, threshold=np.nan)


def test_an_exported_pair_has_them_too(exported_scenes):
    """Without torch: its student tells all class logits and raw candidates."""
    pair = ebjr_det.load(exported_scenes)
    output, decision = pair.judge([pair.student.preprocess(draw_scene("test", index)) for index in range(3)])
    np.testing.assert_array_equal(pair.deferral_scores(output, "free_energy"), decision.scores)
    router = build_router("nms_disagreement")
    for name in ("nms_disagreement", "energy_curvature", "rival_class", "crowding"):
        np.testing.assert_array_equal(
            pair.deferral_scores(output, name), router.deferral_scores(output, name), err_msg=name
        )


LOGITS = Logits.one_row(np.random.default_rng(0).normal(size=(6, 4)))
ANSWERS = Output([None] * 6, LOGITS)


def joined(score) -> JointModel:
    return JointModel(Saved(ANSWERS), Saved(ANSWERS), score, 0.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: build_router("class_curvture"), "Did you mean `class_curvature`"),
        (lambda: build_router("doubt"), "It is `energy_curvature` now"),
        (lambda: build_router("class_curvature"), "class counts"),
        (lambda: build_router("learned"), "Expected a fitted router for score `learned`"),
        (lambda: build_router("entropy", topk=3), "Did you mean `top_k`"),
        (lambda: build_router("entropy", options={"temperature": 2.0}), "an option of score `entropy`"),
        (lambda: build_router("entropy", task="detektion"), "Did you mean `detection`"),
        (lambda: build_router("entropy").deferral_scores(ANSWERS, "entropi"), "Did you mean `entropy`"),
        (lambda: joined("class_curvature"), "ebjr_det.build_router"),
        (lambda: joined(build_router("set_curvature", class_names=COCO)), "which looks at the whole set"),
    ],
)
def test_what_is_wrong_is_one_line(call, says):
    with pytest.raises(ConfigError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_scores_of_a_function_that_are_not_finite_are_refused():
    joint = JointModel(Saved(ANSWERS), Saved(ANSWERS), lambda output: np.full(6, np.nan), 0.0)
    with pytest.raises(InvalidInput, match="finite scores"):
        joint.deferral_scores(ANSWERS)
    np.testing.assert_array_equal(
        joint.deferral_scores(ANSWERS, "margin"), ebjr_det.deferral_scores(ANSWERS, "margin")
    )


def test_a_score_by_name_is_enough_for_any_models():
    by_name = JointModel(Saved(ANSWERS), Saved(ANSWERS), "margin", -0.5)
    by_router = JointModel(Saved(ANSWERS), Saved(ANSWERS), build_router("margin"), -0.5)
    np.testing.assert_array_equal(by_name.judge(range(6))[1].scores, by_router.judge(range(6))[1].scores)
    output = Output([None] * 6, LOGITS, abstains=np.arange(6) == 2)
    joint = JointModel(Saved(output), Saved(output), "margin", 0.5)
    assert joint.judge(range(6))[1].defer.tolist() == [index == 2 for index in range(6)]
    assert joint.deferral_scores(output, "entropy").argmax() == 2
