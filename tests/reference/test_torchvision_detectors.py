"""torchvision's detectors: the plain model's boxes, and logits from which each score follows by formula."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model
from torchvision.transforms.functional import to_tensor

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.joint import JointModel
from ebjr_det.core.scores import deferral_scores, log_odds_of
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.networks import torchvision_detectors
from ebjr_det.tasks.detection.networks.classes import coco_names

SSD = "ssdlite320_mobilenet_v3_large"
SMALL = {"min_size": 96, "max_size": 128}
DETECTORS = {
    SSD: {},
    "retinanet_resnet50_fpn": SMALL,
    "fcos_resnet50_fpn": SMALL,
    "fasterrcnn_mobilenet_v3_large_320_fpn": SMALL,
}
MOST = 30
NEVER_USED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO = {key: name for key, name in coco_names().items() if key not in (0, *NEVER_USED)}


@dataclass(eq=False)
class Data:
    """The classes of a data set."""

    categories: dict[int, str] = field(default_factory=lambda: {n: f"class {n}" for n in range(1, 7)})


def pictures(seed=1):
    generator = np.random.default_rng(seed)
    made = []
    for width, height in [(97, 61), (120, 150), (64, 64)]:
        blocks = Image.fromarray(generator.integers(256, size=(5, 4, 3), dtype=np.uint8))
        made.append(blocks.resize((width, height), Image.Resampling.BICUBIC))
    return made


@cache
def plain_network(name, outputs):
    """torchvision's own model with fresh weights that give many scores: what the other is compared with."""
    torch.manual_seed(0)
    limits = {"fasterrcnn": "box_detections_per_img"}
    network = get_model(
        name, weights=None, weights_backbone=None, num_classes=outputs,
        **{limits.get(name.split("_")[0], "detections_per_img"): MOST} | DETECTORS[name],
    ).eval()  # fmt: skip
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and "mobilenet" in name:  # else its signal fades
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
            module.train()
    images = [to_tensor(image) for image in pictures(0)]
    seen = []
    last = classifiers(network)
    for layer in last:
        layer.register_forward_hook(lambda *call: seen.append((call[2] - call[0].bias_).flatten()))
        layer.bias_ = layer.bias.detach().reshape(-1, *[1] * (2 * isinstance(layer, nn.Conv2d)))
    with torch.no_grad():
        for _ in range(3):
            seen.clear()
            network(images)
        for layer in last:
            layer.weight.mul_(2 / torch.cat(seen).std())
            layer._forward_hooks.clear()
    return network.eval()


def classifiers(network):
    """The last layers of the classification head."""
    if hasattr(network, "roi_heads"):
        return [network.roi_heads.box_predictor.cls_score]
    head = network.head.classification_head
    return [head.cls_logits] if hasattr(head, "cls_logits") else [part[-1] for part in head.module_list]


@cache
def both(name, data=None, **options):
    """The plain network, and the same weights as a model of the core: to be left as they are."""
    data = data or Data()
    plain = plain_network(name, 1 + (90 if data.categories == COCO else len(data.categories)))
    model = build_model(
        data, f"torchvision/{name}", random_weights=True, max_detections=MOST,
        options=DETECTORS[name] | options,
    )  # fmt: skip
    model.network.load_state_dict(plain.state_dict())
    return plain, model


