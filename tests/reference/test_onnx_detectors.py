"""Detectors in ONNX files: read as their own libraries read the same raw numbers; doubt is refused."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_detectors import CLASSES, NAMES, WORDS, Data, pictures
from tiny_graphs import query_rows, write_graph, yolo_rows

from ebjr_det.core.errors import EbjrError
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.runtimes.registry import RUNTIMES, installed
from ebjr_det.tasks.classification.model import LogitsGraph
from ebjr_det.tasks.detection.model import build_model

SIZE = (32, 48)
METADATA = {"names": str(NAMES), "task": "detect", "imgsz": str(list(SIZE))}


def written(folder, layout):
    """A graph of a layout, and the settings that it needs."""
    path, options = folder / f"{layout}.onnx", {}
    if layout == "columns":
        write_graph(path, {"output0": yolo_rows(CLASSES).T}, SIZE, metadata=METADATA)
    elif layout == "objectness":
        write_graph(path, {"output": yolo_rows(CLASSES, objectness=True)}, SIZE, batch=1)
    elif layout == "open":
        write_graph(path, {"output0": yolo_rows(CLASSES).T}, SIZE, metadata=METADATA, open_sides=True)
    elif layout in ("sigmoid", "softmax"):
        logits, boxes = query_rows(CLASSES, softmax=layout == "softmax")
        write_graph(path, {"pred_boxes": boxes, "logits": logits}, SIZE)
    elif layout == "ssd":
        logits, boxes = query_rows(CLASSES, rows=1200, softmax=True)
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        write_graph(path, {"scores": logits, "boxes": corners}, SIZE)
    else:
        rows = yolo_rows(CLASSES)
        best = np.stack([rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1)], axis=1)
        corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1)
        rows = np.concatenate([corners, best], axis=1)
        write_graph(
            path, {"output0": rows[np.argsort(-rows[:, 4])]}, SIZE, metadata=METADATA | {"end2end": "True"}
        )
    return path, options


LAYOUTS = ("columns", "objectness", "open", "sigmoid", "softmax", "ssd", "best")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Layout -> a model around its graph."""
    folder, made = tmp_path_factory.mktemp("graphs"), {}

    def model(layout):
        if layout not in made:
            path, options = written(folder, layout)
            made[layout] = build_model(Data(), f"onnx/{path}", options=options)
        return made[layout]

    return model


def raw_of(model, inputs):
    return [np.array(column) for column in model.forward(inputs)]


def assert_answers(output, expected):
    """Boxes and labels to the bit, scores to the last bits of float32."""
    for answer, (boxes, scores, labels) in zip(output.predictions, expected, strict=True):
        assert 2 < len(answer) == len(scores)
        np.testing.assert_array_equal(answer.boxes.astype(np.float32), boxes)
        np.testing.assert_allclose(answer.scores, scores, rtol=3e-7, atol=1e-8)
        np.testing.assert_array_equal(answer.labels, labels)


@pytest.mark.parametrize("layout", ["columns", "objectness", "open"])
def test_yolo_is_read_as_ultralytics_does(layout, graphs):
    nms = pytest.importorskip("ultralytics.utils.nms", reason="ultralytics is not installed")
    from ultralytics.utils.ops import scale_boxes

    model, images = graphs(layout), pictures(4)
    inputs = [model.preprocess(image) for image in images]
    raw = raw_of(model, inputs)
    rows = torch.as_tensor(raw[0])
    if layout == "objectness":
        rows = torch.cat([rows[..., :4], rows[..., 5:] * rows[..., 4:5]], dim=2).transpose(1, 2)
    found = nms.non_max_suppression(rows.clone(), 0.001, 0.7, max_det=100)
    expected = []
    for boxes, image in zip(found, images, strict=True):
        corners = scale_boxes(SIZE, boxes[:, :4].clone(), (image.height, image.width))
        expected.append((corners.numpy(), boxes[:, 4].numpy(), boxes[:, 5].numpy()))
    assert_answers(model.decode(raw, inputs), expected)


def test_a_letterbox_is_that_of_ultralytics(graphs):
    augment = pytest.importorskip("ultralytics.data.augment", reason="ultralytics is not installed")
    letterbox = augment.LetterBox(SIZE, auto=False)
    for image in pictures(4):
        wanted = letterbox(image=np.asarray(image)).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(graphs("columns").preprocess(image).pixels, wanted)


