"""Detectors that lie in ONNX files of other tools: how their outputs are to be read is found out and shown.

A file's outputs are tried on one picture of noise. Where shapes and numbers leave no doubt the reading is
taken as found, else a setting in `options` is asked for. Runs without torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image

from ebjr_det.config import BaseSection
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import Array
from ebjr_det.runtimes.graph_file import GraphFile, RunsFile, shapes_of
from ebjr_det.tasks.detection.networks.anchors import Anchors
from ebjr_det.tasks.detection.networks.classes import ClassMap
from ebjr_det.tasks.detection.networks.detector import Detector, Surroundings
from ebjr_det.tasks.detection.networks.frame import Fit, Frame
from ebjr_det.tasks.detection.networks.framed import FramedDetector
from ebjr_det.tasks.detection.networks.heads import Head
from ebjr_det.tasks.detection.networks.letterbox import Letterbox
from ebjr_det.tasks.detection.networks.suppression import Suppression

Decode = Literal["yolo", "yolo_nms_free", "detr", "ssd", "efficientdet"]
MOST_QUERIES = 1000
"""More rows than that are anchors."""
SHARE = 2.0
"""Boxes whose every number is below it are shares of the picture, not its pixels."""
EFFICIENTDET = ("logits", "offsets", "features", "maxima")
GAP = 7680.0
"""Pixels by which ultralytics moves classes apart before it suppresses."""


class GraphOptions(BaseSection):
    """Settings in `options` of an ONNX detector; what is left out is found out."""

    decode: Decode | None = None
    fit: Fit | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float | None = None
    boxes: Literal["cxcywh", "xyxy", "xywh"] | None = None
    normalised: bool | None = None
    activation: Literal["sigmoid", "softmax", "objectness"] | None = None
    applied: bool | None = None
    background: Literal["first", "last", "none"] | None = None
    iou: float | None = None
    least_score: float | None = None
    anchors: dict[str, object] | None = None


class OnnxDetector(RunsFile, FramedDetector):
    """A detector of an ONNX file in ONNX Runtime, until it is given another runtime."""

    def __init__(self, name: str, file: GraphFile, frame: Frame, head: Head, classes: ClassMap) -> None:
        self.file, self.size, self.runtime = file, frame.size, "onnxruntime"
        super().__init__(name, frame, head, classes, file.open(frame.size))

    def facts(self, image: Image.Image) -> Mapping[str, object]:
        """How its outputs are read."""
        assert isinstance(self.preprocess, Frame)
        frame = self.preprocess
        numbers = {"fit": frame.fit, "mean": list(frame.mean), "std": list(frame.std), "scale": frame.scale}
        return {"image_size": list(self.size), "layout": self.head.layout, "head": str(self.head), **numbers}


class OnnxEfficientDet(RunsFile, Detector):
    """An EfficientDet that this project has written, anchors and suppression around its file."""

    def __init__(self, name: str, file: GraphFile, around: Surroundings) -> None:
        self.file, self.size, self.runtime = file, around.letterbox.size, "onnxruntime"
        super().__init__(name, around, file.open(self.size))

    def facts(self, image: Image.Image) -> Mapping[str, object]:
        """How its outputs are read."""
        return {"image_size": list(self.size), "layout": "efficientdet"}


def size_of(file: GraphFile, side: int | None) -> tuple[int, int]:
    """Height and width of a file's pictures: its own, else the setting, else what its exporter left."""
    if file.size is not None:
        if side is not None and file.size != (side, side):
            raise ConfigError(f"Expected `image_size` of `{file.path}`, {list(file.size)}, got {side}.")
        return file.size
    size = (side, side) if side is not None else file.stated_size()
    if size is None:
        raise ConfigError(
            f"Expected `image_size` for `{file.path}`, which takes pictures of any size, got none."
        )
    return size