def scores_by_formula(name, head):
    """[rows, outputs] from a head's outputs of one image, as the papers have it."""
    logits = head["cls_logits"].double()
    if name.startswith("fcos"):
        return (logits.sigmoid() * head["bbox_ctrness"].double().sigmoid()).sqrt()
    return logits.sigmoid() if name.startswith("retinanet") else logits.softmax(dim=-1)


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_scores_and_labels_are_the_plain_models(name):
    plain, model = both(name)
    images = pictures()
    with torch.inference_mode():
        expected = plain([to_tensor(image) for image in images])
    output = model([model.preprocess(image) for image in images])
    for own, found in zip(output.predictions, expected, strict=True):
        real = found["labels"].numpy() > 0  # sigmoid families have an output for the background
        assert real.sum() > 1
        np.testing.assert_allclose(own.boxes, found["boxes"].numpy()[real], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(own.scores, found["scores"].numpy()[real], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(own.labels, found["labels"].numpy()[real] - 1)
    assert len({len(found) for found in output.predictions} | {0}) > 1
    assert np.ptp(np.concatenate([found.scores for found in output.predictions])) > 0.05


@pytest.mark.parametrize("name", DETECTORS)
def test_each_row_of_logits_gives_its_score(name, monkeypatch):
    """Softmax over all outputs, the background included, which the core does not see: read it on the way."""
    _, model = both(name)
    rows, heads = [], []
    own_rows = model._with_logits
    monkeypatch.setattr(
        model,
        "_with_logits",
        lambda found, head: (heads.append((found, head)), rows.append(own_rows(found, head)))[1] or rows[-1],
    )
    output = model([model.preprocess(image) for image in pictures()])
    for index, ((_, head), (_, scores, labels, logits)) in enumerate(zip(heads, rows, strict=True)):
        whole = torch.from_numpy(logits).double()
        match = [(head["cls_logits"] == row).all(dim=1).nonzero().flatten().tolist() for row in whole.float()]
        assert all(match), "every row is one of the head's"
        expected = scores_by_formula(name, head)
        for place, (score, label) in enumerate(zip(scores, labels, strict=True)):
            assert any(abs(float(expected[row, label]) - score) < 1e-6 for row in match[place])
        real = labels > 0
        np.testing.assert_array_equal(output.logits.values[index, : real.sum()], logits[real][:, 1:])
        assert output.logits.valid[index].sum() == real.sum()


@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def test_a_row_of_logits_is_that_of_the_very_box(name, monkeypatch):
    """The head's own box at the row, decoded, is the box that was found."""
    _, model = both(name)
    network, heads = model.network, []
    by_image = torchvision_detectors._by_image
    monkeypatch.setattr(
        torchvision_detectors, "_by_image", lambda head: (heads.append(by_image(head)), heads[-1])[1]
    )
    anchors = []
    hook = network.anchor_generator.register_forward_hook(lambda *call: anchors.append(call[2]))
    image = pictures()[0]
    output = model([model.preprocess(image)])
    hook.remove()
    ((head,),), ((places,),) = heads, anchors
    if name.startswith("fcos"):
        decoded = network.box_coder.decode(head["bbox_regression"], places)
    else:
        decoded = network.box_coder.decode_single(head["bbox_regression"], places)
    inner = network.transform([to_tensor(image)])[0].image_sizes[0]
    ratio = torch.tensor([image.width / inner[1], image.height / inner[0]] * 2)
    limit = torch.tensor([image.width, image.height] * 2)
    decoded = torch.minimum((decoded * ratio).clamp(min=0), limit)
    (found,), values = output.predictions, output.logits.values[0]
    for box, row in zip(found.boxes, values, strict=True):
        at = (head["cls_logits"][:, 1:] == torch.from_numpy(row)).all(dim=1).nonzero().flatten()
        assert any(np.allclose(decoded[place], box, atol=1e-2) for place in at.tolist())


@pytest.mark.parametrize(("name", "data"), [*((name, None) for name in DETECTORS), (SSD, COCO)])
def test_log_odds_are_those_of_the_heads_own_probabilities(name, data):
    """A box's score is the probability of its class; whatever is no class of the data is the background."""
    _, model = both(name, None if data is None else Data(data))
    output = model([model.preprocess(image) for image in pictures()])
    assert output.logits.head == ("sigmoid" if name.startswith(("retinanet", "fcos")) else "softmax")
    odds = log_odds_of(output.logits)
    for found, rows in zip(output.predictions, odds.values, strict=True):
        p = 1 / (1 + np.exp(-rows[np.arange(len(found)), found.labels]))
        if not name.startswith("fcos"):  # whose score is the root of it times the centre-ness
            np.testing.assert_allclose(p, found.scores, rtol=1e-4, atol=1e-6)
    p = np.where(odds.valid[..., None], 1 / (1 + np.exp(-odds.values)), 0.0)
    curvature = deferral_scores(output.logits, "energy_curvature")
    np.testing.assert_allclose(curvature, (p * (1 - p)).sum(axis=(1, 2)), rtol=1e-9)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_picture_without_boxes_has_no_logits(name):
    option = "box_score_thresh" if name.startswith("faster") else "score_thresh"
    _, model = both(name, **{option: 0.9999999})
    output = model([model.preprocess(image) for image in pictures()])
    assert [len(found) for found in output.predictions] == [0, 0, 0]
    assert not output.logits.valid.any()
    assert np.isfinite(deferral_scores(output.logits, "free_energy")).all()


def test_a_picture_without_boxes_among_others_keeps_the_others_right():
    name = "ssdlite320_mobilenet_v3_large"
    plain, _ = both(name)
    with torch.inference_mode():
        best = [float(found["scores"].max()) for found in plain([to_tensor(i) for i in pictures()])]
    between = float(np.sort(best)[:2].mean())
    _, strict = both(name, score_thresh=between)
    counts = [len(found) for found in strict([strict.preprocess(i) for i in pictures()]).predictions]
    assert counts.count(0) == 1
    assert counts.index(0) == int(np.argmin(best))


def test_a_call_that_failed_leaves_nothing_for_the_next():
    _, model = both("ssdlite320_mobilenet_v3_large")
    inputs = [model.preprocess(image) for image in pictures()]
    expected = model(inputs)
    stop = model.network.postprocess_detections
    model.network.postprocess_detections = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        model(inputs)
    model.network.postprocess_detections = stop
    np.testing.assert_array_equal(model(inputs).logits.values, expected.logits.values)


def test_of_cocos_91_outputs_80_are_classes():
    plain, model = both("ssdlite320_mobilenet_v3_large", Data(COCO))
    with torch.inference_mode():
        (expected,) = plain([to_tensor(pictures()[0])])
    output = model([model.preprocess(pictures()[0])])
    labels = expected["labels"].numpy()
    used = np.isin(labels, list(COCO))
    assert used.sum() < len(used), "nothing shown: no unused output was among the best"
    np.testing.assert_array_equal(np.array(list(COCO))[output.predictions[0].labels], labels[used])
    assert output.logits.values.shape[2] == 80


def test_it_joins_an_efficientdet():
    _, student = both("ssdlite320_mobilenet_v3_large")
    parts = {"backbone_name": "lcnet_050", "backbone_args": {}, "fpn_channels": 48, "fpn_cell_repeats": 1}
    teacher = build_model(
        Data(), "effdet/efficientdet_d0", image_size=128, random_weights=True, options=parts
    )

    def score(answer):
        return deferral_scores(answer.logits, "free_energy")

    values = score(student([student.preprocess(image) for image in pictures()]))
    joint = JointModel(student, teacher, score, float(np.sort(values)[:2].mean()))
    output = joint(pictures())
    assert output.decision.defer.sum() == 2
    for image, found, defer in zip(pictures(), output.predictions, output.decision.defer, strict=True):
        alone = teacher if defer else student
        (expected,) = alone([alone.preprocess(image)]).predictions
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-4)


def test_what_torchvision_does_not_take_is_refused():
    with pytest.raises(ConfigError, match="ssdlite320_mobilenet_v3_large"):
        build_model(Data(), "torchvision/ssdlite320_mobilenet_v3", random_weights=True)
    with pytest.raises(ConfigError, match="mask"):
        build_model(Data(), "torchvision/maskrcnn_resnet50_fpn", random_weights=True)
    with pytest.raises(ConfigError, match=r"got `scor_thresh`. Did you mean `score_thresh`"):
        build_model(
            Data(), "torchvision/ssdlite320_mobilenet_v3_large", random_weights=True,
            options={"scor_thresh": 0.1},
        )  # fmt: skip
    with pytest.raises(ConfigError, match="`image_size` and `soft_nms` with effdet"):
        build_model(Data(), "torchvision/ssdlite320_mobilenet_v3_large", random_weights=True, image_size=320)
