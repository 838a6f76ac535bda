"""EfficientDet against effdet's own bench: the same boxes, and the row of logits behind each."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from common import SMALL_EFFICIENTDET
from PIL import Image
from torch import nn

from ebjr_det.core.errors import ConfigError
from ebjr_det.runtimes.macs import count_macs
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.networks.classes import coco_names
from ebjr_det.tasks.detection.networks.efficientdet import EfficientDetector, statistics

NEVER_USED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # ids that COCO's annotations never had
COCO = {key: name for key, name in coco_names().items() if key not in (0, *NEVER_USED)}
TEN = {number + 1: str(number) for number in range(10)}
SIZES = [(97, 61), (128, 128), (33, 190)]
SMALL = {"arch": "effdet/efficientdet_d0", "image_size": 128, "random_weights": True}


@dataclass
class Data:
    """The classes of a data set."""

    categories: dict[int, str] = field(default_factory=lambda: TEN)


def pictures(sizes=SIZES, seed=0):
    """Coloured blocks and noise: what gives boxes of many sizes."""
    generator = np.random.default_rng(seed)
    made = []
    for width, height in sizes:
        blocks = Image.fromarray(generator.integers(256, size=(5, 4, 3), dtype=np.uint8))
        pixels = np.asarray(blocks.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        noisy = pixels + generator.integers(-40, 41, size=pixels.shape)
        made.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return made


def small_detector(categories=TEN, sizes=SIZES, seed=0, **settings):
    """A small EfficientDet whose fresh weights are scaled so that scores are far from one another."""
    options = SMALL_EFFICIENTDET | settings.pop("options", {})
    torch.manual_seed(seed)
    detector = build_model(Data(categories), **SMALL | settings, options=options)
    spread(detector, pictures(sizes, seed))
    return detector


def normalized(detector: EfficientDetector, inputs):
    """The tensor that effdet's own parts take."""
    return detector.graph.normalize(torch.from_numpy(detector.batch(inputs)))


def spread(detector: EfficientDetector, images):
    """Batch norm re-estimated on the pictures, the class head scaled to logits of standard deviation 1.5."""
    network = detector.network
    batch = normalized(detector, [detector.preprocess(image) for image in images])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        network.train()
        for _ in range(4):
            network(batch)
        network.eval()
        deviation = torch.cat([level.flatten() for level in network(batch)[0]]).std()
        network.class_net.predict.conv_pw.weight.mul_(1.5 / deviation)


def bench_answers(detector: EfficientDetector, inputs):
    """effdet's bench on the same tensor: [images, max_detections, (x1, y1, x2, y2, score, class from 1)]."""
    from effdet import DetBenchPredict  # only after our own import, which silences effdet's

    info = {
        "img_scale": torch.tensor([one.scale for one in inputs]),
        "img_size": torch.tensor([one.size for one in inputs]),
    }
    with torch.inference_mode():
        return DetBenchPredict(detector.network).eval()(normalized(detector, inputs), info).numpy()


def assert_boxes(boxes, rows):
    """Equal but for the rounding of exponentials, which torch leaves to the machine."""
    np.testing.assert_allclose(boxes, rows[:, :4].astype(np.float64), rtol=1e-6, atol=1e-4)


def assert_same(detector, inputs):
    """Every box, score and class as the bench has them, in its order; returns the output."""
    expected, output = bench_answers(detector, inputs), detector(inputs)
    for own, rows in zip(output.predictions, expected, strict=True):
        rows = rows[rows[:, 5] > 0]  # the rest pads
        assert len(own) == len(rows) > 0
        assert_boxes(own.boxes, rows)
        np.testing.assert_allclose(own.scores, rows[:, 4].astype(np.float64), rtol=1e-6)
        np.testing.assert_array_equal(own.labels + 1, rows[:, 5])
    return output


def sigmoid(values):
    return 1 / (1 + np.exp(-values.astype(np.float64)))


def assert_logits_give_the_scores(output):
    for found, rows, valid in zip(output.predictions, output.logits.values, output.logits.valid, strict=True):
        assert valid.sum() == len(found)
        assert valid[: len(found)].all()
        won = rows[np.arange(len(found)), found.labels]
        np.testing.assert_allclose(sigmoid(won), found.scores, rtol=1e-6, atol=1e-7)


# --- After the network ---


@pytest.mark.parametrize("sizes", [SIZES[:1], SIZES], ids=["one picture", "a batch"])
@pytest.mark.parametrize("most", [100, 7], ids=["100 boxes", "7 boxes"])
def test_boxes_scores_and_classes_are_those_of_effdets_bench(sizes, most):
    detector = small_detector(max_detections=most)
    output = assert_same(detector, [detector.preprocess(image) for image in pictures(sizes, seed=1)])
    assert_logits_give_the_scores(output)
    scores = output.predictions[0].scores
    assert scores.max() - scores.min() > 0.05, "scores that are all alike would show nothing"
    assert len({tuple(row) for row in output.logits.values[0]}) > 1