def find_decode(file: GraphFile, raw: Sequence[Array], classes: int) -> Decode:
    """The kind of outputs by their shapes. Raises InvalidInput, with these, for unknown or ambiguous ones."""
    shapes = [output.shape for output in raw]
    if file.outputs == EFFICIENTDET:
        return "efficientdet"
    if len(shapes) == 1 and len(shapes[0]) == 3:
        first, second = shapes[0][1:]
        if second == 6 and _are_best(file, raw[0][0], classes):
            return "yolo_nms_free"
        if {first, second} & {classes + 4, classes + 5}:
            return "yolo"
    if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
        widths = sorted((shape[2], index) for index, shape in enumerate(shapes))
        numbers = next((shapes[1 - index] for width, index in widths if width == 4), None)
        if numbers is not None and numbers[2] in (classes, classes + 1):
            return "detr" if numbers[1] <= MOST_QUERIES else "ssd"
    raise InvalidInput(
        f"Expected outputs of a detector of {classes} classes in `{file.path}`, got "
        f"{shapes_of(file.outputs, raw)}. Set `options.decode`, or `class_names` where it has other classes."
    )


def _are_best(file: GraphFile, rows: Array, classes: int) -> bool:
    """Whether rows of six numbers are boxes, scores and classes, and not scores of two classes, or of one
    after an objectness.
    """
    exported = file.metadata.get("end2end") == "True" or "'nms': True" in file.metadata.get("args", "")
    integral = bool((rows[:, 5] % 1 == 0).all())
    return exported or (len(rows) <= MOST_QUERIES and (integral or 6 not in (classes + 4, classes + 5)))


def fit_of(decode: Decode, head: Head) -> Fit:
    """How a kind's pictures are fitted into its input; ultralytics' RT-DETR fills it."""
    if not decode.startswith("yolo"):
        return "stretch"
    return "fill" if head.shares and head.nms_iou is None and head.boxes == "cxcywh" else "letterbox"


def check_detector(file: GraphFile, raw: Sequence[Array]) -> None:
    """Raises InvalidInput for a classifier."""
    if file.metadata.get("task", "detect") != "detect" or [output.ndim for output in raw] == [2]:
        kind = file.metadata.get("task", "a classifier")
        raise InvalidInput(
            f"Expected a detector in `{file.path}`, got {kind}: {shapes_of(file.outputs, raw)}."
        )


def find_head(file: GraphFile, raw: Sequence[Array], classes: int, options: GraphOptions, limit: int) -> Head:
    """How a file's outputs are read, by its kind, its numbers for a picture of noise, and `options`."""
    decode = options.decode or find_decode(file, raw, classes)
    is_stated = options.normalised is not None or file.metadata.get("author") == "Ultralytics"
    if decode == "yolo_nms_free" and not (raw[0].any() or is_stated):
        raise InvalidInput(
            f"Expected boxes from `{file.path}` for a picture of noise, got zeros alone. Set "
            "`options.normalised: false` where its boxes are in pixels of its input, else true."
        )
    try:
        reading = READERS[decode](raw, classes)
    except (IndexError, ValueError) as error:
        raise InvalidInput(
            f"Expected outputs of `decode: {decode}` in `{file.path}`, got {shapes_of(file.outputs, raw)}."
        ) from error
    stated: dict[str, Any] = {
        "activation": options.activation, "applied": options.applied, "boxes": options.boxes,
        "shares": options.normalised, "nms_iou": options.iou, "least_score": options.least_score,
    }  # fmt: skip
    fields: dict[str, Any] = reading | {key: value for key, value in stated.items() if value is not None}
    if fields["activation"] == "softmax" and options.background is not None:
        places = {"first": 0, "last": classes, "none": None}
        fields["background"] = places[options.background]
    fields["max_detections"] = limit
    if fields["nms_iou"] is not None and decode == "yolo":
        fields["gap"] = GAP
    head = Head(**fields)
    _check_numbers(file, raw, head, classes)
    return head


def _check_numbers(file: GraphFile, raw: Sequence[Array], head: Head, classes: int) -> None:
    """Raises InvalidInput where the file's numbers are not what the head takes them for."""
    shapes = shapes_of(file.outputs, raw)
    try:
        rows = head.read([output[0] for output in raw])
    except (IndexError, ValueError) as error:
        raise InvalidInput(f"Expected outputs as `options` say in `{file.path}`, got {shapes}.") from error
    width = 1 if head.layout == "best" else classes + (head.background is not None)
    if rows.boxes.shape[1:] != (4,) or rows.logits.shape != (len(rows.boxes), width):
        raise InvalidInput(f"Expected {classes} classes and boxes of 4 in `{file.path}`, got {shapes}.")
    if head.applied and len(rows.scores) and not 0 <= rows.scores.min() <= rows.scores.max() <= 1:
        raise InvalidInput(
            f"Expected probabilities from `{file.path}`, got numbers from {rows.scores.min():.3g} to "
            f"{rows.scores.max():.3g}. Set `options.applied: false` for logits."
        )
    largest = float(np.abs(rows.boxes).max(initial=0))
    if largest > 0 and head.shares != (largest < SHARE):
        words = "in shares of the picture, all below 1" if head.shares else "in pixels"
        raise InvalidInput(
            f"Expected boxes {words} from `{file.path}`, got numbers to {largest:.3g}. Set "
            f"`options.normalised: {str(not head.shares).lower()}`."
        )


