"""Agreement of raw candidates with kept boxes: by hand, through the adapters, and as a deferral score."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from common import SMALL_EFFICIENTDET
from PIL import Image

from ebjr_det.api.scores import list_scores
from ebjr_det.config import RouterSection
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.scores import SCORES
from ebjr_det.core.types import Logits, Output, PairedRun
from ebjr_det.inference.scoring import Scoring
from ebjr_det.tasks.detection.boxes import Boxes
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.support import support_of
from ebjr_det.tasks.detection.router import DetectionRouting
from ebjr_det.tasks.detection.routing.box_scores import BOX_SCORES, ClassCounts, box_score_of, box_scores
from ebjr_det.tasks.detection.routing.features import ClassHistory
from ebjr_det.tasks.detection.routing.fitted import CANDIDATES, DetectionRouter
from ebjr_det.tasks.detection.routing.rescaling import KNOTS, Rescaling

NAME = "nms_disagreement"


@dataclass
class Data:
    """The classes of a data set."""

    categories: dict[int, str] = field(default_factory=lambda: {1: "cat", 5: "cup", 9: "dog"})


def support(boxes, scores, classes, kept):
    boxes, scores = np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32)
    return support_of(boxes, scores, np.array(classes, np.int64), np.array(kept, np.int64))


def detections(scores, labels=None, backing=None):
    count = len(scores)
    boxes = np.tile([0.0, 0.0, 10.0, 10.0], (count, 1))
    labels = np.zeros(count, np.intp) if labels is None else np.array(labels, np.intp)
    return Detections(boxes, np.array(scores), labels, None if backing is None else np.array(backing))


def output_of(*predictions):
    longest = max(1, *map(len, predictions))
    valid = np.arange(longest) < np.array([[len(own)] for own in predictions])
    return Output(predictions, Logits(np.zeros((*valid.shape, 2)), valid))


# --- Candidates ---


def test_support_is_the_sum_of_overlap_times_score_over_the_others_of_the_class():
    boxes = [
        [0, 0, 10, 10],  # kept
        [0, 0, 10, 8],  # IoU .8
        [0, 4, 10, 14],  # IoU 60 / 140, too far
        [0, 0, 10, 10],  # the same place, another class
        [50, 50, 60, 60],  # kept, alone
        [0, 1, 10, 11],  # IoU 90 / 110 with the first
    ]
    got = support(boxes, [0.9, 0.5, 0.7, 0.8, 0.6, 0.25], [0, 0, 0, 1, 0, 0], [0, 4])
    np.testing.assert_allclose(got, [0.8 * 0.5 + 90 / 110 * 0.25, 0], rtol=1e-6)


def test_an_overlap_of_exactly_one_half_does_not_count():
    assert support([[0, 0, 2, 1], [0, 0, 1, 1]], [0.9, 0.9], [0, 0], [0]) == [0]


def test_no_candidates_no_kept_boxes_and_boxes_without_area_have_support_0():
    assert len(support([], [], [], [])) == 0
    assert len(support([[0, 0, 1, 1]], [0.5], [0], [])) == 0
    assert support([[3, 3, 3, 3]] * 2, [0.5, 0.5], [0, 0], [0]) == [0]
    assert support([[0, 0, 1e-30, 1e-30]] * 2, [0.5, 0.5], [0, 0], [0]) == [0], "its area underflows"


def test_support_is_that_of_a_slow_calculation_in_float64():
    generator = np.random.default_rng(0)
    start = generator.uniform(0, 40, size=(300, 2))
    boxes = np.concatenate([start, start + generator.uniform(10, 30, size=(300, 2))], axis=1)
    scores, classes = generator.random(300), generator.integers(3, size=300)
    kept = generator.permutation(300)[:40]
    expected = []
    for one in kept:
        inside = np.minimum(boxes[one, 2:], boxes[:, 2:]) - np.maximum(boxes[one, :2], boxes[:, :2])
        shared = inside.clip(0).prod(axis=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        iou = shared / (areas + areas[one] - shared)
        near = (iou > 0.5) & (classes == classes[one]) & (np.arange(300) != one)
        expected.append((iou * scores)[near].sum())
    assert max(expected) > 1
    np.testing.assert_allclose(support_of(boxes, scores, classes, kept), expected)


# --- The values that carry it ---


@pytest.mark.parametrize("wrong", [[0.1], [[0.1], [0.2]], [0.1, -0.1], [0.1, np.nan], [0.1, np.inf]])
def test_support_that_is_none_is_refused(wrong):
    with pytest.raises(InvalidInput, match="Expected 2 finite numbers from 0 as `support`"):
        detections([0.5, 0.4], backing=wrong)


def test_outputs_that_are_no_class_leave_with_their_support():
    mapped = ClassMap(np.array([2, 0]), 3)
    boxes, scores = np.zeros((3, 4), np.float32), np.array([0.9, 0.8, 0.7], np.float32)
    found = [(boxes, scores, np.array([0, 1, 2]), np.zeros((3, 3), np.float32))]
    (own,) = mapped.output(found, [np.array([1.0, 2.0, 3.0])]).predictions
    assert own.support.tolist() == [1, 3]
    assert mapped.output(found).predictions[0].support is None


def test_boxes_keep_support_through_sorting_and_only_where_every_image_has_it():
    first, second = detections([0.2, 0.9], backing=[2.0, 9.0]), detections([0.5], backing=[5.0])
    assert Boxes.of_predictions([first, second]).support.tolist() == [9, 2, 5]
    assert Boxes.of_predictions([first, detections([0.5])]).support is None
    assert Boxes.of_predictions([detections([], backing=[])]).support.shape == (0,)


# --- The adapters ---


def small(soft=False):
    torch.manual_seed(0)
    return build_model(
        Data(),
        "effdet/efficientdet_d0",
        random_weights=True,
        image_size=128,
        soft_nms=soft,
        options=SMALL_EFFICIENTDET | {"max_detection_points": 300},
    )


def answers(model):
    pixels = np.random.default_rng(0).integers(256, size=(90, 120, 3), dtype=np.uint8)
    inputs = [model.preprocess(Image.fromarray(pixels))] * 2
    return model(inputs)


def test_an_efficientdet_tells_support_that_its_kept_boxes_do_not_explain(monkeypatch):
    from ebjr_det.tasks.detection.networks import suppression

    seen = []
    monkeypatch.setattr(suppression, "support_of", lambda *parts: seen.append(parts) or support_of(*parts))
    output = answers(small())
    for own, (boxes, scores, classes, kept) in zip(output.predictions, seen, strict=True):
        assert len(kept) == len(own) < len(boxes) == len(scores) == len(classes)
        np.testing.assert_array_equal(own.scores, scores[kept].astype(np.float64))
        np.testing.assert_array_equal(own.labels, classes[kept])
        np.testing.assert_array_equal(own.support, support_of(boxes, scores, classes, kept))
        assert (own.support > 0).any()


def test_soft_nms_tells_support_of_scores_before_softening():
    from ebjr_det.tasks.detection.networks import suppression

    model, seen = small(soft=True), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppression, "support_of", lambda *parts: seen.append(parts) or support_of(*parts))
        output = answers(model)
    softened = [
        own.scores < parts[1][parts[3]] - 1e-3 for own, parts in zip(output.predictions, seen, strict=True)
    ]
    assert all(found.any() for found in softened)
    assert all(own.support is not None for own in output.predictions)


def test_torchvision_returns_no_candidates():
    model = build_model(Data(), "torchvision/ssdlite320_mobilenet_v3_large", random_weights=True)
    output = answers(model)
    assert all(own.support is None for own in output.predictions)
    assert NAME not in DetectionRouting().plain_scores(output, ())
    with pytest.raises(ConfigError, match="raw candidates"):
        Scoring.load("detection", RouterSection(score=NAME)).scores(output)


# --- The score ---


def test_a_box_that_stands_alone_counts_whole_and_one_with_company_less():
    images = [
        detections([0.5], backing=[0.0]),
        detections([0.9, 0.5], backing=[8.0, 1.0]),
        detections([], backing=[]),
    ]
    got = box_scores(Boxes.of_predictions(images))[NAME]
    np.testing.assert_allclose(got, [0.5, 0.9 / 9 + 0.5 / 2, 0])


def test_boxes_without_support_have_every_other_score_and_this_one_says_why_not():
    boxes = Boxes.of_predictions([detections([0.5])])
    assert NAME not in box_scores(boxes, whole_set=True)
    with pytest.raises(ConfigError, match="a result file holds no others") as caught:
        box_score_of(NAME, boxes, None)
    assert len(str(caught.value).splitlines()) == 1
    assert {NAME} == CANDIDATES
    assert not any(BOX_SCORES[name].candidates for name in box_scores(boxes))


def test_scoring_has_it_beside_the_others_and_alone():
    output = output_of(detections([0.9, 0.5], backing=[8.0, 1.0]), detections([0.4], backing=[0.0]))
    beside = Scoring.load("detection", RouterSection()).scores(output)
    assert {NAME, "energy_curvature", "free_energy"} <= set(beside)
    chosen = Scoring.load("detection", RouterSection(score=NAME))
    np.testing.assert_array_equal(chosen.score(output), beside[NAME])
    np.testing.assert_array_equal(chosen.scores(output)[NAME], beside[NAME])


def router(rescaling):
    """A fitted router of two classes without a forest."""
    ones, wide = np.ones(2), np.ones((2, len(KNOTS)))
    history = ClassHistory(ones, ones, ones, wide, wide)
    return DetectionRouter(ClassCounts(ones, 5, ones), history, None, rescaling)


def test_a_rescaling_is_undone():
    slopes = np.stack([2 * KNOTS + 1, KNOTS / 3 - 2])
    rescaling, scores = Rescaling(slopes), [0.9, 0.5, 0.01, 1e-6]
    output = output_of(detections(scores, [0, 1, 0, 1], backing=[1.0, 2.0, 3.0, 4.0]))
    changed = rescaling.output(output)
    assert np.abs(changed.predictions[0].scores - scores).min() > 1e-7
    assert changed.predictions[0].support.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(rescaling.undone(changed).predictions[0].scores, scores, rtol=1e-9)


@pytest.mark.parametrize("rescaling", [None, Rescaling(np.stack([2 * KNOTS + 1, KNOTS / 3 - 2]))])
def test_a_fitted_router_scores_live_what_the_run_held_whatever_it_rescales(rescaling):
    """Its threshold comes from the run's own score, and records cannot be scored again."""
    output = output_of(
        detections([0.9, 0.5], [0, 1], backing=[8.0, 1.0]), detections([0.4], [1], backing=[0.3])
    )
    of_run = DetectionRouting().plain_scores(output, ())[NAME]
    fitted = router(rescaling)
    rescaled = fitted.rescale(output)
    np.testing.assert_allclose(fitted.scores(rescaled)[NAME], of_run, rtol=1e-9)
    np.testing.assert_allclose(fitted.score(NAME, rescaled), of_run, rtol=1e-9)


def test_a_fitted_router_has_it_not_from_records():
    none = {"counts": np.array([1]), "box": np.ones((1, 4)), "score": np.ones(1), "label": np.zeros(1)}
    run = PairedRun("detection", ("a",), {}, none, none)
    found = router(None).scores_of_set(run)
    assert NAME not in found
    assert "set_curvature" in found


# --- The list ---


def test_every_score_is_listed_with_what_it_needs():
    listed = {(score.task, score.name): score for score in list_scores()}
    assert len(listed) == len(list_scores())
    assert {name for task, name in listed if task == "any"} == set(SCORES)
    assert {name for task, name in listed if task == "detection"} == {
        *BOX_SCORES,
        "learned",
        "learned_features",
        "set_learned",
    }
    needs = {key: score.needs for key, score in listed.items()}
    assert needs["any", "free_energy"] == ()
    assert needs["any", "rival_class"] == ("all class logits",)
    assert needs["detection", NAME] == ("candidates",)
    assert needs["detection", "class_curvature"] == ("class counts",)
    assert needs["detection", "set_curvature"] == ("class counts", "whole set")
    assert needs["detection", "learned"] == needs["classification", "learned"] == ("a fitted router",)
    assert needs["detection", "learned_features"] == ("a fitted router",)
