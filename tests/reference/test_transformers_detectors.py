"""Detectors of transformers: boxes, scores and labels are those of the library's own post-processing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_detectors import (
    CLASSES,
    KINDS,
    NAMES,
    SIDE,
    Data,
    pictures,
    processor_of,
    save_classifier,
    save_transformers,
    transformers_network,
)

from ebjr_det.core.errors import EbjrError
from ebjr_det.io.pictures import open_picture
from ebjr_det.tasks.detection.model import build_model
from ebjr_det.tasks.detection.networks.frame import Frame

pytest.importorskip("transformers", reason="the extra `transformers` is not installed")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kind -> a folder of a tiny network, made when first asked for."""
    root, made = tmp_path_factory.mktemp("transformers"), {}

    def folder(kind, square=True):
        name = f"{kind}-{square}"
        if name not in made:
            made[name] = save_transformers(kind, root / name, square=square)
        return made[name]

    return folder


def of_the_library(processor, raw, image):
    """Boxes, scores and labels that the library reads from raw outputs of one image, best first."""
    outputs = SimpleNamespace(logits=torch.as_tensor(raw[0]), pred_boxes=torch.as_tensor(raw[1]))
    size = [(image.height, image.width)]
    found = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=size)[0]
    order = torch.argsort(found["scores"], descending=True, stable=True)
    return [found[key][order].numpy() for key in ("boxes", "scores", "labels")]


def check_parity(kind, folder, images, square):
    """Of the same raw outputs boxes and labels to the bit, scores to the last bits of float32."""
    model, network = build_model(Data(), f"transformers/{folder}"), transformers_network(kind)
    processor = processor_of(kind, square=square)
    assert isinstance(model.preprocess, Frame) == square
    for image in images:
        inputs = [model.preprocess(image)]
        raw = [np.array(column) for column in model.forward(inputs)]
        with torch.inference_mode():
            alone = network(pixel_values=processor(image, return_tensors="pt")["pixel_values"])
        for own, theirs in zip(raw, (alone.logits, alone.pred_boxes), strict=True):
            np.testing.assert_allclose(own, theirs.numpy(), rtol=1e-4, atol=1e-4)
        answer = model.decode(raw, inputs).predictions[0]
        boxes, scores, labels = of_the_library(processor, raw, image)
        count = len(answer)
        assert 0 < count == min(len(scores), 100)
        assert np.ptp(answer.scores) > 0.01
        np.testing.assert_allclose(answer.scores, scores[:count], rtol=3e-7, atol=1e-8)
        near = np.diff(scores[:count]) > -1e-6  # in any order
        apart = ~(np.append(near, False) | np.insert(near, 0, False))
        assert apart.sum() > count // 2
        np.testing.assert_array_equal(answer.labels[apart], labels[:count][apart])
        np.testing.assert_array_equal(answer.boxes[apart], boxes[:count][apart])


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_scores_and_labels_are_the_librarys(kind, folders):
    check_parity(kind, folders(kind), pictures(), square=True)


@pytest.mark.parametrize("kind", ["detr", "yolos"])
def test_a_preprocessing_that_keeps_shapes_is_the_librarys_too(kind, folders):
    check_parity(kind, folders(kind, square=False), pictures(), square=False)


@pytest.mark.shared
@pytest.mark.parametrize("kind", KINDS)
def test_twenty_pictures_of_coco(kind, folders, shared_data):
    files = sorted((shared_data / "coco" / "val2017").glob("*.jpg"))[:20]
    assert len(files) == 20
    check_parity(kind, folders(kind), [open_picture(file) for file in files], square=True)


@pytest.mark.parametrize("kind", ["rt_detr", "d_fine", "detr", "yolos"])
def test_an_input_is_the_librarys_to_the_bit(kind, folders):
    model = build_model(Data(), f"transformers/{folders(kind)}")
    for image in pictures(4):
        wanted = processor_of(kind)(image, return_tensors="np")["pixel_values"][0]
        np.testing.assert_array_equal(model.preprocess(image).pixels, wanted)


@pytest.mark.parametrize(
    ("kind", "head"), [("rt_detr", "sigmoid"), ("detr", "softmax"), ("yolos", "softmax")]
)
def test_the_head_is_told_apart_and_said(kind, head, folders):
    model = build_model(Data(), f"transformers/{folders(kind)}")
    output = model([model.preprocess(image) for image in pictures()])
    assert output.logits.head == head
    assert (output.logits.background is not None) == (head == "softmax")
    facts = model.facts(pictures()[0])
    assert facts["head"].startswith(head)
    assert facts["model_type"] == kind
    assert facts["image_size"] == [SIDE, SIDE]
    assert facts["parameters"] > 1000


def test_names_are_compared_and_mapped(folders, tmp_path):
    arch = f"transformers/{folders('rt_detr')}"
    turned = build_model(Data([*NAMES.values()][::-1]), arch)
    straight = build_model(Data(), arch)
    first, second = (m([m.preprocess(i) for i in pictures()]) for m in (straight, turned))
    for one, other in zip(first.predictions, second.predictions, strict=True):
        np.testing.assert_array_equal(one.labels, CLASSES - 1 - other.labels)
    np.testing.assert_array_equal(first.logits.values[..., ::-1], second.logits.values)
    strange = Data(["dog", *[*NAMES.values()][1:]])
    with pytest.raises(EbjrError, match="got `dog` among the data's 6"):
        build_model(strange, arch)
    mapped = build_model(strange, arch, class_names={"class 1": "dog"})
    np.testing.assert_array_equal(mapped.classes.columns, straight.classes.columns)
    with pytest.raises(EbjrError, match=r"a class that .* names"):
        build_model(strange, arch, class_names={"class 9": "dog"})
    with pytest.raises(EbjrError, match="Expected 6 names"):
        build_model(strange, arch, class_names=["dog"])


def test_names_that_nobody_told_go_by_order(tmp_path):
    save_transformers("d_fine", tmp_path, names={index: f"LABEL_{index}" for index in range(CLASSES)})
    build_model(Data(["a", "b", "c", "d", "e", "f"]), f"transformers/{tmp_path}")
    with pytest.raises(EbjrError, match="the 2 classes of the data, got a detector of 6"):
        build_model(Data(["a", "b"]), f"transformers/{tmp_path}")


def test_what_is_no_safe_detector_is_refused_in_one_line(folders, tmp_path):
    def refused(reference, match, **settings):
        with pytest.raises(EbjrError, match=match) as error:
            build_model(Data(), f"transformers/{reference}", **settings)
        assert "\n" not in str(error.value)

    save_classifier(tmp_path / "vit")
    refused(tmp_path / "vit", "Expected an object detector as .*, got an image classifier")
    pickled = tmp_path / "pickled"
    transformers_network("yolos").config.save_pretrained(pickled)
    refused(pickled, "as safetensors in .*, got no weights")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    refused(pickled, "got `pytorch_model.bin`, a pickle, which can hold code")
    refused(tmp_path / "nowhere", "Expected a folder that transformers has written")
    refused(tmp_path, r"Expected `config.json`")
    refused(folders("yolos"), "in its preprocessor_config.json, got `image_size`", image_size=64)
    refused(folders("yolos"), "to be the 6 of", num_classes=5)
    refused(folders("yolos"), "to bring its own weights, got `checkpoint`", checkpoint="x.safetensors")
    (folders("detr") / "configuration_x.py").write_text("raise SystemExit('run')")