@pytest.mark.parametrize("layout", ["sigmoid", "softmax"])
def test_queries_are_read_as_transformers_does(layout, graphs):
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    from types import SimpleNamespace

    model, images = graphs(layout), pictures(4)
    inputs = [model.preprocess(image) for image in images]
    raw = raw_of(model, inputs)
    outputs = SimpleNamespace(logits=torch.as_tensor(raw[1]), pred_boxes=torch.as_tensor(raw[0]))
    processor = library.RTDetrImageProcessor() if layout == "sigmoid" else library.DetrImageProcessor()
    found = processor.post_process_object_detection(outputs, 0.0, [(i.height, i.width) for i in images])
    if layout == "sigmoid":  # as many as queries; ours to 100
        outputs = model.decode(raw, inputs)
        for answer, one in zip(outputs.predictions, found, strict=True):
            np.testing.assert_allclose(answer.scores[: len(one["scores"])], one["scores"], rtol=3e-7)
            np.testing.assert_array_equal(answer.boxes[: len(one["boxes"])].astype(np.float32), one["boxes"])
            np.testing.assert_array_equal(answer.labels[: len(one["labels"])], one["labels"])
        return
    expected = []
    for one in found:
        order = torch.argsort(one["scores"], descending=True)
        expected.append([one[key][order].numpy() for key in ("boxes", "scores", "labels")])
    assert_answers(model.decode(raw, inputs), expected)


def test_ssd_is_suppressed_by_class_as_torchvision_does(graphs):
    from torchvision.ops import batched_nms

    model, images = graphs("ssd"), pictures(2)
    inputs = [model.preprocess(image) for image in images]
    raw = raw_of(model, inputs)
    output = model.decode(raw, inputs)
    for index, image in enumerate(images):
        scores = torch.as_tensor(raw[0][index]).softmax(dim=1)[:, 1:]
        rows, labels = torch.where(scores > 0.01)
        boxes = torch.as_tensor(raw[1][index])[rows]
        stay = batched_nms(boxes, scores[rows, labels], labels, 0.45)[:100]
        size = torch.tensor([image.width, image.height] * 2)
        np.testing.assert_array_equal(output.predictions[index].labels, labels[stay])
        np.testing.assert_array_equal(output.predictions[index].boxes.astype(np.float32), boxes[stay] * size)


def test_the_best_class_alone_gives_one_logit_a_box(graphs):
    model = graphs("best")
    output = model([model.preprocess(image) for image in pictures(2)])
    assert output.logits.values.shape[2] == 1
    assert "best class of each box alone" in model.facts(pictures()[0])["head"]
    assert all(len(set(answer.labels)) > 1 for answer in output.predictions)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("runtime", ["openvino"])
def test_another_runtime_answers_alike(layout, runtime, graphs):
    if not installed(RUNTIMES[runtime]):
        pytest.skip(f"{runtime} is not installed")
    model = graphs(layout)
    inputs = [model.preprocess(image) for image in pictures(3)]
    wanted = raw_of(model, inputs)
    assert model.run_in(runtime, "cpu") == runtime
    try:
        for one, other in zip(raw_of(model, inputs), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    finally:
        assert model.run_in("eager", "cpu") == "onnxruntime"


def test_multiply_adds_are_counted_from_the_graph(graphs):
    width = CLASSES + 4
    assert macs_of(graphs("columns"), pictures()[0]) == 3 * 40 * width
    assert macs_of(graphs("objectness"), pictures()[0]) == 3 * 40 * (width + 1)


def test_multiply_adds_of_a_network_are_those_that_torch_counts(tmp_path):
    from ebjr_det.runtimes.graph_macs import count_graph_macs
    from ebjr_det.runtimes.macs import count_macs
    from ebjr_det.runtimes.onnx import write_onnx

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.Conv2d(6, 6, 3, groups=3),
        torch.nn.ConvTranspose2d(6, 4, 2), torch.nn.Flatten(), torch.nn.Linear(4 * 14 * 14, 5),
    ).eval()  # fmt: skip
    graph = LogitsGraph(network)
    image = np.zeros((1, 3, 32, 32), dtype=np.float32)
    write_onnx(graph, image, tmp_path / "a.onnx")
    assert count_graph_macs(tmp_path / "a.onnx", image) == count_macs(lambda: network(torch.as_tensor(image)))


def test_a_graph_without_products_has_no_count(tmp_path):
    from onnx import TensorProto, helper, save

    from ebjr_det.runtimes.graph_macs import count_graph_macs

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "no products", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "a.onnx")
    with pytest.raises(EbjrError, match=r"counted none. State `macs`"):
        count_graph_macs(tmp_path / "a.onnx", np.zeros((1, 3, 4, 4), dtype=np.float32))


