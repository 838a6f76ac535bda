"""Eight bits: a network's products in whole numbers, scaled by its activations on calibration pictures.

A graph is read from its float ONNX file and written as another one with pairs of QuantizeLinear and
DequantizeLinear (QDQ), by ONNX Runtime's static quantisation or by NNCF. Convolutions and products alone
are in eight bits, and of these not all; see `float_nodes`.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.types import Array, FloatArray
from ebjr_det.io.environment import cpu_flags, version_of
from ebjr_det.io.files import atomic_write
from ebjr_det.io.notes import say
from ebjr_det.io.third_party import stdout_to_stderr
from ebjr_det.io.threads import thread_count
from ebjr_det.runtimes.float_nodes import float_nodes
from ebjr_det.runtimes.graph_macs import PRODUCTS
from ebjr_det.runtimes.registry import Batch, Column, Network, host, quiet

if TYPE_CHECKING:
    from torch import nn

INSTRUCTIONS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}
"""Those of x86 and ARM that multiply and add bytes."""
LEAST, MOST = 8, 32
"""Calibration pictures: fewer are refused, more are not looked at."""
CHECKED = 4
"""Every so manieth picture sets no range, and tells how far activations leave the ranges of the others."""
STRAY = 0.1
"""Activations of further calibration pictures that leave the ranges by more are warned of."""
STRANGE = 3
"""So many times as far leave pictures of another kind; others of a set left up to 2.5, noise 8 to 19."""
HELD_OUT = "activation_drift"
"""What a file calls how far the further calibration pictures have left its ranges."""
BY = {"onnxruntime_int8": "onnxruntime", "openvino_int8": "openvino"}
"""What runs the graph of each runtime in eight bits."""
PRODUCTS_FROM = "ebjr_det.runtimes.graph_macs"
LIBRARIES = {"onnxruntime": "onnxruntime", "openvino": "nncf"}
"""What writes the graph for each that runs it."""


def has_instructions() -> bool:
    """Whether this processor multiplies bytes faster than floats."""
    return bool(INSTRUCTIONS & cpu_flags())


class EightBits:
    """A network that runs from a graph in eight bits."""

    def __init__(self, path: Path, by: str) -> None:
        self.path, self.by = path, by
        self.network = open_file(path, by)

    @property
    def invariant(self) -> bool:
        """Whether an image's outputs are the same bits whatever else is in its batch."""
        return self.network.invariant

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Outputs as arrays. Raises InvalidInput for images of another shape than the graph's."""
        return self.network(batch)

    def activation_drift(self, pictures: Batch) -> float:
        """How far pictures leave the ranges of the calibration, as a share of these."""
        return activation_drift(self.path, host(pictures), self.by)

    @property
    def drift_at_calibration(self) -> float:
        """How far further pictures of the calibration have left the ranges."""
        import onnx

        return float({entry.key: entry.value for entry in onnx.load(self.path).metadata_props}[HELD_OUT])


def build(graph: "nn.Module", example: Batch, device: str, *, by: str) -> EightBits:
    """The network in eight bits, or its file from an earlier time, calibrated on the example.

    Args:
        by: the library that runs it, a key of `LIBRARIES`.

    Raises:
        ConfigError: a network without a product that could be in eight bits.
        InvalidInput: too few pictures.
    """
    from ebjr_det.runtimes.cache import cached
    from ebjr_det.runtimes.onnx import through_onnx

    pictures = enough(example)

    def write(path: Path) -> None:
        through_onnx(graph, example, partial(quantise, pictures=pictures, by=by, path=path))

    return cached(graph, example, "onnx", write, partial(EightBits, by=by), note=_note(pictures, by))


def enough(pictures: Batch) -> Array:
    """The calibration pictures that are looked at. Raises InvalidInput for too few."""
    if len(pictures) < LEAST:
        raise InvalidInput(
            f"Expected at least {LEAST} pictures to calibrate a network in eight bits, got {len(pictures)}. "
            "Take more, or a runtime in float."
        )
    return host(pictures[:MOST])


def recipe(by: str) -> str:
    """All that makes a graph in eight bits of a float one and pictures: a digest of rules, and libraries."""
    from ebjr_det.runtimes.cache import source_of_module

    rules = [source_of_module(name) for name in (__name__, float_nodes.__module__, PRODUCTS_FROM)]
    digest = hashlib.sha256("\n".join(rules).encode()).hexdigest()
    versions = [f"{library} {version_of(library)}" for library in sorted({LIBRARIES[by], by})]
    return ", ".join([*versions, f"rules {digest[:12]}"])


def _note(pictures: Array, by: str) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()
    return f"eight bits, {by}, {recipe(by)}, {pictures.shape} {digest}"


def open_file(path: Path, by: str) -> Network:
    """A graph at work in ONNX Runtime or OpenVINO."""
    if by == "onnxruntime":
        from ebjr_det.runtimes.onnx import Session

        return Session(path, threads=thread_count())
    from ebjr_det.runtimes.openvino import read_file

    return read_file(path)


