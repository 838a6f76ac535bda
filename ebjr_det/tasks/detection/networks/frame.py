"""From a picture to the input of another library's network, and boxes back; PIL, cv2 and numpy, no torch.

Convention: inputs are float32 [3, h, w] in RGB. A picture is stretched to the input's size, or keeps its
shape and is padded on both sides, as YOLO's letterbox does it.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.pictures import to_rgb

Floats: TypeAlias = NDArray[np.float32]
Fit: TypeAlias = Literal["letterbox", "fill", "stretch"]
FITS = ("letterbox", "fill", "stretch")
RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Names of PIL's ways to resize."""


class Framed(NamedTuple):
    """One preprocessed picture: float32 [3, h, w], and how its pixels lie over the original's.

    Attributes:
        gain: input pixels an original pixel, horizontally and vertically; pad: input pixels left and above.
        size: width and height of the original; clipped: whether boxes end at its borders.
    """

    pixels: Floats
    gain: tuple[float, float]
    pad: tuple[int, int]
    size: tuple[int, int]
    clipped: bool = False

    def to_original(self, boxes: Floats, *, shares: bool) -> Floats:
        """Corners [n, 4] in input pixels, or in shares of the input -> in pixels of the original."""
        size = np.array(self.size * 2, dtype=np.float32)
        if shares and self.pad == (0, 0) and not self.clipped:
            return np.asarray(boxes * size)
        if shares:
            height, width = self.pixels.shape[1:]
            boxes = boxes * np.array([width, height] * 2, dtype=np.float32)
        pad, gain = (np.array(pair * 2, dtype=np.float32) for pair in (self.pad, self.gain))
        boxes = (boxes - pad) / gain
        return np.array(np.clip(boxes, 0, size) if self.clipped else boxes, dtype=np.float32)


@dataclass(frozen=True)
class Frame:
    """A preprocessing as plain numbers.

    Attributes:
        size: height and width of the input.
        fit: `letterbox` (by cv2, centred, the rest grey), `fill` (stretched by cv2) or `stretch` (by PIL).
        scale: what a byte is multiplied by; then `mean` is taken off and `std` divides.
        resample: of PIL, a value of `RESAMPLING`; grey: of what is left over.

    Raises:
        ConfigError: numbers that no preprocessing has.
    """

    size: tuple[int, int]
    fit: Fit = "letterbox"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1 / 255
    resample: int = 2
    grey: int = 114

    def __post_init__(self) -> None:
        for name, kind in (("size", int), ("mean", float), ("std", float)):
            object.__setattr__(self, name, tuple(kind(value) for value in getattr(self, name)))
        sides = len(self.size) == 2 and all(1 <= side <= 8192 for side in self.size)
        planes = len(self.mean) == len(self.std) == 3 and all(value > 0 for value in self.std)
        sound = self.fit in FITS and self.scale > 0 and 0 <= self.grey <= 255
        if not (sides and planes and sound and self.resample in RESAMPLING.values()):
            raise ConfigError(
                "Expected two sides to 8192, three means, three deviations above 0, and `fit` of "
                f"{', '.join(FITS)}, got {self}."
            )

    def __call__(self, image: Image.Image) -> Framed:
        """A PIL image -> one input. Raises InvalidInput for a picture without pixels."""
        if min(image.size) < 1:
            raise InvalidInput(f"Expected a picture with pixels, got one of {image.width} x {image.height}.")
        picture = to_rgb(image)
        if self.fit == "letterbox":
            return self._letterboxed(np.asarray(picture), picture.size)
        if self.fit == "fill":
            return self._filled(np.asarray(picture), picture.size)
        height, width = self.size
        gain = width / picture.width, height / picture.height
        resized = picture.resize((width, height), Image.Resampling(self.resample))
        return Framed(self._normalised(np.asarray(resized)), gain, (0, 0), picture.size)

    def _letterboxed(self, pixels: NDArray[np.uint8], size: tuple[int, int]) -> Framed:
        """The LetterBox of ultralytics, of a fixed size, to the bit."""
        import cv2

        height, width = self.size
        shrink = min(height / size[1], width / size[0])
        inner = max(round(size[0] * shrink), 1), max(round(size[1] * shrink), 1)
        if inner != size:
            pixels = np.asarray(cv2.resize(pixels, inner, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        left, top = (
            round((side - length) / 2 - 0.1) for side, length in zip((width, height), inner, strict=True)
        )
        canvas = np.full((height, width, 3), self.grey, dtype=np.uint8)
        canvas[top : top + inner[1], left : left + inner[0]] = pixels
        gain = inner[0] / size[0], inner[1] / size[1]
        return Framed(self._normalised(canvas), gain, (left, top), size, clipped=True)

    def _filled(self, pixels: NDArray[np.uint8], size: tuple[int, int]) -> Framed:
        """The LetterBox of ultralytics that stretches, as its RT-DETR takes pictures."""
        import cv2

        height, width = self.size
        if (width, height) != size:
            resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
            pixels = np.asarray(resized, dtype=np.uint8)
        return Framed(self._normalised(pixels), (width / size[0], height / size[1]), (0, 0), size)

    def _normalised(self, pixels: NDArray[np.uint8]) -> Floats:
        planes = (np.ascontiguousarray(pixels.transpose(2, 0, 1)) * self.scale).astype(np.float32)
        mean, std = (np.array(row, dtype=np.float32).reshape(3, 1, 1) for row in (self.mean, self.std))
        return planes if not mean.any() and (std == 1).all() else (planes - mean) / std
