"""ONNX graphs of every layout that detectors and classifiers have, small enough to write in a test."""

import numpy as np


def write_graph(path, outputs, size=(32, 48), *, metadata=None, batch="batch", open_sides=False, still=False):
    """Outputs that hang on the picture's mean colours, unless `still`: name -> numbers that they move."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(3)
    name = "pixels"
    nodes = [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["means"]),
    ]
    tensors, ends = [], []
    for key, rows in outputs.items():
        rows = np.asarray(rows, dtype=np.float32)
        moves = generator.normal(size=(3, rows.size)) * 0.02 * np.abs(rows).ravel() * (not still)
        moves = moves.astype(np.float32)
        constants = {"w": moves, "b": rows.ravel(), "s": np.array([-1, *rows.shape], dtype=np.int64)}
        tensors += [numpy_helper.from_array(value, f"{key}.{part}") for part, value in constants.items()]
        nodes += [
            helper.make_node("MatMul", ["means", f"{key}.w"], [f"{key}.moved"]),
            helper.make_node("Add", [f"{key}.moved", f"{key}.b"], [f"{key}.flat"]),
            helper.make_node("Reshape", [f"{key}.flat", f"{key}.s"], [key]),
        ]
        ends.append(helper.make_tensor_value_info(key, TensorProto.FLOAT, [batch, *rows.shape]))
    sides = ["height", "width"] if open_sides else size
    start = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, *sides])
    graph = helper.make_graph(nodes, "tiny", [start], ends, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def yolo_rows(classes, rows=40, size=(32, 48), objectness=False, seed=0):
    """Rows of a YOLO: cxcywh in pixels, perhaps objectness, a probability a class."""
    generator = np.random.default_rng(seed)
    height, width = size
    centers = generator.uniform(4, [width - 4, height - 4], (rows, 2))
    sides = generator.uniform(4, 16, (rows, 2))
    scores = generator.beta(1, 3, (rows, classes)) * 0.9 + 0.01
    extra = [generator.uniform(0.3, 0.9, (rows, 1))] if objectness else []
    return np.concatenate([centers, sides, *extra, scores], axis=1)


def query_rows(classes, rows=30, softmax=False, seed=0):
    """Logits and boxes of queries: cxcywh in shares."""
    generator = np.random.default_rng(seed)
    centers, sides = generator.uniform(0.2, 0.8, (rows, 2)), generator.uniform(0.05, 0.3, (rows, 2))
    boxes = np.concatenate([centers, sides], axis=1)
    return generator.normal(0, 2, (rows, classes + softmax)), boxes
