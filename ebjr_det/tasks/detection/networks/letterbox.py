"""From a picture to an EfficientDet's input, as effdet's evaluation transform does it, in PIL and numpy.

Convention: the picture keeps its shape, touches the input's upper left corner and is as large as fits; what
is left over holds the mean colour. Knows no network and no torch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.pictures import to_rgb


class Input(NamedTuple):
    """One preprocessed picture: uint8 [3, h, w], and how many original pixels one of its pixels is."""

    pixels: NDArray[np.uint8]
    scale: float
    size: tuple[int, int]
    """Width and height of the original."""


@dataclass(frozen=True)
class Letterbox:
    """effdet's `transforms_coco_eval`, to the bit: bilinear, shrunk or enlarged to fit, padded.

    Attributes:
        size: height and width of the input, as a configuration's `image_size`.
        mean: of the three channels, in [0, 1]; the colour of what is left over.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))

    def __call__(self, image: Image.Image) -> Input:
        """A PIL image -> one input of the network. Raises InvalidInput: a picture without pixels."""
        if min(image.size) < 1:
            raise InvalidInput(f"Expected a picture with pixels, got one of {image.width} x {image.height}.")
        picture = self._thick(to_rgb(image) if image.mode[0] in "IF" else image)
        shrink = min(self.size[0] / picture.height, self.size[1] / picture.width)
        height, width = int(picture.height * shrink), int(picture.width * shrink)
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        if resized.mode != "RGB":
            resized = resized.convert("RGB")
        pixels = np.empty((3, *self.size), dtype=np.uint8)
        # Band by band: PIL packs its pixels in fours, and to split those is its quickest way out.
        for plane, band, mean in zip(pixels, resized.split(), self.mean, strict=True):
            colour = round(255 * mean)
            plane[:height, :width] = np.asarray(band)
            plane[:height, width:] = colour
            plane[height:] = colour
        return Input(pixels, 1.0 / shrink, image.size)

    def _thick(self, image: Image.Image) -> Image.Image:
        """A picture so thin that it would vanish in the input is first made thick enough for one pixel."""
        least = max(image.size) // min(self.size) + 1
        if least <= min(image.size):
            return image
        return image.resize((max(image.width, least), max(image.height, least)))
