"""Multiply-adds of an ONNX graph, counted by the sizes that its tensors have while it answers one image.

One multiply-add = 1 MAC; convolutions and matrix products count, all else is 0, as for networks of torch.
"""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import Array
from ebjr_det.io.third_party import check_packages

PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")


def count_graph_macs(path: Path, image: Array) -> int:
    """Multiply-adds for a batch of one image.

    Raises:
        ConfigError: the package onnx is missing. InvalidInput: a graph without any such operator, or one that
            does not run.
    """
    check_packages(["onnx"], "onnx", "to count multiply-adds")
    import onnx

    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type in PRODUCTS]
    shapes = _shapes(model, nodes, image) if nodes else {}
    total = sum(_macs_of(node, shapes) for node in nodes)
    if not total:
        raise InvalidInput(
            f"Expected convolutions or matrix products in `{path}`, counted none. State `macs`."
        )
    return total


def _macs_of(node: Any, shapes: Mapping[str, tuple[int, ...]]) -> int:
    first, second, output = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return prod(output) * prod(second[1:])
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(output) * first[-2 if turned else -1]


def _shapes(model: Any, nodes: list[Any], image: Array) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that goes in or comes out of the operators, as the graph has it at work."""
    import onnx
    import onnxruntime

    shapes = {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    first = model.graph.input[0].name
    shapes[first] = image.shape
    names = {name for node in nodes for name in (*node.input[:2], node.output[0])} - shapes.keys()
    ends = {entry.name for entry in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - ends))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        outputs = session.run(sorted(names), {first: image})
    except Exception as error:  # each of its faults is a class of its own
        raise InvalidInput(
            f"Expected a graph whose multiply-adds can be counted, got: {first_line(error)}. State `macs`."
        ) from error
    return shapes | {name: output.shape for name, output in zip(sorted(names), outputs, strict=True)}
