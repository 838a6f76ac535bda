"""Whether an ONNX file is whole: its format lets values lie in other files, whose content no checksum covers.

Reads the file's protocol buffer as far as its tensors, without the package onnx.
"""

from collections.abc import Iterator
from pathlib import Path

from ebjr_det.core.errors import InvalidInput, first_line

NESTED = {
    # message of ONNX's format -> its fields that hold messages in which there can be a tensor
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL = {13, 14}
"""Fields of a tensor that say that its values lie in another file."""
DEEPEST = 100


def check_whole(path: Path) -> None:
    """Raises InvalidInput for an ONNX file with values in another file, of which no checksum is known."""
    try:
        outside = any(EXTERNAL & fields.keys() for fields in _tensors(memoryview(path.read_bytes()), "model"))
    except (ValueError, IndexError) as error:
        raise InvalidInput(f"Expected an ONNX graph in `{path}`, got: {first_line(error)}.") from error
    if outside:
        raise InvalidInput(f"Expected a whole graph in `{path}`, got one with values in another file.")


def _tensors(message: memoryview, kind: str, depth: int = 0) -> Iterator[dict[int, list[memoryview]]]:
    """The fields of every tensor in a message of ONNX's format."""
    if depth > DEEPEST:
        raise ValueError("messages that are too deep")
    fields: dict[int, list[memoryview]] = {}
    for number, content in _fields(message):
        fields.setdefault(number, []).append(content)
    if kind == "tensor":
        yield fields
    for number, inner in NESTED[kind].items():
        for content in fields.get(number, ()):
            yield from _tensors(content, inner, depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the fields of a protocol buffer; numbers have no content."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        length = {1: 8, 5: 4}.get(key & 7, 0)
        if key & 7 == 0:
            _, at = _varint(message, at)
        elif key & 7 == 2:
            length, at = _varint(message, at)
        elif not length:
            raise ValueError("no protocol buffer")
        if at + length > len(message):
            raise ValueError("a file that ends early")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    value = 0
    for index in range(10):
        byte = message[at + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, at + index + 1
    raise ValueError("no protocol buffer")
