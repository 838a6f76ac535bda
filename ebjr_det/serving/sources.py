"""Pictures from bytes and pixels, with a limit on how large one becomes."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.pictures import as_picture, open_picture, stored_size
from ebjr_det.serving.protocol import Source

if TYPE_CHECKING:
    from PIL.Image import Image


class PictureBytes(BytesIO):
    """An encoded picture in memory, which errors call by its size."""

    def __repr__(self) -> str:
        return f"picture of {self.getbuffer().nbytes} bytes"


def pixels_of(source: Source) -> int:
    """The pixels of a picture by its header alone; 0 where that cannot be read."""
    if isinstance(source, np.ndarray):
        return int(source.shape[0] * source.shape[1])
    width, height = stored_size(PictureBytes(source))
    return width * height


def check_pixels(sources: Sequence[Source], largest: int) -> int:
    """The pixels of a request. Raises InvalidInput for more than `largest`, before any is decoded."""
    pixels = sum(map(pixels_of, sources))
    if pixels > largest:
        raise InvalidInput(f"Expected at most {largest} pixels in a request, got {pixels}. Send fewer.")
    return pixels


def open_source(source: Source) -> "Image":
    """A picture as `predict` would open it from a file. Raises InvalidInput where it cannot be decoded."""
    if isinstance(source, np.ndarray):
        return as_picture(source)
    return open_picture(PictureBytes(source))