def test_soft_nms_gives_what_effdets_bench_gives_and_keeps_the_logits_before_it():
    detector = small_detector(soft_nms=True, options={"max_detection_points": 400})
    output = assert_same(detector, [detector.preprocess(image) for image in pictures(seed=1)])
    softened = 0
    for found, rows in zip(output.predictions, output.logits.values, strict=True):
        before = sigmoid(rows[np.arange(len(found)), found.labels])
        assert (found.scores <= before + 1e-6).all()
        softened += int((found.scores < before - 1e-3).sum())
    assert softened > 0


@pytest.mark.parametrize("points", [1, 30, 30690 - 1, 30690])
def test_any_number_of_candidates_that_the_bench_allows(points):
    """3,069 anchors of a picture of 128 pixels, 10 classes."""
    detector = small_detector(options={"max_detection_points": points})
    output = assert_same(detector, [detector.preprocess(pictures(seed=1)[0])])
    assert_logits_give_the_scores(output)


def test_fewer_boxes_than_allowed_are_not_padded():
    detector = small_detector(max_detections=200, options={"max_detection_points": 40})
    output = assert_same(detector, [detector.preprocess(image) for image in pictures(seed=1)])
    assert all(len(found) < 200 for found in output.predictions)
    assert output.logits.values.shape[1] == max(map(len, output.predictions))


def test_more_candidates_than_there_are_is_all_of_them():
    """effdet's bench cannot: its top-k asks for more than there is."""
    most, all_of_them = (
        small_detector(options={"max_detection_points": points}) for points in (10**6, 30690)
    )
    inputs = [most.preprocess(pictures(seed=1)[0])]
    with pytest.raises(RuntimeError):
        bench_answers(most, inputs)
    first, second = most(inputs).predictions[0], all_of_them(inputs).predictions[0]
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_the_answers_of_a_batch_are_those_of_its_pictures():
    detector = small_detector()
    inputs = [detector.preprocess(image) for image in pictures(seed=1)]
    together = detector(inputs).predictions
    for one, among in zip(inputs, together, strict=True):
        (alone,) = detector([one]).predictions
        np.testing.assert_allclose(alone.scores, among.scores, rtol=1e-4)


# --- Before the network ---


@pytest.mark.parametrize("name", ["tf_efficientdet_d0", "efficientdet_d0", "tf_efficientdet_lite0"])
def test_preprocessing_is_effdets_evaluation_pipeline(name):
    from effdet.data.transforms import transforms_coco_eval

    detector = build_model(Data(), **SMALL | {"arch": f"effdet/{name}"})
    mean, std = statistics(detector.config)
    transform = transforms_coco_eval((128, 128), use_prefetcher=True, mean=mean, std=std)
    sizes = [(97, 61), (61, 97), (1, 1), (641, 479), (128, 128), (3, 300)]
    images = pictures(sizes)
    inputs = [detector.preprocess(image) for image in images]
    batch = normalized(detector, inputs)
    for image, own, row in zip(images, inputs, batch, strict=True):
        pixels, told = transform(image, {})
        mean255, std255 = (torch.tensor([v * 255 for v in values]).view(3, 1, 1) for values in (mean, std))
        assert torch.equal(row, torch.from_numpy(pixels).float().sub_(mean255).div_(std255))
        assert (own.scale, own.size) == (told["img_scale"], image.size)


def test_lite_networks_have_statistics_of_their_own():
    default = statistics(build_model(Data(), **SMALL, options=SMALL_EFFICIENTDET).config)
    np.testing.assert_allclose(default, [(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)])
    lite = build_model(Data(), **SMALL | {"arch": "effdet/tf_efficientdet_lite0"})
    np.testing.assert_allclose(statistics(lite.config), [(0.5,) * 3, (0.5,) * 3])


@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (128 * 49, 1), (2, 6400)])
def test_a_picture_thinner_than_a_pixel_of_the_input_is_answered(size):
    detector = small_detector()
    image = Image.new("RGB", size, "red")
    one = detector.preprocess(image)
    assert one.size == size
    assert one.scale == pytest.approx(max(size) / 128)
    assert (one.pixels[:, 0, 0] == [255, 0, 0]).all()
    (found,) = detector([one]).predictions
    assert (found.boxes[:, 2:].max(axis=0) <= np.array(size) + 1e-3).all()


# --- Classes ---


