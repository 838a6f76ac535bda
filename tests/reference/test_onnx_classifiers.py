"""Classifiers in ONNX files: logits as they are, classes by name, and what is none refused."""

import numpy as np
import pytest
from scipy.special import softmax
from tiny_detectors import CLASSES, NAMES, WORDS, pictures
from tiny_graphs import write_graph, yolo_rows

from ebjr_det.core.errors import EbjrError
from ebjr_det.runtimes.graph_file import GraphFile
from ebjr_det.tasks.classification.model import build_model
from ebjr_det.tasks.classification.networks.onnx_classifiers import check_classifier

PREPROCESSING = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize": [32, 48]}
LOGITS = np.linspace(-2, 3, CLASSES)
METADATA = {"names": str(NAMES), "task": "classify"}


class Labelled:
    """Pictures of so many classes."""

    def __init__(self, names=WORDS):
        self.class_names, self.num_classes = tuple(names), len(names)

    def load(self, index):
        return pictures()[index]


def test_logits_are_the_files_in_the_order_of_the_data(tmp_path):
    path = write_graph(tmp_path / "a.onnx", {"logits": LOGITS}, metadata=METADATA)
    models = [
        build_model(Labelled(names), f"onnx/{path}", preprocessing=PREPROCESSING)
        for names in (WORDS, WORDS[::-1])
    ]
    straight, turned = (m([m.preprocess(p) for p in pictures()]).logits.values[:, 0] for m in models)
    raw = np.array(models[0].run(np.stack([models[0].preprocess(p) for p in pictures()]))[0])
    np.testing.assert_array_equal(straight, raw)
    np.testing.assert_array_equal(turned, raw[:, ::-1])
    assert np.ptp(raw, axis=0).max() > 0


def test_probabilities_are_said_and_their_logarithms_taken(tmp_path, capsys):
    path = write_graph(tmp_path / "a.onnx", {"p": softmax(LOGITS)}, still=True)
    model = build_model(Labelled(), f"onnx/{path}", preprocessing=PREPROCESSING)
    values = model([model.preprocess(pictures()[0])]).logits.values[0, 0]
    np.testing.assert_allclose(softmax(values), softmax(LOGITS), rtol=1e-6)
    assert "tell no level of its logits" in capsys.readouterr().err


def test_no_classifier_is_refused_in_one_line(tmp_path):
    def refused(outputs, match, names=WORDS, metadata=METADATA, **settings):
        path = write_graph(tmp_path / "bad.onnx", outputs, metadata=metadata)
        with pytest.raises(EbjrError, match=match) as error:
            build_model(Labelled(names), f"onnx/{path}", **{"preprocessing": PREPROCESSING, **settings})
        assert "\n" not in str(error.value)

    rows = {"output0": yolo_rows(CLASSES).T}
    refused(rows, r"Expected a classifier in .*, got a detector: output0 \[1, 10, 40\]", metadata=None)
    refused({"logits": LOGITS}, "the 2 classes of the data, got 6", names=["a", "b"])
    refused({"logits": LOGITS}, "Expected classes that", names=["dog", *WORDS[1:]])
    refused({"logits": LOGITS}, "Expected `preprocessing`", metadata=None, preprocessing={})


def test_outputs_of_no_class_are_no_classifier(tmp_path):
    file = GraphFile.read(str(write_graph(tmp_path / "a.onnx", {"logits": LOGITS})))
    with pytest.raises(EbjrError, match=r"Expected a classifier in .*: logits \[1, 0\]"):
        check_classifier(file, [np.zeros((1, 0))])


@pytest.mark.parametrize("runtime", ["onnxruntime_int8", "openvino_int8", "compile"])
def test_a_runtime_that_takes_no_file_is_one_line(runtime, tmp_path):
    file = GraphFile.read(str(write_graph(tmp_path / "a.onnx", {"logits": LOGITS})))
    with pytest.raises(EbjrError, match=rf"^Expected runtime onnxruntime or openvino .*, got `{runtime}`.$"):
        file.open((32, 48), runtime)
