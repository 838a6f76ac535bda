"""What tests of several folders share: configurations, turned pictures, trainings, the judge of boxes."""

import contextlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ebjr_det.tasks.detection.coco.annotations import Annotations, Truth
from ebjr_det.tasks.detection.data import DetectionSet

ROOT = Path(__file__).resolve().parents[1]
DIGITS, QUICKSTART = (ROOT / "configs" / f"{name}.yaml" for name in ("digits", "quickstart"))
SCENES_PAIR = (
    "router.score=free_energy",
    "teacher={arch: effdet/efficientdet_d0, name: again, image_size: 128, "
    "checkpoint: scenes-student, options: {backbone_name: test_resnet, backbone_args: {}, fpn_channels: 48, "
    "fpn_cell_repeats: 2, box_class_repeats: 2, anchor_scale: 2.0}}",
)
"""Changes of the quickstart after which its student teaches too, as writing a graph as ONNX takes seconds."""
T = Image.Transpose
STORED = {
    # orientation of EXIF -> how an upright picture is stored under it
    1: None,
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}
SMALL_EFFICIENTDET = {
    "backbone_name": "lcnet_050",
    "backbone_args": {},
    "fpn_channels": 48,
    "fpn_cell_repeats": 1,
    "box_class_repeats": 1,
}
"""Options of a network that is built in no time."""
DIGITS_TRAINING = """
data: {dataset: digits, split: train, part: [0.0, 0.8]}
validation: {dataset: digits, split: train, part: [0.8, 1.0]}
model:
  {arch: resnet, depth: 8, width: 4, preprocessing: {mean: [0.305, 0.305, 0.305], std: [0.376, 0.376, 0.376]}}
augment: {padding: 1, flip: 0.0}
schedule:
  {steps: 120, batch_size: 32, optimizer: sgd, nesterov: true, lr: 0.2, policy: one_cycle, validate_every: 40,
  ema_decay: 0.9}
"""


def stored_as(upright: Image.Image, orientation: int) -> tuple[Image.Image, Image.Exif]:
    """The picture as a camera stores it under an orientation, and the metadata that say so."""
    exif, how = Image.Exif(), STORED[orientation]
    exif[0x0112] = orientation
    return upright if how is None else upright.transpose(how), exif


def one_object_a_class(categories: dict[int, str]) -> DetectionSet:
    """A black image for each class that shows one object of it."""
    count = len(categories)
    truths = tuple(
        Truth(np.array([[30.0, 30, 64, 64]]), np.array([label]), np.array([4096.0]), np.zeros(1, bool))
        for label in range(count)
    )
    annotations = Annotations(
        tuple(range(1, count + 1)), tuple(map(str, range(count))), np.full((count, 2), 128),
        tuple(categories), tuple(categories.values()), truths,
    )  # fmt: skip
    return DetectionSet(annotations, lambda _: Image.new("RGB", (128, 128)))


def check_served_bits(answer: dict[str, Any], expected: Any) -> None:
    """A server's answer to one picture of digits is that of the pair at hand, to the bit."""
    assert answer["logits"].tobytes() == expected.predictions[0].tobytes()
    assert answer["deferral_score"].tobytes() == expected.decision.scores.tobytes()
    assert tuple(answer["answered_by"]) == expected.answered_by


def pycocotools_judge(truth: dict[str, Any], entries: list[dict[str, Any]]) -> Any:
    """A COCOeval from scratch of this very content, with `stats`, `eval` and `evalImgs`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = pickle.loads(pickle.dumps(truth))
        annotated.createIndex()
        judge = COCOeval(annotated, annotated.loadRes(pickle.loads(pickle.dumps(entries))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge
