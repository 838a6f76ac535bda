"""Training pictures, changed at random: shifted, cropped, flipped, tinted; then preprocessed as ever.

Convention: picture number k of a training is changed by a generator of its own, seeded by k.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version
import albumentations
import cv2
import numpy as np
import torch
from torch import Tensor

from ebjr_det.tasks.classification.data import ImageSet, collate
from ebjr_det.tasks.classification.networks.preprocessing import Transform
from ebjr_det.training.order import Order, seed_of

FILL = (125.0, 123.0, 114.0)  # what shows beyond the border: CIFAR's mean colour


def build_augmentation(padding: int, border: float, flip: float, color: float) -> albumentations.Compose:
    """The pipeline: any picture -> one like it. The network's own preprocessing comes after it.

    Args:
        padding: pixels by which the picture is shifted at most, either way: a crop of its own size from the
            picture with a border so wide (CIFAR's recipes: 4).
        border: most that is cut off at each side, as a share of it (large pictures).
        flip, color: probabilities of a horizontal flip and of a change of colours.
    """
    steps: list[albumentations.BasicTransform] = []
    if padding:
        shift = {"x": (-padding, padding), "y": (-padding, padding)}
        steps.append(
            albumentations.Affine(translate_px=shift, interpolation=cv2.INTER_NEAREST, fill=FILL, p=1.0)
        )
    if border:
        steps.append(albumentations.RandomCropFromBorders(border, border, border, border, p=1.0))
    steps.append(albumentations.HorizontalFlip(p=flip))
    steps.append(albumentations.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (0, 0), p=color))
    return albumentations.Compose(steps)


@dataclass
class TrainingSet:
    """Picture k of a training, for each of several models: their inputs, and the class."""

    data: ImageSet
    augmentation: albumentations.Compose
    transforms: Sequence[Transform]
    order: Order

    def __getitem__(self, k: int) -> tuple[list[Tensor], int]:
        index = self.order.image_at(k)
        self.augmentation.set_random_seed(seed_of(self.order.seed, k))
        changed = self.augmentation(image=np.ascontiguousarray(self.data.load(index)))["image"]
        return [transform(changed) for transform in self.transforms], self.data.target(index)


def columns(rows: Sequence[tuple[list[Tensor], int]]) -> tuple[Tensor, ...]:
    """A batch: the inputs of each model, and last the classes."""
    inputs, labels = zip(*rows, strict=True)
    return *(collate(column) for column in zip(*inputs, strict=True)), torch.tensor(labels)
