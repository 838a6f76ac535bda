"""Anchors, boxes, selection and suppression against effdet and torchvision."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from common import SMALL_EFFICIENTDET
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from torchvision.ops import batched_nms

from ebjr_det.core.errors import InvalidInput
from ebjr_det.tasks.detection.networks.anchors import Anchors, clip_boxes, decode_boxes
from ebjr_det.tasks.detection.networks.detector import _select_on_device
from ebjr_det.tasks.detection.networks.efficientdet import build_network
from ebjr_det.tasks.detection.networks.letterbox import Letterbox
from ebjr_det.tasks.detection.networks.selection import best_pairs
from ebjr_det.tasks.detection.networks.suppression import Suppression, sigmoid, suppress, suppress_softly
from ebjr_det.tasks.detection.settings import DetectorSection

assert build_network  # its module silences effdet's import
import effdet.anchors  # noqa: E402
from effdet import DetBenchPredict, get_efficientdet_config  # noqa: E402
from effdet.soft_nms import batched_soft_nms  # noqa: E402

NAMES = [*(f"tf_efficientdet_d{size}" for size in range(5)), "tf_efficientdet_lite0"]
SOFT_NMS = {"method_gaussian": True, "iou_threshold": 0.3, "score_threshold": 0.001}  # as in effdet's bench
ULP = 2.4e-7  # relative: two roundings of float32

# --- Anchors and boxes ---


def assert_anchors(config):
    own = Anchors.of_config(config)
    expected = effdet.anchors.Anchors.from_config(config).boxes.numpy()
    assert own.boxes.dtype == np.float32
    np.testing.assert_array_equal(own.boxes, expected)
    again = Anchors(**json.loads(json.dumps(dataclasses.asdict(own))))
    assert again == own
    np.testing.assert_array_equal(again.boxes, expected)


@pytest.mark.parametrize("name", NAMES)
def test_anchors_are_effdets_to_the_bit(name):
    assert_anchors(get_efficientdet_config(name))


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": (384, 640)},
        {"image_size": (640, 128)},
        {"aspect_ratios": [0.5, 1.0, 3.0]},
        {"anchor_scale": [1.0, 2.0, 3.0, 4.0, 5.5]},
        {"num_scales": 1, "aspect_ratios": [(1.0, 1.0)]},
        {"min_level": 2, "max_level": 6, "anchor_scale": 1.5},
    ],
)
def test_anchors_of_other_settings_are_too(changes):
    config = get_efficientdet_config("tf_efficientdet_d0")
    for key, value in {"image_size": (256, 256), **changes}.items():
        config[key] = value
    assert_anchors(config)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 4.0]))
def test_boxes_are_effdets_but_for_the_rounding_of_an_exponential(seed, spread):
    generator = np.random.default_rng(seed)
    offsets = (spread * generator.standard_normal((50, 4))).astype(np.float32)
    anchors = generator.uniform(-20, 500, (50, 4)).astype(np.float32)
    anchors[:, 2:] = anchors[:, :2] + np.abs(anchors[:, 2:])
    got = decode_boxes(offsets, anchors)
    expected = effdet.anchors.decode_box_outputs(*map(torch.from_numpy, (offsets, anchors)), True).numpy()
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=ULP * np.abs(expected).max())
    size = torch.tensor([300, 200]) / torch.tensor(0.7)
    np.testing.assert_array_equal(
        clip_boxes(got, size.numpy()), effdet.anchors.clip_boxes_xyxy(torch.from_numpy(got), size).numpy()
    )


@pytest.mark.parametrize("large", [88, 1000])
def test_a_side_without_bounds_is_clipped_to_the_picture(large):
    offsets, anchors = np.array([[0, 0, large, large]], np.float32), np.array([[0, 0, 8, 8]], np.float32)
    assert clip_boxes(decode_boxes(offsets, anchors), (30, 20)).tolist() == [[0, 0, 30, 20]]


# --- Selection ---

few_values = st.sampled_from([-np.inf, -2.0, -1e-45, -0.0, 0.0, 0.5, 3.0, np.inf])
shapes = st.tuples(st.integers(1, 60), st.integers(1, 7))


@given(
    arrays.arrays(np.float32, shapes, elements=few_values | st.floats(-9, 9, width=32)), st.integers(1, 300)
)
def test_best_pairs_are_the_largest_in_order_and_equal_ones_in_the_arrays(logits, most):
    anchors, classes = best_pairs(logits, most)
    for own, told in zip((anchors, classes), best_pairs(logits, most, logits.max(axis=1)), strict=True):
        np.testing.assert_array_equal(own, told)
    expected = np.argsort(-logits.ravel(), kind="stable")[:most]
    np.testing.assert_array_equal(anchors * logits.shape[1] + classes, expected)
    np.testing.assert_array_equal(
        logits[anchors, classes],
        torch.from_numpy(logits).flatten().topk(min(most, logits.size)).values.numpy(),
    )


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize(("shape", "most"), [((3000, 33), 200), ((3000, 33), 1500), ((3000, 33), 1562)])
def test_best_pairs_of_many_are_too(shape, most, decimals):
    logits = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    logits = logits if decimals is None else logits.round(decimals)
    anchors, classes = best_pairs(logits, most)
    np.testing.assert_array_equal(
        anchors * shape[1] + classes, np.argsort(-logits.ravel(), kind="stable")[:most]
    )
    np.testing.assert_array_equal(best_pairs(logits, most, logits.max(axis=1)), (anchors, classes))
    transposed = np.asfortranarray(logits)
    np.testing.assert_array_equal(best_pairs(transposed, most)[0], anchors)


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize("most", [1, 70, 900, 5000])
def test_a_device_selects_what_the_host_does_equal_logits_too(most, decimals):
    generator = np.random.default_rng(0)
    logits, offsets = generator.standard_normal((3, 400, 9)), generator.standard_normal((3, 400, 4))
    raw = [(logits if decimals is None else logits.round(decimals)).astype(np.float32), offsets]
    raw += [raw[0].max(axis=2)]
    found = _select_on_device(*map(torch.from_numpy, raw), most)
    for image, own in enumerate(found):
        for column, told in zip(
            own, Suppression(100, most).select(*(part[image] for part in raw)), strict=True
        ):
            np.testing.assert_array_equal(column, told)
    raw[0][1, 7, 3] = raw[2][1, 7] = np.nan
    with pytest.raises(InvalidInput, match="got NaN"):
        _select_on_device(*map(torch.from_numpy, raw), most)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("place", [0, 500, -1])
def test_one_nan_is_told(sign, place):
    logits = np.zeros((100, 7), np.float32)
    logits.ravel()[place] = np.copysign(np.float32(np.nan), sign)
    with pytest.raises(InvalidInput, match="got NaN"):
        best_pairs(logits, 5)
    with pytest.raises(InvalidInput, match="got NaN"):
        best_pairs(logits, 5, logits.max(axis=1))


@pytest.mark.parametrize("far", [-9, 9])
def test_maxima_that_a_network_rounds_otherwise_are_no_nan(far):
    logits = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    for rows, most in ((1, 1), (100, 20), (100, 500)):
        maxima = np.nextafter(logits[:rows].max(axis=1), np.float32(far))
        expected = best_pairs(logits[:rows], most)
        np.testing.assert_array_equal(best_pairs(logits[:rows], most, maxima), expected)


def test_no_anchors_give_no_pairs():
    assert [len(part) for part in best_pairs(np.zeros((0, 3), np.float32), 5)] == [0, 0]


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1))
def test_the_sigmoid_is_torchs_but_for_rounding_and_never_falls(logits):
    values = np.sort(np.array(logits, np.float32))
    np.testing.assert_allclose(sigmoid(values), torch.from_numpy(values).sigmoid().numpy(), ULP, 1e-37)
    assert (np.diff(sigmoid(values)) >= 0).all()


# --- Suppression ---


@st.composite
def crowds(draw, distinct=False):
    """Boxes of whole numbers, some without area, with scores of which many may be equal."""
    count = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    start = generator.integers(0, 12, (count, 2))
    boxes = np.concatenate([start, start + generator.integers(0, 9, (count, 2))], axis=1)
    scores = generator.integers(1, 6, count) / 8
    if distinct:
        scores = (generator.permutation(count) + 1) / (count + 1)
    classes = generator.integers(draw(st.sampled_from([1, 2, 90])), size=count)
    return boxes.astype(np.float32), scores.astype(np.float32), classes


@given(crowds(), st.sampled_from([1, 5, 100]), st.sampled_from([0.3, 0.5, 0.75]))
def test_hard_suppression_is_torchvisions_and_stops(crowd, most, iou):
    expected = batched_nms(*map(torch.from_numpy, crowd), iou)
    np.testing.assert_array_equal(suppress(*crowd, most, iou), expected[:most])


def test_hard_suppression_of_a_large_crowd_is_too():
    generator = np.random.default_rng(0)
    start = generator.uniform(0, 300, (3000, 2))
    boxes = np.concatenate([start, start + generator.uniform(5, 90, (3000, 2))], axis=1).astype(np.float32)
    scores = generator.permutation(3000).astype(np.float32) / 3000
    crowd = boxes, scores, generator.integers(4, size=3000)
    expected = batched_nms(*map(torch.from_numpy, crowd), 0.5).numpy()
    assert 100 < len(expected) < 3000
    np.testing.assert_array_equal(suppress(*crowd, 5000), expected)
    np.testing.assert_array_equal(suppress(*crowd, 100), expected[:100])


@pytest.mark.parametrize("tenths", [1, 3, 5, 6, 7, 9])
def test_an_overlap_of_just_the_bound_is_judged_as_torchvision_does(tenths):
    boxes = np.array([[0, 0, 10, 1], [0, 0, tenths, 1]], np.float32)
    crowd = boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    expected = batched_nms(*map(torch.from_numpy, crowd), tenths / 10)
    assert suppress(*crowd, 5, tenths / 10).tolist() == expected.tolist()


@given(crowds(distinct=True), st.sampled_from([1, 5, 100]))
def test_soft_suppression_is_effdets(crowd, most):
    expected, softened = batched_soft_nms(*map(torch.from_numpy, crowd), **SOFT_NMS)
    gaps = -np.diff(softened.numpy())
    assume((gaps > 1e-6).all())  # nearly equal scores stand in an order that rounding decides
    assume(np.abs(softened.numpy() - 0.001).min() > 1e-6)
    kept, found = suppress_softly(*crowd, most)
    np.testing.assert_array_equal(kept, expected[:most])
    np.testing.assert_allclose(found, softened[:most], rtol=1e-5)


def test_soft_suppression_leaves_the_scores_that_it_was_given():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [0, 0, 9, 9]], np.float32)
    scores = np.array([0.9, 0.8, 0.002], np.float32)
    kept, found = suppress_softly(boxes, scores, np.zeros(3, np.int64), 9)
    assert kept.tolist() == [0, 1], "the third sinks below a thousandth"
    np.testing.assert_allclose(found, [0.9, 0.8 * np.exp(-2 * (72 / 81) ** 2)], rtol=1e-6)
    np.testing.assert_array_equal(scores, np.array([0.9, 0.8, 0.002], np.float32))


def test_nothing_to_suppress():
    none = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    assert len(suppress(*none, 5)) == 0
    assert [len(part) for part in suppress_softly(*none, 5)] == [0, 0]


# --- A whole image ---


def raw_outputs(soft, **options):
    """An EfficientDet's logits and offsets of two pictures, and what effdet's bench makes of each."""
    torch.manual_seed(0)
    settings = DetectorSection(
        arch="effdet/tf_efficientdet_d0", image_size=256, soft_nms=soft, options=options
    )
    network = build_network("tf_efficientdet_d0", 90, settings)
    box = Letterbox((256, 256), (0.5,) * 3)
    noise = np.random.default_rng(0)
    pictures = [
        Image.fromarray(noise.integers(256, size=(5, 4, 3), dtype=np.uint8)).resize(shape)
        for shape in [(300, 200), (90, 140)]
    ]
    inputs = [box(picture) for picture in pictures]
    batch = torch.from_numpy(np.stack([one.pixels for one in inputs])).float() / 128 - 1
    info = {
        "img_scale": torch.tensor([one.scale for one in inputs]),
        "img_size": torch.tensor([one.size for one in inputs]),
    }
    with torch.inference_mode():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.5
        for _ in range(4):
            network.train()(batch)
        logits = torch.cat([level.flatten() for level in network.eval()(batch)[0]])
        network.class_net.predict.conv_pw.weight.mul_(1.5 / logits.std())
        sides = network(batch)
        answers = DetBenchPredict(network).eval()(batch, info).numpy()
    flat = [
        torch.cat([x.permute(0, 2, 3, 1).reshape(2, -1, width) for x in side], 1).numpy()
        for side, width in zip(sides, (90, 4), strict=True)
    ]
    return Anchors.of_config(network.config).boxes, inputs, flat, answers


@pytest.mark.parametrize(
    ("soft", "most", "options"),
    [(False, 600, SMALL_EFFICIENTDET), (True, 600, SMALL_EFFICIENTDET), (False, 5000, {})],
    ids=["hard", "soft", "a whole D0"],
)
def test_an_image_gets_the_answer_of_effdets_bench(soft, most, options):
    anchors, inputs, (logits, offsets), answers = raw_outputs(soft, max_detection_points=most, **options)
    own = Suppression(100, most, soft)
    for row, offset, one, expected in zip(logits, offsets, inputs, answers, strict=True):
        kept = own(row, offset, anchors, one.scale, one.size)
        assert [part.dtype for part in kept] == [*[np.float32] * 2, np.int64, np.float32, np.float64]
        expected = expected[expected[:, 5] > 0]
        assert len(np.unique(expected[:, 4])) > 0.9 * len(expected) > 9
        np.testing.assert_array_equal(kept.classes + 1, expected[:, 5])
        np.testing.assert_allclose(kept.scores, expected[:, 4], rtol=1e-5 if soft else ULP)
        np.testing.assert_allclose(kept.boxes, expected[:, :4], rtol=1e-6, atol=1e-3)
        won = kept.logits[np.arange(len(kept.classes)), kept.classes]
        assert (kept.scores <= sigmoid(won) + 1e-7).all()
        assert kept.support.max() > 0


def test_the_second_step_asks_for_the_rows_of_what_stays_and_only_once():
    anchors, (one, _), (logits, offsets), _ = raw_outputs(
        False, max_detection_points=600, **SMALL_EFFICIENTDET
    )
    own, asked = Suppression(7, 600), []
    found = own.select(logits[0], offsets[0])
    assert len(found.anchors) == 600
    np.testing.assert_array_equal(found.logits, logits[0][found.anchors, found.classes])

    def rows(of):
        asked.append(of)
        return logits[0][of]

    in_steps = own.keep(found, anchors, one.scale, one.size, rows)
    assert [len(of) for of in asked] == [7]
    for part, whole in zip(in_steps, own(logits[0], offsets[0], anchors, one.scale, one.size), strict=True):
        np.testing.assert_array_equal(part, whole)
