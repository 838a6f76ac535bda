"""YOLO of ultralytics: answers are those of the library's predictor; a pickle is read only if trusted."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_detectors import CLASSES, NAMES, WORDS, Data, pictures, spread

from ebjr_det.core.errors import EbjrError
from ebjr_det.io.pictures import open_picture
from ebjr_det.io.third_party import settings_kept
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks.classification.model import build_model as build_classifier
from ebjr_det.tasks.detection.model import build_model

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
with settings_kept():
    ultralytics = pytest.importorskip(
        "ultralytics", reason="the extra `ultralytics` (AGPL-3.0) is not installed"
    )
    from ultralytics.cfg import DEFAULT_CFG_DICT
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

KINDS = ("yolov5n", "yolov8n", "yolo11n", "yolo12n", "yolov10n", "yolo26n")
SIDE = 64


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Kind -> a file of random weights as the library saves it."""
    folder, made = tmp_path_factory.mktemp("yolo"), {}

    def file(kind):
        if kind not in made:
            made[kind] = folder / f"{kind}-random.pt"
            with torch.random.fork_rng():
                torch.manual_seed(0)
                yolo = ultralytics.YOLO(f"{kind}.yaml")
                yolo.model = type(yolo.model)(f"{kind}.yaml", nc=CLASSES, verbose=False)
                spread(yolo.model)
                spread_scores(yolo.model.eval())
            yolo.model.names = dict(NAMES)
            yolo.model.args = {**DEFAULT_CFG_DICT, "imgsz": SIDE, "model": f"{kind}.yaml"}
            yolo.ckpt = {}
            torch.save({"model": yolo.model, "train_args": {"imgsz": SIDE, "task": "detect"}}, made[kind])
        return made[kind]

    return file


def spread_scores(network):
    """Scale the last layers of every branch so that logits lie around 0 with a deviation of 2."""
    image = torch.as_tensor(np.array(pictures(1)[0].resize((SIDE, SIDE)))).permute(2, 0, 1)[None] / 255
    head, seen = network.model[-1], []
    for name, part in head.named_children():
        for level in part if "cv3" in name else ():
            layer = level[-1]
            torch.nn.init.zeros_(layer.bias)
            hook = layer.register_forward_hook(lambda *call: seen.append(call[2]))
            with torch.inference_mode():
                network(image)
            hook.remove()
            values = seen.pop()
            layer.weight.data *= 2 / values.std()
            layer.bias.data -= 2 * values.mean() / values.std()


def of_the_library(path, image, pixels, end2end):
    """Boxes, scores and labels by the library's network, suppression and scaling."""
    network = ultralytics.YOLO(path).model.eval()
    network.end2end = end2end
    with torch.inference_mode():
        raw = network(torch.as_tensor(pixels)[None])
    found = non_max_suppression(
        raw, 0.0 if end2end else 0.001, 0.7, max_det=100, nc=CLASSES, end2end=end2end
    )[0]
    boxes = scale_boxes((SIDE, SIDE), found[:, :4].clone(), (image.height, image.width))
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2])
    return [values.numpy() for values in (boxes, found[:, 4], found[:, 5])]


def check_parity(path, images, **options):
    """Boxes and labels to the bit, scores to the last bits of float32."""
    model = build_model(Data(), f"ultralytics/{path}", trust=True, options=options)
    for image in images:
        inputs = [model.preprocess(image)]
        answer = model(inputs).predictions[0]
        boxes, scores, labels = of_the_library(path, image, inputs[0].pixels, options.get("nms") is False)
        assert 2 < len(answer) == len(scores)
        assert np.ptp(scores) > 0.01
        np.testing.assert_allclose(answer.scores, scores, rtol=3e-7, atol=1e-8)
        near = np.diff(scores) > -1e-6  # in any order
        apart = ~(np.append(near, False) | np.insert(near, 0, False))
        assert apart.sum() > 2
        np.testing.assert_array_equal(answer.labels[apart], labels[apart])
        np.testing.assert_array_equal(answer.boxes[apart].astype(np.float32), boxes[apart])
    return model


