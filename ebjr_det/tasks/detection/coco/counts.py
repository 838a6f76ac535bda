"""How often COCO shows each of its classes: published facts, no data of COCO is in here."""

from collections.abc import Sequence

import numpy as np

from ebjr_det.core.types import FloatArray

TRAIN2017_IMAGES = 118_287
# fmt: off
TRAIN2017 = {
    "person": 262465, "bicycle": 7113, "car": 43867, "motorcycle": 8725, "airplane": 5135, "bus": 6069,
    "train": 4571, "truck": 9973, "boat": 10759, "traffic light": 12884, "fire hydrant": 1865,
    "stop sign": 1983, "parking meter": 1285, "bench": 9838, "bird": 10806, "cat": 4768, "dog": 5508,
    "horse": 6587, "sheep": 9509, "cow": 8147, "elephant": 5513, "bear": 1294, "zebra": 5303,
    "giraffe": 5131, "backpack": 8720, "umbrella": 11431, "handbag": 12354, "tie": 6496, "suitcase": 6192,
    "frisbee": 2682, "skis": 6646, "snowboard": 2685, "sports ball": 6347, "kite": 9076,
    "baseball bat": 3276, "baseball glove": 3747, "skateboard": 5543, "surfboard": 6126,
    "tennis racket": 4812, "bottle": 24342, "wine glass": 7913, "cup": 20650, "fork": 5479, "knife": 7770,
    "spoon": 6165, "bowl": 14358, "banana": 9458, "apple": 5851, "sandwich": 4373, "orange": 6399,
    "broccoli": 7308, "carrot": 7852, "hot dog": 2918, "pizza": 5821, "donut": 7179, "cake": 6353,
    "chair": 38491, "couch": 5779, "potted plant": 8652, "bed": 4192, "dining table": 15714, "toilet": 4157,
    "tv": 5805, "laptop": 4970, "mouse": 2262, "remote": 5703, "keyboard": 2855, "cell phone": 6434,
    "microwave": 1673, "oven": 3334, "toaster": 225, "sink": 5610, "refrigerator": 2637, "book": 24715,
    "clock": 6334, "vase": 6613, "scissors": 1481, "teddy bear": 4793, "hair drier": 198,
    "toothbrush": 1954,
}
# fmt: on
"""Objects of each class among the 860,001 of instances_train2017.json, crowds included (Lin et al. 2014,
arXiv 1405.0312; counts of the 2017 release)."""


def published_counts(class_names: Sequence[str]) -> FloatArray | None:
    """[classes] of these classes, or None where some are not COCO's.

    >>> published_counts(["person", "toaster"]).tolist()
    [262465.0, 225.0]
    """
    if not class_names or not set(class_names) <= TRAIN2017.keys():
        return None
    return np.array([TRAIN2017[name] for name in class_names], dtype=np.float64)