def quantise(source: Path, *, pictures: Array, by: str, path: Path) -> None:
    """Write a float graph in eight bits.

    Raises:
        ConfigError: no product that could be in eight bits.
    """
    say("Calibrating a network in eight bits, once for this machine: up to some minutes ...")
    checked = np.arange(len(pictures)) % CHECKED == CHECKED - 1
    with quiet(), stdout_to_stderr(), atomic_write(path) as temporary:
        model = _prepared(source)
        floats = {*float_nodes(model)}
        products = [node for node in model.graph.node if node.op_type in PRODUCTS]
        if all(node.name in floats for node in products):
            raise ConfigError(
                f"Expected a convolution or product between first and heads to run in eight bits, got "
                f"none in {len(model.graph.node)} operators. Choose another runtime."
            )
        write = {"onnxruntime": _by_onnxruntime, "openvino": _by_nncf}[by]
        try:
            write(model, pictures[~checked], sorted(floats), temporary)
        except Exception as error:  # each library's own
            raise ConfigError(
                f"Expected a graph that {LIBRARIES[by]} can write in eight bits, got: {first_line(error)}. "
                "Choose another runtime."
            ) from error
        stray = activation_drift(temporary, pictures[checked], by)
        done = _finish(temporary, stray)
    warning = " Take more pictures, or such as are to come." if stray > STRAY else ""
    say(
        f"{done} of {len(products)} convolutions and products run in eight bits, the others in float; on "
        f"{checked.sum()} further pictures activations leave their ranges by {stray:.2g} of these.{warning}"
    )


def _prepared(source: Path) -> Any:
    """A graph with batch norms folded into products, the shapes of tensors and a name for each operator."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(path), skip_symbolic_shape=True)
        model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"unnamed {index}"
    return model


def _by_onnxruntime(model: Any, pictures: Array, floats: Sequence[str], path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    name = model.graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(pictures)

        def get_next(self) -> dict[str, Array] | None:
            return next(({name: picture[None]} for picture in self.batches), None)

    quantize_static(
        model, str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=list(floats),
        op_types_to_quantize=list(PRODUCTS),
    )  # fmt: skip


def _by_nncf(model: Any, pictures: Array, floats: Sequence[str], path: Path) -> None:
    import nncf
    import onnx
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    name = model.graph.input[0].name
    ends = RangeEstimatorParametersSet.MINMAX  # not the mean picture's, which cut off what says most
    others = {node.op_type for node in model.graph.node} - {*PRODUCTS}
    quantised = nncf.quantize(
        model, nncf.Dataset([{name: picture[None]} for picture in pictures]),
        preset=nncf.QuantizationPreset.MIXED, subset_size=len(pictures),
        ignored_scope=nncf.IgnoredScope(names=list(floats), types=sorted(others), validate=False),
        advanced_parameters=AdvancedQuantizationParameters(activations_range_estimator_params=ends),
    )  # fmt: skip
    onnx.save(quantised, path)


def _finish(path: Path, stray: float) -> int:
    """Leave a graph's drift in its file; how many of its products multiply what was in eight bits."""
    import onnx

    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.ClearField(
            "data_location"
        )  # that values lie in this file, which `check_whole` has by its absence
    onnx.helper.set_model_props(model, {HELD_OUT: str(stray)})
    onnx.save(model, path)
    nodes = model.graph.node
    bytes_read = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    return sum(node.op_type in PRODUCTS and bytes_read.issuperset(node.input[:2]) for node in nodes)


def activation_drift(path: Path, pictures: Array, by: str) -> float:
    """See `EightBits.activation_drift`; of the graph in a file."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    ranges = dict(_ranges(model))
    del model.graph.output[:]
    for at, tensor in enumerate(ranges):
        for end in ("Min", "Max"):
            model.graph.node.append(helper.make_node(f"Reduce{end}", [tensor], [f"{end}{at}"], keepdims=0))
            model.graph.output.append(helper.make_tensor_value_info(f"{end}{at}", TensorProto.FLOAT, []))
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "ranges.onnx")
        network = open_file(Path(folder) / "ranges.onnx", by)
        rows = [np.array([float(host(end)) for end in network(picture[None])]) for picture in pictures]
    return _beyond(np.array([*ranges.values()]), np.array(rows).reshape(len(rows), -1, 2))


def _beyond(ranges: FloatArray, seen: FloatArray) -> float:
    """How far pictures lie beyond a range, as a share of it, at most 1: the mean over pictures and tensors.

    Args:
        ranges: [tensors, 2]; seen: [pictures, tensors, 2] least and largest of each.
    """
    low, high = ranges.T
    beyond = np.maximum(low - seen[..., 0], seen[..., 1] - high)
    width = np.maximum(high - low, np.finfo(np.float32).tiny)  # a tensor that never moves has none
    return float(np.mean(np.clip(np.maximum(beyond, 0) / width, 0, 1)))


def _ranges(model: Any) -> Iterator[tuple[str, tuple[float, float]]]:
    """The tensors that a graph turns into eight bits, each with the least and largest that it can hold."""
    from onnx import numpy_helper

    constants = {entry.name: entry for entry in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants:
            scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
            if scale.size == 1:
                kind, unit, offset = np.iinfo(zero.dtype), float(scale.item()), int(zero.item())
                yield node.input[0], ((kind.min - offset) * unit, (kind.max - offset) * unit)
