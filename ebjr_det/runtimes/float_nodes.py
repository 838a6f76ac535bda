"""Which operators of a graph stay in float where others run in eight bits, as measured in eval/benchmarks."""

from collections.abc import Iterator
from typing import Any

from ebjr_det.runtimes.graph_macs import PRODUCTS

ENLARGING = ("Resize", "Upsample", "ConvTranspose")


def float_nodes(model: Any) -> Iterator[str]:
    """The operators that stay in float, beside all those that are no product.

    These are the products that look at the picture, since all else is made of what they say; those behind a
    map that was enlarged, where scales are merged; and the heads (see `head_nodes`).

    Args:
        model: an `onnx.ModelProto`.
    """
    multiplied, enlarged = set[str](), set[str]()
    """Tensors behind a product, and behind a product's map that was enlarged."""
    for node in model.graph.node:
        product, seen = node.op_type in PRODUCTS, not multiplied.isdisjoint(node.input)
        if not enlarged.isdisjoint(node.input) or (seen and node.op_type in ENLARGING):
            enlarged.update(node.output)
            yield node.name
        elif product and not seen:
            yield node.name
        if product or seen:
            multiplied.update(node.output)
    yield from head_nodes(model)


def head_nodes(model: Any) -> Iterator[str]:
    """The operators that serve one of the first two outputs alone; of a single one the last product's on."""
    ends = [output.name for output in model.graph.output][:2]
    serves: dict[str, set[str]] = {name: {name} for name in ends}
    behind = set(ends)
    """Tensors with no product between them and the only output."""
    for node in reversed(model.graph.node):
        served = set[str]().union(*(serves.get(name, ()) for name in node.output))
        last = len(ends) == 1 and bool(behind.intersection(node.output))
        for name in node.input:
            serves.setdefault(name, set()).update(served)
            if last and node.op_type not in PRODUCTS:
                behind.add(name)
        if len(served) < len(ends) or last:
            yield node.name