def _yolo(raw: Sequence[Array], classes: int) -> dict[str, Any]:
    first, second = raw[0].shape[1:]
    columns = first in (classes + 4, classes + 5) and not (
        second in (classes + 4, classes + 5) and first > second
    )
    width = first if columns else second
    rows = raw[0][0].T if columns else raw[0][0]
    shares = _are_shares(rows[:, :4])
    queries = not columns and shares and len(rows) <= MOST_QUERIES  # RT-DETR as ultralytics writes it
    return {
        "layout": "columns" if columns else "rows",
        "activation": "objectness" if width == classes + 5 else "sigmoid",
        "applied": _are_probabilities(rows[:, 4:]), "shares": shares, "boxes": "cxcywh",
        "nms_iou": None if queries else 0.7, "least_score": 0.0 if queries else 0.001,
    }  # fmt: skip


def _nms_free(raw: Sequence[Array], classes: int) -> dict[str, Any]:
    boxes = raw[0][0, :, :4]
    corners = bool((boxes[:, 2:] >= boxes[:, :2]).all())  # not so of centres and sides
    return {
        "layout": "best", "activation": "sigmoid", "applied": True, "nms_iou": None, "least_score": 0.0,
        "boxes": "xyxy" if corners else "cxcywh", "shares": bool(boxes.any()) and _are_shares(boxes),
    }  # fmt: skip


def _parts(raw: Sequence[Array], classes: int) -> dict[str, object]:
    boxes = 0 if raw[0].shape[-1] == 4 and raw[1].shape[-1] != 4 else 1
    numbers = raw[1 - boxes][0]
    return {
        "layout": "parts", "order": (1 - boxes, boxes), "applied": _are_probabilities(numbers),
        "activation": "softmax" if numbers.shape[-1] == classes + 1 else "sigmoid",
        "shares": _are_shares(raw[boxes][0]),
    }  # fmt: skip


def _detr(raw: Sequence[Array], classes: int) -> dict[str, Any]:
    reading = _parts(raw, classes)
    softmax = reading["activation"] == "softmax"
    end = {"background": classes if softmax else None, "pairs": not softmax}
    return reading | end | {"boxes": "cxcywh", "nms_iou": None, "least_score": 0.0}


def _ssd(raw: Sequence[Array], classes: int) -> dict[str, Any]:
    reading = _parts(raw, classes)
    background = 0 if reading["activation"] == "softmax" else None
    return reading | {
        "boxes": "xyxy",
        "nms_iou": 0.45,
        "least_score": 0.01,
        "pairs": True,
        "background": background,
    }


READERS = {"yolo": _yolo, "yolo_nms_free": _nms_free, "detr": _detr, "ssd": _ssd}


def _are_probabilities(numbers: Array) -> bool:
    return bool(numbers.size == 0 or (numbers.min() >= 0 and numbers.max() <= 1))


def _are_shares(boxes: Array) -> bool:
    return bool(boxes.size and np.abs(boxes).max() < SHARE)


def build_efficientdet(
    name: str, file: GraphFile, options: GraphOptions, classes: ClassMap, size: tuple[int, int], limit: int
) -> OnnxEfficientDet:
    """One of this project's own graphs; `options.anchors` replace those of EfficientDet."""
    defaults: dict[str, Any] = {
        "min_level": 3, "max_level": 7, "num_scales": 3, "anchor_scale": 4.0,
        "aspect_ratios": ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4)),
    }  # fmt: skip
    anchors = Anchors(**{**defaults, **(options.anchors or {})}, image_size=size)
    mean = tuple(options.mean) if any(options.mean) else (0.485, 0.456, 0.406)
    around = Surroundings(Letterbox(size, mean), anchors, Suppression(limit), classes)
    return OnnxEfficientDet(name, file, around)
