"""What every adapter of a detector owes the core, whatever library and head stand behind it."""

import os

import numpy as np
import pytest
import torch
from common import SMALL_EFFICIENTDET
from scipy.special import expit, softmax
from tiny_detectors import CLASSES, WORDS, Data, pictures, save_transformers, spread
from tiny_graphs import query_rows, write_graph, yolo_rows

from ebjr_det.core.errors import EbjrError
from ebjr_det.core.scores import deferral_scores
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks.contract import facts_of
from ebjr_det.tasks.detection.model import build_model

SIZE = (64, 64)
NAMES = {"names": str(dict(enumerate(WORDS)))}


def effdet(folder):
    options = {**SMALL_EFFICIENTDET}
    return {"arch": "effdet/efficientdet_d0", "image_size": 128, "options": options, "random_weights": True}


def torchvision(folder):
    return {"arch": "torchvision/ssdlite320_mobilenet_v3_large", "random_weights": True}


def rt_detr(folder):
    return {"arch": f"transformers/{save_transformers('rt_detr', folder)}"}


def yolos(folder):
    return {"arch": f"transformers/{save_transformers('yolos', folder)}"}


def graph_of_yolo(folder):
    rows = yolo_rows(CLASSES, size=SIZE)
    return {"arch": f"onnx/{write_graph(folder / 'a.onnx', {'o': rows.T}, SIZE, metadata=NAMES)}"}


def graph_of_objectness(folder):
    rows = yolo_rows(CLASSES, size=SIZE, objectness=True)
    return {"arch": f"onnx/{write_graph(folder / 'a.onnx', {'o': rows}, SIZE, metadata=NAMES, batch=1)}"}


def graph_of_queries(folder):
    logits, boxes = query_rows(CLASSES, softmax=True)
    return {"arch": f"onnx/{write_graph(folder / 'a.onnx', {'l': logits, 'b': boxes}, SIZE, metadata=NAMES)}"}


def graph_of_ssd(folder):
    logits, boxes = query_rows(CLASSES, rows=1100, softmax=True)
    boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    return {"arch": f"onnx/{write_graph(folder / 'a.onnx', {'l': logits, 'b': boxes}, SIZE, metadata=NAMES)}"}


def ultralytics(folder):
    library = pytest.importorskip("ultralytics", reason="the extra `ultralytics` (AGPL-3.0) is not installed")
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    network = type(library.YOLO("yolo11n.yaml").model)("yolo11n.yaml", nc=CLASSES, verbose=False)
    spread(network)
    network.names, network.args = dict(enumerate(WORDS)), {"imgsz": 64, "task": "detect"}
    torch.save({"model": network, "train_args": {"imgsz": 64, "task": "detect"}}, folder / "a.pt")
    return {"arch": f"ultralytics/{folder / 'a.pt'}", "trust": True}


ADAPTERS = (
    effdet, torchvision, rt_detr, yolos, graph_of_yolo, graph_of_objectness, graph_of_queries, graph_of_ssd,
    ultralytics,
)  # fmt: skip


@pytest.fixture(scope="module", params=ADAPTERS, ids=lambda adapter: adapter.__name__)
def built(request, tmp_path_factory):
    """The settings of a tiny random detector of each kind, and the detector."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = request.param(tmp_path_factory.mktemp(request.param.__name__))
        return settings, build_model(Data(), **settings)


def answered(model, images):
    return model([model.preprocess(image) for image in images])


def test_every_box_has_finite_logits_of_all_classes_and_its_score_follows_from_them(built):
    _, model = built
    output, seen = answered(model, pictures(4)), 0
    assert output.logits.values.shape[::2] == (4, CLASSES)
    for index, answer in enumerate(output.predictions):
        count = len(answer)
        assert output.logits.valid[index].sum() == count
        assert (np.diff(answer.scores) <= 1e-7).all(), "best first"
        rows = output.logits.values[index, :count].astype(np.float64)
        assert np.isfinite(rows).all()
        if output.logits.head == "softmax":
            background = output.logits.background[index, :count, None]
            scores = softmax(np.concatenate([rows, background], axis=1), axis=1)[:, :-1]
        else:
            scores = expit(rows)
        np.testing.assert_allclose(
            scores[np.arange(count), answer.labels], answer.scores, rtol=2e-5, atol=1e-6
        )
        seen += count
    assert seen > 4


@pytest.mark.parametrize("score", ["free_energy", "energy_curvature"])
def test_energy_and_curvature_are_numbers(built, score):
    _, model = built
    values = deferral_scores(answered(model, pictures(4)), score)
    assert np.isfinite(values).all()
    assert np.ptp(values) > 0


def test_a_picture_is_answered_alike_alone_in_a_batch_and_in_another_order(built):
    _, model = built
    images = pictures(4)
    alone = [answered(model, [image]).predictions[0] for image in images]
    order = [2, 0, 3, 1]
    mixed = answered(model, [images[index] for index in order])
    for place, index in enumerate(order):
        ours, theirs = mixed.predictions[place], alone[index]
        np.testing.assert_allclose(ours.scores[:5], theirs.scores[:5], rtol=1e-3, atol=1e-4)
        assert abs(len(ours) - len(theirs)) <= 2
        apart = np.abs(np.diff(theirs.scores[:6])) > 1e-3
        first = 1 + int(np.argmin(apart)) if not apart.all() else min(5, len(theirs))
        np.testing.assert_allclose(ours.boxes[: first - 1], theirs.boxes[: first - 1], rtol=1e-3, atol=0.5)


def test_multiply_adds_are_counted_and_facts_are_plain(built):
    _, model = built
    assert macs_of(model, pictures()[0]) > 100
    facts = facts_of(model, pictures()[0])
    assert all(isinstance(value, int | float | str | list) for value in facts.values())


def test_other_numbers_of_classes_are_refused(built):
    settings, _ = built
    if settings.get("random_weights"):
        settings = settings | {"num_classes": CLASSES}
    with pytest.raises(EbjrError, match=r"^Expected .* got [^\n]*$"):
        build_model(Data(["a", "b"]), **settings)
