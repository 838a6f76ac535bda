"""Training pictures, changed at random: scaled, cropped, flipped, tinted; the boxes follow.

Convention: picture number k of a training is changed by a generator of its own, seeded by k, so that a
training that goes on after a break sees the same pictures as one that never stopped.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version
import albumentations
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.tasks.detection.data import DetectionSet
from ebjr_det.tasks.detection.detections import to_corners
from ebjr_det.training.order import Order, seed_of

SIZES = 16  # steps between the smallest and the largest scale
SCALES = (0.05, 20.0)  # smallest and largest
VISIBLE = 0.4  # of a box's area; an object of which a crop shows less is no object of that crop
LEAST_SIDE = 3.0  # pixels


def build_augmentation(
    side: int, mean: Sequence[float], scale: Sequence[float], flip: float, color: float
) -> albumentations.Compose:
    """The pipeline: any picture -> `side` x `side`.

    Args:
        mean: colour in [0, 1] of what lies outside the picture.
        scale: of the longer side after resizing, as a multiple of `side`; above 1 the picture is cropped.
        flip, color: probabilities of a horizontal flip and of a change of colours.

    Raises:
        ConfigError: a scale that is no range.
    """
    smallest, largest = SCALES
    if not smallest <= scale[0] <= scale[1] <= largest:
        raise ConfigError(
            f"Expected `augment.scale` to be a range within {smallest} to {largest}, got {list(scale)}."
        )
    fill = tuple(float(255 * channel) for channel in mean)
    sizes = [int(size) for size in np.linspace(scale[0] * side, scale[1] * side, SIZES).round()]
    return albumentations.Compose(
        [
            albumentations.LongestMaxSize(sizes, interpolation=cv2.INTER_LINEAR, area_for_downscale="image"),
            albumentations.PadIfNeeded(side, side, position="random", fill=fill),
            albumentations.RandomCrop(side, side),
            albumentations.HorizontalFlip(p=flip),
            albumentations.ColorJitter((0.7, 1.3), (0.7, 1.3), (0.7, 1.3), (-0.05, 0.05), p=color),
        ],
        bbox_params=albumentations.BboxParams(
            "coco", label_fields=["labels"], min_visibility=VISIBLE, clip=True,
            min_width=LEAST_SIDE, min_height=LEAST_SIDE,
        ),
    )  # fmt: skip


@dataclass
class TrainingSet:
    """Picture k of a training, changed by generator k.

    In place of an image that cannot be decoded comes the next one that can, where the data allows that.

    Gives uint8 pixels [3, s, s], boxes y1 x1 y2 x2 [m, 4] as effdet's bench wants them, and classes of the
    data [m], from 0.
    """

    data: DetectionSet
    augmentation: albumentations.Compose
    order: Order

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        index, picture = self._readable_from(self.order.image_at(k))
        truth = self.data.annotations.truths[index]
        real = (truth.boxes[:, 2:] > 0).all(axis=1) & ~truth.crowd
        self.augmentation.set_random_seed(seed_of(self.order.seed, k))
        changed = self.augmentation(image=picture, bboxes=truth.boxes[real], labels=truth.labels[real])
        boxes = np.asarray(changed["bboxes"], dtype=np.float32).reshape(-1, 4)
        corners = to_corners(boxes)[:, [1, 0, 3, 2]]
        labels = np.asarray(changed["labels"], dtype=np.int64)
        pixels = np.ascontiguousarray(changed["image"].transpose(2, 0, 1))
        return torch.from_numpy(pixels), torch.from_numpy(corners), torch.from_numpy(labels)

    def _readable_from(self, start: int) -> tuple[int, NDArray[np.uint8]]:
        for index in (*range(start, len(self.data)), *range(start)):
            if (picture := self.data.load_or_say(index)) is not None:
                return index, np.asarray(picture)
        raise InvalidInput(f"Expected a picture that can be decoded, got none among {len(self.data)}.")
