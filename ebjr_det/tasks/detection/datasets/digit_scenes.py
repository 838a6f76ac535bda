"""Scenes of handwritten digits: a small detection set that needs no download, made picture by picture.

Each scene is drawn from scikit-learn's 8x8 digits: 1 to 9 of them, 12 to 120 pixels high, turned, tinted,
sometimes faint or partly covered, over a coloured ground with strokes, arcs and rings that are no objects.
Scene i of a split depends on nothing but the split and i. Training, calibration and test share no digit;
`routing` and `trial` are many more scenes of the digits of calibration and test.
"""

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ebjr_det.core.types import FloatArray
from ebjr_det.tasks.detection.coco.annotations import Annotations, Truth
from ebjr_det.tasks.detection.detections import overlap, to_corners

Canvas: TypeAlias = NDArray[np.float32]

SIDE = 256
"""Width and height of a scene in pixels."""
CLASSES = tuple("0123456789")
SPLITS = {  # name: (seed, the digits it may use, number of scenes)
    "train": (1, slice(0, 597), 4000),
    "calibration": (2, slice(597, 897), 200),
    "test": (3, slice(897, 1797), 600),
    "routing": (4, slice(597, 897), 4000),
    "trial": (5, slice(897, 1797), 4000),
}
SMALLEST, LARGEST = 12.0, 120.0
MOST_DIGITS = 9
COVERED = 0.3  # at most this share of the smaller of two digits lies under or over the other
DARKEST, FAINT, BOLD = 120, 50, 130  # grey levels: of the ground at most; ink lies between above the ground
TINT = 35  # grey levels by which the channels of the ink differ from that
TRIES = 30


@dataclass(frozen=True)
class Layout:
    """The digits of a scene: where (x, y, w, h in pixels), which, and the opacity of each."""

    boxes: FloatArray
    labels: NDArray[np.intp]
    masks: tuple[FloatArray, ...]

    @property
    def truth(self) -> Truth:
        """The digits as annotated objects; a class index is the digit itself."""
        areas = self.boxes[:, 2] * self.boxes[:, 3]
        return Truth(self.boxes, self.labels, areas, np.zeros(len(areas), dtype=bool))


def lay_out(split: str, index: int) -> Layout:
    """The digits of a scene, each where it covers no other too much."""
    seed, pool, _ = SPLITS[split]
    generator = np.random.default_rng([seed, index, 0])
    glyphs, digits = _digits()
    glyphs, digits = glyphs[pool], digits[pool]
    boxes: list[FloatArray] = []
    chosen, masks = [], []
    for _ in range(generator.integers(1, MOST_DIGITS + 1)):
        glyph = int(generator.integers(len(glyphs)))
        mask = _mask(glyphs[glyph], generator)
        box = _free_box(mask, boxes, generator)
        if box is not None:
            boxes.append(box)
            masks.append(mask)
            chosen.append(glyph)
    return Layout(np.array(boxes), digits[chosen], tuple(masks))


def draw_scene(split: str, index: int) -> Image.Image:
    """The picture, RGB of `SIDE` x `SIDE`."""
    generator = np.random.default_rng([SPLITS[split][0], index, 1])
    canvas = _ground(generator)
    layout = lay_out(split, index)
    for box, mask in zip(layout.boxes, layout.masks, strict=True):
        _paint(canvas, mask, box[:2].astype(np.intp), generator)
    canvas += generator.standard_normal(canvas.shape, dtype=np.float32) * np.float32(generator.uniform(1, 9))
    return Image.fromarray(np.clip(canvas, 0, 255).round().astype(np.uint8))


@cache
def describe(split: str) -> Annotations:
    """The annotations of a whole split; image ids count from 1, category ids are the digits plus 1."""
    count = SPLITS[split][2]
    return Annotations(
        tuple(range(1, count + 1)),
        tuple(f"{split}-{index:05d}.png" for index in range(1, count + 1)),
        np.full((count, 2), SIDE),
        tuple(range(1, len(CLASSES) + 1)),
        CLASSES,
        tuple(lay_out(split, index).truth for index in range(count)),
    )