def test_the_ten_unused_outputs_of_a_coco_detector_reach_nothing():
    detector = small_detector(COCO, max_detections=100)
    inputs = [detector.preprocess(image) for image in pictures(seed=1)]
    expected, output = bench_answers(detector, inputs), detector(inputs)
    assert output.logits.values.shape[2] == len(COCO) == 80
    ids, left = np.array(list(COCO)), 0
    with torch.inference_mode():
        kept = detector.detect(detector.forward(inputs), inputs)
    for index, (own, rows) in enumerate(zip(output.predictions, expected, strict=True)):
        used = ~np.isin(rows[:, 5], NEVER_USED)
        left += int((~used).sum())
        np.testing.assert_array_equal(ids[own.labels], rows[used, 5])
        assert_boxes(own.boxes, rows[used])
        np.testing.assert_array_equal(
            output.logits.values[index, : len(own)], kept[index].logits[used][:, ids - 1]
        )
    assert left > 0, "no unused output was among the best: nothing shown"
    assert_logits_give_the_scores(output)


def test_some_of_cocos_classes_are_told_by_a_detector_of_all():
    some = {key: COCO[key] for key in (1, 18, 90)}
    whole, part = small_detector(COCO), small_detector(some)
    part.network.load_state_dict(whole.network.state_dict())
    inputs = [whole.preprocess(pictures(seed=1)[0])]
    all_found, found = whole(inputs), part(inputs)
    ids = np.array(list(COCO))[all_found.predictions[0].labels]
    own = np.isin(ids, list(some))
    np.testing.assert_array_equal(np.array(list(some))[found.predictions[0].labels], ids[own])
    np.testing.assert_array_equal(found.predictions[0].boxes, all_found.predictions[0].boxes[own])
    columns = [list(COCO).index(key) for key in some]
    np.testing.assert_array_equal(
        found.logits.values[0, : own.sum()], all_found.logits.values[0, : len(own)][own][:, columns]
    )
    assert found.logits.values.shape[2] == 3


def test_ten_of_cocos_90_ids_were_never_used():
    assert len(coco_names()) == 91
    assert [key for key, name in coco_names().items() if name == "N/A"] == list(NEVER_USED)


def test_other_classes_than_the_detectors_are_refused():
    cells = {1: "WBC", 2: "RBC", 3: "Platelets"}
    with pytest.raises(ConfigError, match="knows, got `WBC`, `RBC`, `Platelets` among the data's 3"):
        build_model(Data(cells), **SMALL, options=SMALL_EFFICIENTDET, num_classes=90)
    with pytest.raises(ConfigError, match="2 classes"):
        build_model(Data(cells), **SMALL, options=SMALL_EFFICIENTDET, num_classes=2)
    misnamed = COCO | {1: "human"}
    with pytest.raises(ConfigError, match="knows, got `human` among the data's 80"):
        build_model(Data(misnamed), **SMALL, options=SMALL_EFFICIENTDET, num_classes=90)
    assert build_model(Data(cells), **SMALL, options=SMALL_EFFICIENTDET).classes.columns.tolist() == [0, 1, 2]
    assert build_model(Data(cells), **SMALL, options=SMALL_EFFICIENTDET, num_classes=3).classes.outputs == 3


def test_eighty_outputs_are_cocos_classes_in_order():
    detector = build_model(Data(COCO), **SMALL, options=SMALL_EFFICIENTDET, num_classes=80)
    assert detector.classes.columns.tolist() == list(range(80))


# --- The real networks ---


def macs_of(name):
    detector = build_model(Data(COCO), f"effdet/{name}", random_weights=True)
    side = detector.config.image_size[0]
    inputs = [detector.preprocess(Image.new("RGB", (640, 480), "grey"))]
    return side, count_macs(lambda: detector(inputs))


def test_d0_takes_2_492_billion_multiply_adds():
    side, macs = macs_of("tf_efficientdet_d0")
    assert (side, round(macs / 1e9, 3)) == (512, 2.492)


@pytest.mark.slow
def test_d4_takes_54_584_billion_multiply_adds():
    side, macs = macs_of("tf_efficientdet_d4")
    assert (side, round(macs / 1e9, 3)) == (1024, 54.584)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_d0_on_real_pictures_is_effdets_bench(shared_data, soft):
    paths = sorted((shared_data / "coco" / "val2017").glob("*.jpg"))[:4]
    images = [Image.open(path).convert("RGB") for path in paths]
    torch.manual_seed(0)
    options = {"max_detection_points": 1000 if soft else 5000}
    detector = build_model(
        Data(COCO), "effdet/tf_efficientdet_d0", random_weights=True, soft_nms=soft, options=options
    )
    spread(detector, images)
    inputs = [detector.preprocess(image) for image in images]
    expected, output = bench_answers(detector, inputs), detector(inputs)
    ids = np.array(list(COCO))
    for own, rows in zip(output.predictions, expected, strict=True):
        used = ~np.isin(rows[:, 5], (0, *NEVER_USED))
        np.testing.assert_array_equal(ids[own.labels], rows[used, 5])
        np.testing.assert_allclose(own.scores, rows[used, 4].astype(np.float64), rtol=1e-6)
        assert_boxes(own.boxes, rows[used])