def test_the_library_sets_nothing_for_the_whole_process():
    assert Image.open.__module__ == "PIL.Image"
    assert torch.save.__module__ == "torch.serialization"
    assert np.get_printoptions()["formatter"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_scores_and_labels_are_the_librarys(kind, files):
    model = check_parity(files(kind), pictures())
    output = model([model.preprocess(image) for image in pictures()])
    assert output.logits.values.shape[2] == CLASSES
    assert macs_of(model, pictures()[0]) > 1e5


@pytest.mark.parametrize("kind", ["yolov10n", "yolo26n"])
def test_the_branch_without_suppression_is_read_too(kind, files):
    model = check_parity(files(kind), pictures(), nms=False)
    assert "no suppression" in str(model.head)


@pytest.mark.shared
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_pictures_of_coco(kind, files, shared_data):
    paths = sorted((shared_data / "coco" / "val2017").glob("*.jpg"))[:20]
    check_parity(files(kind), [open_picture(path) for path in paths])


def rt_detr(path):
    """A small RT-DETR of random weights as the library saves it."""
    from ultralytics.nn.tasks import RTDETRDetectionModel, yaml_model_load

    settings = yaml_model_load("yolov8-rtdetr.yaml") | {"scales": {"n": [0.33, 0.125, 256]}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = RTDETRDetectionModel(settings, nc=CLASSES, verbose=False).eval()
        spread(network)
    network.names, network.args = dict(NAMES), {**DEFAULT_CFG_DICT, "model": "yolov8-rtdetr.yaml"}
    torch.save({"model": network, "train_args": {"imgsz": 2 * SIDE, "task": "detect"}}, path)
    return path


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.filterwarnings("ignore")  # of torch about the exporter that the library takes
@pytest.mark.parametrize(
    ("kind", "nms"), [*((kind, nms) for kind in KINDS for nms in (False, True)), ("rtdetr", False)]
)
def test_what_the_librarys_exporter_writes_is_answered_as_by_its_predictor(
    kind, nms, files, tmp_path, shared_data
):
    """To the bit on 20 pictures of COCO, where no two scores are as good as equal."""
    pytest.importorskip("onnxslim", reason="onnxslim, which the exporter needs, is not installed")
    queries = kind == "rtdetr"
    build, side = (ultralytics.RTDETR, 2 * SIDE) if queries else (ultralytics.YOLO, SIDE)
    yolo = build(rt_detr(tmp_path / "rtdetr.pt") if queries else files(kind))
    path = Path(yolo.export(format="onnx", imgsz=side, nms=nms, verbose=False))
    model = build_model(Data(), f"onnx/{path}")
    assert model.preprocess.fit == ("fill" if queries else "letterbox")
    assert (model.head.nms_iou is None) == (nms or queries or kind in ("yolov10n", "yolo26n"))
    predictor = build(path)
    settings = {"imgsz": side, "conf": 0.0 if queries else 0.001, "iou": 0.7, "max_det": 100, "rect": False}
    for file in sorted((shared_data / "coco" / "val2017").glob("*.jpg"))[:20]:
        boxes = predictor.predict(file, **settings, verbose=False)[0].boxes
        theirs = [values.numpy() for values in (boxes.xyxy, boxes.conf, boxes.cls)]
        answer = model([model.preprocess(open_picture(file))]).predictions[0]
        order = np.argsort(-theirs[1], kind="stable")
        near = np.diff(theirs[1][order]) > -1e-5
        apart = ~(np.append(near, False) | np.insert(near, 0, False))
        ours = (answer.boxes.astype(np.float32), answer.scores, answer.labels)
        for mine, column in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine[apart], column[order][apart])
    path.unlink()


def test_a_classifier_gives_its_logits(tmp_path):
    yolo = ultralytics.YOLO("yolo11n-cls.yaml")
    network = type(yolo.model)("yolo11n-cls.yaml", nc=CLASSES, verbose=False).eval()
    network.names, network.args = dict(NAMES), {"imgsz": SIDE, "task": "classify"}
    torch.save({"model": network, "train_args": {"imgsz": SIDE, "task": "classify"}}, tmp_path / "c.pt")

    class Labelled:
        class_names, num_classes = WORDS, CLASSES

        def load(self, index):
            return pictures()[index]

    model = build_classifier(Labelled(), f"ultralytics/{tmp_path}/c.pt", trust=True)
    for image in pictures():
        values = model([model.preprocess(image)]).logits.values[0, 0].astype(np.float64)
        pixels = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        wanted = ultralytics.YOLO(tmp_path / "c.pt").predict(pixels, imgsz=SIDE, verbose=False)[0].probs.data
        np.testing.assert_allclose(np.exp(values) / np.exp(values).sum(), wanted, rtol=2e-4)
    with pytest.raises(EbjrError, match=r"Expected an object detector in .*, got an image classifier"):
        build_model(Data(), f"ultralytics/{tmp_path}/c.pt", trust=True)


def test_what_is_not_trusted_or_no_network_is_refused_in_one_line(files, tmp_path):
    def refused(match, path=None, **settings):
        with pytest.raises(EbjrError, match=match) as error:
            build_model(Data(), f"ultralytics/{path or files('yolo11n')}", **settings)
        assert "\n" not in str(error.value)

    refused("Expected `trust: true` for .* it is a pickle")
    refused("to be a multiple of 32, got 50", trust=True, image_size=50)
    refused("a branch that needs no suppression", trust=True, options={"nms": False})
    refused("an option of ultralytics/", trust=True, options={"agnostic": True})
    refused("weights of ultralytics", path=tmp_path / "nothing.pt", trust=True)
    (tmp_path / "text.pt").write_text("no pickle")
    refused("Expected weights that ultralytics can read", path=tmp_path / "text.pt", trust=True)
    strange = Data(["dog", *WORDS[1:]])
    with pytest.raises(EbjrError, match="got `dog` among the data's 6"):
        build_model(strange, f"ultralytics/{files('yolo11n')}", trust=True)
