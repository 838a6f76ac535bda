"""The parts of an exported folder: whole graphs, classes in order, numbers that no model has."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto

from ebjr_det.core.errors import InvalidInput
from ebjr_det.inference.export_file import is_exported
from ebjr_det.runtimes.onnx_check import check_whole
from ebjr_det.tasks.classification import served as classification
from ebjr_det.tasks.detection import served as detection


def _in_initializer(model: ModelProto) -> TensorProto:
    return model.graph.initializer.add()


def _in_constant(model: ModelProto) -> TensorProto:
    return model.graph.node.add().attribute.add().t


def _in_a_branch(model: ModelProto) -> TensorProto:
    return model.graph.node.add().attribute.add(type=AttributeProto.GRAPH).g.initializer.add()


def _in_one_of_many(model: ModelProto) -> TensorProto:
    return model.graph.node.add().attribute.add().graphs.add().node.add().attribute.add().tensors.add()


def _in_a_function(model: ModelProto) -> TensorProto:
    return model.functions.add().node.add().attribute.add().t


def _in_a_function_default(model: ModelProto) -> TensorProto:
    return model.functions.add().attribute_proto.add().t


def _in_sparse_values(model: ModelProto) -> TensorProto:
    return model.graph.sparse_initializer.add().values


def _in_training(model: ModelProto) -> TensorProto:
    return model.training_info.add().initialization.initializer.add()


PLACES = [_in_initializer, _in_constant, _in_a_branch, _in_one_of_many, _in_a_function]
PLACES += [_in_a_function_default, _in_sparse_values, _in_training]


@pytest.mark.parametrize("place", PLACES)
def test_values_in_another_file_are_found_wherever_a_tensor_can_be(place, tmp_path):
    model, path = ModelProto(ir_version=9), tmp_path / "graph.onnx"
    tensor = place(model)
    tensor.raw_data = b"location" + bytes(40)
    path.write_bytes(model.SerializeToString())
    check_whole(path)
    for change in ("location", "entry"):
        other = ModelProto()
        other.CopyFrom(model)
        tensor = place(other)
        if change == "location":
            tensor.data_location = TensorProto.EXTERNAL
        else:
            tensor.external_data.add(key="location", value="x")
        path.write_bytes(other.SerializeToString())
        with pytest.raises(InvalidInput, match="another file"):
            check_whole(path)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_graph_or_refused(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with suppress(InvalidInput):
        check_whole(path)


def test_only_a_folder_with_its_json_is_an_export(tmp_path):
    assert not is_exported(tmp_path)
    (tmp_path / "pair.json").mkdir()
    assert not is_exported(tmp_path)


def test_classes_are_named_by_index_whatever_their_order():
    assert classification.name_classes({1: "b", 0: "a"}).class_names == ("a", "b")
    with pytest.raises(InvalidInput, match="classes 0 to 1"):
        classification.name_classes({0: "a", 2: "b"})
    assert detection.name_classes({7: "b", 3: "a"}).class_names == ("a", "b")


@pytest.mark.parametrize("outputs", [[(1, 3)], [(2, 4)], [(4,)], [], [(1, 4), (1, 4)]])
def test_logits_of_other_shapes_are_refused(outputs):
    told = {"preprocessing": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    model = classification.build_served("name", json.loads(json.dumps(told)), lambda _: ())
    with pytest.raises(InvalidInput, match="logits of 4 classes"):
        classification.check_served(model, (3, 8, 8), [np.zeros(one) for one in outputs], 4)
