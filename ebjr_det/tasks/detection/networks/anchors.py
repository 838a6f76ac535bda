"""The anchor boxes of an EfficientDet as plain numbers, and boxes from a network's offsets to them.

Convention: anchors are y1, x1, y2, x2 in pixels of the network's input, as effdet and the papers have them;
boxes are x1, y1, x2, y2. All in float32, in effdet's order of operations; only exponentials are calculated
in float64 and rounded once, so that they are the same on every machine. Knows no network and no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Boxes32: TypeAlias = NDArray[np.float32]
"""[n, 4]"""


@dataclass(frozen=True)
class Anchors:
    """Where anchors stand; the fields are those of an effdet configuration, and JSON can hold them.

    Attributes:
        min_level, max_level: of the pyramid; a position of level k is 2^k pixels wide.
        num_scales: sizes a level has: the base size times 2^(0 / num_scales), 2^(1 / num_scales), ...
        aspect_ratios: factors of width and height, or their ratio as one number.
        anchor_scale: base size in positions, for all levels or one a level.
        image_size: height and width of the input, multiples of 2^max_level.
    """

    min_level: int
    max_level: int
    num_scales: int
    aspect_ratios: tuple[float | tuple[float, float], ...]
    anchor_scale: float | tuple[float, ...]
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("aspect_ratios", "anchor_scale", "image_size"):  # as JSON's lists
            object.__setattr__(self, name, _frozen(getattr(self, name)))

    @classmethod
    def of_config(cls, config: object) -> "Anchors":
        """The anchors of an effdet configuration."""
        return cls(**{field: getattr(config, field) for field in cls.__dataclass_fields__})

    @cached_property
    def boxes(self) -> Boxes32:
        """float32 [anchors, 4] y1, x1, y2, x2: level by level, row by row, position by position, scale by
        scale, ratio by ratio: the order of the rows of a network's outputs.
        """
        return np.concatenate([self._of_level(level) for level in range(self.min_level, self.max_level + 1)])

    def _of_level(self, level: int) -> Boxes32:
        sides = self.image_size
        for _ in range(level):
            sides = (sides[0] - 1) // 2 + 1, (sides[1] - 1) // 2 + 1
        down, right = (float(length / side) for length, side in zip(self.image_size, sides, strict=True))
        scale = self.anchor_scale
        base = scale[level - self.min_level] if isinstance(scale, tuple) else scale
        xs, ys = np.meshgrid(
            np.arange(right / 2, self.image_size[1], right), np.arange(down / 2, self.image_size[0], down)
        )
        x, y = xs.reshape(-1), ys.reshape(-1)
        boxes = []
        for octave in (step / float(self.num_scales) for step in range(self.num_scales)):
            for aspect in self.aspect_ratios:
                along_x, along_y = _factors(aspect)
                half_x = base * right * 2**octave * along_x / 2.0
                half_y = base * down * 2**octave * along_y / 2.0
                boxes.append(np.stack([y - half_y, x - half_x, y + half_y, x + half_x], axis=1))
        return np.stack(boxes, axis=1).reshape(-1, 4).astype(np.float32)


def _frozen(value: object) -> object:
    """Lists as tuples, all the way down."""
    return tuple(map(_frozen, value)) if isinstance(value, Sequence) else value


def _factors(aspect: float | tuple[float, float]) -> tuple[float, float]:
    """What an aspect ratio makes of width and height."""
    if isinstance(aspect, tuple):
        return aspect
    root = np.sqrt(aspect)
    return float(root), float(1.0 / root)


def decode_boxes(offsets: Boxes32, anchors: Boxes32) -> Boxes32:
    """Boxes that a network means: centre = anchor's centre + t * anchor's side, side = anchor's * exp(t).

    Offsets [n, 4] are t of y, x, height and width, anchors [n, 4] the anchor of each; returns float32 [n, 4]
    x1, y1, x2, y2, equal to effdet's `decode_box_outputs` but for the rounding of exp. They lie column by
    column, so that what follows is calculated over many boxes at a time.
    """
    y1, x1, y2, x2 = np.ascontiguousarray(anchors.T)
    t = np.ascontiguousarray(offsets.T, dtype=np.float32)
    heights, widths = y2 - y1, x2 - x1
    with np.errstate(over="ignore"):  # a side without bounds is clipped to the picture later
        sides = np.exp(t[2:].astype(np.float64)).astype(np.float32)
        half_w, half_h = sides[1] * widths / np.float32(2), sides[0] * heights / np.float32(2)
    y, x = t[0] * heights + (y1 + y2) / np.float32(2), t[1] * widths + (x1 + x2) / np.float32(2)
    return np.stack([x - half_w, y - half_h, x + half_w, y + half_h]).T


def clip_boxes(boxes: Boxes32, size: Sequence[float] | NDArray[np.float32]) -> Boxes32:
    """The part of boxes [n, 4] x1, y1, x2, y2 that lies from 0 to `size`, width and height.

    A box outside becomes one without area at the border.
    """
    return np.minimum(np.maximum(boxes, np.float32(0)), np.tile(np.asarray(size, dtype=np.float32), 2))