def test_what_is_read_otherwise_than_it_says_is_refused_in_one_line(tmp_path):
    def refused(outputs, match, *, metadata=None, options=None, names=WORDS, **settings):
        path = write_graph(tmp_path / "bad.onnx", outputs, SIZE, metadata=metadata)
        with pytest.raises(EbjrError, match=match) as error:
            build_model(Data(names), f"onnx/{path}", options=options or {}, **settings)
        assert "\n" not in str(error.value)

    rows, logits = yolo_rows(CLASSES), query_rows(CLASSES)[0]
    flat = {"logits": np.zeros(CLASSES)}
    refused(flat, r"Expected a detector in .*, got a classifier: logits \[1, 6\]")
    refused({"o": rows.T}, "got classify", metadata=METADATA | {"task": "classify"})
    refused({"o": rows[:, :7]}, r"got o \[1, 40, 7\]. Set `options.decode`")
    refused({"a": logits, "b": logits}, r"got a \[1, 30, 6\], b \[1, 30, 6\]")
    shares = np.concatenate([rows[:, :4] / 64, rows[:, 4:]], axis=1)
    refused(
        {"o": shares.T},
        "in pixels .* got numbers to 0.* `options.normalised: true`",
        options={"normalised": False},
    )
    refused({"o": rows.T}, "all below 1, .*|all below 1 from", options={"normalised": True})
    wild = np.concatenate([rows[:, :4], rows[:, 4:] * 9 - 4], axis=1)
    refused({"o": wild.T}, "Expected probabilities", options={"applied": True})
    refused({"o": rows.T}, "got `dog` among the data's 6", metadata=METADATA, names=["dog", *WORDS[1:]])
    refused({"o": rows.T}, "the 2 classes|got `a`", metadata=METADATA, names=["a", "b"])
    refused({"o": rows.T}, "Expected `image_size`", image_size=64)
    refused({"o": rows.T}, "options|`decode`", options={"decode": "yolov9"})
    refused({"o": rows.T}, "Expected outputs of `decode: detr`", options={"decode": "detr"})
    with pytest.raises(EbjrError, match="an ONNX graph"):
        build_model(Data(), f"onnx/{tmp_path}/nothing.onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(EbjrError, match=r"Expected an ONNX graph in|that ONNX Runtime can run"):
        build_model(Data(), f"onnx/{tmp_path}/text.onnx")


def test_six_numbers_of_a_row_are_told_apart(tmp_path):
    """Best classes of a suppressed set, scores of two classes, and centres as RT-DETR of ultralytics has."""
    names = ["a", "b"]

    def head(rows, **metadata):
        path = write_graph(tmp_path / "a.onnx", {"o": rows}, SIZE, metadata=metadata, still=True)
        return (model := build_model(Data(names), f"onnx/{path}")).head, model.preprocess.fit

    two = yolo_rows(2)
    corners = np.concatenate([two[:, :2] - two[:, 2:4] / 2, two[:, :2] + two[:, 2:4] / 2], axis=1)
    best = np.stack([two[:, 4:].max(axis=1), two[:, 4:].argmax(axis=1)], axis=1)
    assert head(two)[0].layout == "rows"
    nothing = head(np.zeros((300, 6)), args="{'nms': True}", author="Ultralytics")[0]
    assert (nothing.layout, nothing.boxes, nothing.shares) == ("best", "xyxy", False)
    with pytest.raises(EbjrError, match="got zeros alone"):
        head(np.zeros((300, 6)), end2end="True")
    for boxes, form, fit in (
        (corners, "xyxy", "letterbox"), (two[:, :4], "cxcywh", "letterbox"),
        (two[:, :4] / [48, 32, 48, 32], "cxcywh", "fill"),
    ):  # fmt: skip
        found, fitted = head(np.concatenate([boxes, best], axis=1))
        assert (found.layout, found.boxes, fitted) == ("best", form, fit)
    names = list(WORDS)
    queries = yolo_rows(CLASSES) / [48, 32, 48, 32, *[1] * CLASSES]
    assert (head(queries)[0].nms_iou, head(queries)[1]) == (None, "fill")


def test_a_class_beyond_the_names_is_refused(tmp_path):
    best = np.array([[4, 4, 20, 20, 0.9, CLASSES], [5, 5, 9, 9, 0.8, 0]])
    path = write_graph(
        tmp_path / "a.onnx", {"o": best}, SIZE, metadata=METADATA | {"end2end": "True"}, still=True
    )
    model = build_model(Data(), f"onnx/{path}")
    with pytest.raises(EbjrError, match="Expected classes 0 to 5 from `a`, got 6"):
        model([model.preprocess(pictures()[0])])


def test_shares_are_found_out(tmp_path):
    rows = yolo_rows(CLASSES)
    shares = np.concatenate([rows[:, :4] / [48, 32, 48, 32], rows[:, 4:]], axis=1)
    models = [
        build_model(Data(), f"onnx/{write_graph(tmp_path / f'{index}.onnx', {'o': one.T}, SIZE)}")
        for index, one in enumerate((rows, shares))
    ]
    assert [model.head.shares for model in models] == [False, True]
    rows = [
        model([model.preprocess(image) for image in pictures(2)]).predictions[0].boxes for model in models
    ]
    assert np.abs(rows[0][0] - rows[1][0]).max() < 3


def test_no_torch_is_loaded_to_answer(tmp_path):
    path = written(tmp_path, "columns")[0]
    code = f"""
import sys
from PIL import Image
from ebjr_det.config import parse_section
from ebjr_det.tasks.detection.libraries import LIBRARIES
from ebjr_det.tasks.detection.settings import DetectorSection
settings = parse_section(DetectorSection, {{"arch": "onnx/{path}"}})
model = LIBRARIES["onnx"](settings, {str(path)!r}, {dict(enumerate(WORDS, 1))!r}, "cpu")
assert len(model([model.preprocess(Image.new("RGB", (40, 30)))]).predictions[0])
print(sorted({{"torch", "torchvision", "transformers", "onnx"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