@cache
def _digits() -> tuple[FloatArray, NDArray[np.intp]]:
    """All digits as opacities [1797, 8, 8] in [0, 1] and what they are, in a seeded order."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    return bunch.images[order] / 16.0, bunch.target[order].astype(np.intp)


def _ground(generator: np.random.Generator) -> Canvas:
    """A smooth coloured ground with strokes, arcs and rings, [SIDE, SIDE, 3] float."""
    cells = generator.integers(2, 7)
    coarse = generator.integers(0, DARKEST, (cells, cells, 3)).astype(np.uint8)
    calm = generator.uniform(0.2, 0.7)
    coarse = np.rint(coarse * calm + coarse.mean(axis=(0, 1)) * (1 - calm)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(generator.integers(3, 13)):
        x0, y0, x1, y1 = (int(v) for v in generator.integers(-20, SIDE + 20, 4))
        color = tuple(int(v) for v in generator.integers(0, 256, 3))
        width = int(generator.integers(1, 9))
        corners = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        match int(generator.integers(3)):
            case 0:
                pen.line((x0, y0, x1, y1), color, width)
            case 1:
                start = int(generator.integers(360))
                pen.arc(corners, start, start + int(generator.integers(40, 300)), color, width)
            case _:
                side = int(generator.integers(6, 50))
                pen.ellipse((x0, y0, x0 + side, y0 + side), outline=color, width=width)
    return np.asarray(picture).astype(np.float32)


def _mask(glyph: FloatArray, generator: np.random.Generator) -> FloatArray:
    """A digit's opacity at a random size and angle, cut to its ink."""
    height = np.exp(generator.uniform(np.log(SMALLEST), np.log(LARGEST))) * 1.15
    width = height * generator.uniform(0.8, 1.15)
    small = Image.fromarray(np.rint(glyph * 255).astype(np.uint8))
    large = small.resize((max(8, round(width)), max(8, round(height))), Image.Resampling.BICUBIC)
    turned = large.rotate(generator.uniform(-15, 15), Image.Resampling.BILINEAR, expand=True)
    opacity = np.clip(np.asarray(turned, dtype=np.float64) / 100.0 - 0.6, 0.0, 1.0)  # blurred edges made firm
    rows, columns = (np.flatnonzero(opacity.max(axis=axis) > 0.3) for axis in (1, 0))
    return opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _free_box(mask: FloatArray, boxes: list[FloatArray], generator: np.random.Generator) -> FloatArray | None:
    """A box x, y, w, h for the mask that covers no other too much, or None after some tries."""
    height, width = mask.shape
    for _ in range(TRIES):
        x, y = (int(generator.integers(0, SIDE - side + 1)) for side in (width, height))
        box = np.array([x, y, width, height], dtype=np.float64)
        if all(_shared(box, other) <= COVERED for other in boxes):
            return box
    return None


def _shared(first: FloatArray, second: FloatArray) -> float:
    """Intersection over the smaller of two boxes."""
    width, height = overlap(*to_corners(np.stack([first, second])))
    return float(max(width, 0) * max(height, 0) / min(first[2] * first[3], second[2] * second[3]))


def _paint(
    canvas: Canvas, mask: FloatArray, corner: NDArray[np.intp], generator: np.random.Generator
) -> None:
    """Lay ink through a mask, brighter than the ground, sometimes only a little."""
    x, y = corner
    area = canvas[y : y + mask.shape[0], x : x + mask.shape[1]]
    ground = area.mean(axis=(0, 1))
    color = ground.mean() + generator.uniform(FAINT, BOLD) + generator.uniform(-TINT, TINT, 3)
    opacity = (mask * generator.uniform(0.75, 1.0))[..., None]
    area += opacity * (color - area)
