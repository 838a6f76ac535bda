"""The Open Inference Protocol, version 2, over REST with binary tensors: bytes <-> arrays.

Knows no HTTP and no picture. A body is JSON, or JSON of a told length followed by the raw bytes of those
tensors that say `binary_data_size`; texts among raw bytes are each preceded by their length in four bytes,
little-endian. In JSON, encoded pictures are base64 and numbers that are not finite are null. Source:
https://github.com/kserve/open-inference-protocol and Triton's extension of binary tensors.
"""

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.third_party import first_fault
from ebjr_det.tasks.tensors import Values

IMAGE = "image"
"""The name of the one input."""
LARGEST_BATCH = 64
LENGTH = "Inference-Header-Content-Length"
KINDS = {"f4": "FP32", "f8": "FP64", "i4": "INT32", "i8": "INT64", "u1": "UINT8"}
Parameter: TypeAlias = bool | int | float | str
Source: TypeAlias = bytes | NDArray[np.uint8]
"""A picture as it comes: an encoded file, or pixels [h, w, 3]."""


class InputTensor(BaseModel):
    """An input as JSON tells it; its values are in `data`, or behind the JSON."""

    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class OutputTensor(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferBody(BaseModel):
    """The JSON of a request for an inference."""

    id: str = ""
    parameters: dict[str, Any] = {}
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[OutputTensor] | None = None


@dataclass(frozen=True)
class InferRequest:
    """Pictures to be answered, and how.

    Attributes:
        outputs: name -> whether as raw bytes; None for all outputs, as `binary` says.
    """

    pictures: Sequence[Source]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    outputs: Mapping[str, bool] | None = None
    binary: bool = False


def read_request(body: bytes, header_length: int | None) -> InferRequest:
    """A request from the body of HTTP.

    Args:
        header_length: bytes of the JSON; None where all is JSON, 0 where all is one encoded picture.

    Raises:
        InvalidInput: whatever is no request, in one line.
    """
    if header_length == 0:
        return InferRequest([_some(body)])
    length = len(body) if header_length is None else header_length
    if not 0 <= length <= len(body):
        raise InvalidInput(f"Expected {length} bytes of JSON, got {len(body)} in all.")
    try:
        content = InferBody.model_validate_json(body[:length])
    except ValidationError as error:
        raise InvalidInput(f"Expected a request of the protocol, got {first_fault(error)}.") from error
    binary = content.parameters.get("binary_data_output") is True
    outputs = None
    if content.outputs:
        outputs = {out.name: out.parameters.get("binary_data", binary) is True for out in content.outputs}
    pictures = _pictures(content.inputs[0], body[length:])
    return InferRequest(pictures, content.parameters, content.id, outputs, binary)


def _some(content: bytes) -> bytes:
    if not content:
        raise InvalidInput("Expected an encoded picture, got no bytes.")
    return content


def write_request(
    contents: Sequence[bytes],
    parameters: Mapping[str, object],
    outputs: Sequence[str] = (),
    binary: bool = True,
) -> tuple[bytes, int | None]:
    """The body of a request for encoded pictures and, where raw bytes follow the JSON, the JSON's length.

    Args:
        outputs: names of those that are wanted, all by default.
        binary: whether pictures go, and outputs come, as raw bytes.
    """
    tensor: dict[str, object] = {"name": IMAGE, "shape": [len(contents)], "datatype": "BYTES"}
    raw = b""
    if binary:
        raw = b"".join(struct.pack("<I", len(content)) + content for content in contents)
        tensor["parameters"] = {"binary_data_size": len(raw)}
        parameters = {"binary_data_output": True, **parameters}
    else:
        tensor["data"] = [base64.b64encode(content).decode() for content in contents]
    request: dict[str, object] = {"inputs": [tensor]} | ({"parameters": parameters} if parameters else {})
    if outputs:
        form = {"parameters": {"binary_data": True}} if binary else {}
        request["outputs"] = [{"name": name, **form} for name in outputs]
    header = json.dumps(request).encode()
    return header + raw, len(header) if binary else None


def _pictures(tensor: InputTensor, raw: bytes) -> list[Source]:
    if tensor.name != IMAGE:
        raise InvalidInput(f"Expected the input `{IMAGE}`, got `{tensor.name[:80]}`.")
    count = tensor.shape[0] if tensor.shape else 0
    if not 1 <= count <= LARGEST_BATCH:
        raise InvalidInput(f"Expected 1 to {LARGEST_BATCH} pictures, got {count}.")
    size = tensor.parameters.get("binary_data_size")
    if (size is None) == (tensor.data is None):
        raise InvalidInput("Expected either `data` or `binary_data_size`, got both or neither.")
    if len(raw) != (0 if size is None else size):
        raise InvalidInput(f"Expected {size or 0} bytes behind the JSON, got {len(raw)}.")
    if tensor.datatype == "BYTES":
        return _encoded(tensor, raw, count)
    if tensor.datatype == "UINT8":
        return _pixels(tensor, raw)
    raise InvalidInput(f"Expected datatype BYTES or UINT8, got `{tensor.datatype[:80]}`.")


def _encoded(tensor: InputTensor, raw: bytes, count: int) -> list[Source]:
    if tensor.shape not in ([count], [count, 1]):
        raise InvalidInput(f"Expected pictures of shape [n], got {tensor.shape}.")
    contents = _from_base64(tensor.data) if tensor.data is not None else split_values(raw, count)
    if len(contents) != count:
        raise InvalidInput(f"Expected {count} pictures, got {len(contents)}.")
    return [_some(content) for content in contents]


def _from_base64(data: list[Any]) -> list[bytes]:
    texts = [text for row in data for text in (row if isinstance(row, list) else [row])]
    try:
        return [base64.b64decode(text, validate=True) for text in texts]
    except (TypeError, ValueError, binascii.Error) as error:
        raise InvalidInput("Expected pictures as base64 in `data`, got something else.") from error


def split_values(raw: bytes, count: int) -> list[bytes]:
    """The parts of raw bytes, each behind its length."""
    parts: list[bytes] = []
    start = 0
    while start < len(raw) and len(parts) <= count:
        (length,) = struct.unpack_from("<I", raw, start) if start + 4 <= len(raw) else (len(raw),)
        start += 4 + length
        if start > len(raw):
            raise InvalidInput("Expected each value behind its length in 4 bytes, got a cut one.")
        parts.append(raw[start - length : start])
    return parts


def _pixels(tensor: InputTensor, raw: bytes) -> list[Source]:
    shape = tensor.shape
    if len(shape) != 4 or shape[3] != 3 or min(shape) < 1 or math.prod(shape) > 2**31:
        raise InvalidInput(f"Expected pixels of shape [n, h, w, 3], got {shape}.")
    if tensor.data is None:
        values = np.frombuffer(raw, np.uint8)
    else:
        try:
            numbers = np.asarray(tensor.data)
        except (ValueError, OverflowError) as error:
            raise InvalidInput("Expected numbers in `data`, got ragged lists.") from error
        if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 255:
            raise InvalidInput("Expected whole numbers from 0 to 255 in `data`, got others.")
        values = numbers.astype(np.uint8)
    if values.size != math.prod(shape):
        raise InvalidInput(f"Expected {math.prod(shape)} numbers for shape {shape}, got {values.size}.")
    return list(values.reshape(shape))


def write_response(
    content: Mapping[str, object], values: Mapping[str, Values], request: InferRequest
) -> tuple[bytes, int | None]:
    """The body of an answer and, where raw bytes follow the JSON, the JSON's length.

    Args:
        content: what the JSON has beside its outputs.

    Raises:
        InvalidInput: an output that is asked for and is not among the values.
    """
    outputs = request.outputs or dict.fromkeys(values, request.binary)
    tensors, raw = [], []
    for name, binary in outputs.items():
        if name not in values:
            raise InvalidInput(f"Expected outputs among {', '.join(values)}, got `{name[:80]}`.")
        tensor, content_bytes = _tensor(name, values[name], binary)
        tensors.append(tensor)
        raw.append(content_bytes)
    answer = {**content, **({"id": request.id} if request.id else {}), "outputs": tensors}
    header = to_json(answer, inf_nan_mode="null")
    return header + b"".join(raw), len(header) if any(outputs.values()) else None


def _tensor(name: str, values: Values, binary: bool) -> tuple[dict[str, object], bytes]:
    """A tensor as JSON, and its raw bytes where these are asked for."""
    if isinstance(values, list):
        tensor: dict[str, object] = {"name": name, "datatype": "BYTES", "shape": [len(values)]}
        if not binary:
            return tensor | {"data": values}, b""
        texts = [text.encode() for text in values]
        return _behind(tensor, b"".join(struct.pack("<I", len(text)) + text for text in texts))
    tensor = {"name": name, "datatype": KINDS[values.dtype.str[1:]], "shape": list(values.shape)}
    if not binary:
        return tensor | {"data": values.ravel().tolist()}, b""
    return _behind(tensor, values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())


def _behind(tensor: dict[str, object], raw: bytes) -> tuple[dict[str, object], bytes]:
    return tensor | {"parameters": {"binary_data_size": len(raw)}}, raw
